//! Watches as bytes on the wire: what comes, in which order, and how they end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Buf as _, Bytes, BytesMut};
use federation_apiserver::{
    Parts, store,
    testing::{Body, Bounds},
};
use futures::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{World, config_map};

const CONFIG_MAPS: &str = "/api/v1/namespaces/demo/configmaps";
const PATIENCE: Duration = Duration::from_secs(20);

/// The body of a watch, cut into frames.
struct Frames {
    body: Body,
    buffer: BytesMut,
}

impl Frames {
    async fn open(world: &World, query: &str, accept: &str) -> Self {
        let request = Request::builder()
            .uri(format!("{CONFIG_MAPS}?watch=true&{query}"))
            .header("accept", accept)
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = world.server.service().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.into_body(), buffer: BytesMut::new() }
    }

    /// Waits for more bytes; false at the end.
    async fn fill(&mut self) -> bool {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.unwrap();
        let Some(frame) = frame else { return false };
        self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap());
        true
    }

    /// The next line of JSON; none at the end.
    async fn json(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Some(serde_json::from_slice(&line).unwrap());
            }
            if !self.fill().await {
                assert!(self.buffer.is_empty(), "a frame was cut short");
                return None;
            }
        }
    }

    /// Type and object of the next protobuf frame.
    async fn protobuf(&mut self) -> (String, Value) {
        while self.buffer.len() < 4 || self.buffer.len() < 4 + self.buffer.clone().get_u32() as usize {
            assert!(self.fill().await, "the watch ended");
        }
        let length = self.buffer.get_u32() as usize;
        let event = fields(&self.buffer.split_to(length));
        let object = fields(&event[&2]);
        let (_, object) = kube_schema::protobuf::decode(&object[&1]).unwrap();
        (String::from_utf8(event[&1].clone()).unwrap(), object)
    }
}

/// The fields of a message that has only length-delimited ones.
fn fields(mut message: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut found = BTreeMap::new();
    while message.has_remaining() {
        let tag = message.get_u8();
        assert_eq!(tag & 7, 2, "length-delimited");
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = message.get_u8();
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
        found.insert(tag >> 3, message.copy_to_bytes(length).to_vec());
    }
    found
}

fn told(frame: &Value) -> (&str, &str) {
    (frame["type"].as_str().unwrap(), frame["object"]["metadata"]["name"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn objects_come_into_a_selectors_view_and_leave_it() {
    let world = World::new().await;
    let mut watch = Frames::open(&world, "labelSelector=tier%3Dfront", "application/json").await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let path = format!("{CONFIG_MAPS}/a");
    let label = |tier: Value| Some(json!({"metadata": {"labels": {"tier": tier}}}));
    world.expect(StatusCode::OK, Method::PATCH, &path, label("front".into())).await;
    let change = Some(json!({"data": {"k": "w"}}));
    world.expect(StatusCode::OK, Method::PATCH, &path, change.clone()).await;
    world.expect(StatusCode::OK, Method::PATCH, &path, change).await;
    let left = world.expect(StatusCode::OK, Method::PATCH, &path, label(Value::Null)).await;
    world.expect(StatusCode::OK, Method::PATCH, &path, label("front".into())).await;
    world.expect(StatusCode::OK, Method::DELETE, &path, None).await;
    assert_eq!(told(&watch.json().await.unwrap()), ("ADDED", "a"));
    assert_eq!(told(&watch.json().await.unwrap()), ("MODIFIED", "a"));
    let gone = watch.json().await.unwrap();
    assert_eq!(told(&gone), ("DELETED", "a"));
    assert_eq!(gone["object"]["metadata"]["labels"]["tier"], "front", "the last state that was in view");
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
    assert_eq!(told(&watch.json().await.unwrap()), ("ADDED", "a"));
    assert_eq!(told(&watch.json().await.unwrap()), ("DELETED", "a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_and_its_watch_tell_every_change_once() {
    let world = Arc::new(World::new().await);
    let writer = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            for number in 0..200 {
                let map = config_map(&format!("m{number:03}"));
                world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(map)).await;
            }
        })
    };
    while world.server.storage().snapshot().revision() < 50 {
        tokio::task::yield_now().await;
    }
    // Pages of one snapshot, while others write.
    let mut seen = Vec::new();
    let mut token = String::new();
    let version = loop {
        let page = format!("{CONFIG_MAPS}?limit=7&continue={token}");
        let page = world.expect(StatusCode::OK, Method::GET, &page, None).await;
        let names = page["items"].as_array().unwrap().iter();
        seen.extend(names.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        match page["metadata"]["continue"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break page["metadata"]["resourceVersion"].as_str().unwrap().to_owned(),
        }
    };
    let listed = seen.len();
    let mut watch = Frames::open(&world, &format!("resourceVersion={version}"), "application/json").await;
    while seen.len() < 200 {
        let frame = watch.json().await.unwrap();
        assert_eq!(frame["type"], "ADDED");
        seen.push(told(&frame).1.to_owned());
    }
    writer.await.unwrap();
    let every: Vec<_> = (0..200).map(|number| format!("m{number:03}")).collect();
    assert_eq!(seen, every, "{listed} of them by the list");
}

#[tokio::test]
async fn bookmarks_carry_progress_and_watches_end_in_time() {
    let world = World::new().await;
    let query = "timeoutSeconds=2&allowWatchBookmarks=true&resourceVersion=1";
    let mut watch = Frames::open(&world, query, "application/json").await;
    let other = "/api/v1/namespaces/demo/secrets";
    let secret = json!({"metadata": {"name": "s"}});
    let made = world.expect(StatusCode::CREATED, Method::POST, other, Some(secret)).await;
    let mut last = Value::Null;
    while let Some(frame) = watch.json().await {
        assert_eq!(frame["type"], "BOOKMARK");
        last = frame["object"]["metadata"]["resourceVersion"].clone();
    }
    assert!([&json!("1"), &made["metadata"]["resourceVersion"]].contains(&&last), "{last}");
}

#[tokio::test]
async fn versions_that_are_forgotten_or_never_were_are_expired() {
    let world = World::new().await;
    let mut watch = Frames::open(&world, "resourceVersion=4000", "application/json").await;
    let frame = watch.json().await.unwrap();
    assert_eq!((&frame["type"], &frame["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(frame["object"]["reason"], "Expired");
    assert_eq!(watch.json().await, None);
}

#[tokio::test]
async fn a_list_goes_on_after_its_first_page_is_forgotten() {
    let bounds = Bounds { events: 16, ..Bounds::default() };
    let folder = tempfile::tempdir().unwrap();
    let options = store::Options { window: bounds, ..store::Options::new(folder.path()) };
    let storage = store::Storage::open(options).await.unwrap();
    let world = World::with(|parts| Parts { storage, ..parts }).await;
    for name in ["a", "b", "c", "d"] {
        world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map(name))).await;
    }
    let first = world.expect(StatusCode::OK, Method::GET, &format!("{CONFIG_MAPS}?limit=2"), None).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}/a");
    for round in 0..600 {
        let patch = json!({"data": {"k": round.to_string()}});
        world.expect(StatusCode::OK, Method::PATCH, &path, Some(patch)).await;
    }
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("bb"))).await;
    let page = format!("{CONFIG_MAPS}?limit=2&continue={token}");
    let gone = world.expect(StatusCode::GONE, Method::GET, &page, None).await;
    assert_eq!(gone["reason"], "Expired");
    assert!(gone["message"].as_str().unwrap().contains("inconsistent list"), "{gone}");
    let token = gone["metadata"]["continue"].as_str().unwrap();
    let inside = URL_SAFE_NO_PAD.decode(token).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&inside).unwrap()["rv"], -1);
    let page = format!("{CONFIG_MAPS}?limit=2&continue={token}");
    let next = world.expect(StatusCode::OK, Method::GET, &page, None).await;
    let names: Vec<_> =
        next["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["bb", "c"], "with what was made meanwhile");
    let token = next["metadata"]["continue"].as_str().unwrap();
    let page = format!("{CONFIG_MAPS}?limit=2&continue={token}");
    let last = world.expect(StatusCode::OK, Method::GET, &page, None).await;
    assert_eq!(last["items"][0]["metadata"]["name"], "d");
    assert_eq!(last["metadata"].get("continue"), None);
}

#[tokio::test]
async fn watches_end_when_the_server_drains() {
    let world = World::new().await;
    let mut watch = Frames::open(&world, "", "application/json").await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    assert_eq!(told(&watch.json().await.unwrap()), ("ADDED", "a"));
    assert!(watch.body.frame().now_or_never().is_none(), "it waits for more");
    world.draining.cancel();
    assert_eq!(watch.json().await, None);
}

#[tokio::test]
async fn protobuf_watches_are_framed_by_length() {
    let world = World::new().await;
    world.expect(StatusCode::CREATED, Method::POST, CONFIG_MAPS, Some(config_map("a"))).await;
    let accept = "application/vnd.kubernetes.protobuf;stream=watch";
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Frames::open(&world, query, accept).await;
    let (event, object) = watch.protobuf().await;
    assert_eq!((event.as_str(), &object["data"]["k"]), ("ADDED", &json!("v")));
    let (event, object) = watch.protobuf().await;
    assert_eq!(event, "BOOKMARK");
    assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(object["kind"], "ConfigMap");
    world.expect(StatusCode::OK, Method::DELETE, &format!("{CONFIG_MAPS}/a"), None).await;
    let (event, object) = watch.protobuf().await;
    assert_eq!((event.as_str(), &object["metadata"]["name"]), ("DELETED", &json!("a")));
    let mut expired = Frames::open(&world, "resourceVersion=4000", accept).await;
    let (event, object) = expired.protobuf().await;
    assert_eq!((event.as_str(), &object["kind"], &object["code"]), ("ERROR", &json!("Status"), &json!(410)));
}
