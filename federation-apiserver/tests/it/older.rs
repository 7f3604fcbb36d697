//! Objects that an older server had stored, whose rules were fewer.

use std::collections::BTreeMap;

use federation_apiserver::store::{Encoded, Key, Meta, ResourceKey, Write};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::{World, deployment};

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

#[tokio::test]
async fn a_claim_that_is_filled_from_another_one_can_be_labelled() {
    let world = World::new().await;
    let claims = "/api/v1/namespaces/demo/persistentvolumeclaims";
    let claim = json!({"metadata": {"name": "a"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        "dataSource": {"kind": "PersistentVolumeClaim", "name": "b"},
    }});
    world.expect(StatusCode::CREATED, Method::POST, claims, Some(claim)).await;
    let labels = json!({"metadata": {"labels": {"l": "a"}}});
    let path = format!("{claims}/a");
    let labelled = world.expect(StatusCode::OK, Method::PATCH, &path, Some(labels.clone())).await;
    assert_eq!(labelled["spec"]["dataSourceRef"]["name"], "b");
    let again = world.expect(StatusCode::OK, Method::PATCH, &path, Some(labels)).await;
    assert_eq!(again["metadata"]["resourceVersion"], labelled["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn zeros_that_were_stored_are_no_change_of_a_spec_that_stands() {
    let world = World::new().await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "demo", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
        },
        "spec": {"hostNetwork": false, "nodeName": "", "containers": [{"name": "c", "image": "i", "stdin": false}]},
        "status": {"phase": "Pending"},
    });
    let key = Key::new(ResourceKey::new("", "pods"), "demo", "a");
    let object = Encoded::new(&pod, Meta::from_value(&pod, BTreeMap::new()));
    world.server.storage().write(Write::Create { key, object, within: None }).await.expect("it is stored");
    let path = "/api/v1/namespaces/demo/pods/a";
    let labels = json!({"metadata": {"labels": {"l": "a"}}});
    let labelled = world.expect(StatusCode::OK, Method::PATCH, path, Some(labels)).await;
    assert_eq!(labelled["metadata"]["generation"], 1);
    assert!(labelled["spec"].get("hostNetwork").is_none());
}

/// Puts an object into the trash, as the controller does.
pub(crate) async fn trash(world: &World, name: &str, resource: &str, manifest: &Value) {
    let kept = federation_core::trash::keep(manifest, resource, Vec::new(), "2999-01-01T00:00:00Z".into());
    let kept = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Trash", "metadata": {"name": name}, "spec": kept});
    world.expect(StatusCode::CREATED, Method::POST, "/apis/federation.rs/v1alpha1/trash", Some(kept)).await;
}

pub(crate) const STATEFUL_SETS: &str = "/apis/apps/v1/namespaces/demo/statefulsets";
const AUTOSCALERS: &str = "/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers";

pub(crate) fn stateful_set(name: &str) -> Value {
    let mut set = deployment(name);
    set["kind"] = "StatefulSet".into();
    set["metadata"]["namespace"] = "demo".into();
    set["spec"]["serviceName"] = "web".into();
    set["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
    set["spec"]["template"]["metadata"]["labels"] = json!({"app": "a"});
    set
}

#[tokio::test]
async fn what_comes_back_from_the_trash_is_not_refused_for_rules_that_came_later() {
    let world = World::new().await;
    let (code, created) = (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::CREATED);
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a", "namespace": "demo"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}},
    });
    for (path, plural, object) in [
        (STATEFUL_SETS, "statefulsets", stateful_set("a.b")),
        (AUTOSCALERS, "horizontalpodautoscalers", autoscaler),
    ] {
        let name = format!("{plural}.demo");
        trash(&world, &name, plural, &object).await;
        world.expect(code, Method::POST, path, Some(object.clone())).await;
        let from_trash = format!("{path}?trash={name}");
        let mut worse = object.clone();
        worse["metadata"]["labels"] = json!({"a b": ""});
        let refused = world.expect(code, Method::POST, &from_trash, Some(worse)).await;
        assert_eq!(refused["details"]["causes"].as_array().map(Vec::len), Some(1), "{refused}");
        assert_eq!(refused["details"]["causes"][0]["field"], "metadata.labels");
        world.expect(created, Method::POST, &from_trash, Some(object.clone())).await;
        world.expect(StatusCode::CONFLICT, Method::POST, &from_trash, Some(object)).await;
    }
}

#[tokio::test]
async fn the_trash_is_for_the_object_that_it_keeps() {
    let world = World::new().await;
    trash(&world, "kept", "statefulsets", &stateful_set("a.b")).await;
    let path = format!("{STATEFUL_SETS}?trash=kept");
    let refused = world.expect(StatusCode::BAD_REQUEST, Method::POST, &path, Some(stateful_set("c.d"))).await;
    assert_eq!(refused["message"], r#"trash "kept" keeps another object"#);
    let path = format!("{STATEFUL_SETS}?trash=gone");
    world.expect(StatusCode::NOT_FOUND, Method::POST, &path, Some(stateful_set("a.b"))).await;
}

/// Times that an earlier server took for RFC 3339 are read as what they were meant to be, and mended by the next write.
#[tokio::test]
async fn odd_times_are_mended_by_the_next_write() {
    let maps = "/api/v1/namespaces/demo/configmaps";
    let name = format!("{maps}/a");
    let write = |method: Method, mut map: Value| {
        let name = name.clone();
        async move {
            let world = World::new().await;
            let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "20260102T030405Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}});
            let stored = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"},
                "metadata": {"name": "a", "namespace": "demo", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                    "managedFields": [entry]},
            });
            let key = Key::new(ResourceKey::new("", "configmaps"), "demo", "a");
            let object = Encoded::new(&stored, Meta::from_value(&stored, BTreeMap::new()));
            let write = Write::Create { key, object, within: None };
            world.server.storage().write(write).await.expect("it is stored");
            if method == Method::PUT {
                map["metadata"]["managedFields"] = stored["metadata"]["managedFields"].clone();
            }
            let map = world.expect(StatusCode::OK, method, &name, Some(map)).await;
            assert_eq!(map["metadata"]["managedFields"][0]["time"], "2026-01-02T03:04:05Z", "{map}");
            world.expect(StatusCode::OK, Method::DELETE, &name, None).await;
        }
    };
    write(Method::PATCH, json!({"metadata": {"labels": {"l": "a"}}})).await;
    write(Method::PUT, json!({"metadata": {"name": "a", "labels": {"l": "a"}}, "data": {"k": "v"}})).await;
}
