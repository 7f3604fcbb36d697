//! The desired state of this member, and the fence that keeps older decisions from overwriting newer ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::v1;
use serde_json::Value;

use crate::{Digest, Key, content_hash, item_hash};

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Keep it as the manifest says.
    Held,
    /// A permitted Remove was accepted; the copy is being deleted.
    Removing,
    /// A Release was accepted; the marks are being taken off.
    Releasing,
}

/// One object of the desired state.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Which object.
    pub key: Key,
    /// The template's uid.
    pub uid: String,
    /// The template's generation.
    pub generation: i64,
    /// Epoch of the newest decision about it.
    pub epoch: u64,
    /// JSON, as the hub rendered it.
    pub manifest: Bytes,
    /// What to do with an object that is there and not ours.
    pub conflict: v1::ConflictPolicy,
    /// It may run in one cluster at a time: the lease, milliseconds. 0: no lease.
    pub lease_ms: u32,
    /// The lease has lapsed: the copy is kept, scaled to zero.
    pub stopped: bool,
    /// By a contingency plan at least so many replicas, whatever the manifest says; 0: no plan says so.
    pub floor: u32,
    /// What is to be done.
    pub state: State,
}

impl Entry {
    fn content(&self) -> u64 {
        content_hash(&self.manifest)
    }

    /// Replicas that are run: the manifest's, or a plan's if that is more; none while it is stopped. `None` for kinds without.
    fn replicas(&self) -> Option<u32> {
        if !federation_core::template::has_replicas(&self.key.kind) {
            return None;
        }
        if self.stopped {
            return Some(0);
        }
        let manifest: Value = serde_json::from_slice(&self.manifest).ok()?;
        let replicas = manifest.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        Some(u32::try_from(replicas).unwrap_or(u32::MAX).max(self.floor))
    }
}

#[derive(Clone, Debug)]
struct Held {
    entry: Entry,
    content: u64,
}

/// The table of desired state: what the agent keeps on its disk.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    table: BTreeMap<Key, Held>,
    digest: Digest,
    epoch: u64,
    incarnation: String,
}

/// How an offered Apply was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is new: persist and apply it.
    Taken,
    /// The same content at a newer epoch, or again: persist the epoch; nothing to apply.
    Known,
    /// An older decision; why.
    Fenced(String),
}

/// Why a removal or release was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Untaken {
    /// What is wanted here is another template's copy: of this one there is none.
    Another,
    /// An older decision; why.
    Fenced(String),
}

impl Desired {
    /// Rebuilds the table from disk. `epoch` and `incarnation` are the newest that were persisted; entries may carry newer epochs.
    pub fn load(epoch: u64, incarnation: String, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut desired = Self { epoch, incarnation, ..Self::default() };
        for entry in entries {
            desired.epoch = desired.epoch.max(entry.epoch);
            desired.put(entry);
        }
        desired
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.table.get(key).map(|held| &held.entry)
    }

    /// All objects, in the order of their keys; those that are being removed too.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.table.values().map(|held| &held.entry)
    }

    /// Digest of the objects that are held.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The newest epoch ever seen.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The store that the newest epoch came from; empty before the first Welcome.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    pub(super) fn see_epoch(&mut self, epoch: u64) -> bool {
        let newer = epoch > self.epoch;
        self.epoch = self.epoch.max(epoch);
        newer
    }

    pub(super) fn adopt_incarnation(&mut self, incarnation: &str) {
        incarnation.clone_into(&mut self.incarnation);
    }

    /// Offers an Apply to the fence.
    pub(super) fn offer(&mut self, new: Entry) -> Offer {
        if let Some(held) = self.table.get_mut(&new.key) {
            let old = &held.entry;
            let older = if old.uid == new.uid {
                (new.epoch, new.generation) < (old.epoch, old.generation)
            } else {
                // Generations of different templates do not compare.
                new.epoch < old.epoch
            };
            if older {
                return Offer::Fenced(format!(
                    "epoch {} generation {} is older than epoch {} generation {}, which this member holds",
                    new.epoch, new.generation, old.epoch, old.generation
                ));
            }
            let same = old.state == State::Held
                && old.uid == new.uid
                && old.generation == new.generation
                && old.conflict == new.conflict
                && old.lease_ms == new.lease_ms
                && held.content == new.content();
            if same {
                held.entry.epoch = new.epoch;
                self.epoch = self.epoch.max(new.epoch);
                return Offer::Known;
            }
        }
        self.epoch = self.epoch.max(new.epoch);
        self.put(new);
        Offer::Taken
    }

    /// Marks an object as leaving, or says why not. An object that is not held is taken as leaving too: the executor looks whether the member has a copy of that uid.
    pub(super) fn withdraw(
        &mut self,
        key: Key,
        uid: String,
        epoch: u64,
        state: State,
    ) -> Result<&Entry, Untaken> {
        let mut leaving = match self.table.get(&key) {
            Some(held) if held.entry.uid != uid => return Err(Untaken::Another),
            Some(held) if held.entry.epoch > epoch => {
                return Err(Untaken::Fenced(format!(
                    "epoch {epoch} is older than epoch {}, which this member holds",
                    held.entry.epoch
                )));
            }
            Some(held) => held.entry.clone(),
            None => Entry {
                key: key.clone(),
                uid,
                generation: 0,
                epoch,
                manifest: Bytes::new(),
                conflict: v1::ConflictPolicy::Refuse,
                lease_ms: 0,
                stopped: false,
                floor: 0,
                state,
            },
        };
        leaving.epoch = epoch;
        leaving.state = state;
        self.epoch = self.epoch.max(epoch);
        self.put(leaving);
        self.get(&key).ok_or(Untaken::Another)
    }

    /// Forgets an object that left by the decision of `epoch`, unless there is a newer one since. Tells whether it forgot.
    pub(super) fn forget(&mut self, key: &Key, uid: &str, epoch: u64) -> bool {
        let leaves = self
            .get(key)
            .is_some_and(|entry| entry.uid == uid && entry.state != State::Held && entry.epoch <= epoch);
        if leaves {
            self.table.remove(key);
        }
        leaves
    }

    /// Stops a held object, or lets it run again; the entry if that is new.
    pub(super) fn set_stopped(&mut self, key: &Key, stopped: bool) -> Option<Entry> {
        let entry = &mut self.table.get_mut(key)?.entry;
        let changes = entry.state == State::Held && entry.stopped != stopped;
        entry.stopped = stopped;
        changes.then(|| entry.clone())
    }

    /// Sets a held object's floor; the entry if that is new.
    pub(super) fn set_floor(&mut self, key: &Key, floor: u32) -> Option<Entry> {
        let entry = &mut self.table.get_mut(key)?.entry;
        let changes = entry.state == State::Held && entry.floor != floor;
        entry.floor = floor;
        changes.then(|| entry.clone())
    }

    /// Sets the floors of what an earlier run did by contingency plans.
    pub fn restore(&mut self, acted: &v1::Acted) {
        for raised in &acted.raised {
            let Some(key) = raised.key.clone().map(Key::from) else { continue };
            if let Some(held) = self.table.get_mut(&key).filter(|held| held.entry.uid == raised.uid) {
                held.entry.floor = held.entry.floor.max(raised.replicas);
            }
        }
    }

    /// Items for a digest's answer.
    pub(super) fn items(&self) -> Vec<v1::digest_reply::Item> {
        self.table
            .values()
            .filter(|held| held.entry.state == State::Held)
            .map(|Held { entry, content }| v1::digest_reply::Item {
                key: Some((&entry.key).into()),
                uid: entry.uid.clone(),
                generation: entry.generation,
                epoch: entry.epoch,
                hash: *content,
                replicas: entry.replicas(),
            })
            .collect()
    }

    fn put(&mut self, entry: Entry) {
        let content = entry.content();
        if entry.state == State::Held {
            self.digest.add(item_hash(&entry.uid, entry.generation, content));
        }
        // Removed first, so that the key's version and kind are the newest too.
        if let Some(Held { entry: old, content }) = self.table.remove(&entry.key)
            && old.state == State::Held
        {
            self.digest.subtract(item_hash(&old.uid, old.generation, content));
        }
        self.table.insert(entry.key.clone(), Held { entry, content });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(uid: &str, epoch: u64, generation: i64) -> Entry {
        Entry {
            key: Key {
                resource: "configmaps".into(),
                namespace: "a".into(),
                name: "b".into(),
                ..Key::default()
            },
            uid: uid.into(),
            generation,
            epoch,
            manifest: Bytes::from(format!("{{\"generation\":{generation}}}")),
            conflict: v1::ConflictPolicy::Refuse,
            lease_ms: 0,
            stopped: false,
            floor: 0,
            state: State::Held,
        }
    }

    #[test]
    fn an_older_epoch_or_generation_is_fenced() {
        let mut desired = Desired::default();
        assert_eq!(desired.offer(entry("u", 5, 2)), Offer::Taken);
        assert!(matches!(desired.offer(entry("u", 4, 3)), Offer::Fenced(_)));
        assert!(matches!(desired.offer(entry("u", 5, 1)), Offer::Fenced(_)));
        assert!(matches!(desired.offer(entry("other", 4, 9)), Offer::Fenced(_)));
        assert_eq!(desired.offer(entry("u", 6, 2)), Offer::Known);
        assert_eq!(desired.offer(entry("u", 6, 3)), Offer::Taken);
    }

    #[test]
    fn a_removal_needs_the_very_uid_and_no_older_epoch() {
        let mut desired = Desired::default();
        desired.offer(entry("u", 5, 2));
        let key = entry("u", 5, 2).key;
        let other = desired.withdraw(key.clone(), "other".into(), 9, State::Removing);
        assert_eq!(other.unwrap_err(), Untaken::Another);
        let older = desired.withdraw(key.clone(), "u".into(), 4, State::Removing);
        assert!(matches!(older, Err(Untaken::Fenced(_))));
        assert_eq!(desired.digest().objects, 1);
        assert_eq!(
            desired.withdraw(key.clone(), "u".into(), 5, State::Removing).unwrap().state,
            State::Removing
        );
        assert_eq!(desired.digest(), Digest::default());
        assert!(desired.forget(&key, "u", 5));
        assert!(desired.get(&key).is_none());
    }

    #[test]
    fn the_end_of_an_older_removal_forgets_no_newer_release() {
        let mut desired = Desired::default();
        desired.offer(entry("u", 5, 2));
        let key = entry("u", 5, 2).key;
        desired.withdraw(key.clone(), "u".into(), 6, State::Removing).unwrap();
        desired.withdraw(key.clone(), "u".into(), 7, State::Releasing).unwrap();
        assert!(!desired.forget(&key, "u", 6));
        assert_eq!(desired.get(&key).unwrap().state, State::Releasing);
        assert!(desired.forget(&key, "u", 7));
    }

    #[test]
    fn the_digest_is_the_same_after_a_reload() {
        let mut desired = Desired::default();
        desired.offer(entry("u", 5, 2));
        desired.offer(entry("u", 6, 3));
        let again = Desired::load(desired.epoch(), String::new(), desired.iter().cloned());
        assert_eq!(again.digest(), desired.digest());
        assert_eq!(again.epoch(), 6);
    }
}
