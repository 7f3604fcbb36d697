//! One IPAddress for each cluster IP (KEP-1880), as kube-apiserver's allocator and its repair loop keep them.
//!
//! Who has which address is told by the Services alone, so that nothing can be lost between two writes: an IPAddress comes a moment after its
//! Service, and goes a moment after it. One that somebody else has made holds its address for him ([`allocation`](crate::allocation)).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::{Value, json};

use super::Action;
use crate::{
    allocation,
    store::{Key, ResourceKey, Snapshot, Stored},
    validation::text,
};

/// Services and addresses that are to be looked at.
#[derive(Default)]
pub(super) struct Addresses {
    all: bool,
    services: BTreeSet<Key>,
    names: BTreeSet<String>,
}

impl Addresses {
    /// Notes a change.
    pub(super) fn observe(&mut self, previous: Option<&Stored>, object: &Stored) {
        if object.key.resource == services() {
            self.names.extend(previous.into_iter().chain([object]).filter_map(cluster_ip));
            self.services.insert(object.key.clone());
        } else if object.key.resource == allocation::addresses() {
            self.names.insert(object.key.name.clone());
            self.services.extend(object.value().ok().and_then(|object| parent(&object)));
        }
    }

    /// Everything is to be looked at.
    pub(super) fn mark_all(&mut self) {
        self.all = true;
    }

    /// Makes what is missing, and takes away what is wrong: it is made anew once it is gone.
    pub(super) fn settle(&mut self, snapshot: &Snapshot) -> Vec<Action> {
        if std::mem::take(&mut self.all) {
            self.services.extend(keys(snapshot, &services()));
            self.names.extend(keys(snapshot, &allocation::addresses()).map(|key| key.name));
        }
        let mut actions = BTreeMap::new();
        for service in std::mem::take(&mut self.services) {
            let Some(action) = keep(snapshot, &service) else { continue };
            if matches!(action, Action::Delete { .. }) {
                // It is made anew once that is gone, whoever's it was.
                self.services.insert(service);
            }
            actions.insert(action.key().clone(), action);
        }
        for orphan in std::mem::take(&mut self.names).iter().filter_map(|name| orphan(snapshot, name)) {
            actions.entry(orphan.key().clone()).or_insert(orphan);
        }
        actions.into_values().collect()
    }
}

/// Whether every cluster IP has its IPAddress.
pub(super) fn are_complete(snapshot: &Snapshot) -> bool {
    keys(snapshot, &services()).all(|key| keep(snapshot, &key).is_none())
}

fn services() -> ResourceKey {
    ResourceKey::new("", "services")
}

fn keys(snapshot: &Snapshot, resource: &ResourceKey) -> impl Iterator<Item = Key> {
    let all: Vec<_> = snapshot.range(resource, None, None).map(|stored| stored.key.clone()).collect();
    all.into_iter()
}

/// The address of a Service, which its field selectors know.
pub(super) fn cluster_ip(service: &Stored) -> Option<String> {
    let address: IpAddr = service.meta.fields.get("spec.clusterIP")?.parse().ok()?;
    Some(address.to_string())
}

/// The Service that an IPAddress belongs to.
fn parent(address: &Value) -> Option<Key> {
    let parent = &address["spec"]["parentRef"];
    (text(parent, "group").is_empty() && text(parent, "resource") == "services")
        .then(|| Key::new(services(), text(parent, "namespace"), text(parent, "name")))
}

fn has(snapshot: &Snapshot, service: &Key, address: &str) -> bool {
    snapshot.get(service).and_then(|service| cluster_ip(&service)).is_some_and(|own| own == address)
}

/// What brings the IPAddress of a Service about.
fn keep(snapshot: &Snapshot, service: &Key) -> Option<Action> {
    let name = cluster_ip(&*snapshot.get(service)?)?;
    let key = Key::new(allocation::addresses(), "", &*name);
    let wanted = object(service, &name);
    let Some(found) = snapshot.get(&key) else { return Some(Action::Create { key, object: wanted }) };
    let value = found.value().ok()?;
    let labelled = wanted["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(name, value)| found.meta.labels.get(name).is_some_and(|found| value == found));
    let owner = parent(&value);
    let right = labelled && owner.as_ref() == Some(service);
    // Two that have the same address do not fight for it.
    let shared = owner.is_some_and(|owner| owner != *service && has(snapshot, &owner, &name));
    (!right && !shared && !found.meta.deleting).then(|| remove(&found))
}

/// What takes an IPAddress of ours away whose Service has gone, or has another address.
fn orphan(snapshot: &Snapshot, name: &str) -> Option<Action> {
    let found = snapshot.get(&Key::new(allocation::addresses(), "", name))?;
    if !allocation::is_ours(&found) || found.meta.deleting {
        return None;
    }
    let owner = parent(&found.value().ok()?);
    (!owner.is_some_and(|owner| has(snapshot, &owner, name))).then(|| remove(&found))
}

fn remove(found: &Stored) -> Action {
    let revision = Some(found.revision);
    Action::Delete { key: found.key.clone(), uid: found.meta.uid.clone(), propagation: None, revision }
}

fn object(service: &Key, address: &str) -> Value {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": address, "labels": {
            "ipaddress.kubernetes.io/ip-family": family, allocation::MANAGED_BY: allocation::MANAGER,
        }},
        "spec": {"parentRef": {
            "resource": "services", "namespace": service.namespace, "name": service.name,
        }},
    })
}
