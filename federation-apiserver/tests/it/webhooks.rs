//! Admission webhooks, with real HTTPS servers in this process.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use federation_apiserver::auth::authz::Mode;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::{
    access::Access,
    crd::{crontabs, tab},
    https::{self, Https},
    world::{World, config_map, deployment},
};

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// An HTTPS server that answers AdmissionReviews, and remembers what it was asked.
pub(crate) struct Hook {
    server: Https,
    pub(crate) asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    /// One whose answers `answer` gives: the fields of `response` beside the uid.
    pub(crate) async fn new(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&asked));
        let server = Https::start(move |request| {
            let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
            async move {
                let mut review = https::json_of(request).await;
                let mut response = answer(&review["request"]);
                response["uid"] = review["request"]["uid"].clone();
                seen.lock().push(review["request"].take());
                https::answer(
                    &json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}),
                )
            }
        });
        Self { server: server.await, asked }
    }

    pub(crate) fn config(&self) -> Value {
        self.server.config()
    }

    fn operations(&self) -> Vec<String> {
        self.asked.lock().iter().map(|request| request["operation"].as_str().unwrap().to_owned()).collect()
    }
}

fn webhook(name: &str, config: Value, resources: &[&str]) -> Value {
    json!({
        "name": name, "clientConfig": config, "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": resources}],
    })
}

impl World {
    async fn hook(&self, kind: &str, name: &str, webhooks: Value) {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": name}, "webhooks": webhooks,
        });
        let path = format!("{GROUP}/{}webhookconfigurations", kind.to_lowercase());
        self.expect(StatusCode::CREATED, Method::POST, &path, Some(object)).await;
    }
}

fn patch(operations: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(operations.to_string())})
}

#[tokio::test]
async fn a_refusal_is_told_in_kubernetes_words_and_ends_every_kind_of_write() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("old"))).await;
    let hook = Hook::new(
        |_| json!({"allowed": false, "status": {"message": "not today", "code": 403, "reason": "Forbidden"}}),
    )
    .await;
    world
        .hook("Validating", "guard", json!([webhook("guard.example.com", hook.config(), &["configmaps"])]))
        .await;
    let status = world.expect(StatusCode::FORBIDDEN, Method::POST, MAPS, Some(config_map("new"))).await;
    assert_eq!(status["message"], r#"admission webhook "guard.example.com" denied the request: not today"#);
    assert_eq!(status["reason"], "Forbidden");
    let old = format!("{MAPS}/old");
    world.expect(StatusCode::FORBIDDEN, Method::PATCH, &old, Some(json!({"data": {"k": "w"}}))).await;
    world
        .expect(
            StatusCode::FORBIDDEN,
            Method::PUT,
            &old,
            Some({
                let mut changed = config_map("old");
                changed["data"]["k"] = "x".into();
                changed
            }),
        )
        .await;
    world.expect(StatusCode::FORBIDDEN, Method::DELETE, &old, None).await;
    // What changes nothing is shown, too, and who deletes many names none.
    world.expect(StatusCode::FORBIDDEN, Method::PATCH, &old, Some(json!({"data": {"k": "v"}}))).await;
    world.expect(StatusCode::FORBIDDEN, Method::DELETE, MAPS, None).await;
    assert_eq!(hook.operations(), ["CREATE", "UPDATE", "UPDATE", "DELETE", "UPDATE", "DELETE"]);
    let asked = hook.asked.lock().clone();
    assert_eq!((&asked[3]["name"], asked[5].get("name")), (&json!("old"), None));
    assert_eq!(asked[5]["oldObject"]["metadata"]["name"], "old");
    assert_eq!(asked[0]["userInfo"].get("uid"), None);
    assert_eq!(asked[0]["object"]["metadata"]["name"], "new");
    assert_eq!(asked[0]["options"]["kind"], "CreateOptions");
    assert_eq!(asked[1]["oldObject"]["data"]["k"], "v");
    assert_eq!(asked[1]["object"]["data"]["k"], "w");
    assert!(asked[3]["object"].is_null() && asked[3]["oldObject"]["metadata"]["name"] == "old");
    // What guards cannot be guarded, or it could not be removed.
    world
        .expect(
            StatusCode::OK,
            Method::DELETE,
            &format!("{GROUP}/validatingwebhookconfigurations/guard"),
            None,
        )
        .await;
    world.expect(StatusCode::OK, Method::DELETE, &old, None).await;
}

#[tokio::test]
async fn a_patched_object_is_defaulted_checked_and_what_was_added_is_owned_by_nobody() {
    let world = World::new().await;
    let hook = Hook::new(|_| {
        patch(&json!([
            {"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "sidecar", "image": "mesh:1", "ports": [{"containerPort": 15001}]}},
        ]))
    })
    .await;
    world
        .hook("Mutating", "mesh", json!([webhook("mesh.example.com", hook.config(), &["deployments"])]))
        .await;
    let path = "/apis/apps/v1/namespaces/demo/deployments";
    let made = world.expect(StatusCode::CREATED, Method::POST, path, Some(deployment("web"))).await;
    let sidecar = &made["spec"]["template"]["spec"]["containers"][1];
    assert_eq!((&sidecar["name"], &sidecar["ports"][0]["protocol"]), (&json!("sidecar"), &json!("TCP")));
    assert_eq!(sidecar["imagePullPolicy"], "IfNotPresent");
    assert!(!made["metadata"]["managedFields"].to_string().contains("sidecar"), "{made}");
    let stored = world.expect(StatusCode::OK, Method::GET, &format!("{path}/web"), None).await;
    assert_eq!(stored["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_patch_that_makes_an_object_wrong_is_not_stored() {
    let world = World::new().await;
    let hook = Hook::new(|_| patch(&json!([{"op": "replace", "path": "/data", "value": 7}]))).await;
    world.hook("Mutating", "bad", json!([webhook("bad.example.com", hook.config(), &["configmaps"])])).await;
    world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::POST, MAPS, Some(config_map("a"))).await;
    world.expect(StatusCode::NOT_FOUND, Method::GET, &format!("{MAPS}/a"), None).await;
}

#[tokio::test]
async fn a_patch_leaves_an_object_of_a_custom_kind_an_object() {
    const TABS: &str = "/apis/stable.example.com/v1/namespaces/demo/crontabs";
    for (path, value, why) in [
        ("", json!(["text"]), "it is no object"),
        ("/metadata", json!([]), "v1.ObjectMeta"),
        ("/metadata/labels", json!({"a": 1}), "ObjectMeta.labels"),
    ] {
        let world = World::new().await;
        world.expect(StatusCode::CREATED, Method::POST, CRDS, Some(crontabs())).await;
        let broken = json!([{"op": "replace", "path": path, "value": value}]);
        let hook = Hook::new(move |_| patch(&broken)).await;
        world
            .hook("Mutating", "bad", json!([webhook("bad.example.com", hook.config(), &["crontabs"])]))
            .await;
        let mut tab = tab("a");
        tab["metadata"]["labels"] = json!({"a": "b"});
        let status = world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::POST, TABS, Some(tab)).await;
        let message = status["message"].as_str().unwrap();
        assert!(
            message.contains("returned an object that does not decode: ") && message.contains(why),
            "{message}"
        );
    }
}

#[tokio::test]
async fn one_that_wants_to_is_asked_again_when_a_later_one_changes_something() {
    let world = World::new().await;
    let count = |request: &Value| {
        let seen = request["object"]["data"].as_object().unwrap().len();
        patch(&json!([{"op": "add", "path": "/data/seen", "value": seen.to_string()}]))
    };
    let first = Hook::new(count).await;
    let second = Hook::new(|_| patch(&json!([{"op": "add", "path": "/data/late", "value": "yes"}]))).await;
    let mut again = webhook("first.example.com", first.config(), &["configmaps"]);
    again["reinvocationPolicy"] = "IfNeeded".into();
    world
        .hook(
            "Mutating",
            "both",
            json!([again, webhook("second.example.com", second.config(), &["configmaps"])]),
        )
        .await;
    let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    assert_eq!(made["data"], json!({"k": "v", "late": "yes", "seen": "3"}));
    assert_eq!((first.asked.lock().len(), second.asked.lock().len()), (2, 1));
}

#[tokio::test]
async fn selectors_and_conditions_spare_a_webhook_what_is_not_for_it() {
    let world = World::new().await;
    let hook = Hook::new(|_| json!({"allowed": false})).await;
    let mut chosen = webhook("chosen.example.com", hook.config(), &["configmaps"]);
    chosen["objectSelector"] = json!({"matchLabels": {"guarded": "yes"}});
    chosen["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "demo"}});
    chosen["matchConditions"] = json!([{"name": "not-mine", "expression": "request.operation != 'CREATE' || object.metadata.name != 'mine'"}]);
    world.hook("Validating", "chosen", json!([chosen])).await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("free"))).await;
    let mut guarded = config_map("guarded");
    guarded["metadata"]["labels"] = json!({"guarded": "yes"});
    let status = world.expect(StatusCode::BAD_REQUEST, Method::POST, MAPS, Some(guarded.clone())).await;
    assert_eq!(
        status["message"],
        r#"admission webhook "chosen.example.com" denied the request without explanation"#
    );
    guarded["metadata"]["name"] = "mine".into();
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(guarded)).await;
    assert_eq!(hook.asked.lock().len(), 1);
}

#[tokio::test]
async fn one_that_cannot_be_asked_ends_the_write_unless_it_may_be_ignored() {
    let world = World::new().await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut absent = webhook(
        "absent.example.com",
        json!({"url": format!("https://127.0.0.1:{unused}/x")}),
        &["configmaps"],
    );
    absent["timeoutSeconds"] = 1.into();
    world.hook("Validating", "absent", json!([absent.clone()])).await;
    let status =
        world.expect(StatusCode::INTERNAL_SERVER_ERROR, Method::POST, MAPS, Some(config_map("a"))).await;
    assert_eq!(
        status["message"],
        format!(
            r#"Internal error occurred: failed calling webhook "absent.example.com": failed to call webhook: Post "https://127.0.0.1:{unused}/x?timeout=1s": dial tcp 127.0.0.1:{unused}: connect: connection refused"#
        )
    );
    let path = format!("{GROUP}/validatingwebhookconfigurations/absent");
    world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    absent["failurePolicy"] = "Ignore".into();
    world.hook("Validating", "absent", json!([absent])).await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
}

#[tokio::test]
async fn one_that_is_too_slow_is_not_waited_for() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut slow =
        webhook("slow.example.com", json!({"url": format!("https://127.0.0.1:{port}/x")}), &["configmaps"]);
    slow["timeoutSeconds"] = 1.into();
    world.hook("Validating", "slow", json!([slow])).await;
    let asked = world.request(Method::POST, MAPS, Some(config_map("a")));
    let (code, status) = tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap();
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        status["message"].as_str().unwrap().ends_with("?timeout=1s\": context deadline exceeded"),
        "{status}"
    );
}

#[tokio::test]
async fn a_service_is_found_by_its_endpoints_and_warnings_reach_the_client() {
    let world = World::new().await;
    let hook = Hook::new(|_| json!({"allowed": true, "warnings": ["this is old"]})).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hooks"}, "spec": {"ports": [{"port": 443}]}});
    world.expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces/demo/services", Some(service)).await;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "hooks"},
        "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": hook.server.port}]}]});
    world
        .expect(StatusCode::CREATED, Method::POST, "/api/v1/namespaces/demo/endpoints", Some(endpoints))
        .await;
    let config = json!({"service": {"namespace": "demo", "name": "hooks", "path": "/review"}, "caBundle": hook.server.bundle()});
    world
        .hook("Validating", "by-service", json!([webhook("by-service.example.com", config, &["configmaps"])]))
        .await;
    let request = Request::post(format!("{MAPS}?dryRun=All"))
        .header("content-type", "application/json")
        .body(Full::from(config_map("a").to_string()))
        .unwrap();
    let response = world.server.service().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["warning"], "299 - \"this is old\"");
    assert_eq!(hook.asked.lock()[0]["dryRun"], true);
}

#[tokio::test]
async fn a_scale_is_shown_as_a_scale_and_another_version_as_the_rules_name_it() {
    let world = World::new().await;
    let path = "/apis/apps/v1/namespaces/demo/deployments";
    world.expect(StatusCode::CREATED, Method::POST, path, Some(deployment("web"))).await;
    let hook = Hook::new(|_| json!({"allowed": true})).await;
    let mut old = webhook("old.example.com", hook.config(), &["horizontalpodautoscalers"]);
    old["rules"][0]["apiGroups"] = json!(["autoscaling"]);
    old["rules"][0]["apiVersions"] = json!(["v1"]);
    let scale = webhook("scale.example.com", hook.config(), &["deployments/scale"]);
    world.hook("Validating", "both", json!([old, scale])).await;
    let replicas = json!({"spec": {"replicas": 3}});
    world.expect(StatusCode::OK, Method::PATCH, &format!("{path}/web/scale"), Some(replicas)).await;
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    let scalers = "/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers";
    world.expect(StatusCode::CREATED, Method::POST, scalers, Some(scaler)).await;
    let asked = hook.asked.lock().clone();
    assert_eq!(asked.len(), 2);
    assert_eq!((&asked[0]["object"]["kind"], &asked[0]["subResource"]), (&json!("Scale"), &json!("scale")));
    assert_eq!(asked[0]["object"]["spec"]["replicas"], 3);
    assert_eq!(
        (&asked[1]["kind"]["version"], &asked[1]["requestKind"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(asked[1]["object"]["apiVersion"], "autoscaling/v1");
}

#[tokio::test]
async fn who_changes_an_object_sees_it_before_it_has_a_name() {
    let world = World::new().await;
    let hook = Hook::new(|_| json!({"allowed": true})).await;
    for kind in ["Mutating", "Validating"] {
        world.hook(kind, "seer", json!([webhook("seer.example.com", hook.config(), &["configmaps"])])).await;
    }
    let map = json!({"metadata": {"generateName": "a-", "uid": "u"}});
    let made = world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(map)).await;
    let asked = hook.asked.lock().clone();
    let name = |at: usize| asked[at]["name"].as_str().unwrap_or_default();
    assert_eq!((name(0), name(1)), ("", made["metadata"]["name"].as_str().unwrap()));
    assert_eq!(asked[0]["object"]["metadata"]["generateName"], "a-");
    for field in ["name", "uid", "creationTimestamp"] {
        assert!(asked[0]["object"]["metadata"].get(field).is_none(), "{field}");
        assert_eq!(asked[1]["object"]["metadata"][field], made["metadata"][field]);
    }
}

#[tokio::test]
async fn what_a_put_or_an_apply_makes_is_where_it_was_put_whatever_a_webhook_calls_it() {
    // Seen of kube-apiserver: only what is posted is kept by the name that it has in the end.
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/demo/leases";
    let world = World::new().await;
    let rename = json!([{"op": "replace", "path": "/metadata/name", "value": "new"}]);
    let hook = Hook::new(move |_| patch(&rename)).await;
    world.hook("Mutating", "namer", json!([webhook("namer.example.com", hook.config(), &["*"])])).await;
    let lease = json!({"metadata": {"name": "put"}});
    let path = format!("{LEASES}/put");
    let made = world.expect(StatusCode::CREATED, Method::PUT, &path, Some(lease.clone())).await;
    assert_eq!(made["metadata"]["name"], "new");
    assert_eq!(world.expect(StatusCode::OK, Method::GET, &path, None).await, made);
    let applied =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "applied"}});
    let request = Request::patch(format!("{LEASES}/applied?fieldManager=m"))
        .header("content-type", "application/apply-patch+yaml")
        .body(Full::from(applied.to_string()))
        .unwrap();
    let (status, made) = world.send(request).await;
    assert_eq!((status, &made["metadata"]["name"]), (StatusCode::CREATED, &json!("new")), "{made}");
    world.expect(StatusCode::OK, Method::GET, &format!("{LEASES}/applied"), None).await;
    world.expect(StatusCode::NOT_FOUND, Method::GET, &format!("{LEASES}/new"), None).await;
    world.expect(StatusCode::CREATED, Method::POST, LEASES, Some(lease)).await;
    world.expect(StatusCode::OK, Method::GET, &format!("{LEASES}/new"), None).await;
}

#[tokio::test]
async fn a_delete_is_shown_with_its_options_and_a_namespace_within_itself() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, MAPS, Some(config_map("a"))).await;
    let hook = Hook::new(|_| json!({"allowed": true})).await;
    let webhooks = json!([webhook("seer.example.com", hook.config(), &["configmaps", "namespaces"])]);
    world.hook("Validating", "seer", webhooks).await;
    let path = format!("{MAPS}/a?propagationPolicy=Foreground&gracePeriodSeconds=3");
    world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    world.expect(StatusCode::OK, Method::PATCH, "/api/v1/namespaces/demo", Some(labels)).await;
    let asked = hook.asked.lock().clone();
    let options = &asked[0]["options"];
    assert_eq!(
        (&options["kind"], &options["propagationPolicy"], &options["gracePeriodSeconds"]),
        (&json!("DeleteOptions"), &json!("Foreground"), &json!(3))
    );
    assert_eq!((&asked[1]["name"], &asked[1]["namespace"]), (&json!("demo"), &json!("demo")));
}

#[tokio::test]
async fn who_judges_a_scale_is_shown_what_comes_of_it() {
    let world = World::new().await;
    let path = "/apis/apps/v1/namespaces/demo/deployments";
    world.expect(StatusCode::CREATED, Method::POST, path, Some(deployment("web"))).await;
    let hook = Hook::new(|_| json!({"allowed": true})).await;
    let webhooks = json!([webhook("seer.example.com", hook.config(), &["deployments/scale"])]);
    world.hook("Validating", "seer", webhooks).await;
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "demo"}, "spec": {"replicas": 7},
    });
    world.expect(StatusCode::OK, Method::PUT, &format!("{path}/web/scale"), Some(scale)).await;
    let asked = hook.asked.lock().clone();
    assert_eq!(asked[0]["object"]["spec"], json!({"replicas": 7}));
    assert_eq!(asked[0]["object"]["status"], asked[0]["oldObject"]["status"]);
    assert!(asked[0]["object"]["status"]["selector"].is_string());
}

#[tokio::test]
async fn a_token_is_asked_for_in_sight_of_webhooks() {
    let access = Access::new(&[Mode::Rbac]).await;
    let accounts = "/api/v1/namespaces/demo/serviceaccounts";
    access.make(accounts, json!({"metadata": {"name": "bot"}})).await;
    let hook = Hook::new(|_| json!({"allowed": false, "status": {"message": "no", "code": 403}})).await;
    let webhooks = json!([webhook("guard.example.com", hook.config(), &["serviceaccounts/token"])]);
    let guard = json!({"metadata": {"name": "guard"}, "webhooks": webhooks});
    access.make(&format!("{GROUP}/validatingwebhookconfigurations"), guard).await;
    let path = format!("{accounts}/bot/token");
    let (code, status) = access.send("root", &[], Method::POST, &path, Some(json!({"spec": {}}))).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert_eq!(status["message"], r#"admission webhook "guard.example.com" denied the request: no"#);
    let asked = hook.asked.lock().clone();
    assert_eq!((&asked[0]["name"], &asked[0]["subResource"]), (&json!("bot"), &json!("token")));
    assert_eq!(asked[0]["kind"]["kind"], "TokenRequest");
}
