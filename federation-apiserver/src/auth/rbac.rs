//! All roles and bindings of the store, as an index that takes in what has changed of them.

use std::sync::{Arc, LazyLock};

use apimachinery::rbac::{Index, Rule};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;

use super::bootstrap_policy::GROUP;
use crate::{
    cache::{Checked, Collection},
    store::{ResourceKey, Snapshot, Storage, Stored},
};

const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

static KEYS: LazyLock<[ResourceKey; 4]> =
    LazyLock::new(|| RESOURCES.map(|resource| ResourceKey::new(GROUP, resource)));

/// The index as of one state of the roles and bindings.
pub struct Current {
    index: Index,
    made_from: [Collection; 4],
    checked: Checked,
}

/// The roles and bindings. Always as new as the store: who binds a role may use it at once.
pub struct Policy {
    storage: Storage,
    current: ArcSwap<Current>,
    /// Whoever holds it makes the next index.
    making: Mutex<()>,
}

impl Policy {
    /// The roles and bindings of a store.
    pub fn new(storage: Storage) -> Self {
        let none = Current {
            index: Index::default(),
            made_from: std::array::from_fn(|_| Collection::default()),
            checked: Checked::default(),
        };
        Self { storage, current: ArcSwap::from_pointee(none), making: Mutex::default() }
    }

    /// The newest index. Nothing is allocated while roles and bindings stay as they are.
    pub fn index(&self) -> Arc<Current> {
        let current = self.current.load_full();
        let snapshot = self.storage.snapshot();
        if current.holds_at(&snapshot) {
            return current;
        }
        let _making = self.making.lock();
        // Whoever held the lock may have done it, and the store may have moved on.
        let (current, snapshot) = (self.current.load_full(), self.storage.snapshot());
        if current.holds_at(&snapshot) {
            return current;
        }
        let next = Arc::new(current.next(&snapshot));
        self.current.store(Arc::clone(&next));
        next
    }
}

impl std::ops::Deref for Current {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.index
    }
}

impl Current {
    fn holds_at(&self, snapshot: &Snapshot) -> bool {
        let same =
            || KEYS.iter().zip(&self.made_from).all(|(key, known)| known.same(&snapshot.collection(key)));
        self.checked.holds(snapshot, same)
    }

    /// The index after what has changed up to a snapshot.
    fn next(&self, snapshot: &Snapshot) -> Self {
        let made_from = KEYS.each_ref().map(|key| snapshot.collection(key));
        let mut index = self.index.clone();
        for (before, after) in self.made_from.iter().zip(&made_from) {
            for (old, new) in after.changes(before) {
                take_in(&mut index, old, new);
            }
        }
        Self { index, made_from, checked: Checked::at(snapshot) }
    }
}

/// Brings an index from one state of a role or a binding to the next.
fn take_in(index: &mut Index, old: Option<&Stored>, new: Option<&Stored>) {
    let Some(key) = new.or(old).map(|stored| &stored.key) else { return };
    let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
    if matches!(&*key.resource.resource, "clusterroles" | "roles") {
        match new {
            Some(role) => index.put_role(namespace, name, Rule::of_role(&value(role)).into()),
            None => index.remove_role(namespace, name),
        }
        return;
    }
    if let Some(old) = old {
        index.remove_binding(namespace, name, &value(old));
    }
    if let Some(new) = new {
        index.put_binding(namespace, name, &value(new));
    }
}

/// What cannot be parsed grants nothing.
fn value(stored: &Stored) -> Value {
    stored.value().unwrap_or_else(|error| {
        tracing::error!(key = %stored.key, %error, "cannot parse a stored role or binding; it grants nothing");
        Value::Null
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    use serde_json::json;

    use super::*;
    use crate::store::{Encoded, Key, Meta, Write};

    /// Adds, changes or removes one of the roles and bindings with so many names.
    async fn change(storage: &Storage, rng: &mut StdRng, names: u32) {
        let at = rng.random_range(0..RESOURCES.len());
        let namespace = if at % 2 == 0 { "" } else { ["a", "b"][rng.random_range(0..2)] };
        let key = Key::new(KEYS[at].clone(), namespace, format!("n{}", rng.random_range(0..names)));
        let number = rng.random_range(0..3);
        let kind = if rng.random() { "Role" } else { "ClusterRole" };
        let object = json!({
            "metadata": {"name": key.name, "namespace": namespace},
            "rules": [{"verbs": [format!("v{number}")]}],
            "roleRef": {"kind": kind, "name": format!("n{number}")},
            "subjects": [{"kind": "User", "name": format!("u{}", rng.random_range(0..3))}],
        });
        let object = Encoded::new(&object, Meta::default());
        let write = match storage.get(&key) {
            None => Write::Create { key, object, within: None },
            Some(_) if number == 0 => Write::Delete { key, expect: None, last: object },
            Some(_) => Write::Update { key, expect: None, object },
        };
        storage.write(write).await.unwrap();
    }

    #[tokio::test]
    async fn the_index_is_what_one_of_everything_would_be_whatever_has_happened() {
        let seed: u64 = rand::rng().random();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(crate::store::Options::new(folder.path())).await.unwrap();
        let policy = Policy::new(storage.clone());
        // With few names most changes are of what is there; with many the objects take several nodes of a tree.
        for (names, first) in [(4, 0), (300, 600)] {
            for round in 0..40 {
                let changes = if round == 0 { first } else { rng.random_range(1..12) };
                for _ in 0..changes {
                    change(&storage, &mut rng, names).await;
                }
                assert_eq!(policy.index().index, Policy::new(storage.clone()).index().index);
            }
        }
    }
}
