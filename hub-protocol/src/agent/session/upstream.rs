//! Reports of the executor and the watches, on their way to the hub.

use proto::v1;

use super::{Action, Outcome, Persist, Session};
use crate::agent::State;
use crate::{Key, LEASE_LAPSED};

impl Session {
    /// An Apply ended, or drift was corrected. Outcomes of what is no longer wanted are dropped; what was refused is tried again later.
    pub fn applied(&mut self, now: u64, applied: v1::Applied) {
        let Some(key) = applied.key.clone().map(Key::from) else { return };
        let Some(entry) = self.desired.get(&key) else { return };
        if entry.state == State::Held && entry.uid == applied.uid && entry.generation == applied.generation {
            // The entry's epoch may have risen since the executor took it, with nothing else changed.
            let epoch = entry.epoch;
            if applied.result() == v1::ApplyResult::Refused {
                self.refusals.note(now, key.clone());
            } else {
                self.refusals.forget(&key);
            }
            let applied = v1::Applied { epoch, ..applied };
            let stopped = entry.stopped && applied.result() == v1::ApplyResult::Applied;
            self.outbox.applied(key, if stopped { lapsed(applied) } else { applied });
        }
    }

    /// A Delete or Unmark ended for good. If there is a newer one of this copy, it stays to be done.
    pub fn withdrawn(&mut self, key: &Key, uid: &str, epoch: u64, outcome: Outcome) {
        if self.desired.forget(key, uid, epoch) {
            self.refusals.forget(key);
            self.leases.forget(key);
            self.actions.push_back(Action::Persist(Persist::Forget(key.clone())));
        }
        self.answer_removal(key, uid, epoch, outcome);
    }

    /// The member copy's status changed.
    pub fn status(&mut self, status: v1::ObjectStatus) {
        if let Some(key) = self.wanted(status.key.as_ref(), &status.uid) {
            self.outbox.status(key, status);
        }
    }

    /// A Service's reachability changed.
    pub fn service(&mut self, service: v1::ServiceState) {
        if let Some(key) = self.wanted(service.key.as_ref(), &service.uid) {
            self.outbox.service(key, service);
        }
    }

    /// An Event happened in the member, `count` times since it was last told.
    pub fn event(&mut self, event: v1::MemberEvent) {
        if self.wanted(event.key.as_ref(), &event.uid).is_some() {
            self.outbox.event(event);
        }
    }

    fn wanted(&self, key: Option<&v1::Key>, uid: &str) -> Option<Key> {
        let key = Key::from(key?.clone());
        let entry = self.desired.get(&key)?;
        (entry.state == State::Held && entry.uid == uid).then_some(key)
    }
}

/// What the hub is told of a copy that was made so, and stopped.
fn lapsed(applied: v1::Applied) -> v1::Applied {
    let message = "scaled to zero: it may run in one cluster at a time, and the hub has not renewed this cluster's lease";
    v1::Applied { reason: LEASE_LAPSED.into(), message: message.into(), ..applied }
}
