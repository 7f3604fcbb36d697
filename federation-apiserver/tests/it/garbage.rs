//! Objects that own each other, and what the delete of one makes of the others.

use std::sync::Arc;

use federation_apiserver::housekeeping;
use http::{Method, StatusCode};
use serde_json::json;

use crate::world::{World, config_map};

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";

#[tokio::test]
async fn a_circle_of_owners_does_not_hold_those_in_it() {
    let world = World::new().await;
    let mut uids = Vec::new();
    for at in 0..3 {
        let map = config_map(&format!("c{at}"));
        let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(map)).await;
        uids.push(made["metadata"]["uid"].clone());
    }
    for at in 0..3 {
        let owner = (at + 2) % 3;
        let reference = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": format!("c{owner}"), "uid": uids[owner],
            "controller": true, "blockOwnerDeletion": true,
        });
        let patch = json!({"metadata": {"ownerReferences": [reference]}});
        world.expect(StatusCode::OK, Method::PATCH, &format!("{MAPS}/c{at}"), Some(patch)).await;
    }
    let options = json!({"propagationPolicy": "Foreground"});
    world.expect(StatusCode::OK, Method::DELETE, &format!("{MAPS}/c0"), Some(options)).await;
    let (storage, kinds) = (world.server.storage().clone(), Arc::new(world.server.kind_table()));
    let mut housekeeping = housekeeping::Service::new(storage.clone(), kinds, Default::default());
    let mut before = 0;
    while storage.snapshot().revision() != before {
        before = storage.snapshot().revision();
        assert_eq!(housekeeping.step(false).await, 0, "an action failed");
    }
    for at in 0..3 {
        world.expect(StatusCode::NOT_FOUND, Method::GET, &format!("{MAPS}/c{at}"), None).await;
    }
}
