//! What is nearly nothing: empty lists, times below zero, addresses told once of two.

use std::sync::Arc;

use federation_apiserver::housekeeping;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/demo/pods";

impl World {
    async fn made(&self, path: &str, object: Value) -> Value {
        self.expect(StatusCode::CREATED, Method::POST, path, Some(object)).await
    }

    async fn merged(&self, path: &str, patch: Value) -> Value {
        self.expect(StatusCode::OK, Method::PATCH, path, Some(patch)).await
    }
}

#[tokio::test]
async fn lists_that_go_always_writes_are_null_when_nothing_is_in_them() {
    let world = World::new().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/roles";
    for (name, object) in [("a", json!({"rules": []})), ("b", json!({}))] {
        let mut object = object;
        object["metadata"] = json!({"name": name});
        let made = world.made(roles, object).await;
        assert_eq!(made.get("rules"), Some(&Value::Null));
    }
    let ranges = "/api/v1/namespaces/demo/limitranges";
    let made = world.made(ranges, json!({"metadata": {"name": "a"}, "spec": {"limits": []}})).await;
    assert_eq!(made["spec"], json!({"limits": null}));
    let limits = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}});
    let changed = world.merged(&format!("{ranges}/a"), limits).await;
    assert_eq!(changed["spec"]["limits"][0]["type"], "Container");
    let slices = "/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices";
    let made = world.made(slices, json!({"metadata": {"name": "a"}, "addressType": "IPv4"})).await;
    assert_eq!((made.get("endpoints"), made.get("ports")), (Some(&Value::Null), Some(&Value::Null)));
}

#[tokio::test]
async fn the_first_address_of_a_pod_stands_in_both_fields() {
    let world = World::new().await;
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    world.made(PODS, pod).await;
    let status = format!("{PODS}/a/status");
    let told = async |patch: Value| {
        let status = world.merged(&status, json!({"status": patch})).await["status"].clone();
        (status["podIP"].clone(), status["podIPs"].clone())
    };
    let both = |first: &str, all: Value| (json!(first), all);
    assert_eq!(told(json!({"podIP": "10.0.0.1"})).await, both("10.0.0.1", json!([{"ip": "10.0.0.1"}])));
    // Who knows only the older field is believed.
    assert_eq!(told(json!({"podIP": "10.0.0.2"})).await, both("10.0.0.2", json!([{"ip": "10.0.0.2"}])));
    let two = json!([{"ip": "10.0.0.3"}, {"ip": "fd00::3"}]);
    assert_eq!(told(json!({"podIP": null, "podIPs": two})).await, both("10.0.0.3", two.clone()));
}

#[tokio::test]
async fn a_quota_that_limits_nothing_uses_nothing() {
    let world = World::new().await;
    let quotas = "/api/v1/namespaces/demo/resourcequotas";
    world.made(quotas, json!({"metadata": {"name": "a"}, "spec": {}})).await;
    let (storage, kinds) = (world.server.storage().clone(), Arc::new(world.server.kind_table()));
    housekeeping::Service::new(storage, kinds, Default::default()).step(true).await;
    let found = world.expect(StatusCode::OK, Method::GET, &format!("{quotas}/a"), None).await;
    assert_eq!(found["status"], json!({}));
}

#[tokio::test]
async fn an_apply_of_an_older_version_is_refused_whatever_it_would_change() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/demo/configmaps/a?fieldManager=one";
    let apply = async |version: Option<&str>, data: Value| {
        let mut object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = version.into();
        }
        let request = Request::patch(path).header("content-type", "application/apply-patch+yaml");
        world.send(request.body(Full::from(object.to_string())).unwrap()).await
    };
    let (code, made) = apply(None, json!({"k": "v", "l": "w"})).await;
    assert_eq!(code, StatusCode::CREATED);
    for data in [json!({"k": "v", "l": "w"}), json!({"k": "v"}), json!({"k": "x"})] {
        let (code, status) = apply(Some("1"), data).await;
        assert_eq!((code, &status["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    }
    let version = made["metadata"]["resourceVersion"].as_str();
    assert_eq!(apply(version, json!({"k": "x"})).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_watch_of_less_than_no_time_is_over_at_once() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/demo/configmaps?watch=1&resourceVersion=1&timeoutSeconds=-1";
    let ended = tokio::time::timeout(
        std::time::Duration::from_secs(20),
        world.expect(StatusCode::OK, Method::GET, path, None),
    );
    assert_eq!(ended.await.unwrap(), "");
}

#[tokio::test]
async fn taints_are_refused_where_kube_apiserver_says_that_they_are() {
    let world = World::new().await;
    let taints =
        json!([{"key": "a", "value": "b c", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]);
    let node = json!({"metadata": {"name": "a"}, "spec": {"taints": taints}});
    let told =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, "/api/v1/nodes", Some(node)).await;
    let causes = told["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["metadata.taints[0].value", "metadata.taints[1]"]);
}

#[tokio::test]
async fn a_zero_that_go_leaves_out_changes_nothing_and_has_no_owner() {
    let world = World::new().await;
    let deployments = "/apis/apps/v1/namespaces/demo/deployments";
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
    let made = world.made(deployments, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let web = format!("{deployments}/web");
    let zeros = json!({"spec": {"paused": false, "minReadySeconds": 0, "template": {"spec": {"hostNetwork": false, "subdomain": ""}}}});
    let patched = world.merged(&web, zeros).await;
    assert_eq!(patched, made, "neither a new generation nor a new version");
    // A pointer tells its zero from nothing.
    let patched =
        world.merged(&web, json!({"spec": {"template": {"spec": {"enableServiceLinks": false}}}})).await;
    assert_eq!(patched["metadata"]["generation"], 2);
    assert_eq!(patched["spec"]["template"]["spec"]["enableServiceLinks"], false);
}
