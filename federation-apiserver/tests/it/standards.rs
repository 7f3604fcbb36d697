//! The Pod Security Standards, warnings of pods, and what an apply never comes to own: rules that came with newer versions.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, deployment};

const PODS: &str = "/api/v1/namespaces/demo/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

/// The answer, with the texts of its warnings.
async fn warned(world: &World, method: Method, path: &str, body: &Value) -> (StatusCode, Value, String) {
    let kind = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
    let request: Request<Full<Bytes>> = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(Full::from(body.to_string()))
        .unwrap();
    let response = world.server.service().oneshot(request).await.unwrap();
    let warnings = response.headers().get_all("warning").iter().map(|text| text.to_str().unwrap().to_owned());
    let (warnings, code) = (warnings.collect::<Vec<_>>().join("\n"), response.status());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap(), warnings)
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

async fn label(world: &World, labels: Value) -> (StatusCode, Value) {
    let patch = json!({"metadata": {"labels": labels}});
    world.request(Method::PATCH, "/api/v1/namespaces/demo", Some(patch)).await
}

#[tokio::test]
async fn a_namespace_refuses_pods_that_its_level_forbids() {
    let world = World::new().await;
    let (code, _) = label(&world, json!({"pod-security.kubernetes.io/enforce": "baseline"})).await;
    assert_eq!(code, StatusCode::OK);
    let (code, status, _) = warned(&world, Method::POST, PODS, &pod("a", json!({"hostNetwork": true}))).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{status}");
    assert_eq!(
        status["message"],
        "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let (code, made, warnings) = warned(&world, Method::POST, PODS, &pod("a", json!({}))).await;
    assert_eq!((code, warnings.as_str()), (StatusCode::CREATED, ""), "{made}");
    // What makes pods is not refused, but its writer warned.
    let mut object = deployment("web");
    object["spec"]["template"]["spec"]["hostPID"] = json!(true);
    let (code, made, warnings) = warned(&world, Method::POST, DEPLOYMENTS, &object).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(
        warnings,
        r#"299 - "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)""#
    );
}

#[tokio::test]
async fn labels_of_a_namespace_are_read_and_its_pods_looked_at() {
    let world = World::new().await;
    let (code, status) = label(&world, json!({"pod-security.kubernetes.io/enforce": "strict"})).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        status["message"],
        "Namespace \"demo\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
    );
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod("a", json!({"hostIPC": true})))).await;
    let mut namespace = world.expect(StatusCode::OK, Method::GET, "/api/v1/namespaces/demo", None).await;
    namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline".into();
    let (code, found, warnings) = warned(&world, Method::PUT, "/api/v1/namespaces/demo", &namespace).await;
    assert_eq!(code, StatusCode::OK, "{found}");
    assert_eq!(
        warnings,
        "299 - \"existing pods in namespace \\\"demo\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"\n299 - \"a: host namespaces\""
    );
}

#[tokio::test]
async fn who_writes_a_pod_is_warned_of_what_will_not_do_what_he_thinks() {
    let world = World::new().await;
    let odd = pod("a", json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}));
    let (code, made, warnings) = warned(&world, Method::POST, PODS, &odd).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let expect = r#"299 - "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead""#;
    assert_eq!(warnings, expect);
    let mut object = deployment("web");
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/os": "linux"});
    let (_, made, warnings) = warned(&world, Method::POST, DEPLOYMENTS, &object).await;
    assert_eq!(warnings, expect.replace("spec.node", "spec.template.spec.node"), "{made}");
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    let path = format!("{DEPLOYMENTS}/web");
    let request: Request<Full<Bytes>> = Request::builder()
        .method(Method::PATCH)
        .uri(&path)
        .header("content-type", "application/merge-patch+json")
        .body(Full::from(labelled.to_string()))
        .unwrap();
    let response = world.server.service().oneshot(request).await.unwrap();
    assert_eq!(response.headers().get("warning"), None, "the spec is the same");
}

#[tokio::test]
async fn an_apply_owns_no_status_and_through_the_status_no_spec() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    let configuration = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 9}, "status": {"replicas": 1},
    });
    let path = format!("{DEPLOYMENTS}/web/status?fieldManager=kubelet");
    let (code, found, _) = warned(&world, Method::PATCH, &path, &configuration).await;
    assert_eq!(code, StatusCode::OK, "{found}");
    assert_eq!((&found["spec"]["replicas"], &found["status"]["replicas"]), (&json!(1), &json!(1)));
    let of = |object: &Value, manager: &str| {
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        entries.into_iter().find(|entry| entry["manager"] == manager).map(|entry| entry["fieldsV1"].clone())
    };
    assert_eq!(of(&found, "kubelet"), Some(json!({"f:status": {"f:replicas": {}}})));
    let path = format!("{DEPLOYMENTS}/web?fieldManager=user&force=true");
    let (code, found, _) = warned(&world, Method::PATCH, &path, &configuration).await;
    assert_eq!(code, StatusCode::OK, "{found}");
    assert_eq!(of(&found, "user"), Some(json!({"f:spec": {"f:replicas": {}}})));
    assert_eq!(of(&found, "kubelet"), Some(json!({"f:status": {"f:replicas": {}}})));
}

#[tokio::test]
async fn pods_are_checked_for_what_came_with_newer_versions() {
    let world = World::new().await;
    for (spec, expect) in [
        (
            json!({"os": {"name": "mac"}}),
            "spec.os: Unsupported value: \"mac\": supported values: \"linux\", \"windows\"",
        ),
        (
            json!({"schedulingGates": [{"name": "a"}], "nodeName": "n"}),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "i", "restartPolicy": "Foo"}]}),
            "spec.initContainers[0].restartPolicy: Unsupported value: \"Foo\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ),
        (json!({"volumes": [{"name": "v", "image": {}}]}), "spec.volumes[0].image.reference: Required value"),
    ] {
        let (code, status) = world.request(Method::POST, PODS, Some(pod("a", spec))).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
        assert_eq!(status["message"], format!("Pod \"a\" is invalid: {expect}"));
    }
    // Gates open, and none comes.
    let gated = pod("g", json!({"schedulingGates": [{"name": "a"}]}));
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(gated)).await;
    let path = format!("{PODS}/g");
    let other = json!({"spec": {"schedulingGates": [{"name": "b"}]}});
    let (code, status) = world.request(Method::PATCH, &path, Some(other)).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    let opened = json!({"spec": {"schedulingGates": null, "nodeSelector": {"a": "b"}}});
    let found = world.expect(StatusCode::OK, Method::PATCH, &path, Some(opened)).await;
    assert_eq!(found["spec"]["nodeSelector"], json!({"a": "b"}));
}

#[tokio::test]
async fn a_service_says_by_known_words_where_its_traffic_goes() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/demo/services";
    let service = |spec: Value| {
        let mut service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
        for (field, value) in spec.as_object().into_iter().flatten() {
            service["spec"][field] = value.clone();
        }
        service
    };
    let (code, status) =
        world.request(Method::POST, path, Some(service(json!({"trafficDistribution": "x"})))).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        status["message"],
        "Service \"web\" is invalid: spec.trafficDistribution: Unsupported value: \"x\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\""
    );
    let headless = service(json!({"clusterIP": "None", "sessionAffinity": "ClientIP"}));
    let (code, made, warnings) = warned(&world, Method::POST, path, &headless).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(warnings, "299 - \"spec.SessionAffinity is ignored for headless services\"");
}

#[tokio::test]
async fn an_owner_that_is_named_twice_is_told_and_left_out() {
    let world = World::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "7"});
    let object = json!({"metadata": {"name": "a", "ownerReferences": [owner, owner]}});
    let path = "/api/v1/namespaces/demo/configmaps?dryRun=All";
    let (code, made, warnings) = warned(&world, Method::POST, path, &object).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["metadata"]["ownerReferences"], json!([owner]));
    assert!(warnings.contains("duplicate UID(s) observed: 7"), "{warnings}");
}
