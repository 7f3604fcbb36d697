//! What no client should send, and what must come of it.

use std::convert::Infallible;

use bytes::Bytes;
use federation_apiserver::auth::User;
use futures::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, config_map, deployment};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

/// Sends text of a media type; answers with code, body and Warning headers.
async fn send(
    world: &World,
    method: Method,
    path: &str,
    media_type: &str,
    body: impl Into<Bytes>,
) -> (StatusCode, Value, Vec<String>) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media_type)
        .body(Full::new(body.into()))
        .unwrap();
    let response = world.server.service().oneshot(request).await.unwrap();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| value.to_str().unwrap().to_owned()).collect();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_default(), warnings)
}

#[tokio::test]
async fn nothing_is_stored_that_could_not_be_read_again() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    let path = format!("{DEPLOYMENTS}/web");
    let nested = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
    let revision = format!(r#"{{"metadata":{{"name":"deep"}},"revision":1,"data":{}}}"#, nested(101));
    let revisions = "/apis/apps/v1/namespaces/demo/controllerrevisions";
    let (code, ..) = send(&world, Method::POST, revisions, "application/json", revision).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "101 levels");
    for levels in [127, 5000] {
        let patch = format!("{{\"spec\":{{\"future\":{}}}}}", nested(levels));
        let (code, ..) = send(&world, Method::PATCH, &path, "application/merge-patch+json", patch).await;
        assert_eq!(code, StatusCode::BAD_REQUEST, "{levels} levels");
    }
    let deeper: Vec<_> = (1..1000)
        .map(|levels| json!({"op": "add", "path": format!("/spec{}", "/a".repeat(levels)), "value": {}}))
        .collect();
    let body = Value::Array(deeper).to_string();
    let (code, ..) = send(&world, Method::PATCH, &path, "application/json-patch+json", body).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let yaml = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: deep}}\nfuture: {}",
        "[".repeat(300) + &"]".repeat(300)
    );
    let (code, ..) = send(&world, Method::POST, CONFIG_MAPS, "application/yaml", yaml).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    let patch = format!("{{\"spec\":{{\"future\":{}}}}}", nested(90));
    let (code, ..) = send(&world, Method::PATCH, &path, "application/merge-patch+json", patch).await;
    assert_eq!(code, StatusCode::OK);
    world.expect(StatusCode::OK, Method::GET, &format!("{path}/scale"), None).await;
}

#[tokio::test]
async fn odd_requests_are_refused_without_a_panic() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, DEPLOYMENTS, Some(deployment("web"))).await;
    let (item, scale) = (format!("{DEPLOYMENTS}/web"), format!("{DEPLOYMENTS}/web/scale"));
    let json_patch = "application/json-patch+json";
    let requests: [(Method, &str, &str, &[u8]); 13] = [
        (Method::PATCH, &scale, json_patch, br#"[{"op":"replace","path":"","value":"x"}]"#),
        (Method::PATCH, &scale, json_patch, br#"[{"op":"add","path":"/spec","value":[1]}]"#),
        (Method::PATCH, &item, json_patch, br#"[{"op":"replace","path":"","value":[]}]"#),
        (Method::PATCH, &item, json_patch, br#"[{"op":"replace","path":"/metadata","value":"x"}]"#),
        (Method::PATCH, &item, json_patch, br#"[{"op":"replace","path":"/spec/template","value":7}]"#),
        (Method::PATCH, &item, "application/merge-patch+json", br#"{"metadata":[]}"#),
        (
            Method::PUT,
            &scale,
            "application/json",
            br#"{"kind":"Scale","apiVersion":"autoscaling/v1","spec":3}"#,
        ),
        (Method::POST, DEPLOYMENTS, "application/json", br#"{"metadata":{"name":"a","labels":3}}"#),
        (Method::POST, DEPLOYMENTS, "application/json", b"\xff\xfe{}"),
        (Method::POST, DEPLOYMENTS, "application/yaml", b"\xff\xfe"),
        (Method::POST, DEPLOYMENTS, "application/vnd.kubernetes.protobuf", b"k8s\0\x0a\xff\xff\xff\xff\xff"),
        (Method::DELETE, &item, "application/json", b"[]"),
        (Method::DELETE, &item, "application/json", br#"{"preconditions":7,"propagationPolicy":"Sideways"}"#),
    ];
    for (method, path, media_type, body) in requests {
        let (code, status, _) = send(&world, method.clone(), path, media_type, body.to_vec()).await;
        let text = String::from_utf8_lossy(body);
        assert!(code.is_client_error(), "{method} {path} {text}: {code} {status}");
    }
    // kube-apiserver has no code for it.
    let body = br#"{"spec":{"template":{"spec":{"containers":[1]}}}}"#;
    let strategic = "application/strategic-merge-patch+json";
    let (code, status, _) = send(&world, Method::PATCH, &item, strategic, body.to_vec()).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    let told = "list element types are not identical: [[map[";
    assert!(status["message"].as_str().unwrap().starts_with(told), "{status}");
    let list = |query: &str| format!("{CONFIG_MAPS}?{query}");
    let labels = "a%20in%20(".to_owned() + &"b,".repeat(20_000) + "c)";
    let lists = [
        // Go's words for it are `value out of range`.
        (list("limit=18446744073709551615"), StatusCode::BAD_REQUEST),
        // Below zero means none.
        (list("limit=-1"), StatusCode::OK),
        (list("labelSelector=%FF%00("), StatusCode::BAD_REQUEST),
        (list(&format!("labelSelector={labels}")), StatusCode::OK),
        (
            list("watch=1&timeoutSeconds=9223372036854775807&resourceVersion=18446744073709551615"),
            StatusCode::OK,
        ),
        (list("watch=1&timeoutSeconds=9223372036854775808"), StatusCode::BAD_REQUEST),
        (list("resourceVersion=18446744073709551616"), StatusCode::BAD_REQUEST),
        (format!("{CONFIG_MAPS}/%00%2F%FF"), StatusCode::NOT_FOUND),
    ];
    for (path, expect) in lists {
        world.expect(expect, Method::GET, &path, None).await;
    }
}

#[tokio::test]
async fn strictness_is_about_what_the_request_brings() {
    let world = World::new().await;
    let mut newer = deployment("web");
    newer["spec"]["fromTheFuture"] = json!(true);
    let (code, _, warnings) =
        send(&world, Method::POST, DEPLOYMENTS, "application/json", newer.to_string()).await;
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(warnings, ["299 - \"unknown field \\\"spec.fromTheFuture\\\"\""]);

    let path = format!("{DEPLOYMENTS}/web");
    let strict = format!("{path}?fieldValidation=Strict");
    let merge = "application/merge-patch+json";
    let (code, _, warnings) = send(&world, Method::PATCH, &strict, merge, r#"{"spec":{"replicas":3}}"#).await;
    assert_eq!((code, warnings.len()), (StatusCode::OK, 0), "the patch itself is right");
    let (code, status, _) = send(&world, Method::PATCH, &strict, merge, r#"{"spec":{"replicaz":3}}"#).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(status["message"].as_str().unwrap().contains("unknown field \"spec.replicaz\""), "{status}");

    let twice = r#"{"spec":{"replicas":3,"replicas":4}}"#;
    let (code, status, _) = send(&world, Method::PATCH, &strict, merge, twice).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(status["message"].as_str().unwrap().contains("duplicate field \"spec.replicas\""), "{status}");
    let (code, _, warnings) = send(&world, Method::PATCH, &path, merge, twice).await;
    assert_eq!((code, warnings.len()), (StatusCode::OK, 1));
    let body = r#"{"metadata":{"name":"a"},"data":{"k":"1","k":"2"}}"#;
    let path = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let (code, status, _) = send(&world, Method::POST, &path, "application/json", body).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(status["message"].as_str().unwrap().contains("duplicate field \"data.k\""), "{status}");
}

#[tokio::test]
async fn all_that_strictness_finds_is_told_at_once() {
    let world = World::new().await;
    let template = r#""selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"name":"a","image":"i","odd":1,"imagePullPolicy":"Always","imagePullPolicy":"Never"}]}}"#;
    let body = format!(
        r#"{{"metadata":{{"name":"web"}},"spec":{{"zzz":1,"twice":{{"a":1,"a":2}},"twice":2,"paused":true,"paused":false,{template}}}}}"#
    );
    let found = [
        r#"unknown field "spec.zzz""#,
        r#"unknown field "spec.twice""#,
        r#"duplicate field "spec.paused""#,
        r#"unknown field "spec.template.spec.containers[0].odd""#,
        r#"duplicate field "spec.template.spec.containers[0].imagePullPolicy""#,
    ];
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let (code, status, _) = send(&world, Method::POST, &strict, "application/json", body.clone()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    let message = status["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("strict decoding error: {}", found.join(", "))), "{message}");
    let told = |errors: &[&str]| -> Vec<String> {
        errors.iter().map(|error| format!("299 - \"{}\"", error.replace('"', "\\\""))).collect()
    };
    let (code, _, warnings) = send(&world, Method::POST, DEPLOYMENTS, "application/json", body.clone()).await;
    assert_eq!((code, warnings), (StatusCode::CREATED, told(&found)));

    let path = format!("{DEPLOYMENTS}/web");
    let merge = r#"{"spec":{"zzz":1,"paused":true,"paused":false}}"#;
    let found = [r#"duplicate field "spec.paused""#, r#"unknown field "spec.zzz""#];
    let (code, _, warnings) = send(&world, Method::PATCH, &path, "application/merge-patch+json", merge).await;
    assert_eq!((code, warnings), (StatusCode::OK, told(&found)));
    let strict = format!("{path}?fieldValidation=Strict");
    let (code, status, _) = send(&world, Method::PATCH, &strict, "application/merge-patch+json", merge).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(status["message"].as_str().unwrap().ends_with(&found.join(", ")), "{status}");

    let operations = r#"[{"op":"add","path":"/spec/replicas","path":"/spec/replicas","value":1,"odd":{}}]"#;
    let found = [r#"json patch duplicate field "[0].path""#, r#"json patch unknown field "[0].odd""#];
    let (code, _, warnings) =
        send(&world, Method::PATCH, &path, "application/json-patch+json", operations).await;
    assert_eq!((code, warnings), (StatusCode::OK, told(&found)));
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let revision = world.server.storage().snapshot().revision();
    let (a, b) = (format!("{CONFIG_MAPS}/a?dryRun=All"), format!("{CONFIG_MAPS}?dryRun=All"));
    let mut changed = config_map("a");
    changed["data"]["k"] = "w".into();
    world.expect(StatusCode::CREATED, Method::POST, &b, Some(config_map("b"))).await;
    world.expect(StatusCode::CONFLICT, Method::POST, &b, Some(config_map("a"))).await;
    let told = world.expect(StatusCode::OK, Method::PUT, &a, Some(changed)).await;
    assert_eq!(told["data"]["k"], "w");
    world.expect(StatusCode::OK, Method::PATCH, &a, Some(json!({"data": {"k": "x"}}))).await;
    world.expect(StatusCode::OK, Method::DELETE, &a, None).await;
    world.expect(StatusCode::OK, Method::DELETE, &b, None).await;
    assert_eq!(world.server.storage().snapshot().revision(), revision);
    let held = json!({"metadata": {"name": "held", "finalizers": ["e.com/hold"]}});
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(held)).await;
    let told =
        world.expect(StatusCode::OK, Method::DELETE, &format!("{CONFIG_MAPS}/held?dryRun=All"), None).await;
    assert!(told["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(world.server.storage().snapshot().revision(), revision + 1);
}

#[tokio::test]
async fn deletes_keep_their_preconditions() {
    let world = World::new().await;
    let made = world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let path = format!("{CONFIG_MAPS}/a");
    let unless =
        |uid: &str, version: &str| Some(json!({"preconditions": {"uid": uid, "resourceVersion": version}}));
    let (uid, version) =
        (made["metadata"]["uid"].as_str().unwrap(), made["metadata"]["resourceVersion"].as_str().unwrap());
    world.expect(StatusCode::CONFLICT, Method::DELETE, &path, unless("other", version)).await;
    world.expect(StatusCode::CONFLICT, Method::DELETE, &path, unless(uid, "1")).await;
    world.expect(StatusCode::OK, Method::DELETE, &path, unless(uid, version)).await;
}

#[tokio::test]
async fn the_request_too_many_is_told_to_come_again_and_others_get_their_turn() {
    /// The server's seats, and the places to wait of one user.
    const SEATS: usize = 600;
    const WAITING: usize = 50;
    let world = World::new().await;
    let user = |name: &str| world.server.service_as(Some(User::new(name, [])));
    // Bodies that never come keep their requests at work.
    let greedy = || {
        let never = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let request = Request::builder().method(Method::POST).uri(CONFIG_MAPS).body(StreamBody::new(never));
        user("greedy").oneshot(request.unwrap()).boxed()
    };
    let list = |name: &str| {
        let request = Request::builder().uri(CONFIG_MAPS).body(Full::<Bytes>::default()).unwrap();
        user(name).oneshot(request).boxed()
    };
    let mut at_work: Vec<_> = (0..SEATS + WAITING).map(|_| greedy()).collect();
    for request in &mut at_work {
        assert!(request.now_or_never().is_none());
    }
    let response = list("greedy").await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    let mut modest = list("modest");
    assert!((&mut modest).now_or_never().is_none());
    // Administrators do not wait.
    world.expect(StatusCode::OK, Method::GET, CONFIG_MAPS, None).await;
    // The one seat that comes free is not for those who hold all others.
    drop(at_work.swap_remove(0));
    assert_eq!(modest.await.unwrap().status(), StatusCode::OK);
    drop(at_work);
    assert_eq!(list("greedy").await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn duplicates_below_a_long_name_are_told_in_few_words() {
    let world = World::new().await;
    let twice = r#""a":1,"#.repeat(200_000);
    let body = format!(r#"{{"{}":{{{twice}"a":1}},"a":1,"a":1}}"#, "n".repeat(1 << 20));
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, _, warnings) = send(&world, Method::POST, reviews, "application/json", body.clone()).await;
    assert_eq!(code, StatusCode::CREATED);
    assert!(!warnings.is_empty());
    assert!(warnings.iter().map(String::len).sum::<usize>() < 8 << 10, "{}", warnings.len());
    let strictly = format!("{reviews}?fieldValidation=Strict");
    let (code, status, _) = send(&world, Method::POST, &strictly, "application/json", body).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(status["message"].as_str().unwrap().len() < 1 << 20);
}

#[tokio::test]
async fn openapi_documents_are_made_beside_other_requests() {
    let world = World::new().await;
    let request = Request::get("/openapi/v2").body(Full::<Bytes>::default()).unwrap();
    let mut asked = world.server.service().oneshot(request);
    // They take much longer to make than to ask for: what is answered at once has been made on this thread.
    assert!(futures::poll!(&mut asked).is_pending());
    world.expect(StatusCode::OK, Method::GET, "/version", None).await;
    assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
}
