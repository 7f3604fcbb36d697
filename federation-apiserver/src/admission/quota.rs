//! ResourceQuota: refuses writes that would exceed the quotas of their namespace.
//!
//! Usage is counted from the store at each write, and the cost of concurrent writes is reserved. So a limit holds exactly under concurrent
//! writes, and a deleted object frees its share immediately.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock},
};

use apimachinery::{ApiError, quantity::Quantity, status::GroupResource};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use super::usage::{self, PodTraits};
use crate::{
    store::{Key, ResourceKey, Snapshot, Storage, Stored},
    validation::{
        pod_resources,
        quantities::{self, Amounts},
    },
};

static QUOTAS: LazyLock<ResourceKey> = LazyLock::new(|| ResourceKey::new("", "resourcequotas"));

/// Limit of the cache of objects' costs. An entry has some 300 bytes; a full cache is emptied.
const REMEMBERED_MAX: usize = 65_536;
/// Locks for the writes of namespaces. Namespaces share them, but few wait for another one's usage to be counted.
const SHARDS: usize = 64;

/// Writes that were admitted and are not in the store yet.
pub(crate) struct Quotas {
    /// By the hashes of their namespaces.
    reserved: [Mutex<Reserved>; SHARDS],
    hasher: RandomState,
    costs: RwLock<HashMap<Key, (u64, Arc<Cost>)>>,
}

impl Default for Quotas {
    fn default() -> Self {
        let reserved = std::array::from_fn(|_| Mutex::default());
        Self { reserved, hasher: RandomState::new(), costs: RwLock::default() }
    }
}

#[derive(Default)]
struct Reserved {
    next: u64,
    writes: BTreeMap<u64, Write>,
}

struct Write {
    key: Key,
    /// Of the state that is replaced; 0 for a new object.
    revision: u64,
    more: Amounts,
    traits: Option<PodTraits>,
}

/// What an object costs, and what quota scopes look at.
#[derive(Default)]
struct Cost {
    amounts: Amounts,
    traits: Option<PodTraits>,
}

/// Holds the reservation of a write until it is done.
pub(crate) struct Reservation<'a> {
    reserved: &'a Mutex<Reserved>,
    number: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.reserved.lock().writes.remove(&self.number);
    }
}

fn quotas_of(snapshot: &Snapshot, namespace: &str) -> Vec<(Arc<Stored>, Value)> {
    snapshot
        .range(&QUOTAS, Some(namespace), None)
        .filter_map(|stored| stored.value().ok().map(|value| (stored, value)))
        .collect()
}

/// `spec.hard`.
fn hard(quota: &Value) -> Amounts {
    quantities::amounts(&quota["spec"]["hard"])
}

impl Quotas {
    /// Admits a write that replaces the state `old` of `key` by `new`, or refuses it with kube-apiserver's message.
    pub(crate) fn admit(
        &self,
        storage: &Storage,
        key: &Key,
        old: Option<(&Value, u64)>,
        new: &Value,
        dry_run: bool,
    ) -> Result<Option<Reservation<'_>>, ApiError> {
        if key.namespace.is_empty() || old.is_some() && !usage::differs(&key.resource) {
            return Ok(None);
        }
        let quotas = quotas_of(&storage.snapshot(), &key.namespace);
        if quotas.is_empty() {
            return Ok(None);
        }
        let mut more = usage::of(&key.resource, new);
        if let Some((old, _)) = old {
            for (name, amount) in usage::of(&key.resource, old) {
                let known = more.entry(name).or_default();
                *known = *known - amount;
            }
        }
        more.retain(|_, amount| !amount.is_zero() && !amount.is_negative());
        if more.is_empty() {
            return Ok(None);
        }
        let traits = PodTraits::of(&key.resource, new);
        // Counting and reserving must be one step. Nothing in it waits.
        let lock = self.shard(&key.namespace);
        let mut reserved = lock.lock();
        let snapshot = storage.snapshot();
        for (stored, quota) in &quotas {
            let name = &stored.key.name;
            if !usage::in_scope(quota, traits.as_ref()) {
                continue;
            }
            self.check(&snapshot, &reserved, name, quota, key, new, &more).map_err(|why| {
                let resource = GroupResource::new(&*key.resource.group, &*key.resource.resource);
                ApiError::forbidden(&resource, &key.name, &why)
            })?;
        }
        if dry_run {
            return Ok(None);
        }
        let number = reserved.next;
        reserved.next += 1;
        let write =
            Write { key: key.clone(), revision: old.map_or(0, |(_, revision)| revision), more, traits };
        reserved.writes.insert(number, write);
        Ok(Some(Reservation { reserved: lock, number }))
    }

    fn shard(&self, namespace: &str) -> &Mutex<Reserved> {
        let [first, ..] = &self.reserved;
        let at = self.hasher.hash_one(namespace) % SHARDS as u64;
        usize::try_from(at).ok().and_then(|at| self.reserved.get(at)).unwrap_or(first)
    }

    /// Checks a write that is in the scope of a quota.
    #[expect(clippy::too_many_arguments, reason = "all of it is one question")]
    fn check(
        &self,
        snapshot: &Snapshot,
        reserved: &Reserved,
        name: &str,
        quota: &Value,
        key: &Key,
        new: &Value,
        more: &Amounts,
    ) -> Result<(), String> {
        let mut hard = hard(quota);
        hard.retain(|name, _| usage::concerns(&key.resource, name));
        if hard.is_empty() {
            return Ok(());
        }
        if &*key.resource.resource == "pods" && key.resource.group.is_empty() {
            let missing = unspecified(&hard, &new["spec"]);
            if !missing.is_empty() {
                return Err(format!("failed quota: {name}: must specify {}", missing.join("; ")));
            }
        }
        let mut used = self.used(snapshot, &key.namespace, quota, &hard);
        for write in reserved.writes.values() {
            // What is in the store already was counted there.
            let written = snapshot.get(&write.key).is_some_and(|stored| stored.revision > write.revision);
            let counts = !written
                && write.key.namespace == key.namespace
                && usage::in_scope(quota, write.traits.as_ref());
            if counts {
                for (name, amount) in &write.more {
                    if let Some(known) = used.get_mut(name) {
                        *known = known.saturating_add(*amount);
                    }
                }
            }
        }
        let exceeded: Vec<&String> = hard
            .iter()
            .filter(|(name, limit)| {
                let used = used.get(*name).copied().unwrap_or_default();
                more.get(*name).is_some_and(|more| used.saturating_add(*more) > **limit)
            })
            .map(|(name, _)| name)
            .collect();
        if exceeded.is_empty() {
            return Ok(());
        }
        let list = |amounts: &Amounts| {
            let texts: Vec<String> = exceeded
                .iter()
                .map(|name| format!("{name}={}", amounts.get(*name).copied().unwrap_or_default()))
                .collect();
            texts.join(",")
        };
        Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            list(more),
            list(&used),
            list(&hard)
        ))
    }

    /// What a namespace uses of the resources in `hard`, within a quota's scopes.
    pub(crate) fn used(
        &self,
        snapshot: &Snapshot,
        namespace: &str,
        quota: &Value,
        hard: &Amounts,
    ) -> Amounts {
        let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::from_units(0))).collect();
        let scoped = usage::is_scoped(quota);
        for resource in snapshot.resources() {
            if !hard.keys().any(|name| usage::concerns(resource, name)) {
                continue;
            }
            if !usage::differs(resource) {
                if scoped {
                    continue;
                }
                let count = snapshot.count(resource, Some(namespace));
                let count = Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX));
                for name in [usage::count_name(resource), resource.resource.to_string()] {
                    if usage::concerns(resource, &name)
                        && let Some(known) = used.get_mut(&name)
                    {
                        *known = count;
                    }
                }
                continue;
            }
            for stored in snapshot.range(resource, Some(namespace), None) {
                let cost = self.cost(&stored);
                if scoped && !usage::in_scope(quota, cost.traits.as_ref()) {
                    continue;
                }
                for (name, amount) in &cost.amounts {
                    if let Some(known) = used.get_mut(name) {
                        *known = known.saturating_add(*amount);
                    }
                }
            }
        }
        used
    }

    fn cost(&self, stored: &Stored) -> Arc<Cost> {
        let resource = &stored.key.resource;
        let cost = |of: &dyn Fn(&Value) -> Amounts| {
            let cost = |object| Cost { amounts: of(&object), traits: PodTraits::of(resource, &object) };
            // What cannot be read costs nothing.
            Arc::new(stored.value().map(cost).unwrap_or_default())
        };
        // Time alone changes what these cost.
        if stored.meta.deleting && &*resource.resource == "pods" {
            return cost(&|pod| usage::of_deleted_pod(resource, pod, Timestamp::now()));
        }
        if let Some((revision, known)) = self.costs.read().get(&stored.key)
            && *revision == stored.revision
        {
            return Arc::clone(known);
        }
        let cost = cost(&|object| usage::of(resource, object));
        let mut costs = self.costs.write();
        if costs.len() >= REMEMBERED_MAX {
            costs.clear();
        }
        costs.insert(stored.key.clone(), (stored.revision, Arc::clone(&cost)));
        cost
    }

    /// The status that a quota should have; none if it is up to date.
    pub(crate) fn status(&self, snapshot: &Snapshot, namespace: &str, quota: &Value) -> Option<Value> {
        let hard = hard(quota);
        let texts = |amounts: &Amounts| -> Value {
            amounts.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string()))).collect()
        };
        // Empty maps go unsaid.
        let status = if hard.is_empty() {
            serde_json::json!({})
        } else {
            let used = self.used(snapshot, namespace, quota, &hard);
            serde_json::json!({"hard": quota["spec"]["hard"], "used": texts(&used)})
        };
        (quota["status"]["hard"] != status["hard"] || quota["status"]["used"] != status["used"])
            .then_some(status)
    }
}

/// Containers of a pod without the requests that a quota counts: `cpu for: a,b`. None, if the pod has requests as a whole.
fn unspecified(hard: &Amounts, pod: &Value) -> Vec<String> {
    if pod_resources::has_own(pod) {
        return Vec::new();
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let list = |name: &str| pod[name].as_array().into_iter().flatten();
    for container in list("containers").chain(list("initContainers")) {
        for name in hard.keys() {
            let (side, resource) = match name.split_once('.') {
                Some((side @ ("requests" | "limits"), resource)) => (side, resource),
                _ => ("requests", name.as_str()),
            };
            if !matches!(resource, "cpu" | "memory") {
                continue;
            }
            if quantities::parse(&container["resources"][side][resource]).is_none() {
                missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
            }
        }
    }
    let told = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(",");
    missing.into_iter().map(|(name, containers)| format!("{name} for: {}", told(containers))).collect()
}
