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
    let told = async |name: &str| {
        let metrics = world.request(Method::GET, "/metrics", None).await.1.as_str().unwrap().to_owned();
        let line = format!(r#"apiserver_flowcontrol_{name}_seats{{priority_level="tiny"}} "#);
        metrics.lines().find_map(|told| told.strip_prefix(&line)?.parse::<usize>().ok())
    };
    assert_eq!((told("nominal_limit").await, told("current_executing").await), (Some(5), Some(0)));
    // 600 seats among 100 + 20 + 5 + 1 shares, rounded up.
    let mut held: Vec<_> = (0..5).map(|_| hold("greedy")).collect();
    for request in &mut held {
        assert!(request.now_or_never().is_none());
    }
    assert_eq!(told("current_executing").await, Some(5));
    assert_eq!(list("greedy").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(list("modest").await, StatusCode::OK);
    world.expect(StatusCode::OK, Method::GET, MAPS, None).await;
    drop(held.pop());
    assert_eq!(list("greedy").await, StatusCode::OK);

    // More shares count at once: 600 * 25 / 150.
    let more = json!({"spec": {"limited": {"nominalConcurrencyShares": 25}}});
    let path = format!("{GROUP}/prioritylevelconfigurations/tiny");
    world.expect(StatusCode::OK, Method::PATCH, &path, Some(more)).await;
    assert_eq!((told("nominal_limit").await, told("upper_limit").await), (Some(100), Some(100)));
    let mut more: Vec<_> = (0..96).map(|_| hold("greedy")).collect();
    for request in &mut more {
        assert!(request.now_or_never().is_none());
    }
    assert_eq!(list("greedy").await, StatusCode::TOO_MANY_REQUESTS);
    drop((held, more));
    assert_eq!(list("greedy").await, StatusCode::OK);
}

#[tokio::test]
async fn a_schema_says_whether_its_level_is_there() {
    let world = World::new().await;
    let (storage, kinds) = (world.server.storage().clone(), Arc::new(world.server.kind_table()));
    let mut housekeeping = housekeeping::Service::new(storage, kinds, Default::default());
    housekeeping.step(true).await;
    let (schemas, levels) = (format!("{GROUP}/flowschemas"), format!("{GROUP}/prioritylevelconfigurations"));
    world.expect(StatusCode::CREATED, Method::POST, &schemas, Some(schema())).await;
    let dangling = async |housekeeping: &mut housekeeping::Service| {
        assert_eq!(housekeeping.step(false).await, 0);
        let found = world.expect(StatusCode::OK, Method::GET, &format!("{schemas}/tiny"), None).await;
        let mut conditions = found["status"]["conditions"].as_array().unwrap().clone();
        assert!(conditions[0]["lastTransitionTime"].is_string());
        conditions[0].as_object_mut().unwrap().remove("lastTransitionTime");
        conditions.remove(0)
    };
    let begin = "This FlowSchema references the PriorityLevelConfiguration object named \"tiny\"";
    assert_eq!(
        dangling(&mut housekeeping).await,
        json!({"type": "Dangling", "status": "True", "reason": "NotFound", "message": format!("{begin} but there is no such object")})
    );
    world.expect(StatusCode::CREATED, Method::POST, &levels, Some(level(1))).await;
    let found = json!({"type": "Dangling", "status": "False", "reason": "Found", "message": format!("{begin} and it exists")});
    assert_eq!(dangling(&mut housekeeping).await, found);
    // Nothing is written when nothing has changed.
    let before = world.server.storage().snapshot().revision();
    assert_eq!(housekeeping.step(true).await, 0);
    assert_eq!(world.server.storage().snapshot().revision(), before);

    world.expect(StatusCode::OK, Method::DELETE, &format!("{levels}/tiny"), None).await;
    assert_eq!(dangling(&mut housekeeping).await["status"], "True");
    // What no server is without comes back.
    world.expect(StatusCode::OK, Method::DELETE, &format!("{levels}/catch-all"), None).await;
    assert_eq!(housekeeping.step(false).await, 0);
    world.expect(StatusCode::OK, Method::GET, &format!("{levels}/catch-all"), None).await;
}

#[tokio::test]
async fn a_level_that_nobody_could_serve_is_refused() {
    let world = World::new().await;
    let mut wide = level(1);
    wide["spec"]["limited"]["limitResponse"] =
        json!({"type": "Queue", "queuing": {"queues": 10_000, "handSize": 9_000, "queueLengthLimit": 1}});
    let levels = format!("{GROUP}/prioritylevelconfigurations");
    let told = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &levels, Some(wide)).await;
    assert_eq!(told["details"]["causes"][0]["field"], "spec.limited.limitResponse.queuing.handSize");
    let mut shares = level(1);
    shares["spec"]["limited"]["nominalConcurrencyShares"] = json!(-1);
    let told = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &levels, Some(shares)).await;
    assert_eq!(
        told["message"],
        "PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io \"tiny\" is invalid: spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"
    );
}
