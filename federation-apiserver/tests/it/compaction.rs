//! Old states are forgotten after a while, as kube-apiserver compacts etcd; watches are not.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, config_map};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const TOO_OLD: &str = "The resourceVersion for the provided list is too old.";
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// A server with four ConfigMaps, and the first page of two of them.
async fn begun() -> (World, Value) {
    let world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map(name))).await;
    }
    let first = world.expect(StatusCode::OK, Method::GET, &format!("{CONFIG_MAPS}?limit=2"), None).await;
    (world, first)
}

fn next(page: &Value) -> String {
    format!("{CONFIG_MAPS}?limit=1&continue={}", page["metadata"]["continue"].as_str().unwrap())
}

fn names(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_goes_on_in_its_state_for_an_interval_and_inconsistently_from_then_on() {
    let (world, first) = begun().await;
    world.server.storage().compact();
    let late = world.expect(StatusCode::OK, Method::GET, &format!("{CONFIG_MAPS}?limit=2"), None).await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("bb"))).await;
    let second = world.expect(StatusCode::OK, Method::GET, &next(&first), None).await;
    assert_eq!(names(&second), ["c"]);
    world.server.storage().compact();
    // Later pages are as old as the first one; what was begun later goes on.
    for page in [&first, &second] {
        let gone = world.expect(StatusCode::GONE, Method::GET, &next(page), None).await;
        assert_eq!(
            (gone["reason"].as_str(), gone["message"].as_str()),
            (Some("Expired"), Some(INCONSISTENT))
        );
    }
    let page = world.expect(StatusCode::OK, Method::GET, &next(&late), None).await;
    assert_eq!(names(&page), ["c"]);
    let gone = world.expect(StatusCode::GONE, Method::GET, &next(&first), None).await;
    let page = world.expect(StatusCode::OK, Method::GET, &next(&gone), None).await;
    assert_eq!(names(&page), ["bb"], "with what was made meanwhile");
    // From here on it is a list of its own.
    let page = world.expect(StatusCode::OK, Method::GET, &next(&page), None).await;
    assert_eq!(names(&page), ["c"]);
}

#[tokio::test]
async fn a_list_is_too_old_after_a_while_though_nothing_was_written() {
    let (world, first) = begun().await;
    world.server.storage().compact();
    world.expect(StatusCode::OK, Method::GET, &next(&first), None).await;
    world.server.storage().compact();
    world.expect(StatusCode::GONE, Method::GET, &next(&first), None).await;
}

#[tokio::test]
async fn exact_versions_expire_and_watches_of_them_do_not() {
    let (world, first) = begun().await;
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let ways = ["resourceVersionMatch=Exact", "resourceVersionMatch=Exact&limit=1", "limit=1"]
        .map(|query| format!("{CONFIG_MAPS}?{query}&resourceVersion={version}"));
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("e"))).await;
    world.server.storage().compact();
    for way in &ways {
        world.expect(StatusCode::OK, Method::GET, way, None).await;
    }
    world.server.storage().compact();
    for way in &ways {
        let gone = world.expect(StatusCode::GONE, Method::GET, way, None).await;
        assert_eq!((gone["reason"].as_str(), gone["message"].as_str()), (Some("Expired"), Some(TOO_OLD)));
    }
    let newest = world.expect(StatusCode::OK, Method::GET, CONFIG_MAPS, None).await;
    let newest = newest["metadata"]["resourceVersion"].as_str().unwrap();
    world.server.storage().compact();
    let exact = format!("{CONFIG_MAPS}?resourceVersionMatch=Exact&resourceVersion={newest}");
    world.expect(StatusCode::OK, Method::GET, &exact, None).await;
    let any = format!("{CONFIG_MAPS}?resourceVersion={version}");
    world.expect(StatusCode::OK, Method::GET, &any, None).await;
    let watch = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1&resourceVersion={version}");
    let event = world.expect(StatusCode::OK, Method::GET, &watch, None).await;
    assert_eq!(
        (event["type"].as_str(), event["object"]["metadata"]["name"].as_str()),
        (Some("ADDED"), Some("e"))
    );
}

#[tokio::test]
async fn whoever_reads_protobuf_is_told_where_to_go_on() {
    let (world, first) = begun().await;
    world.server.storage().compact();
    world.server.storage().compact();
    let request = Request::builder()
        .uri(next(&first))
        .header("accept", "application/vnd.kubernetes.protobuf")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = world.server.service().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::GONE);
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let gone = world.expect(StatusCode::GONE, Method::GET, &next(&first), None).await;
    let token = gone["metadata"]["continue"].as_str().unwrap();
    for text in [token, INCONSISTENT, "Expired"] {
        assert!(bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    let inside: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    assert_eq!((&inside["v"], &inside["rv"]), (&json!("meta.k8s.io/v1"), &json!(-1)));
}
