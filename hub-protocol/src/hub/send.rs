//! Sending to the agent: removals, releases and manifests.

use proto::v1::{self, hub_message::Message as Down};

use super::{Desired, Entry, Event, Link, Removal, Sent, Session};
use crate::{Key, MANIFEST_LIMIT, TOO_LARGE, item_hash};

impl Session {
    /// Tells the controller of what no message holds, once. It is not in the table, so that nothing waits for the agent to hold it: its leases
    /// go on, and the tables are not compared for ever.
    pub(super) fn refuse(&mut self, desired: Desired) {
        let Desired { key, uid, generation, epoch, manifest, .. } = desired;
        let octets = manifest.len();
        let newer = |entry: &Entry| {
            entry.desired.uid == uid && (entry.desired.epoch, entry.desired.generation) > (epoch, generation)
        };
        let told = |(of, told): &(String, i64)| *of == uid && *told >= generation;
        if self.table.get(&key).is_some_and(newer) || self.too_large.get(&key).is_some_and(told) {
            return;
        }
        self.too_large.insert(key.clone(), (uid.clone(), generation));
        self.events.push_back(Event::Applied(v1::Applied {
            key: Some(key.into()),
            uid,
            generation,
            epoch,
            result: v1::ApplyResult::Refused.into(),
            reason: TOO_LARGE.to_owned(),
            message: format!(
                "{octets} octets, and agents are sent at most {MANIFEST_LIMIT}: the member keeps what it has"
            ),
            ..v1::Applied::default()
        }));
    }

    pub(super) fn withdraw(&mut self, key: Key, uid: String, epoch: u64, permit: Option<v1::Permit>) {
        self.set_epoch(epoch);
        if let Some(entry) = self.table.get(&key) {
            if entry.desired.uid == uid && entry.desired.epoch > epoch {
                self.events.push_back(Event::Removed(v1::Removed {
                    key: Some(key.into()),
                    uid,
                    epoch,
                    result: v1::RemoveResult::Refused.into(),
                    message: format!("a decision of epoch {} wants it here", entry.desired.epoch),
                }));
                return;
            }
            if entry.desired.uid == uid {
                self.digest.subtract(item_hash(&uid, entry.desired.generation, entry.hash));
                if entry.sent == Sent::InFlight {
                    self.in_flight = self.in_flight.saturating_sub(1);
                }
                self.table.remove(&key);
            }
        }
        if self.too_large.get(&key).is_some_and(|(of, _)| *of == uid) {
            self.too_large.remove(&key);
        }
        let void = permit.as_ref().is_some_and(|permit| permit.epoch < self.permits_from);
        if void {
            self.events.push_back(Event::Lapsed { key: key.clone(), uid: uid.clone() });
        }
        // While the agent is away, it is asked again when it comes: much may happen until then.
        let lapsed = void || (permit.is_some() && self.link == Link::Down);
        if !lapsed {
            self.unknown.remove(&key);
        }
        if self.removals.insert(key.clone(), Removal { uid, epoch, permit, lapsed }).is_some() {
            self.unsent_removals.retain(|other| *other != key);
        }
        self.unsent_removals.push_back(key);
    }

    pub(super) fn next_removal(&mut self) -> Option<Down> {
        if self.link != Link::Up {
            return None;
        }
        while let Some(key) = self.unsent_removals.pop_front() {
            let Some(removal) = self.removals.get(&key).filter(|removal| !removal.lapsed) else { continue };
            let (key, uid, epoch) = (Some(key.into()), removal.uid.clone(), removal.epoch);
            return Some(match removal.permit.clone() {
                Some(permit) => Down::Remove(v1::Remove { key, uid, epoch, permit: Some(permit) }),
                None => Down::Release(v1::Release { key, uid, epoch }),
            });
        }
        None
    }

    pub(super) fn next_apply(&mut self) -> Option<Down> {
        if self.link != Link::Up || self.in_flight >= self.config.window {
            return None;
        }
        while let Some(key) = self.first.pop_front().or_else(|| self.then.pop_front()) {
            let Some(entry) = self.table.get_mut(&key).filter(|entry| entry.sent == Sent::No) else {
                continue;
            };
            entry.sent = Sent::InFlight;
            entry.sent_epoch = entry.desired.epoch;
            self.in_flight += 1;
            let wanted = entry.desired.clone();
            return Some(Down::Apply(v1::Apply {
                key: Some(wanted.key.into()),
                uid: wanted.uid,
                generation: wanted.generation,
                epoch: wanted.epoch,
                manifest: wanted.manifest,
                conflict: wanted.conflict.into(),
                lease_ms: wanted.lease_ms,
            }));
        }
        None
    }
}
