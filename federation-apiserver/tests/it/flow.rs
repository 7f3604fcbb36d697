//! Priority levels: who has how many seats, and who is sent away.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use federation_apiserver::{auth::User, housekeeping};
use futures::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::World;

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

fn level(shares: u64) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "metadata": {"name": "tiny"},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"},
        }},
    })
}

fn schema() -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "tiny"},
        "spec": {
            "matchingPrecedence": 500, "priorityLevelConfiguration": {"name": "tiny"}, "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "greedy"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
            }],
        },
    })
}

#[tokio::test]
async fn a_level_has_the_seats_of_its_shares_and_nobody_elses() {
    let world = World::new().await;
    let (storage, kinds) = (world.server.storage().clone(), Arc::new(world.server.kind_table()));
    housekeeping::Service::new(storage, kinds, Default::default()).step(true).await;
    world
        .expect(
            StatusCode::CREATED,
            Method::POST,
            &format!("{GROUP}/prioritylevelconfigurations"),
            Some(level(1)),
        )
        .await;
    world.expect(StatusCode::CREATED, Method::POST, &format!("{GROUP}/flowschemas"), Some(schema())).await;
    let user = |name: &str| world.server.service_as(Some(User::new(name, [])));
    // Bodies that never come keep their requests at work.
    let hold = |name: &str| {
        let never = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let request = Request::builder().method(Method::POST).uri(MAPS).body(StreamBody::new(never));
        user(name).oneshot(request.unwrap()).boxed()
    };
    let list = async |name: &str| {
        let request = Request::builder().uri(MAPS).body(Full::<Bytes>::default()).unwrap();
        user(name).oneshot(request).await.unwrap().status()
    };
    // 600 seats among 100 + 20 + 5 + 1 shares, rounded up.
    let mut held: Vec<_> = (0..5).map(|_| hold("greedy")).collect();
    for request in &mut held {
        assert!(request.now_or_never().is_none());
    }
    assert_eq!(list("greedy").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(list("modest").await, StatusCode::OK);
    world.expect(StatusCode::OK, Method::GET, MAPS, None).await;
    drop(held.pop());
    assert_eq!(list("greedy").await, StatusCode::OK);

    // More shares count at once: 600 * 25 / 150.
    let more = json!({"spec": {"limited": {"nominalConcurrencyShares": 25}}});
    let path = format!("{GROUP}/prioritylevelconfigurations/tiny");
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(more)).await;
    let mut more: Vec<_> = (0..96).map(|_| hold("greedy")).collect();
    for request in &mut more {
        assert!(request.now_or_never().is_none());
    }
    assert_eq!(list("greedy").await, StatusCode::TOO_MANY_REQUESTS);
    drop((held, more));
    assert_eq!(list("greedy").await, StatusCode::OK);
}
