//! What names, uids, finalizers and the marks of a deletion may be, and what a status has that says nothing.

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::World;

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/demo/leases";
const EVENTS: &str = "/api/v1/namespaces/demo/events";
const BUDGETS: &str = "/apis/policy/v1/namespaces/demo/poddisruptionbudgets";

async fn made(world: &World, path: &str, object: Value) -> Value {
    world.expect(StatusCode::CREATED, Method::POST, path, Some(object)).await
}

/// The fields and messages of an answer's causes.
fn causes(status: &Value) -> Vec<(String, String)> {
    let text = |cause: &Value, name: &str| cause[name].as_str().unwrap_or_default().to_owned();
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    causes.map(|cause| (text(cause, "field"), text(cause, "message"))).collect()
}

#[tokio::test]
async fn a_name_that_is_no_part_of_a_path_is_a_bad_request() {
    let world = World::new().await;
    for (name, told) in [("%2e%2e", "\"..\": may not be '..'"), ("a%25b", "\"a%b\": may not contain '%'")] {
        for method in [Method::GET, Method::DELETE] {
            let status = world.expect(StatusCode::BAD_REQUEST, method, &format!("{MAPS}/{name}"), None).await;
            assert_eq!(status["message"], format!("Name parameter invalid: {told}"));
        }
    }
}

#[tokio::test]
async fn an_apply_with_another_uid_is_invalid() {
    let world = World::new().await;
    made(&world, MAPS, json!({"metadata": {"name": "a"}})).await;
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "x"}});
    let request = Request::patch(format!("{MAPS}/a?fieldManager=m"))
        .header("content-type", "application/apply-patch+yaml")
        .body(Full::from(applied.to_string()))
        .unwrap();
    let (code, status) = world.send(request).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{status}");
    let once = ("metadata.uid".to_owned(), "Invalid value: \"x\": field is immutable".to_owned());
    assert_eq!(causes(&status), [once.clone(), once]);
}

#[tokio::test]
async fn nobody_says_that_an_object_is_being_deleted_when_it_is_not() {
    let world = World::new().await;
    made(&world, MAPS, json!({"metadata": {"name": "a", "finalizers": ["e.com/f"]}})).await;
    let path = format!("{MAPS}/a");
    let patch = json!({"metadata": {"deletionTimestamp": "2000-01-01T00:00:00Z"}});
    let status =
        world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PATCH, &path, Some(patch.clone())).await;
    let once = (
        "metadata.deletionTimestamp".to_owned(),
        "Invalid value: \"2000-01-01T00:00:00Z\": field is immutable".to_owned(),
    );
    assert_eq!(causes(&status), [once.clone(), once]);
    let whole = json!({"metadata": {"name": "a", "deletionGracePeriodSeconds": 5}});
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PUT, &path, Some(whole)).await;
    assert_eq!(causes(&status)[0].0, "metadata.deletionGracePeriodSeconds");
    // Once it is, nothing moves the time.
    let marked = world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    let patched = world.expect(StatusCode::OK, Method::PATCH, &path, Some(patch)).await;
    assert_eq!(patched["metadata"]["deletionTimestamp"], marked["metadata"]["deletionTimestamp"]);
}

#[tokio::test]
async fn a_put_of_what_is_missing_is_told_so_unless_it_makes_it() {
    let world = World::new().await;
    let map = json!({"metadata": {"name": "a", "uid": "x"}});
    world.expect(StatusCode::NOT_FOUND, Method::PUT, &format!("{MAPS}/a"), Some(map)).await;
    // Whoever makes it by a PUT may have read it before.
    let lease = json!({"metadata": {"name": "a", "resourceVersion": "7"}});
    let made = world.expect(StatusCode::CREATED, Method::PUT, &format!("{LEASES}/a"), Some(lease)).await;
    assert_ne!(made["metadata"]["resourceVersion"], "7");
    let lease = json!({"metadata": {"name": "b", "uid": "x"}});
    world.expect(StatusCode::CONFLICT, Method::PUT, &format!("{LEASES}/b"), Some(lease)).await;
}

#[tokio::test]
async fn a_status_names_the_version_that_it_replaces_where_its_object_does() {
    let world = World::new().await;
    let budget = json!({"metadata": {"name": "a"}, "spec": {"minAvailable": 1}});
    let made = made(&world, BUDGETS, budget.clone()).await;
    let path = format!("{BUDGETS}/a/status");
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::PUT, &path, Some(budget)).await;
    assert_eq!(causes(&status)[0].0, "metadata.resourceVersion");
    world.expect(StatusCode::OK, Method::PUT, &path, Some(made)).await;
}

#[tokio::test]
async fn a_status_keeps_what_is_always_written_of_it() {
    let world = World::new().await;
    let sets = "/apis/apps/v1/namespaces/demo/replicasets";
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    made(&world, sets, json!({"metadata": {"name": "a"}, "spec": spec})).await;
    let claims = "/api/v1/namespaces/demo/persistentvolumeclaims";
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    made(&world, claims, json!({"metadata": {"name": "a"}, "spec": spec})).await;
    let services = "/api/v1/namespaces/demo/services";
    made(&world, services, json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})).await;
    let cases = [
        (sets, json!({"status": null}), json!({"replicas": 0})),
        (
            sets,
            json!({"status": {"observedGeneration": 1, "replicas": null}}),
            json!({"replicas": 0, "observedGeneration": 1}),
        ),
        (claims, json!({"status": null}), json!({"phase": "Pending"})),
        (services, json!({"status": null}), json!({"loadBalancer": {}})),
    ];
    for (path, patch, expect) in cases {
        let path = format!("{path}/a/status");
        let patched = world.expect(StatusCode::OK, Method::PATCH, &path, Some(patch)).await;
        assert_eq!(patched["status"], expect, "{path}");
    }
}

#[tokio::test]
async fn a_limit_range_needs_no_name() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/demo/limitranges";
    let unnamed = made(&world, path, json!({"spec": {"limits": []}})).await;
    assert_eq!(unnamed["metadata"]["name"].as_str().map(str::len), Some(36));
    let generated = made(&world, path, json!({"metadata": {"generateName": "a-"}})).await;
    assert!(generated["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("a-")));
}

#[tokio::test]
async fn kinds_that_ask_nothing_of_their_metadata_take_any_name_and_finalizer() {
    let world = World::new().await;
    let head = json!({"name": "A_b", "finalizers": ["bare"]});
    let event =
        json!({"metadata": head, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "demo"}});
    made(&world, EVENTS, event).await;
    made(&world, BUDGETS, json!({"metadata": head, "spec": {"minAvailable": 1}})).await;
    made(&world, LEASES, json!({"metadata": {"name": "a", "finalizers": ["bare"]}})).await;
    let map = json!({"metadata": {"name": "a", "finalizers": ["bare"]}});
    world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, MAPS, Some(map)).await;
    // Of a finalizer with a wrong shape all kinds are told in the words for label keys.
    let map = json!({"metadata": {"name": "a", "finalizers": ["a/b/c"]}});
    let status = world.expect(StatusCode::UNPROCESSABLE_ENTITY, Method::POST, MAPS, Some(map)).await;
    assert!(causes(&status)[0].1.starts_with("Invalid value: \"a/b/c\": a valid label key must consist of"));
}

#[tokio::test]
async fn nothing_waits_for_the_dependents_of_an_event() {
    let world = World::new().await;
    let event = json!({"metadata": {"name": "a"}, "involvedObject": {"namespace": "demo"}});
    made(&world, EVENTS, event).await;
    let options = json!({"propagationPolicy": "Orphan"});
    let gone = world.expect(StatusCode::OK, Method::DELETE, &format!("{EVENTS}/a"), Some(options)).await;
    assert_eq!(gone["kind"], "Status");
}

#[tokio::test]
async fn all_faults_of_a_patch_s_options_are_told_at_once_but_its_format_first() {
    let world = World::new().await;
    let patch = async |query: &str, format: &str| {
        let request = Request::patch(format!("{MAPS}/a?{query}"))
            .header("content-type", format)
            .body(Full::from("{}"))
            .unwrap();
        let (code, status) = world.send(request).await;
        let fields: Vec<_> = causes(&status).into_iter().map(|(field, _)| field).collect();
        (code.as_u16(), fields.join(" "))
    };
    let both = async |format| patch("dryRun=x&force=true", format).await;
    assert_eq!(both("application/apply-patch+yaml").await, (422, "fieldManager dryRun".into()));
    assert_eq!(both("application/merge-patch+json").await, (422, "force dryRun".into()));
    assert_eq!(both("application/json").await, (415, String::new()));
}
