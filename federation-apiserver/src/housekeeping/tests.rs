//! The controllers over a real store.

#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;
use crate::{
    deletion::{DeleteDecision, DeleteOptions, Propagation, decide_delete},
    store::{self, Encoded, Key, Meta, Write},
};

#[derive(Default)]
struct TestKinds {
    naming: tokio::sync::Mutex<()>,
}

impl Kinds for TestKinds {
    fn resource_of(&self, group: &str, kind: &str) -> Option<(ResourceKey, bool)> {
        let resource = match (group, kind) {
            ("", "Namespace") => return Some((ResourceKey::new("", "namespaces"), false)),
            ("", "Node") => return Some((ResourceKey::new("", "nodes"), false)),
            ("", "ConfigMap") => "configmaps",
            ("", "Pod") => "pods",
            ("apps", "Deployment") => "deployments",
            ("apps", "ReplicaSet") => "replicasets",
            _ => return None,
        };
        Some((ResourceKey::new(group, resource), true))
    }

    fn namespaced(&self) -> Vec<ResourceKey> {
        let core = ["configmaps", "serviceaccounts", "events", "pods"]
            .map(|resource| ResourceKey::new("", resource));
        let apps = ["deployments", "replicasets"].map(|resource| ResourceKey::new("apps", resource));
        core.into_iter().chain(apps).collect()
    }

    fn type_warnings(&self, _: &Value) -> Vec<Value> {
        Vec::new()
    }

    fn fields(&self, _: &ResourceKey, object: &Value) -> BTreeMap<String, String> {
        let node = object["spec"]["nodeName"].as_str();
        node.map(|node| ("spec.nodeName".to_owned(), node.to_owned())).into_iter().collect()
    }

    fn naming(&self) -> &tokio::sync::Mutex<()> {
        &self.naming
    }

    fn own_status(&self, _: &ResourceKey, _: &Value, object: Value, _: &str) -> Value {
        object
    }
}

pub(super) struct World {
    pub(super) storage: Storage,
    service: Service,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(store::Options::new(folder.path())).await.unwrap();
        let options = Options { root_ca_pem: Some("PEM".into()), ..Options::default() };
        let service = Service::new(storage.clone(), Arc::new(TestKinds::default()), options);
        let mut world = Self { storage, service, _folder: folder };
        world.settle().await;
        world
    }

    /// Steps until a step changes nothing.
    pub(super) async fn settle(&mut self) {
        for _ in 0..50 {
            let before = self.storage.snapshot().revision();
            assert_eq!(self.service.step(true).await, 0, "an action failed");
            if self.storage.snapshot().revision() == before {
                return;
            }
        }
        panic!("housekeeping does not come to rest");
    }

    pub(super) async fn create(&self, kind: &str, name: &str, metadata: Value) -> Key {
        let (group, api_version) = if kind == "ConfigMap" { ("", "v1") } else { ("apps", "apps/v1") };
        let key = Key::new(TestKinds::default().resource_of(group, kind).unwrap().0, "default", name);
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(format!("uid-{name}"));
        self.put(&key, &object).await;
        key
    }

    pub(super) async fn put(&self, key: &Key, object: &Value) {
        let meta = Meta::from_value(object, TestKinds::default().fields(&key.resource, object));
        let object = Encoded::new(object, meta);
        let write = if self.storage.get(key).is_some() {
            Write::Update { key: key.clone(), expect: None, object }
        } else {
            Write::Create { key: key.clone(), object, within: None }
        };
        self.storage.write(write).await.unwrap();
    }

    pub(super) async fn delete(&self, key: &Key, propagation: Propagation) {
        let value = self.get(key).unwrap();
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        match decide_delete(&value, &options, Timestamp::now(), Propagation::Background) {
            DeleteDecision::RemoveNow => {
                let last = Encoded::new(&value, Meta::from_value(&value, BTreeMap::new()));
                self.storage.write(Write::Delete { key: key.clone(), expect: None, last }).await.unwrap();
            }
            DeleteDecision::MarkDeleting(next) => self.put(key, &next).await,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Value> {
        self.storage.get(key).map(|object| object.value().unwrap())
    }
}

fn owned_by(kind: &str, name: &str, block: bool) -> Value {
    json!({"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("uid-{name}"), "blockOwnerDeletion": block},
    ]})
}

pub(super) fn namespace(name: &str) -> Key {
    Key::new(ResourceKey::new("", "namespaces"), "", name)
}

#[tokio::test]
async fn a_new_store_gets_its_namespaces_and_their_contents() {
    let world = World::new().await;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease", "federation-system"] {
        assert_eq!(world.get(&namespace(name)).unwrap()["spec"]["finalizers"], json!(["kubernetes"]));
        let account = Key::new(ResourceKey::new("", "serviceaccounts"), name, "default");
        assert!(world.get(&account).is_some());
        let ca = Key::new(ResourceKey::new("", "configmaps"), name, "kube-root-ca.crt");
        assert_eq!(world.get(&ca).unwrap()["data"]["ca.crt"], "PEM");
    }
}

#[tokio::test]
async fn dependents_of_a_deleted_owner_are_collected_to_the_end_of_the_chain() {
    let mut world = World::new().await;
    let deployment = world.create("Deployment", "d", json!({})).await;
    let set = world.create("ReplicaSet", "r", owned_by("Deployment", "d", true)).await;
    let config = world.create("ConfigMap", "c", owned_by("ReplicaSet", "r", false)).await;
    world.settle().await;
    assert!(world.get(&config).is_some());
    world.delete(&deployment, Propagation::Background).await;
    world.settle().await;
    assert!(world.get(&set).is_none());
    assert!(world.get(&config).is_none());
}

#[tokio::test]
async fn an_owner_of_the_same_name_with_another_uid_does_not_count() {
    let mut world = World::new().await;
    world.create("Deployment", "d", json!({})).await;
    let mut owners = owned_by("Deployment", "d", false);
    owners["ownerReferences"][0]["uid"] = json!("an-older-one");
    let set = world.create("ReplicaSet", "r", owners).await;
    world.settle().await;
    assert!(world.get(&set).is_none());
}

#[tokio::test]
async fn an_owner_of_an_unknown_kind_never_leads_to_a_delete() {
    let mut world = World::new().await;
    let set = world.create("ReplicaSet", "r", owned_by("Rollout", "x", false)).await;
    world.settle().await;
    assert!(world.get(&set).is_some());
}

#[tokio::test]
async fn a_second_owner_keeps_the_object_and_the_dead_reference_goes() {
    let mut world = World::new().await;
    let first = world.create("Deployment", "d1", json!({})).await;
    world.create("Deployment", "d2", json!({})).await;
    let mut owners = owned_by("Deployment", "d1", false);
    let second = owned_by("Deployment", "d2", false)["ownerReferences"][0].clone();
    owners["ownerReferences"].as_array_mut().unwrap().push(second);
    let set = world.create("ReplicaSet", "r", owners).await;
    world.delete(&first, Propagation::Background).await;
    world.settle().await;
    let owners = world.get(&set).unwrap()["metadata"]["ownerReferences"].clone();
    assert_eq!(owners.as_array().unwrap().len(), 1);
    assert_eq!(owners[0]["name"], "d2");
}

#[tokio::test]
async fn foreground_waits_for_blocking_dependents() {
    let mut world = World::new().await;
    let deployment = world.create("Deployment", "d", json!({})).await;
    let mut metadata = owned_by("Deployment", "d", true);
    metadata["finalizers"] = json!(["e.com/hold"]);
    let set = world.create("ReplicaSet", "r", metadata).await;
    world.delete(&deployment, Propagation::Foreground).await;
    world.settle().await;
    assert!(world.get(&set).unwrap()["metadata"]["deletionTimestamp"].is_string());
    assert!(world.get(&deployment).is_some(), "a blocking dependent is left");

    let released = world.storage.get(&set).unwrap();
    let last = Encoded::new(&released.value().unwrap(), released.meta.clone());
    world.storage.write(Write::Delete { key: set, expect: None, last }).await.unwrap();
    world.settle().await;
    assert!(world.get(&deployment).is_none());
}

/// Config maps each of which is owned by the one before, and the first by the last.
async fn circle(world: &World, size: usize) -> Vec<Key> {
    let mut keys = Vec::new();
    for at in 0..size {
        let owner = format!("c{}", (at + size - 1) % size);
        let mut metadata = owned_by("ConfigMap", &owner, true);
        metadata["ownerReferences"][0]["apiVersion"] = json!("v1");
        keys.push(world.create("ConfigMap", &format!("c{at}"), metadata).await);
    }
    keys
}

#[tokio::test]
async fn foreground_does_not_wait_for_a_circle() {
    for size in [2, 3, 5] {
        let mut world = World::new().await;
        let keys = circle(&world, size).await;
        world.settle().await;
        assert!(keys.iter().all(|key| world.get(key).is_some()), "their owners are all there");
        world.delete(&keys[0], Propagation::Foreground).await;
        world.settle().await;
        let left: Vec<_> = keys.iter().filter(|key| world.get(key).is_some()).collect();
        assert!(left.is_empty(), "of {size}: {left:?}");
    }
}

#[tokio::test]
async fn one_of_a_circle_that_others_hold_is_not_waited_for() {
    let mut world = World::new().await;
    let keys = circle(&world, 3).await;
    let mut held = world.get(&keys[2]).unwrap();
    held["metadata"]["finalizers"] = json!(["e.com/hold"]);
    world.put(&keys[2], &held).await;
    world.delete(&keys[0], Propagation::Foreground).await;
    world.settle().await;
    let held = world.get(&keys[2]).unwrap();
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(held["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], false);
    assert!(world.get(&keys[0]).is_none() && world.get(&keys[1]).is_none());
}

#[tokio::test]
async fn orphans_lose_their_reference_and_stay() {
    let mut world = World::new().await;
    let deployment = world.create("Deployment", "d", json!({})).await;
    let set = world.create("ReplicaSet", "r", owned_by("Deployment", "d", true)).await;
    world.delete(&deployment, Propagation::Orphan).await;
    world.settle().await;
    assert!(world.get(&deployment).is_none());
    assert_eq!(world.get(&set).unwrap()["metadata"]["ownerReferences"], Value::Null);
}

#[tokio::test]
async fn a_namespace_goes_after_its_contents_and_says_what_holds_it() {
    let mut world = World::new().await;
    let held = world.create("ConfigMap", "held", json!({"finalizers": ["e.com/hold"]})).await;
    let free = world.create("ConfigMap", "free", json!({})).await;
    world.delete(&namespace("default"), Propagation::Background).await;
    world.settle().await;
    assert!(world.get(&free).is_none());
    let object = world.get(&namespace("default")).unwrap();
    assert_eq!(object["status"]["phase"], "Terminating");
    assert_eq!(object["status"]["conditions"][3]["type"], "NamespaceContentRemaining");
    assert_eq!(
        object["status"]["conditions"][4]["message"],
        "Some content in the namespace has finalizers remaining: e.com/hold in 1 resource instances"
    );
    let released = world.storage.get(&held).unwrap();
    let last = Encoded::new(&released.value().unwrap(), released.meta.clone());
    world.storage.write(Write::Delete { key: held, expect: None, last }).await.unwrap();
    let uid = object["metadata"]["uid"].clone();
    world.settle().await;
    // `default` is required, so that another one takes its place.
    assert_ne!(world.get(&namespace("default")).unwrap()["metadata"]["uid"], uid);
}

#[tokio::test]
async fn contents_are_deleted_as_the_namespace_was() {
    let mut world = World::new().await;
    let name = namespace("default");
    let mut object = world.get(&name).unwrap();
    object["metadata"]["finalizers"] = json!(["federation.rs/member-copies"]);
    world.put(&name, &object).await;
    let config = world.create("ConfigMap", "c", json!({"finalizers": ["federation.rs/member-copies"]})).await;
    world.delete(&name, Propagation::Background).await;
    world.settle().await;
    let annotations = &world.get(&config).unwrap()["metadata"]["annotations"];
    assert_eq!(annotations["federation.rs/deletion-propagation"], "Background");
}

#[tokio::test]
async fn old_events_go_and_repeated_ones_stay() {
    let mut world = World::new().await;
    let put = async |name: &str, created: &str, last: Value| {
        let key = Key::new(ResourceKey::new("", "events"), "default", name);
        let metadata = json!({"name": name, "uid": name, "creationTimestamp": created});
        world.put(&key, &json!({"kind": "Event", "metadata": metadata, "lastTimestamp": last})).await;
        key
    };
    let now = crate::deletion::seconds(Timestamp::now());
    let old = put("old", "2020-01-01T00:00:00Z", Value::Null).await;
    let repeated = put("repeated", "2020-01-01T00:00:00Z", json!(now)).await;
    let young = put("young", &now, Value::Null).await;
    world.settle().await;
    assert!(world.get(&old).is_none());
    assert!(world.get(&repeated).is_some() && world.get(&young).is_some());
}

#[tokio::test]
async fn the_running_service_follows_changes() {
    let world = World::new().await;
    let shutdown = Shutdown::new();
    let World { storage, service, _folder } = world;
    let running = tokio::spawn(service.run(shutdown.clone()));
    let configmaps = ResourceKey::new("", "configmaps");
    let mut watch = storage.watch(&configmaps, storage.snapshot().revision()).unwrap();
    let object = json!({"kind": "ConfigMap", "metadata": owned_by("Deployment", "absent", false)});
    let key = Key::new(configmaps, "default", "c");
    let object = Encoded::new(&object, Meta::from_value(&object, BTreeMap::new()));
    storage.write(Write::Create { key, object, within: None }).await.unwrap();
    let patience = Duration::from_secs(30);
    loop {
        let event = tokio::time::timeout(patience, watch.next()).await.unwrap().unwrap().unwrap();
        if event.kind == EventKind::Deleted {
            break;
        }
    }
    shutdown.start();
    running.await.unwrap();
}
