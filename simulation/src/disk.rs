//! An agent's disk.

use std::collections::BTreeMap;

use hub_protocol::Key;
use hub_protocol::agent::{Entry, Persist};
use proto::v1;
use serde_json::Value;

/// What stands on the agent's disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) entries: BTreeMap<Key, Entry>,
    pub(crate) epoch: u64,
    pub(crate) incarnation: String,
    pub(crate) plans: v1::KeptPlans,
}

impl Disk {
    /// Replicas that the manifest of a template's copy says.
    pub(crate) fn replicas(&self, uid: &str) -> Option<i64> {
        let entry = self.entries.values().find(|entry| entry.uid == uid)?;
        let manifest: Value = serde_json::from_slice(&entry.manifest).ok()?;
        manifest.pointer("/spec/replicas")?.as_i64()
    }

    pub(crate) fn put(&mut self, persist: Persist) {
        match persist {
            Persist::Put(entry) => {
                self.entries.insert(entry.key.clone(), entry);
            }
            Persist::Forget(key) => {
                self.entries.remove(&key);
            }
            Persist::Meta { epoch, incarnation } => (self.epoch, self.incarnation) = (epoch, incarnation),
            Persist::Plans(plans) => self.plans = *plans,
        }
    }
}
