//! What the controller did for each object. In memory only: everything here can be lost and is found again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use federation_core::api::FormerCopy;
use federation_core::placement::{Withdrawals, Withdrawn};
use federation_runtime::clock::Instant;
use parking_lot::Mutex;

use crate::observe::Key;

/// What an object's manifests in the sessions were made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The template's resourceVersion.
    pub(crate) version: Arc<str>,
    pub(crate) epoch: u64,
    /// The policy and its generation.
    pub(crate) policy: String,
    /// How many sessions had been forgotten: one that was made since holds none of it.
    pub(crate) forgotten: u64,
}

/// What was done for one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// uid of the template that this is about.
    pub(crate) uid: String,
    /// Hash of what the template wants, and the generation under which it went out. Kinds without metadata.generation
    /// would otherwise be sent again after every write of a status or a finalizer.
    pub(crate) wanted: Option<(u64, i64)>,
    /// What the renderings in the sessions were made from.
    pub(crate) rendered: Option<Rendered>,
    /// Clusters that were asked to remove or release their copy, and whose session was not given it since.
    pub(crate) withdrawn: Withdrawals,
    /// Copies of former namesakes that were released.
    pub(crate) released: BTreeSet<FormerCopy>,
    /// By cluster: the account that a removal was charged to which was permitted and is not acknowledged. It is not charged twice.
    pub(crate) paid: BTreeMap<String, String>,
    /// Whether the deleted template is in the trash.
    pub(crate) trashed: bool,
    /// Times that the contents waited for their Namespace.
    pub(crate) waits: u8,
    /// The gate's last refusal for each cluster, so that it is told once.
    pub(crate) refusals: BTreeMap<String, federation_core::gate::Rule>,
    /// The last reasons of the decision, for the status.
    pub(crate) reasons: Vec<federation_core::api::Reason>,
    /// Why nothing can be decided about it now.
    pub(crate) stalled: Option<String>,
    /// Hash of the last status that was written to the template, and to the Placement.
    pub(crate) status: (u64, u64),
    /// Since when agents that are connected owe an answer for this.
    pub(crate) owed_since: Option<Instant>,
    /// Refused generations that an Event was made for, by cluster.
    pub(crate) told: BTreeMap<String, i64>,
}

impl Entry {
    /// A cluster's session took a removal or release of this epoch.
    pub(crate) fn asked(&mut self, cluster: &str, epoch: u64) {
        self.withdrawn.insert(cluster.to_owned(), Withdrawn { epoch, gone: false });
    }

    /// Its agent has answered. What was asked for before the session was given the copy anew says nothing of that one.
    pub(crate) fn answered(&mut self, cluster: &str, epoch: u64) {
        if let Some(withdrawn) = self.withdrawn.get_mut(cluster).filter(|asked| asked.epoch == epoch) {
            withdrawn.gone = true;
            self.paid.remove(cluster);
        }
    }
}

/// The ledger. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<HashMap<Key, Entry>>>);

impl Ledger {
    /// Reads or changes the entry of a template; one of another uid starts anew.
    pub(crate) fn with<T>(&self, key: &Key, uid: &str, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.0.lock();
        let entry = entries.entry(key.clone()).or_default();
        if entry.uid != uid {
            *entry = Entry { uid: uid.to_owned(), ..Entry::default() };
        }
        change(entry)
    }

    /// Changes the entry of a template, if that is what is known under the key.
    pub(crate) fn with_known(&self, key: &Key, uid: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.0.lock().get_mut(key).filter(|entry| entry.uid == uid) {
            change(entry);
        }
    }

    /// Forgets a template.
    pub(crate) fn remove(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}
