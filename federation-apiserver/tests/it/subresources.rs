//! Subresources that act: bindings and evictions of pods, and scales.

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    kinds::{path, pod_spec, with_head},
    world::{World, deployment},
};

#[tokio::test]
async fn a_pod_is_bound_once_and_evicted_within_its_budget() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let mut pod = with_head("v1", "Pod", "a", json!({"spec": pod_spec()}));
    pod["metadata"]["labels"] = json!({"app": "web"});
    world.expect(StatusCode::CREATED, Method::POST, pods, Some(pod)).await;
    let binding = with_head("v1", "Binding", "a", json!({"target": {"kind": "Node", "name": "n1"}}));
    let bindings = "/api/v1/namespaces/demo/bindings";
    world.expect(StatusCode::CREATED, Method::POST, bindings, Some(binding.clone())).await;
    let status =
        world.expect(StatusCode::CONFLICT, Method::POST, &format!("{pods}/a/binding"), Some(binding)).await;
    assert!(status["message"].as_str().unwrap().contains("already assigned to node \"n1\""), "{status}");
    let running = json!({"status": {"phase": "Running"}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{pods}/a/status"), Some(running)).await;
    let budgets = path("policy/v1", "poddisruptionbudgets", true);
    let budget = json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    let budget = with_head("policy/v1", "PodDisruptionBudget", "b", budget);
    world.expect(StatusCode::CREATED, Method::POST, &budgets, Some(budget)).await;
    let observed = json!({"status": {"observedGeneration": 1}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{budgets}/b/status"), Some(observed)).await;
    let eviction = with_head("policy/v1", "Eviction", "a", json!({}));
    let evict = format!("{pods}/a/eviction");
    let status =
        world.expect(StatusCode::TOO_MANY_REQUESTS, Method::POST, &evict, Some(eviction.clone())).await;
    assert_eq!(status["message"], "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(status["details"]["causes"][0]["reason"], "DisruptionBudget");
    let allowed = json!({"status": {"disruptionsAllowed": 1}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{budgets}/b/status"), Some(allowed)).await;
    world.expect(StatusCode::CREATED, Method::POST, &evict, Some(eviction)).await;
    let spent = world.expect(StatusCode::OK, Method::GET, &format!("{budgets}/b"), None).await;
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert_eq!(spent["status"]["conditions"][0]["reason"], "InsufficientPods");
    let leaving = world.expect(StatusCode::OK, Method::GET, &format!("{pods}/a"), None).await;
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 30, "its node ends it");
    let told = leaving["status"]["conditions"].as_array().unwrap();
    let why = told.iter().find(|condition| condition["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&why["status"], &why["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
}

#[tokio::test]
async fn an_eviction_is_of_the_pod_that_is_meant() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let mut pod = with_head("v1", "Pod", "a", json!({"spec": pod_spec()}));
    pod["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let made = world.expect(StatusCode::CREATED, Method::POST, pods, Some(pod)).await;
    let path = format!("{pods}/a/eviction");
    let eviction = |preconditions: Value| {
        with_head("policy/v1", "Eviction", "a", json!({"deleteOptions": {"preconditions": preconditions}}))
    };
    let other = eviction(json!({"uid": "other"}));
    let status = world.expect(StatusCode::CONFLICT, Method::POST, &path, Some(other)).await;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        status["message"],
        format!(
            "Operation cannot be fulfilled on Pod \"a\": the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )
    );
    let meant = eviction(json!({"uid": uid, "resourceVersion": made["metadata"]["resourceVersion"]}));
    world.expect(StatusCode::CREATED, Method::POST, &path, Some(meant)).await;
    let leaving = world.expect(StatusCode::OK, Method::GET, &format!("{pods}/a"), None).await;
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    let told = leaving["status"]["conditions"].as_array().unwrap();
    assert!(told.iter().any(|condition| condition["type"] == "DisruptionTarget"), "{leaving}");
}

#[tokio::test]
async fn the_scale_of_a_replication_controller_has_its_selector() {
    let world = World::new().await;
    let controller = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 0, "selector": {"a": "b", "c": "d"},
        "template": {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let path = "/api/v1/namespaces/demo/replicationcontrollers";
    world.expect(StatusCode::CREATED, Method::POST, path, Some(controller)).await;
    let scale = world.expect(StatusCode::OK, Method::GET, &format!("{path}/rc/scale"), None).await;
    assert_eq!(scale["status"], json!({"replicas": 0, "selector": "a=b,c=d"}));
}

#[tokio::test]
async fn an_eviction_that_cannot_be_decoded_evicts_nothing() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/demo/pods";
    let pod = with_head("v1", "Pod", "a", json!({"spec": pod_spec()}));
    world.expect(StatusCode::CREATED, Method::POST, pods, Some(pod)).await;
    let path = format!("{pods}/a/eviction");
    for version in ["policy/v1", "policy/v1beta1"] {
        for options in [
            json!("x"),
            json!({"dryRun": "All"}),
            json!({"gracePeriodSeconds": "x"}),
            json!({"preconditions": {"uid": 5}}),
        ] {
            let eviction = with_head(version, "Eviction", "a", json!({"deleteOptions": options}));
            world.expect(StatusCode::BAD_REQUEST, Method::POST, &path, Some(eviction)).await;
        }
        let nameless = json!({"apiVersion": version, "kind": "Eviction", "metadata": {}});
        let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, &path, Some(nameless)).await;
        assert_eq!(status["message"], "name in URL does not match name in Eviction object");
    }
    world.expect(StatusCode::OK, Method::GET, &format!("{pods}/a"), None).await;
}

#[tokio::test]
async fn unknown_fields_of_what_acts_on_an_object_are_refused_where_that_is_asked_for() {
    let world = World::new().await;
    let core = "/api/v1/namespaces/demo";
    let deployments = "/apis/apps/v1/namespaces/demo/deployments";
    world.expect(StatusCode::CREATED, Method::POST, deployments, Some(deployment("a"))).await;
    let pod = with_head("v1", "Pod", "a", json!({"spec": pod_spec()}));
    world.expect(StatusCode::CREATED, Method::POST, &format!("{core}/pods"), Some(pod)).await;
    let scale = format!("{deployments}/a/scale");
    let refused = [
        (
            Method::PUT,
            scale.clone(),
            StatusCode::BAD_REQUEST,
            json!({
                "metadata": {"name": "a", "namespace": "demo"}, "spec": {"replicas": 2}, "odd": 1,
            }),
        ),
        (Method::PATCH, scale.clone(), StatusCode::UNPROCESSABLE_ENTITY, json!({"odd": 1})),
        (
            Method::POST,
            format!("{core}/pods/a/binding"),
            StatusCode::BAD_REQUEST,
            with_head("v1", "Binding", "a", json!({"target": {"name": "n"}, "odd": 1})),
        ),
        (
            Method::POST,
            format!("{core}/pods/a/eviction"),
            StatusCode::BAD_REQUEST,
            with_head("policy/v1", "Eviction", "a", json!({"odd": 1})),
        ),
        (
            Method::POST,
            format!("{core}/serviceaccounts/default/token"),
            StatusCode::BAD_REQUEST,
            json!({"odd": 1}),
        ),
    ];
    for (method, path, code, body) in refused {
        let strict = format!("{path}?fieldValidation=Strict");
        let status = world.expect(code, method, &strict, Some(body)).await;
        let told = status["message"].as_str().unwrap_or_default();
        assert!(told.contains("strict decoding error: unknown field \"odd\""), "{path}: {told}");
    }
    let warned = Request::put(scale)
        .body(Full::from(json!({"metadata": {"name": "a", "namespace": "demo"}, "odd": 1}).to_string()));
    let response =
        world.server.service().oneshot(warned.expect("it is a request")).await.expect("it is answered");
    assert_eq!(response.headers()["warning"], r#"299 - "unknown field \"odd\"""#);
}
