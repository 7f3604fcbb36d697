//! Pods that nobody ends, and the namespaces and owners that wait for them.

#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::SignedDuration;
use serde_json::json;

use super::{
    pod_gc::{MissingNodes, endings},
    tests::*,
    *,
};
use crate::{
    deletion::Propagation,
    store::{Encoded, Key, Write},
};

const LATER: SignedDuration = SignedDuration::from_secs(60);

/// A pod whose deletion was asked a minute ago.
fn mk_pod(name: &str, node: &str, deleting: bool) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"nodeName": node}, "status": {"phase": "Running"},
    });
    if deleting {
        pod["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    }
    pod
}

impl World {
    async fn pod(&self, pod: &Value) -> Key {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let key = Key::new(ResourceKey::new("", "pods"), "default", name);
        self.put(&key, pod).await;
        key
    }

    async fn node(&self, name: &str, node: Value) {
        let mut object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}});
        object["spec"] = node["spec"].clone();
        object["status"] = node["status"].clone();
        self.put(&Key::new(ResourceKey::new("", "nodes"), "", name), &object).await;
    }

    /// The pods that are to end when they were looked at now, and once more when their nodes are taken for lost.
    fn ending(&self) -> Vec<String> {
        let (snapshot, mut missed, now) =
            (self.storage.snapshot(), MissingNodes::default(), Timestamp::now());
        let first = endings(&snapshot, &mut missed, now);
        let then = endings(&snapshot, &mut missed, now + LATER);
        assert!(first.len() <= then.len());
        then.iter().map(|action| action.key().name.clone()).collect()
    }
}

fn readiness(status: &str) -> Value {
    json!({"conditions": [{"type": "Ready", "status": status}]})
}

#[tokio::test]
async fn pods_of_lost_nodes_end_after_a_quarantine() {
    let world = World::new().await;
    world.node("here", json!({"status": readiness("True")})).await;
    world.pod(&mk_pod("lost", "gone", false)).await;
    world.pod(&mk_pod("runs", "here", false)).await;
    world.pod(&mk_pod("ends", "here", true)).await;
    let mut template = mk_pod("template", "gone", true);
    template["metadata"]["finalizers"] = json!(["federation.rs/member-copies"]);
    world.pod(&template).await;
    let snapshot = world.storage.snapshot();
    assert_eq!(endings(&snapshot, &mut MissingNodes::default(), Timestamp::now()), []);
    assert_eq!(world.ending(), ["lost"]);
}

#[tokio::test]
async fn a_node_that_comes_in_time_is_not_missed() {
    let world = World::new().await;
    world.node("other", json!({})).await;
    world.pod(&mk_pod("early", "late", false)).await;
    let (mut missed, now) = (MissingNodes::default(), Timestamp::now());
    endings(&world.storage.snapshot(), &mut missed, now);
    world.node("late", json!({})).await;
    assert_eq!(endings(&world.storage.snapshot(), &mut missed, now + LATER), []);
    let key = Key::new(ResourceKey::new("", "nodes"), "", "late");
    let found = world.storage.get(&key).unwrap();
    let last = Encoded::new(&found.value().unwrap(), found.meta.clone());
    world.storage.write(Write::Delete { key, expect: None, last }).await.unwrap();
    // Its absence counts from now on.
    assert_eq!(endings(&world.storage.snapshot(), &mut missed, now + LATER), []);
}

#[tokio::test]
async fn without_any_node_only_deleted_pods_end() {
    let world = World::new().await;
    world.pod(&mk_pod("manifest", "n", false)).await;
    world.pod(&mk_pod("deleted", "n", true)).await;
    world.pod(&mk_pod("nowhere", "", true)).await;
    assert_eq!(world.ending(), ["deleted", "nowhere"]);
}

#[tokio::test]
async fn deleted_pods_end_on_nodes_out_of_service_and_on_those_that_never_lived() {
    let world = World::new().await;
    let taint = json!({"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]});
    for (node, object) in [
        ("down", json!({"spec": taint, "status": readiness("Unknown")})),
        ("up", json!({"spec": taint, "status": readiness("True")})),
        ("partitioned", json!({"status": readiness("Unknown")})),
        ("paper", json!({})),
    ] {
        world.node(node, object).await;
        world.pod(&mk_pod(node, node, true)).await;
        world.pod(&mk_pod(&format!("{node}-wanted"), node, false)).await;
    }
    assert_eq!(world.ending(), ["down", "paper"]);
}

#[tokio::test]
async fn what_ends_is_told_to_have_failed_and_goes() {
    let mut world = World::new().await;
    let mut held = mk_pod("held", "", true);
    held["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    held["metadata"]["finalizers"] = json!(["e.com/hold"]);
    let (held, free) = (world.pod(&held).await, world.pod(&mk_pod("free", "", true)).await);
    world.settle().await;
    assert!(world.get(&free).is_none());
    assert_eq!(world.get(&held).unwrap()["status"]["phase"], "Failed");
}

#[tokio::test]
async fn an_owner_in_the_foreground_and_a_namespace_wait_for_the_grace_of_pods() {
    let mut world = World::new().await;
    world.node("n", json!({"status": readiness("True")})).await;
    let set = world.create("ReplicaSet", "r", json!({})).await;
    let config = world.create("ConfigMap", "c", json!({})).await;
    let mut pod = mk_pod("p", "n", false);
    pod["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "uid-r", "blockOwnerDeletion": true},
    ]);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
    let pod = world.pod(&pod).await;
    world.delete(&set, Propagation::Foreground).await;
    world.settle().await;
    assert!(world.get(&set).is_some());
    assert_eq!(world.get(&pod).unwrap()["metadata"]["deletionGracePeriodSeconds"], 30);
    world.delete(&namespace("default"), Propagation::Background).await;
    world.settle().await;
    let conditions = world.get(&namespace("default")).unwrap()["status"]["conditions"].clone();
    assert_eq!(conditions[3]["message"], "Some resources are remaining: pods. has 1 resource instances");
    assert_eq!(conditions[4]["status"], "False");
    assert!(world.get(&config).is_some(), "the pod may need it until it ends");
    // What its kubelet does in the end.
    let found = world.storage.get(&pod).unwrap();
    let last = Encoded::new(&found.value().unwrap(), found.meta.clone());
    world.storage.write(Write::Delete { key: pod, expect: None, last }).await.unwrap();
    world.settle().await;
    assert!(world.get(&set).is_none() && world.get(&config).is_none());
}
