//! Objects that an older server had stored, whose rules were fewer.

use std::collections::BTreeMap;

use federation_apiserver::store::{Encoded, Key, Meta, ResourceKey, Write};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::World;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/demo/leases/a";

/// Stores a Lease whose times have no six digits, and which has an owner of no version.
async fn with_lease() -> World {
    let world = World::new().await;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "a", "namespace": "demo", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["example.com/held"],
            "ownerReferences": [{"apiVersion": "a/b/c", "kind": "Pod", "name": "p", "uid": "v"}],
        },
        "spec": {"acquireTime": "2026-01-01T00:00:00Z"},
    });
    let key = Key::new(ResourceKey::new("coordination.k8s.io", "leases"), "demo", "a");
    let object = Encoded::new(&lease, Meta::from_value(&lease, BTreeMap::new()));
    world.server.storage().write(Write::Create { key, object, within: None }).await.expect("it is stored");
    world
}

async fn patch(world: &World, content: &str, body: Value) -> (StatusCode, Value) {
    let request = Request::patch(LEASE).header("content-type", content);
    world.send(request.body(Full::from(body.to_string())).expect("it is a request")).await
}

#[tokio::test]
async fn they_can_be_labelled_and_let_go() {
    let kinds = [
        ("application/merge-patch+json", json!({"metadata": {"labels": {"l": "a"}}})),
        ("application/strategic-merge-patch+json", json!({"metadata": {"labels": {"l": "a"}}})),
        (
            "application/json-patch+json",
            json!([{"op": "add", "path": "/metadata/labels", "value": {"l": "a"}}]),
        ),
    ];
    for (content, body) in kinds {
        let world = with_lease().await;
        let (code, lease) = patch(&world, content, body).await;
        assert_eq!(code, StatusCode::OK, "{content}: {lease}");
        assert_eq!(lease["spec"]["acquireTime"], "2026-01-01T00:00:00.000000Z", "as clients read it");
        let wrong = json!({"spec": {"renewTime": "2026-01-01T00:00:00Z"}});
        let (code, status) = patch(&world, "application/merge-patch+json", wrong).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    }
    let world = with_lease().await;
    world.expect(StatusCode::OK, Method::DELETE, LEASE, None).await;
    let free = json!({"metadata": {"finalizers": null}});
    let (code, last) = patch(&world, "application/strategic-merge-patch+json", free).await;
    assert_eq!(code, StatusCode::OK, "{last}");
    world.expect(StatusCode::NOT_FOUND, Method::GET, LEASE, None).await;
}
