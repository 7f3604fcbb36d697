//! Handling of the hub's messages.

use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

use super::{Action, Link, Outcome, Persist, Session, action};
use crate::agent::desired::{Offer, Untaken};
use crate::agent::{Entry, State};
use crate::{FENCED, HEARTBEAT_MS, Key, VOID};

impl Session {
    pub(super) fn welcomed(&mut self, now: u64, welcome: &v1::Welcome) {
        if welcome.session != self.session {
            self.close("the hub welcomed another session");
            return;
        }
        self.link = Link::Up;
        self.survivors.hear_hub(now);
        self.backoff.reset();
        self.heartbeat_ms =
            if welcome.heartbeat_ms == 0 { HEARTBEAT_MS.into() } else { welcome.heartbeat_ms.into() };
        self.beat_at = now;
        self.hub_incarnation.clone_from(&welcome.incarnation);
        if (self.desired.incarnation().is_empty() || self.config.accept_new_incarnation)
            && self.desired.incarnation() != welcome.incarnation
        {
            self.desired.adopt_incarnation(&welcome.incarnation);
            self.persist_meta();
        }
        self.see_epoch(welcome.epoch);
        // Also when the hub says nothing newer: its first word decides.
        self.judge_hub();
    }

    pub(super) fn receive(&mut self, now: u64, message: Down) {
        self.survivors.hear_hub(now);
        match message {
            Down::Welcome(_) => {}
            Down::Apply(apply) => self.apply(now, apply),
            Down::Remove(remove) => {
                let Some(key) = remove.key.map(Key::from) else { return };
                let refusal = match &remove.permit {
                    None => Some("a removal needs the gate's permit"),
                    Some(permit) if permit.epoch < self.permits_from => Some(VOID),
                    Some(_) => None,
                };
                match refusal {
                    None => self.withdraw(key, remove.uid, remove.epoch, State::Removing),
                    Some(why) => self.refuse_removal(&key, &remove.uid, remove.epoch, why.into()),
                }
            }
            Down::Release(release) => {
                let Some(key) = release.key.map(Key::from) else { return };
                self.withdraw(key, release.uid, release.epoch, State::Releasing);
            }
            Down::Isolate(isolate) => {
                self.isolation.begin(now, isolate.drill.clone(), isolate.lease_ms.into());
                self.close(&format!("cut off on purpose, by drill {}", isolate.drill));
                self.actions.push_back(Action::Isolate { drill: isolate.drill });
            }
            Down::Digest(question) => {
                self.see_epoch(question.epoch);
                let ours = self.desired.digest();
                let equal = (ours.sum, ours.objects) == (question.digest, question.objects);
                self.outbox.answer(equal, if equal { Vec::new() } else { self.desired.items() });
            }
            Down::Event(delivery) => {
                let Some(regarding) = delivery.regarding.map(Key::from) else { return };
                self.actions.push_back(Action::PostEvent {
                    id: delivery.id,
                    regarding,
                    event: delivery.event,
                });
            }
            Down::Plans(plans) => {
                if self.survivors.offer(plans) {
                    self.persist_plans();
                }
            }
            Down::Look(look) => self.actions.push_back(Action::Look(look)),
            Down::Probes(probes) => self.actions.push_back(Action::Probe(probes.probes)),
            Down::HeartbeatAck(ack) => {
                if let Some(round_trip) = self.heartbeats.answer(now, ack.sequence) {
                    self.rtt_micros = u32::try_from(round_trip.saturating_mul(1000)).unwrap_or(u32::MAX);
                }
                self.see_epoch(ack.epoch);
                if ack.permits_from > self.permits_from {
                    self.permits_from = ack.permits_from;
                    self.actions.push_back(Action::Void { before: ack.permits_from });
                }
                if ack.current {
                    self.leases.renew(ack.sequence);
                    self.resume(now);
                    self.forget_floors(ack.adopted);
                }
            }
        }
    }

    /// The hub's decisions have taken in what was done by plans, and their manifests are here.
    fn forget_floors(&mut self, revision: u64) {
        let keys = self.survivors.adopted(revision);
        if keys.is_empty() {
            return;
        }
        self.persist_plans();
        for key in keys {
            if let Some(entry) = self.desired.set_floor(&key, 0) {
                self.actions.push_back(Action::Persist(Persist::Put(entry.clone())));
                self.actions.push_back(Action::Apply(entry));
            }
        }
    }

    /// Lets run again what may.
    fn resume(&mut self, now: u64) {
        let mut lapsed = Vec::new();
        while let Some(key) = self.leases.may_run() {
            let lease_ms = self.desired.get(&key).map_or(0, |entry| entry.lease_ms);
            if self.leases.has_lapsed(now, lease_ms) {
                lapsed.push(key);
            } else {
                self.set_stopped(&key, false);
            }
        }
        for entry in lapsed.iter().filter_map(|key| self.desired.get(key)) {
            self.leases.note(entry);
        }
    }

    pub(super) fn set_stopped(&mut self, key: &Key, stopped: bool) {
        if let Some(entry) = self.desired.set_stopped(key, stopped) {
            self.leases.note(&entry);
            self.actions.push_back(Action::Persist(Persist::Put(entry.clone())));
            self.actions.push_back(Action::Apply(entry));
        }
    }

    fn apply(&mut self, now: u64, apply: v1::Apply) {
        let conflict = apply.conflict();
        let Some(key) = apply.key.map(Key::from) else { return };
        let mut entry = Entry {
            key: key.clone(),
            uid: apply.uid,
            generation: apply.generation,
            epoch: apply.epoch,
            manifest: apply.manifest,
            conflict,
            lease_ms: apply.lease_ms,
            stopped: self.leases.has_lapsed(now, apply.lease_ms),
            floor: 0,
            state: State::Held,
        };
        entry.floor = self.survivors.floor(&entry.key, &entry.uid);
        self.see_epoch(entry.epoch);
        match self.desired.offer(entry.clone()) {
            Offer::Taken => {
                self.refusals.forget(&key);
                self.outbox.expect_applied(&key);
                self.leases.note(&entry);
                self.actions.push_back(Action::Persist(Persist::Put(entry.clone())));
                self.actions.push_back(Action::Apply(entry));
            }
            Offer::Known => {
                let told = self
                    .outbox
                    .last_applied(&key)
                    .is_some_and(|last| last.uid == entry.uid && last.generation == entry.generation);
                entry.stopped = self.desired.get(&key).is_some_and(|held| held.stopped);
                self.actions.push_back(Action::Persist(Persist::Put(entry.clone())));
                if told {
                    self.outbox.repeat_applied(&key, entry.epoch);
                } else {
                    self.actions.push_back(Action::Apply(entry));
                }
            }
            Offer::Fenced(message) => self.outbox.control.push_back(Up::Applied(v1::Applied {
                key: Some(key.into()),
                uid: entry.uid,
                generation: entry.generation,
                epoch: entry.epoch,
                result: v1::ApplyResult::Refused.into(),
                reason: FENCED.into(),
                message,
                drift_corrected: false,
            })),
        }
    }

    fn withdraw(&mut self, key: Key, uid: String, epoch: u64, state: State) {
        self.see_epoch(epoch);
        if let Some(reason) = &self.frozen {
            let message = format!("removals are frozen: {reason}");
            self.refuse_removal(&key, &uid, epoch, message);
            return;
        }
        match self.desired.withdraw(key.clone(), uid.clone(), epoch, state) {
            Ok(entry) => {
                self.leases.note(entry);
                let (put, act) = (Persist::Put(entry.clone()), action(entry));
                self.outbox.forget(&key);
                self.actions.push_back(Action::Persist(put));
                self.actions.push_back(act);
            }
            Err(Untaken::Fenced(message)) => self.refuse_removal(&key, &uid, epoch, message),
            // Of a hub that was restored from a backup, or that this member's copy was made anew for since. A refusal would be asked about for ever.
            Err(Untaken::Another) => {
                let result = match state {
                    State::Releasing => v1::RemoveResult::Released,
                    State::Removing | State::Held => v1::RemoveResult::Removed,
                };
                let message = "what is held here is another template's copy; it was left alone".into();
                self.answer_removal(&key, &uid, epoch, Outcome { result, message });
            }
        }
    }

    fn refuse_removal(&mut self, key: &Key, uid: &str, epoch: u64, message: String) {
        self.answer_removal(key, uid, epoch, Outcome { result: v1::RemoveResult::Refused, message });
    }

    pub(super) fn answer_removal(&mut self, key: &Key, uid: &str, epoch: u64, outcome: Outcome) {
        self.outbox.removed(v1::Removed {
            key: Some(key.into()),
            uid: uid.to_owned(),
            epoch,
            result: outcome.result.into(),
            message: outcome.message,
        });
    }

    /// Any word of the hub that carries an epoch shows how far the hub is.
    fn see_epoch(&mut self, epoch: u64) {
        if epoch > self.hub_epoch {
            self.hub_epoch = epoch;
            self.judge_hub();
        }
        if self.desired.see_epoch(epoch) {
            self.persist_meta();
        }
    }

    /// Freezes or thaws removals, by comparing the hub with what this agent has seen.
    fn judge_hub(&mut self) {
        let reason = if self.desired.incarnation() != self.hub_incarnation {
            Some(format!(
                "the hub's store is {:?}, this member was fed from {:?}; restart the agent with --accept-new-hub if that is intended",
                self.hub_incarnation,
                self.desired.incarnation()
            ))
        } else if self.hub_epoch < self.desired.epoch() {
            Some(format!(
                "the hub's epoch went back from {} to {}: it was restored from an older copy",
                self.desired.epoch(),
                self.hub_epoch
            ))
        } else {
            None
        };
        match (&self.frozen, &reason) {
            (None, Some(reason)) => self.actions.push_back(Action::Freeze { reason: reason.clone() }),
            (Some(_), None) => self.actions.push_back(Action::Thaw),
            _ => {}
        }
        self.frozen = reason;
    }

    pub(super) fn persist_meta(&mut self) {
        self.actions.push_back(Action::Persist(Persist::Meta {
            epoch: self.desired.epoch(),
            incarnation: self.desired.incarnation().to_owned(),
        }));
    }
}
