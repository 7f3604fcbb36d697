//! What writers say of who owns which fields.

use std::{collections::BTreeMap, sync::Arc};

use federation_apiserver::{
    housekeeping,
    store::{Encoded, Key, Meta, ResourceKey, Write},
};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
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

/// Applies an object as the manager m, strictly.
async fn apply(world: &World, path: &str, object: &Value) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager=m&fieldValidation=Strict"))
        .header("content-type", "application/apply-patch+yaml")
        .body(Full::from(object.to_string()))
        .unwrap();
    world.send(request).await
}

/// A custom kind whose `spec` keeps what is unknown and whose `plain` does not.
async fn with_opens() -> World {
    let world = World::new().await;
    let item = json!({"type": "object", "properties": {"b": {"type": "string"}}});
    let spec = json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"a": item, "l": {"type": "array", "items": item}},
    });
    let schema = json!({"type": "object", "properties": {"spec": spec, "plain": item}});
    let definition = json!({
        "metadata": {"name": "opens.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "opens", "kind": "Open"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.expect(StatusCode::CREATED, Method::POST, definitions, Some(definition)).await;
    world
}

const OPEN: &str = "/apis/example.com/v1/namespaces/demo/opens/x";

fn open(rest: Value) -> Value {
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Open", "metadata": {"name": "x"}});
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

#[tokio::test]
async fn an_applier_may_say_more_below_fields_that_keep_what_is_unknown() {
    let world = with_opens().await;
    let more = json!({"b": "1", "zz": "2"});
    let (code, refused) = apply(&world, OPEN, &open(json!({"plain": more}))).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{refused}");
    assert!(refused["message"].as_str().unwrap().ends_with(".plain.zz: field not declared in schema"));
    for code in [StatusCode::CREATED, StatusCode::OK] {
        let said = open(json!({"spec": {"a": more, "l": [more], "q": {"r": 1}}}));
        let (answered, made) = apply(&world, OPEN, &said).await;
        assert_eq!(answered, code, "{made}");
        assert_eq!(made["spec"], json!({"a": {"b": "1"}, "l": [{"b": "1"}], "q": {"r": 1}}));
    }
}

#[tokio::test]
async fn an_apply_that_empties_an_object_leaves_null_which_only_custom_kinds_mind() {
    let world = with_opens().await;
    let full = open(json!({"plain": {"b": "1"}, "spec": {}}));
    assert_eq!(apply(&world, OPEN, &full).await.0, StatusCode::CREATED);
    let (code, refused) = apply(&world, OPEN, &open(json!({"plain": {}, "spec": {}}))).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let cause = &refused["details"]["causes"][0];
    assert_eq!(cause["field"], "plain");
    assert_eq!(cause["message"], r#"Invalid value: "null": plain in body must be of type object: "null""#);
    let (code, made) = apply(&world, OPEN, &open(json!({"spec": {}}))).await;
    assert_eq!(code, StatusCode::OK, "{made}");
    assert_eq!(made.get("plain"), None);

    let path = format!("{MAPS}/a");
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    assert_eq!(apply(&world, &path, &map(json!({"k": "v"}))).await.0, StatusCode::CREATED);
    let (code, emptied) = apply(&world, &path, &map(json!({}))).await;
    assert_eq!(code, StatusCode::OK, "{emptied}");
    assert_eq!(emptied.get("data"), None);
}

#[tokio::test]
async fn the_data_of_a_revision_has_one_owner() {
    let world = World::new().await;
    let revision = json!({"metadata": {"name": "r"}, "revision": 1, "data": {"a": 1, "b": {"c": 2}}});
    let path = "/apis/apps/v1/namespaces/demo/controllerrevisions";
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(revision)).await;
    let owned = json!({"f:data": {}, "f:revision": {}});
    assert_eq!(made["metadata"]["managedFields"][0]["fieldsV1"], owned);
}
