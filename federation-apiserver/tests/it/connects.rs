//! What goes through to pods, Services and nodes, as policies and webhooks are asked about it.

use std::sync::Arc;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{webhooks::Hook, world::World};

const PODS: &str = "/api/v1/namespaces/demo/pods";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const NOWHERE: &str = "pod a does not have a host assigned";

fn rules(resources: &[&str]) -> Value {
    json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": resources}])
}

/// Webhooks for CONNECT, whose answers `answer` gives: those of the server, and what it was asked.
async fn hooked(
    world: &World,
    kind: &str,
    answer: impl Fn(&Value) -> Value + Send + Sync + 'static,
) -> Arc<Mutex<Vec<Value>>> {
    let hook = Hook::new(answer).await;
    let webhook = json!({
        "name": "through.example.com", "clientConfig": hook.config(), "admissionReviewVersions": ["v1"],
        "sideEffects": "None", "rules": rules(&["pods/*", "services/proxy", "nodes/proxy"]),
    });
    // Options have no labels to be selected by.
    let mut selecting = webhook.clone();
    selecting["name"] = json!("selecting.example.com");
    selecting["objectSelector"] = json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]});
    let object = json!({"metadata": {"name": "hooks"}, "webhooks": [selecting, webhook]});
    let path = format!("{GROUP}/{kind}webhookconfigurations");
    world.expect(StatusCode::CREATED, Method::POST, &path, Some(object)).await;
    hook.asked
}

async fn with_pod() -> World {
    let world = World::new().await;
    let containers = json!([{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]);
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": containers}});
    world.expect(StatusCode::CREATED, Method::POST, PODS, Some(pod)).await;
    world
}

#[tokio::test]
async fn webhooks_see_the_options_of_what_goes_through_before_anybody_looks_where_to() {
    let world = with_pod().await;
    let asked = hooked(&world, "validating", |_| json!({"allowed": true})).await;
    let through = async |method: Method, path: &str| {
        let (code, status) = world.request(method, path, None).await;
        let request = asked.lock().pop().unwrap();
        assert_eq!(asked.lock().len(), 0);
        assert_eq!((&request["operation"], &request["oldObject"]), (&json!("CONNECT"), &Value::Null));
        assert_eq!(request.get("options").unwrap_or(&Value::Null), &Value::Null);
        assert_eq!(request["kind"]["kind"], request["object"]["kind"]);
        (code.as_u16(), status["message"].as_str().unwrap_or_default().to_owned(), request)
    };
    let exec =
        format!("{PODS}/a/exec?container=c&command=ls&command=-l&stdin=0&stdout=1&stderr=true&tty=False");
    let (code, message, request) = through(Method::POST, &exec).await;
    assert_eq!((code, message.as_str()), (400, NOWHERE));
    let object = json!({"apiVersion": "v1", "kind": "PodExecOptions", "container": "c", "command": ["ls", "-l"],
        "stdout": true, "stderr": true});
    assert_eq!(request["object"], object);
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    for (field, expect) in [
        ("resource", &resource),
        ("subResource", &json!("exec")),
        ("name", &json!("a")),
        ("namespace", &json!("demo")),
    ] {
        assert_eq!(request[field], *expect, "{field}");
    }
    let (code, _, request) = through(Method::GET, &format!("{PODS}/none/attach?stdin=")).await;
    assert_eq!((code, &request["name"]), (404, &json!("none")));
    assert_eq!(request["object"], json!({"apiVersion": "v1", "kind": "PodAttachOptions", "stdin": true}));
    let (_, _, request) = through(Method::GET, &format!("{PODS}/a/portforward?ports=80,81&ports=82")).await;
    assert_eq!(
        request["object"],
        json!({"apiVersion": "v1", "kind": "PodPortForwardOptions", "ports": [80, 81, 82]})
    );
    for (path, kind, name, rest) in [
        (format!("{PODS}/a:80/proxy/b/c/"), "PodProxyOptions", "a:80", Some("/b/c/")),
        ("/api/v1/namespaces/demo/services/http:s:80/proxy".into(), "ServiceProxyOptions", "http:s:80", None),
        ("/api/v1/nodes/n/proxy/".into(), "NodeProxyOptions", "n", Some("/")),
    ] {
        let (_, _, request) = through(Method::DELETE, &path).await;
        let mut object = json!({"apiVersion": "v1", "kind": kind});
        if let Some(rest) = rest {
            object["path"] = json!(rest);
        }
        assert_eq!((&request["object"], &request["name"]), (&object, &json!(name)));
    }
    // A log is read, nothing goes through.
    world.request(Method::GET, &format!("{PODS}/a/log?container=c"), None).await;
    assert_eq!(asked.lock().len(), 0);
}

#[tokio::test]
async fn webhooks_refuse_what_goes_through_and_say_to_which_container() {
    let world = with_pod().await;
    let exec = format!("{PODS}/a/exec?command=ls");
    let several = "a container name must be specified for pod a, choose one of: [c d]";
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, &exec, None).await;
    assert_eq!(status["message"], several);
    // [{"op": "add", "path": "/container", "value": "d"}]
    let patch = "W3sib3AiOiAiYWRkIiwgInBhdGgiOiAiL2NvbnRhaW5lciIsICJ2YWx1ZSI6ICJkIn1d";
    hooked(&world, "mutating", move |_| json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
        .await;
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, &exec, None).await;
    assert_eq!(status["message"], NOWHERE);
    let seen = hooked(&world, "validating", |request| {
        json!({"allowed": request["object"]["container"] != "d", "status": {"message": "not there"}})
    })
    .await;
    let (_, status) = world.request(Method::POST, &exec, None).await;
    assert_eq!(status["message"], r#"admission webhook "through.example.com" denied the request: not there"#);
    assert_eq!(seen.lock().len(), 1);
}

#[tokio::test]
async fn policies_judge_what_goes_through() {
    let world = with_pod().await;
    let policy = json!({
        "metadata": {"name": "quiet"},
        "spec": {"matchConstraints": {"resourceRules": rules(&["pods/exec"])}, "validations": [
            {"expression": "request.operation == 'CONNECT' && !(has(object.tty) && object.tty)", "message": "no terminals"},
        ]},
    });
    let binding = json!({"metadata": {"name": "quiet"}, "spec": {"policyName": "quiet", "validationActions": ["Deny"]}});
    for (plural, object) in [("policies", policy), ("policybindings", binding)] {
        let path = format!("{GROUP}/validatingadmission{plural}");
        world.expect(StatusCode::CREATED, Method::POST, &path, Some(object)).await;
    }
    let exec = format!("{PODS}/a/exec?container=c&command=sh");
    world.expect(StatusCode::BAD_REQUEST, Method::POST, &exec, None).await;
    let exec = format!("{exec}&tty=true");
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, &exec, None).await;
    assert_eq!(
        status["message"],
        r#"pods "a" is forbidden: ValidatingAdmissionPolicy 'quiet' with binding 'quiet' denied request: no terminals"#
    );
}

#[tokio::test]
async fn nothing_goes_through_dryly_or_to_ports_that_are_none() {
    let world = with_pod().await;
    for (query, told) in [
        ("dryRun=All", "dryRun is not supported"),
        ("dryRun=", "dryRun is not supported"),
        ("ports=x", r#"cannot convert to []int32: strconv.ParseUint: parsing "x": invalid syntax"#),
        ("ports=80,", r#"cannot convert to []int32: strconv.ParseUint: parsing "": invalid syntax"#),
        (
            "ports=65536",
            r#"cannot convert to []int32: strconv.ParseUint: parsing "65536": value out of range"#,
        ),
    ] {
        let path = format!("{PODS}/a/portforward?{query}");
        let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, &path, None).await;
        assert_eq!(status["message"], told, "{query}");
    }
}
