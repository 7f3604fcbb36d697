//! Pods as a client sees them: what admission gives them, and their subresources.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::World;

const PODS: &str = "/api/v1/namespaces/demo/pods";

fn pod(name: &str, resources: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]},
    })
}

async fn strategic(world: &World, path: &str, patch: Value) -> (StatusCode, Value) {
    let request: Request<Full<Bytes>> = Request::builder()
        .method(Method::PATCH)
        .uri(path)
        .header("content-type", "application/strategic-merge-patch+json")
        .body(Full::from(patch.to_string()))
        .expect("it is a request");
    world.send(request).await
}

#[tokio::test]
async fn a_pod_finds_the_token_of_its_account() {
    let world = World::new().await;
    let made = world.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod("a", json!({})))).await;
    let (volume, mount) = (&made["spec"]["volumes"][0], &made["spec"]["containers"][0]["volumeMounts"][0]);
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!((&mount["name"], &mount["readOnly"]), (&volume["name"], &json!(true)));
    assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["path"], "token");
    // The server gave it: it is nobody's.
    assert!(!made["metadata"]["managedFields"].to_string().contains("f:volumes"), "{made}");
    // The manifest that made the pod replaces it.
    let mut again = pod("a", json!({}));
    again["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let kept = world.expect(StatusCode::OK, Method::PUT, &format!("{PODS}/a"), Some(again)).await;
    assert_eq!(kept["spec"], made["spec"]);
    let account = json!({
        "metadata": {"name": "quiet"}, "automountServiceAccountToken": false, "imagePullSecrets": [{"name": "s"}],
    });
    let accounts = "/api/v1/namespaces/demo/serviceaccounts";
    world.expect(StatusCode::CREATED, Method::POST, accounts, Some(account)).await;
    let mut quiet = pod("b", json!({}));
    quiet["spec"]["serviceAccountName"] = "quiet".into();
    let made = world.expect(StatusCode::CREATED, Method::POST, PODS, Some(quiet)).await;
    assert_eq!(made["spec"].get("volumes"), None);
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "s"}]));
}

/// What `kubectl debug` does.
#[tokio::test]
async fn an_ephemeral_container_comes_with_its_defaults_and_stays() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod("a", json!({})))).await;
    let path = format!("{PODS}/a/ephemeralcontainers");
    let debugger = |image: &str| json!({"spec": {"ephemeralContainers": [{"name": "d", "image": image, "targetContainerName": "c"}]}});
    let (code, found) = strategic(&world, &path, debugger("busybox")).await;
    assert_eq!(code, StatusCode::OK, "{found}");
    let container = &found["spec"]["ephemeralContainers"][0];
    assert_eq!(container["terminationMessagePolicy"], "File");
    assert_eq!(container["imagePullPolicy"], "Always");
    let (code, status) = strategic(&world, &path, debugger("other")).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    assert!(status["message"].to_string().contains("may not be changed"), "{status}");
    // Nor by the back door.
    let (code, status) = strategic(&world, &format!("{PODS}/a"), debugger("other")).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    assert!(status["message"].to_string().contains("pod updates may not change fields"), "{status}");
}

#[tokio::test]
async fn a_resize_changes_resources_and_nothing_else() {
    let world = World::new().await;
    let resources = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod("a", resources))).await;
    let path = format!("{PODS}/a/resize");
    let wanted = |image: &str, resources: Value| json!({"spec": {"containers": [{"name": "c", "image": image, "resources": resources}]}});
    let (code, found) =
        strategic(&world, &path, wanted("other", json!({"requests": {"cpu": "1500m"}}))).await;
    assert_eq!(code, StatusCode::OK, "{found}");
    let container = &found["spec"]["containers"][0];
    assert_eq!(container["resources"], json!({"requests": {"cpu": "1500m"}, "limits": {"cpu": "2"}}));
    assert_eq!(container["image"], "i");
    assert_eq!(found["metadata"]["generation"], 2);
    let entries = found["metadata"]["managedFields"].as_array().expect("somebody owns something");
    assert!(entries.iter().any(|entry| entry["subresource"] == "resize"), "{found}");
    let (code, status) =
        strategic(&world, &path, wanted("i", json!({"requests": null, "limits": null}))).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    // The pod itself does not change so.
    let (code, status) =
        strategic(&world, &format!("{PODS}/a"), wanted("i", json!({"requests": {"cpu": "1"}}))).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    let seen = world.expect(StatusCode::OK, Method::GET, &path, None).await;
    assert_eq!(seen["kind"], "Pod");
}

#[tokio::test]
async fn a_pod_is_resized_as_a_whole_and_in_what_runs_before_the_others() {
    let world = World::new().await;
    let asks = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let mut whole = pod("a", asks("1"));
    whole["spec"]["resources"] = asks("2");
    whole["spec"]["initContainers"] = json!([{"name": "i", "image": "i", "resources": asks("1")}]);
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(whole)).await;
    let path = format!("{PODS}/a/resize");
    let wanted = |pod: Value, init: Value| json!({"spec": {"resources": pod, "initContainers": [{"name": "i", "resources": init}]}});
    let (code, found) = strategic(&world, &path, wanted(asks("4"), asks("3"))).await;
    assert_eq!(code, StatusCode::OK, "{found}");
    assert_eq!(found["spec"]["resources"], asks("4"));
    assert_eq!(found["spec"]["initContainers"][0]["resources"], asks("3"));
    assert_eq!(found["metadata"]["generation"], 2);
    let (code, status) = strategic(&world, &path, wanted(Value::Null, asks("3"))).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    let told = status["message"].to_string();
    assert!(told.contains("spec.resources: Forbidden: pod-level resources cannot be removed"), "{told}");
    // Containers fit into their pod, and how they are resized is said when they are made.
    let (code, status) = strategic(&world, &path, wanted(asks("1"), asks("3"))).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
    let policies = json!({"spec": {"containers": [{"name": "c", "resizePolicy": policy}]}});
    let (code, status) = strategic(&world, &path, policies).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    let told = status["message"].to_string();
    assert!(told.contains("spec: Forbidden: only cpu and memory resources are mutable"), "{told}");
}

/// What kubelets and schedulers write.
#[tokio::test]
async fn the_status_of_a_pod_tells_what_can_be() {
    let world = World::new().await;
    let mut once = pod("a", json!({"requests": {"cpu": "1"}}));
    once["spec"]["restartPolicy"] = "Never".into();
    let made = world.expect(StatusCode::CREATED, Method::POST, PODS, Some(once)).await;
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let path = format!("{PODS}/a/status");
    let state = |state: Value| json!({"status": {"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}});
    let ended = json!({"running": null, "terminated": {"exitCode": 1}});
    let (code, found) = strategic(&world, &path, state(ended)).await;
    assert_eq!(code, StatusCode::OK, "{found}");
    let anew = json!({"terminated": null, "running": {}});
    let (code, status) = strategic(&world, &path, state(anew)).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    assert_eq!(
        status["message"],
        "Pod \"a\" is invalid: status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    );
    let (code, status) = strategic(
        &world,
        &path,
        json!({"status": {"qosClass": "Guaranteed", "hostIPs": [{"ip": "1.2.3.4"}]}}),
    )
    .await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    assert_eq!(
        status["message"],
        "Pod \"a\" is invalid: [status.qosClass: Invalid value: \"Guaranteed\": field is immutable, status.hostIPs[0].ip: Invalid value: \"1.2.3.4\": must be equal to `hostIP`]"
    );
    // Who does not know of a class leaves it as it is.
    let (code, found) =
        strategic(&world, &path, json!({"status": {"qosClass": null, "phase": "Failed"}})).await;
    assert_eq!(code, StatusCode::OK, "{found}");
    assert_eq!(
        (&found["status"]["qosClass"], &found["status"]["phase"]),
        (&json!("Burstable"), &json!("Failed"))
    );
}

/// Members may have gates open that are shut here.
#[tokio::test]
async fn what_is_behind_gates_is_left_out_of_pods_and_kept_in_templates() {
    let world = World::new().await;
    let mut stopped = pod("a", json!({}));
    stopped["spec"]["containers"][0]["lifecycle"] = json!({"stopSignal": "SIGINT"});
    let made = world.expect(StatusCode::CREATED, Method::POST, PODS, Some(stopped.clone())).await;
    assert_eq!(made["spec"]["containers"][0].get("lifecycle"), None);
    let mut spec = stopped["spec"].clone();
    spec["os"] = json!({"name": "linux"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}},
    });
    let deployments = "/apis/apps/v1/namespaces/demo/deployments";
    let made = world.expect(StatusCode::CREATED, Method::POST, deployments, Some(deployment)).await;
    let container = &made["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["lifecycle"], json!({"stopSignal": "SIGINT"}));
}

#[tokio::test]
async fn variables_are_read_of_files_in_volumes_that_begin_empty() {
    let world = World::new().await;
    let reads = |volume: &str, file: &str| {
        let source = json!({"fileKeyRef": {"volumeName": volume, "path": file, "key": "K"}});
        let mut pod = pod("a", json!({}));
        pod["spec"]["containers"][0]["env"] = json!([{"name": "K", "valueFrom": source}]);
        pod["spec"]["volumes"] =
            json!([{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/w"}}]);
        pod
    };
    let place = "spec.containers[0].env[0].valueFrom.fileKeyRef";
    for (volume, file, error) in [
        ("none", "f", format!("{place}.volumeName: Not found: \"none\"")),
        (
            "w",
            "f",
            format!("{place}.volumeName: Invalid value: \"w\": referenced volume must be of type emptyDir"),
        ),
        ("v", "../f", format!("{place}.path: Invalid value: \"../f\": must not contain '..'")),
    ] {
        let (code, status) = world.request(Method::POST, PODS, Some(reads(volume, file))).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
        assert_eq!(status["message"], format!("Pod \"a\" is invalid: {error}"));
    }
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(reads("v", "f"))).await;
}

/// Of a pod, and of a template for pods.
#[tokio::test]
async fn annotations_say_of_containers_what_fields_say() {
    let world = World::new().await;
    let mut confined = pod("a", json!({}));
    confined["metadata"]["annotations"] =
        json!({"container.seccomp.security.alpha.kubernetes.io/c": "unconfined"});
    confined["spec"]["containers"][0]["securityContext"] =
        json!({"seccompProfile": {"type": "RuntimeDefault"}});
    let (code, status) = world.request(Method::POST, PODS, Some(confined.clone())).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    let error = "spec.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match";
    assert_eq!(status["message"], format!("Pod \"a\" is invalid: {error}"));
    let template = json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"},
        "template": {"metadata": {"annotations": confined["metadata"]["annotations"]}, "spec": confined["spec"]},
    });
    let templates = "/api/v1/namespaces/demo/podtemplates";
    let (code, status) = world.request(Method::POST, templates, Some(template)).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    assert_eq!(status["message"], format!("PodTemplate \"a\" is invalid: template.{error}"));
}

/// A budget of the namespace holds for those who grow, too.
#[tokio::test]
async fn a_resize_stays_within_the_quota() {
    let world = World::new().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "2"}}});
    let quotas = "/api/v1/namespaces/demo/resourcequotas";
    world.expect(StatusCode::CREATED, Method::POST, quotas, Some(quota)).await;
    let resources = json!({"requests": {"cpu": "1"}});
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod("a", resources))).await;
    let wanted = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "3"}}}]}});
    let (code, status) = strategic(&world, &format!("{PODS}/a/resize"), wanted).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{status}");
    assert!(status["message"].to_string().contains("exceeded quota: q"), "{status}");
}

/// What a kubelet needs to end its containers in peace.
#[tokio::test]
async fn a_pod_on_a_node_is_deleted_gracefully() {
    let world = World::new().await;
    let mut bound = pod("a", json!({}));
    bound["spec"]["nodeName"] = "n".into();
    bound["spec"]["terminationGracePeriodSeconds"] = 25.into();
    let made = world.expect(StatusCode::CREATED, Method::POST, PODS, Some(bound.clone())).await;
    let path = format!("{PODS}/a");
    let going = world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    assert_eq!(going["kind"], "Pod");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 25);
    // A longer time is not given, a shorter one is.
    let longer =
        world.expect(StatusCode::OK, Method::DELETE, &path, Some(json!({"gracePeriodSeconds": 60}))).await;
    assert_eq!(longer["metadata"], going["metadata"]);
    let shorter =
        world.expect(StatusCode::OK, Method::DELETE, &format!("{path}?gracePeriodSeconds=5"), None).await;
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    // Nothing else takes its name meanwhile.
    world.expect(StatusCode::CONFLICT, Method::POST, PODS, Some(bound)).await;
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "another"}});
    world.expect(StatusCode::CONFLICT, Method::DELETE, &path, Some(wrong)).await;
    // What the kubelet says when its containers ended.
    let ended = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}});
    let gone = world.expect(StatusCode::OK, Method::DELETE, &path, Some(ended)).await;
    assert_eq!(gone["metadata"]["deletionGracePeriodSeconds"], 0);
    world.expect(StatusCode::NOT_FOUND, Method::GET, &path, None).await;
}

#[tokio::test]
async fn a_collection_of_pods_is_deleted_gracefully_where_that_means_something() {
    let world = World::new().await;
    for (name, node) in [("bound", Some("n")), ("free", None)] {
        let mut pod = pod(name, json!({}));
        pod["spec"]["nodeName"] = node.into();
        world.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod)).await;
    }
    world.expect(StatusCode::OK, Method::DELETE, PODS, Some(json!({"gracePeriodSeconds": 9}))).await;
    let left = world.expect(StatusCode::OK, Method::GET, PODS, None).await;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{left}");
    assert_eq!(left["items"][0]["metadata"]["deletionGracePeriodSeconds"], 9);
    world.expect(StatusCode::OK, Method::DELETE, PODS, Some(json!({"gracePeriodSeconds": 0}))).await;
    let left = world.expect(StatusCode::OK, Method::GET, PODS, None).await;
    assert_eq!(left["items"], json!([]));
}

/// `kubernetes.io/enforce-mountable-secrets`.
#[tokio::test]
async fn a_strict_account_lets_its_pods_use_the_secrets_that_it_lists() {
    let world = World::new().await;
    let account = json!({
        "metadata": {"name": "strict", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        "secrets": [{"name": "own"}],
    });
    let accounts = "/api/v1/namespaces/demo/serviceaccounts";
    world.expect(StatusCode::CREATED, Method::POST, accounts, Some(account)).await;
    let using = |name: &str, secret: &str| {
        let mut pod = pod(name, json!({}));
        pod["spec"]["serviceAccountName"] = "strict".into();
        pod["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": secret}}]);
        pod
    };
    let status = world.expect(StatusCode::FORBIDDEN, Method::POST, PODS, Some(using("a", "other"))).await;
    assert_eq!(
        status["message"],
        "pods \"a\" is forbidden: volume with secret.secretName=\"other\" is not allowed because service account strict does not reference that secret"
    );
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(using("a", "own"))).await;
    let env = json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]);
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "i", "env": env}]}});
    let (code, status) = strategic(&world, &format!("{PODS}/a/ephemeralcontainers"), debugger).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "{status}");
    assert!(status["message"].to_string().contains("ephemeral container d with envVar E"), "{status}");
}

/// Limits are for what comes after them.
#[tokio::test]
async fn narrower_limits_do_not_stand_in_the_way_of_pods_that_are_there() {
    let world = World::new().await;
    let resources = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}});
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod("a", resources.clone()))).await;
    let range =
        json!({"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}});
    world.expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces/demo/limitranges", Some(range)).await;
    world.expect(StatusCode::FORBIDDEN, Method::POST, PODS, Some(pod("b", resources))).await;
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{PODS}/a"), Some(label)).await;
}

/// Whether there is a pod or a node is looked at later.
#[tokio::test]
async fn what_is_asked_of_a_log_makes_sense() {
    let world = World::new().await;
    let told = async |query: &str| {
        let (code, status) = world.request(Method::GET, &format!("{PODS}/a/log?{query}"), None).await;
        (code.as_u16(), status["message"].as_str().unwrap_or_default().to_owned())
    };
    for (query, errors) in [
        ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            "sinceSeconds=0&sinceTime=2026-01-02T03:04:05Z",
            ": Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ("stream=Stdout", "stream: Forbidden: may not be specified"),
        (
            "limitBytes=0&tailLines=-2",
            "[tailLines: Invalid value: -2: must be greater than or equal to 0, limitBytes: Invalid value: 0: must be greater than 0]",
        ),
    ] {
        assert_eq!(told(query).await, (422, format!("PodLogOptions \"a\" is invalid: {errors}")));
    }
    for (query, why) in [
        ("tailLines=x", r#"strconv.ParseInt: parsing "x": invalid syntax"#),
        ("sinceTime=x", r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#),
    ] {
        assert_eq!(told(query).await, (400, why.to_owned()));
    }
    assert_eq!(told("tailLines=0&sinceSeconds=1").await, (404, "pods \"a\" not found".to_owned()));
}
