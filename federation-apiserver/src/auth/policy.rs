//! All roles and bindings of the store, as an index that is made anew when one of them has changed.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use apimachinery::rbac::{Builder, Index, Rule};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;

use super::defaults::GROUP;
use crate::{
    cache::{Checked, Collection},
    store::{Key, ResourceKey, Snapshot, Storage, Stored},
};

/// Roles before the bindings that refer to them.
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
    /// What was parsed for the present index. Whoever holds it makes the next one.
    parsed: Mutex<Parsed>,
}

#[derive(Default)]
struct Parsed {
    rules: HashMap<Key, (u64, Arc<[Rule]>)>,
    bindings: HashMap<Key, (u64, Arc<Value>)>,
}

impl Policy {
    /// The roles and bindings of a store.
    pub fn new(storage: Storage) -> Self {
        let none = Current {
            index: Index::default(),
            made_from: std::array::from_fn(|_| Collection::default()),
            checked: Checked::default(),
        };
        Self { storage, current: ArcSwap::from_pointee(none), parsed: Mutex::default() }
    }

    /// The newest index. Nothing is allocated while roles and bindings stay as they are.
    pub fn index(&self) -> Arc<Current> {
        let current = self.current.load_full();
        let snapshot = self.storage.snapshot();
        if current.holds_at(&snapshot) {
            return current;
        }
        let mut parsed = self.parsed.lock();
        // Whoever held the lock may have done it, and the store may have moved on.
        let (current, snapshot) = (self.current.load_full(), self.storage.snapshot());
        if current.holds_at(&snapshot) {
            return current;
        }
        let next = Arc::new(parsed.build(&snapshot));
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
}

impl Parsed {
    /// Parses what is new, and makes an index of everything.
    fn build(&mut self, snapshot: &Snapshot) -> Current {
        let made_from = KEYS.each_ref().map(|key| snapshot.collection(key));
        let [cluster_roles, roles, cluster_bindings, bindings] = &made_from;
        let mut builder = Builder::default();
        let mut known = std::mem::take(&mut self.rules);
        for stored in cluster_roles.iter().chain(roles.iter()) {
            let parse = || Rule::of_role(&value(stored)).into();
            let rules = keep(&mut known, &mut self.rules, stored, parse);
            builder.role(&stored.key.namespace, &stored.key.name, rules);
        }
        let mut known = std::mem::take(&mut self.bindings);
        for stored in cluster_bindings.iter().chain(bindings.iter()) {
            let binding = keep(&mut known, &mut self.bindings, stored, || Arc::new(value(stored)));
            builder.binding(&stored.key.namespace, &stored.key.name, &binding);
        }
        Current { index: builder.build(), made_from, checked: Checked::at(snapshot) }
    }
}

/// What was parsed of this state of the object before, or is now.
fn keep<T: Clone>(
    known: &mut HashMap<Key, (u64, T)>,
    kept: &mut HashMap<Key, (u64, T)>,
    stored: &Stored,
    parse: impl FnOnce() -> T,
) -> T {
    let (key, revision) = match known.remove_entry(&stored.key) {
        Some((key, (revision, parsed))) if revision == stored.revision => {
            kept.insert(key, (revision, parsed.clone()));
            return parsed;
        }
        Some((key, _)) => (key, stored.revision),
        None => (stored.key.clone(), stored.revision),
    };
    let parsed = parse();
    kept.insert(key, (revision, parsed.clone()));
    parsed
}

/// What cannot be parsed grants nothing.
fn value(stored: &Stored) -> Value {
    stored.value().unwrap_or_else(|error| {
        tracing::error!(key = %stored.key, %error, "cannot parse a stored role or binding; it grants nothing");
        Value::Null
    })
}
