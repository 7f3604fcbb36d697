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
