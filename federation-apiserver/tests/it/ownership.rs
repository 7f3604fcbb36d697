//! What writers say of who owns which fields.

use std::{collections::BTreeMap, sync::Arc};

use federation_apiserver::{
    housekeeping,
    store::{Encoded, Key, Meta, ResourceKey, Write},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    crd::crontabs,
    world::{World, config_map, deployment},
};

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

fn managers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|entry| entry["manager"].as_str()).collect()
}

#[tokio::test]
async fn a_part_of_an_object_does_not_say_who_owns_it() {
    let world = World::new().await;
    let made = world
        .expect(
            StatusCode::CREATED,
            Method::POST,
            &format!("{DEPLOYMENTS}?fieldManager=a-maker"),
            Some(deployment("web")),
        )
        .await;
    let claim = json!([{
        "manager": "other", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }]);
    for claim in [claim, json!([{}]), json!([])] {
        let change = json!({"metadata": {"managedFields": claim}, "status": {"replicas": 3}});
        let path = format!("{DEPLOYMENTS}/web/status?fieldManager=b-controller");
        let changed = world.expect(StatusCode::OK, Method::PATCH, &path, Some(change)).await;
        assert_eq!(managers(&changed), ["a-maker", "b-controller"], "{claim}");
        assert_eq!(changed["metadata"]["managedFields"][0], made["metadata"]["managedFields"][0]);
    }
}

#[tokio::test]
async fn an_empty_list_of_owners_forgets_them() {
    let world = World::new().await;
    for (name, nobody) in [("a", json!([{}])), ("b", json!([]))] {
        let mut object = config_map(name);
        object["metadata"]["managedFields"] = nobody.clone();
        let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(object.clone())).await;
        assert_eq!(managers(&made).len(), 1, "who makes an object owns it: {made}");
        let path = format!("{MAPS}/{name}");
        let replaced = world.expect(StatusCode::OK, Method::PUT, &path, Some(object)).await;
        assert_eq!(replaced["metadata"].get("managedFields"), None);
        let change = json!({"metadata": {"labels": {"x": "y"}}});
        let changed = world.expect(StatusCode::OK, Method::PATCH, &path, Some(change)).await;
        assert_eq!(managers(&changed), [""; 0], "nobody is tracked any more");
    }
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("c"))).await;
    let change = json!({"metadata": {"managedFields": []}});
    let changed = world.expect(StatusCode::OK, Method::PATCH, &format!("{MAPS}/c"), Some(change)).await;
    assert_eq!(changed["metadata"].get("managedFields"), None);
}

/// The request that makes a definition establishes it, too, unless housekeeping is faster: that must make no difference.
#[tokio::test]
async fn housekeeping_owns_the_status_of_a_definition_that_it_establishes() {
    let world = World::new().await;
    let mut definition = crontabs();
    let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    definition["metadata"]["uid"] = "u".into();
    let made = "2026-01-01T00:00:00Z";
    definition["metadata"]["creationTimestamp"] = made.into();
    definition["metadata"]["managedFields"] = json!([{
        "manager": "a-maker", "operation": "Update", "apiVersion": "apiextensions.k8s.io/v1", "time": made,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:group": {}}},
    }]);
    let key = Key::new(ResourceKey::new("apiextensions.k8s.io", "customresourcedefinitions"), "", &*name);
    let object = Encoded::new(&definition, Meta::from_value(&definition, BTreeMap::new()));
    let storage = world.server.storage().clone();
    storage.write(Write::Create { key, object, within: None }).await.expect("it is stored");
    let kinds = Arc::new(world.server.kind_table());
    housekeeping::Service::new(storage, kinds, housekeeping::Options::default()).step(true).await;
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    let found = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(found["status"]["conditions"][1]["type"], "Established");
    assert_eq!(managers(&found), ["a-maker", "kube-apiserver"]);
    let owner = &found["metadata"]["managedFields"][1];
    assert_eq!(owner["subresource"], "status");
    assert!(owner["fieldsV1"]["f:status"]["f:acceptedNames"].is_object(), "{owner}");
}
