//! Claims, volumes and classes that are in use stay until they are not.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::{protection::*, tests::*, *};
use crate::{
    deletion::Propagation,
    store::{Encoded, Key, Write},
};

fn mk(kind: &str, name: &str, finalizer: &str) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": kind});
    object["metadata"] = json!({"name": name, "uid": format!("uid-{name}"), "finalizers": [finalizer]});
    object
}

fn using(name: &str, node: &str, volume: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"nodeName": node, "volumes": [volume]}})
}

impl World {
    async fn store(&self, resource: ResourceKey, namespace: &str, object: &Value) -> Key {
        let key = Key::new(resource, namespace, object["metadata"]["name"].as_str().unwrap());
        self.put(&key, object).await;
        key
    }

    async fn remove(&self, key: Key) {
        let found = self.storage.get(&key).unwrap();
        let last = Encoded::new(&found.value().unwrap(), found.meta.clone());
        self.storage.write(Write::Delete { key, expect: None, last }).await.unwrap();
    }
}

fn core(resource: &str) -> ResourceKey {
    ResourceKey::new("", resource)
}

#[tokio::test]
async fn a_claim_stays_while_a_pod_on_a_node_uses_it() {
    let mut world = World::new().await;
    let claims = || core("persistentvolumeclaims");
    let mut all = Vec::new();
    for name in ["used", "waited", "own-v", "free"] {
        let mut claim = mk("PersistentVolumeClaim", name, CLAIM);
        if name == "own-v" {
            claim["metadata"]["ownerReferences"] = json!([
                {"apiVersion": "v1", "kind": "Pod", "name": "own", "uid": "uid-own", "controller": true},
            ]);
        }
        all.push(world.store(claims(), "default", &claim).await);
    }
    let named = |name: &str| json!({"name": "v", "persistentVolumeClaim": {"claimName": name}});
    let mut pods = Vec::new();
    for (name, node, volume) in [
        ("a", "n", named("used")),
        ("b", "", named("waited")),
        ("own", "n", json!({"name": "v", "ephemeral": {}})),
    ] {
        pods.push(world.store(core("pods"), "default", &using(name, node, volume)).await);
    }
    for claim in &all {
        world.delete(claim, Propagation::Background).await;
    }
    world.settle().await;
    let left = |world: &World| -> Vec<bool> { all.iter().map(|claim| world.get(claim).is_some()).collect() };
    assert_eq!(left(&world), [true, false, true, false]);
    for pod in pods {
        world.remove(pod).await;
    }
    world.settle().await;
    assert_eq!(left(&world), [false; 4]);
}

#[tokio::test]
async fn a_volume_stays_while_it_is_bound() {
    let mut world = World::new().await;
    let mut volume = mk("PersistentVolume", "v", VOLUME);
    volume["status"]["phase"] = json!("Bound");
    let key = world.store(core("persistentvolumes"), "", &volume).await;
    world.delete(&key, Propagation::Background).await;
    world.settle().await;
    let mut released = world.get(&key).unwrap();
    released["status"]["phase"] = json!("Released");
    world.put(&key, &released).await;
    world.settle().await;
    assert!(world.get(&key).is_none());
}

#[tokio::test]
async fn a_class_stays_while_a_claim_has_it() {
    let mut world = World::new().await;
    let class = mk("VolumeAttributesClass", "fast", ATTRIBUTES_CLASS);
    let classes = ResourceKey::new("storage.k8s.io", "volumeattributesclasses");
    let key = world.store(classes, "", &class).await;
    let mut claim = mk("PersistentVolumeClaim", "c", "e.com/none");
    claim["spec"] = json!({"volumeAttributesClassName": "fast"});
    let claim = world.store(core("persistentvolumeclaims"), "default", &claim).await;
    world.delete(&key, Propagation::Background).await;
    world.settle().await;
    assert!(world.get(&key).is_some());
    world.remove(claim).await;
    world.settle().await;
    assert!(world.get(&key).is_none());
}
