//! Status codes and texts, as clients match on them.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tower::ServiceExt as _;

use crate::world::{World, config_map, deployment};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";
const EVENTS: &str = "/api/v1/namespaces/demo/events";

#[tokio::test]
async fn a_missing_object_is_told_as_kubernetes_tells_it() {
    let world = World::new().await;
    let status = world.expect(StatusCode::NOT_FOUND, Method::GET, &format!("{DEPLOYMENTS}/x"), None).await;
    assert_eq!(status["message"], "deployments.apps \"x\" not found");
    assert_eq!(status["details"], json!({"name": "x", "group": "apps", "kind": "deployments"}));
}

#[tokio::test]
async fn a_taken_name_and_a_missing_namespace_are_refused() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let status = world.expect(StatusCode::CONFLICT, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    assert_eq!(status["message"], "configmaps \"a\" already exists");
    let elsewhere = "/api/v1/namespaces/nowhere/configmaps";
    let status = world.expect(StatusCode::NOT_FOUND, Method::POST, elsewhere, Some(config_map("a"))).await;
    assert_eq!(status["message"], "namespaces \"nowhere\" not found");
    let list = world.expect(StatusCode::OK, Method::GET, elsewhere, None).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_collection_is_deleted_in_one_namespace_never_in_all() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    world.expect(StatusCode::METHOD_NOT_ALLOWED, Method::DELETE, "/api/v1/configmaps", None).await;
    world.expect(StatusCode::OK, Method::GET, &format!("{CONFIG_MAPS}/a"), None).await;
    world.expect(StatusCode::OK, Method::DELETE, CONFIG_MAPS, None).await;
    world.expect(StatusCode::NOT_FOUND, Method::GET, &format!("{CONFIG_MAPS}/a"), None).await;
}

#[tokio::test]
async fn a_stale_resource_version_conflicts_and_a_no_op_keeps_it() {
    let world = World::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let first = world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let same = world.expect(StatusCode::OK, Method::PUT, &path, Some(first.clone())).await;
    assert_eq!(same["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let mut changed = first.clone();
    changed["data"]["k"] = "w".into();
    world.expect(StatusCode::OK, Method::PUT, &path, Some(changed.clone())).await;
    changed["data"]["k"] = "x".into();
    let status = world.expect(StatusCode::CONFLICT, Method::PUT, &path, Some(changed)).await;
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
}

/// As kube-apiserver 1.20 and later: the version is compared with what is there, and where nothing is, the object is made.
#[tokio::test]
async fn an_apply_with_a_version_that_cannot_be_makes_an_object_and_changes_none() {
    let world = World::new().await;
    let apply = |name: &str, metadata: serde_json::Value| {
        let mut object = config_map(name);
        for (field, value) in metadata.as_object().unwrap() {
            object["metadata"][field] = value.clone();
        }
        Request::builder()
            .method(Method::PATCH)
            .uri(format!("{CONFIG_MAPS}/{name}?fieldManager=m&force=true"))
            .header("content-type", "application/apply-patch+yaml")
            .body(Full::from(object.to_string()))
            .unwrap()
    };
    let only_make = json!({"resourceVersion": i64::MAX.to_string()});
    let (code, made) = world.send(apply("a", only_make.clone())).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_ne!(made["metadata"]["resourceVersion"], only_make["resourceVersion"]);
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
    let (code, status) = world.send(apply("a", only_make)).await;
    assert_eq!((code, &status["reason"]), (StatusCode::CONFLICT, &json!("Conflict")), "{status}");
    // A uid asks for an object that is there.
    let (code, status) = world.send(apply("b", json!({"uid": "u"}))).await;
    assert_eq!(code, StatusCode::CONFLICT, "{status}");
}

#[tokio::test]
async fn every_error_of_a_deployment_is_named_at_once() {
    let world = World::new().await;
    let mut bad = deployment("web");
    bad["spec"]["replicas"] = (-1).into();
    bad["spec"]["template"]["metadata"]["labels"]["app"] = "other".into();
    bad["metadata"]["annotations"] = json!({"federation.kubernetes.io/deployment-preferences": "{"});
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, DEPLOYMENTS, Some(bad)).await;
    let causes = status["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().filter_map(|cause| cause["field"].as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.replicas",
            "spec.template.metadata.labels",
            "metadata.annotations[federation.kubernetes.io/deployment-preferences]"
        ]
    );
    assert_eq!(status["details"]["kind"], "Deployment");
}

#[tokio::test]
async fn generation_moves_with_the_spec_only() {
    let world = World::new().await;
    let made = world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"]["replicas"], 1);
    let path = format!("{DEPLOYMENTS}/web");
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = world.expect(StatusCode::OK, Method::PATCH, &path, Some(labelled)).await;
    assert_eq!(labelled["metadata"]["generation"], 1);
    let status = json!({"status": {"replicas": 1, "readyReplicas": 1}, "spec": {"replicas": 9}});
    let status = world.expect(StatusCode::OK, Method::PATCH, &format!("{path}/status"), Some(status)).await;
    assert_eq!((&status["spec"]["replicas"], &status["status"]["readyReplicas"]), (&json!(1), &json!(1)));
    let scaled = json!({"spec": {"replicas": 4}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{path}/scale"), Some(scaled)).await;
    let after = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!((&after["metadata"]["generation"], &after["status"]["readyReplicas"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn pages_are_of_one_snapshot() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map(name))).await;
    }
    let first = world.expect(StatusCode::OK, Method::GET, &format!("{CONFIG_MAPS}?limit=2"), None).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("d"))).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?limit=2&continue={token}");
    let second = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    world.expect(StatusCode::BAD_REQUEST, Method::GET, &format!("{CONFIG_MAPS}?continue=x"), None).await;
    let future = format!("{CONFIG_MAPS}?resourceVersion=999999&resourceVersionMatch=Exact");
    world.expect(StatusCode::GATEWAY_TIMEOUT, Method::GET, &future, None).await;
}

#[tokio::test]
async fn wrong_requests_get_the_codes_that_clients_know() {
    let world = World::new().await;
    world.expect(StatusCode::NOT_FOUND, Method::GET, "/apis/nothing/v1/things", None).await;
    world
        .expect(StatusCode::METHOD_NOT_ALLOWED, Method::POST, &format!("{CONFIG_MAPS}/a"), Some(json!({})))
        .await;
    world.expect(StatusCode::METHOD_NOT_ALLOWED, Method::DELETE, "/api/v1/namespaces", None).await;
    world.expect(StatusCode::BAD_REQUEST, Method::POST, CONFIG_MAPS, Some(deployment("a"))).await;
    world.expect(StatusCode::FORBIDDEN, Method::DELETE, "/api/v1/namespaces/default", None).await;
    let by_field = format!("{CONFIG_MAPS}?fieldSelector=data.k%3Dv");
    world.expect(StatusCode::BAD_REQUEST, Method::GET, &by_field, None).await;
    let send = |accept: &'static str, content: &'static str, body: Vec<u8>| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(CONFIG_MAPS)
            .header("accept", accept)
            .header("content-type", content)
            .body(Full::from(body))
            .unwrap();
        world.send(request)
    };
    assert_eq!(send("text/html", "application/json", vec![]).await.0, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(send("*/*", "text/plain", b"x".to_vec()).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(send("*/*", "application/json", b"{".to_vec()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(send("*/*", "application/json", vec![b' '; 4 << 20]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn nobody_without_a_credential_gets_beyond_health() {
    let world = World::new().await;
    let ask = |path: &str| {
        let request = Request::builder().uri(path).body(Full::<Bytes>::default()).unwrap();
        world.server.service_as(None).oneshot(request)
    };
    assert_eq!(ask("/api/v1/namespaces").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/healthz").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_policy_is_validated_field_by_field() {
    let world = World::new().await;
    let policy = json!({
        "apiVersion": "federation.rs/v1alpha1", "kind": "PlacementPolicy", "metadata": {"name": "p"},
        "spec": {
            "resourceSelectors": [],
            "replicas": {"clusters": {"a": {"weight": -1}}},
            "overrides": [{"jsonPatch": [{"op": "frob", "path": "x"}]}],
        },
    });
    let path = "/apis/federation.rs/v1alpha1/namespaces/demo/placementpolicies";
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, path, Some(policy)).await;
    let causes = status["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().filter_map(|cause| cause["field"].as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.resourceSelectors",
            "spec.replicas.clusters[a].weight",
            "spec.overrides[0].jsonPatch[0].op",
            "spec.overrides[0].jsonPatch[0].path"
        ]
    );
}

/// kube-apiserver answers such lists from its cache, which knows no pages. Events it does not keep there.
#[tokio::test]
async fn a_list_of_version_zero_is_one_page() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map(name))).await;
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "demo"},
            "involvedObject": {"kind": "ConfigMap", "namespace": "demo", "name": name},
        });
        world.expect(StatusCode::CREATED, Method::POST, EVENTS, Some(event)).await;
    }
    for (path, query, count) in [
        (CONFIG_MAPS, "limit=2&resourceVersion=0", 3),
        (CONFIG_MAPS, "limit=2", 2),
        (EVENTS, "limit=2&resourceVersion=0", 2),
    ] {
        let list = world.expect(StatusCode::OK, Method::GET, &format!("{path}?{query}"), None).await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(count), "{path}?{query}");
        assert_eq!(list["metadata"]["continue"].is_null(), count == 3, "{path}?{query}");
    }
    let first = world.expect(StatusCode::OK, Method::GET, &format!("{CONFIG_MAPS}?limit=1"), None).await;
    let next = first["metadata"]["continue"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?limit=1&resourceVersion=0&continue={next}");
    let second = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(second["items"].as_array().map(Vec::len), Some(1), "what began in pages goes on in pages");
}

#[tokio::test]
async fn a_collection_that_is_deleted_is_told_in_the_view_that_is_asked_for() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let request = Request::delete(CONFIG_MAPS)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Full::default())
        .unwrap();
    let (status, table) = world.send(request).await;
    assert_eq!(status, StatusCode::OK, "{table}");
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
}

/// What is posted to be answered has no Table, and says so to who takes nothing else.
#[tokio::test]
async fn questions_have_no_tables() {
    let world = World::new().await;
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (accept, code) in [(table.to_owned(), 406), (format!("{table},application/json"), 201)] {
        let request = Request::post(path)
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Full::from(question.to_string()))
            .unwrap();
        let (status, answer) = world.send(request).await;
        assert_eq!(status, code, "{answer}");
    }
}
