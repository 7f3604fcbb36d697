//! The agent's session: connects, keeps the desired state, answers, and tells its executor what to do.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

use super::desired::Offer;
use super::leases::Leases;
use super::outbox::Outbox;
use super::refusals::Refusals;
use super::{Backoff, Desired, Entry, State};
use crate::{FENCED, HEARTBEAT_MS, Key, LEASE_LAPSED};

/// Limits of the session.
#[derive(Clone, Debug)]
pub struct Config {
    /// Heartbeats without an answer after which the hub is called lost.
    pub lost_after: u32,
    /// How long the hub may take to open the stream and to welcome, milliseconds.
    pub greeting_ms: u64,
    /// Shortest wait before another attempt to connect, milliseconds.
    pub backoff_base_ms: u64,
    /// Longest wait before another attempt to connect, milliseconds.
    pub backoff_cap_ms: u64,
    /// The operator says that the hub's store was replaced on purpose: take its incarnation instead of freezing.
    pub accept_new_incarnation: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lost_after: 5,
            greeting_ms: 10_000,
            backoff_base_ms: 200,
            backoff_cap_ms: 10_000,
            accept_new_incarnation: false,
        }
    }
}

/// What the agent says of its member when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Version of the agent.
    pub agent_version: String,
    /// Version of the member's API server.
    pub kubernetes_version: String,
    /// Served APIs as `group/version/Kind` (`v1/Secret` for core).
    pub apis: Vec<String>,
}

/// What the agent last saw of its member; sent with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vitals {
    /// The member's API server answers.
    pub api_ok: bool,
    /// Why it does not.
    pub api_message: String,
    /// Nodes and what they offer.
    pub capacity: Option<v1::Capacity>,
    /// Expiry of the agent's certificate, Unix seconds.
    pub certificate_not_after: i64,
}

/// How a removal or release ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was done.
    pub result: v1::RemoveResult,
    /// A sentence for the operator.
    pub message: String,
}

/// What must be on disk before the actions that follow it are carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Persist {
    /// This entry, whole.
    Put(Entry),
    /// No entry of this key.
    Forget(Key),
    /// Newest epoch and the store that it came from.
    Meta {
        /// See [`Desired::epoch`].
        epoch: u64,
        /// See [`Desired::incarnation`].
        incarnation: String,
    },
}

/// What the executor has to do. Actions for one key are carried out in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open a stream, then call [`Session::connected`] or [`Session::disconnected`].
    Connect,
    /// Close the stream, then call [`Session::disconnected`].
    Disconnect {
        /// Why, for the log.
        reason: String,
    },
    /// Write to disk.
    Persist(Persist),
    /// Make the member's object so, and report with [`Session::applied`].
    Apply(Entry),
    /// Delete the member's copy if it is marked as the copy of this uid, and report with [`Session::withdrawn`].
    Delete {
        /// Which object.
        key: Key,
        /// The template's uid.
        uid: String,
        /// Epoch of the permitted removal.
        epoch: u64,
    },
    /// Take the federation's marks off the copy, and report with [`Session::withdrawn`].
    Unmark {
        /// Which object.
        key: Key,
        /// The template's uid.
        uid: String,
        /// Epoch of the release.
        epoch: u64,
    },
    /// Post an Event in the member, once for each id.
    PostEvent {
        /// The hub's id for this delivery.
        id: String,
        /// The object that it is about.
        regarding: Key,
        /// JSON, core/v1 Event.
        event: Bytes,
    },
    /// Removals are refused from now on.
    Freeze {
        /// Why.
        reason: String,
    },
    /// Removals are possible again.
    Thaw,
    /// Probe these from now on, in place of what was probed before, and report with [`Session::set_votes`].
    Probe(Vec<v1::Probe>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down {
        retry_at: u64,
    },
    Connecting {
        since: u64,
    },
    Greeting {
        since: u64,
    },
    Up,
    /// Given up; waits for the driver to say so.
    Closing,
}

/// The agent's session. Lives across reconnects.
#[derive(Debug)]
pub struct Session {
    config: Config,
    desired: Desired,
    facts: Facts,
    // Since the hub was last told.
    apis_changed: bool,
    vitals: Vitals,
    link: Link,
    backoff: Backoff,
    session: String,
    outbox: Outbox,
    refusals: Refusals,
    leases: Leases,
    actions: VecDeque<Action>,
    heartbeat_ms: u64,
    beat_at: u64,
    sequence: u64,
    acknowledged: u64,
    sent_at: u64,
    rtt_micros: u32,
    hub_epoch: u64,
    hub_incarnation: String,
    frozen: Option<String>,
    /// The newest votes, and when they were given.
    votes: (u64, Vec<v1::ProbeVote>),
}

impl Session {
    /// Begins with what the disk holds: its objects are applied at once, hub or no hub, and removals that were under way go on.
    pub fn new(now: u64, config: Config, desired: Desired) -> Self {
        let mut leases = Leases::new(now);
        desired.iter().for_each(|entry| leases.note(entry));
        let actions = desired
            .iter()
            .filter(|entry| entry.key.comes_first())
            .chain(desired.iter().filter(|entry| !entry.key.comes_first()))
            .map(action)
            .collect();
        Self {
            backoff: Backoff::new(config.backoff_base_ms, config.backoff_cap_ms),
            config,
            desired,
            facts: Facts::default(),
            apis_changed: false,
            vitals: Vitals::default(),
            link: Link::Down { retry_at: now },
            session: String::new(),
            outbox: Outbox::default(),
            refusals: Refusals::default(),
            leases,
            actions,
            heartbeat_ms: HEARTBEAT_MS.into(),
            beat_at: 0,
            sequence: 0,
            acknowledged: 0,
            sent_at: 0,
            rtt_micros: 0,
            hub_epoch: 0,
            hub_incarnation: String::new(),
            frozen: None,
            votes: (now, Vec::new()),
        }
    }

    /// The desired state.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Why removals are frozen, if they are.
    pub fn frozen(&self) -> Option<&str> {
        self.frozen.as_deref()
    }

    /// Whether the hub has welcomed this agent on the present stream.
    pub fn is_connected(&self) -> bool {
        self.link == Link::Up
    }

    /// Round trip of the last acknowledged heartbeat, microseconds.
    pub fn rtt_micros(&self) -> u32 {
        self.rtt_micros
    }

    /// Events that found no room while the hub was away.
    pub fn events_dropped(&self) -> u64 {
        self.outbox.events_dropped
    }

    /// What to say of the member at the next Hello. A change of what it serves is told at once.
    pub fn set_facts(&mut self, now: u64, facts: Facts) {
        if facts.apis != self.facts.apis {
            self.apis_changed = true;
            self.beat_at = now;
        }
        self.facts = facts;
    }

    /// What to say of the member in the next heartbeat. A change of `api_ok` is told at once.
    pub fn set_vitals(&mut self, now: u64, vitals: Vitals) {
        if vitals.api_ok != self.vitals.api_ok {
            self.beat_at = now;
        }
        self.vitals = vitals;
    }

    /// What this agent sees of other members, whole; their ages as of `now`. A vote that turned, or a first failure, is told at once.
    pub fn set_votes(&mut self, now: u64, votes: Vec<v1::ProbeVote>) {
        let told = |votes: &[v1::ProbeVote]| -> Vec<_> {
            votes.iter().map(|vote| (vote.state, vote.failures > 0)).collect()
        };
        if told(&votes) != told(&self.votes.1) {
            self.beat_at = now;
        }
        self.votes = (now, votes);
    }

    /// The stream is open. `session` is a fresh random id: answers to an older stream are known by theirs.
    pub fn connected(&mut self, now: u64, session: String) {
        self.outbox.restart();
        self.session.clone_from(&session);
        self.sequence = 0;
        self.acknowledged = 0;
        self.leases.restart();
        self.hub_epoch = 0;
        self.apis_changed = false;
        self.link = Link::Greeting { since: now };
        self.outbox.control.push_back(Up::Hello(v1::Hello {
            session,
            epoch: self.desired.epoch(),
            incarnation: self.desired.incarnation().to_owned(),
            digest: self.desired.digest().sum,
            agent_version: self.facts.agent_version.clone(),
            kubernetes_version: self.facts.kubernetes_version.clone(),
            apis: self.facts.apis.clone(),
        }));
    }

    /// The stream, or the attempt to open one, failed. `random` spreads the next attempts of many agents.
    pub fn disconnected(&mut self, now: u64, random: u64) {
        self.link = Link::Down { retry_at: now + self.backoff.next(random) };
    }

    /// Takes a message of the present stream.
    pub fn handle_message(&mut self, now: u64, message: v1::HubMessage) {
        let Some(message) = message.message else { return };
        match (self.link, message) {
            (Link::Greeting { .. }, Down::Welcome(welcome)) => self.welcomed(now, &welcome),
            (Link::Up, message) => self.obey(now, message),
            // Before the Welcome nothing is known of who speaks; the rest is of a stream that is over.
            _ => {}
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        while let Some(key) = self.refusals.due(now) {
            if let Some(entry) = self.desired.get(&key).filter(|entry| entry.state == State::Held) {
                self.actions.push_back(Action::Apply(entry.clone()));
            }
        }
        while let Some(key) = self.leases.lapsed(now) {
            self.set_stopped(&key, true);
        }
        match self.link {
            Link::Down { retry_at } if now >= retry_at => {
                self.link = Link::Connecting { since: now };
                self.actions.push_back(Action::Connect);
            }
            Link::Connecting { since } | Link::Greeting { since }
                if now >= since + self.config.greeting_ms =>
            {
                self.close("the hub did not answer in time");
            }
            Link::Up if now >= self.beat_at => {
                if self.sequence - self.acknowledged >= u64::from(self.config.lost_after) {
                    self.close("the hub answers no heartbeats");
                } else {
                    self.beat(now);
                }
            }
            _ => {}
        }
    }

    /// When [`Session::tick`] next has something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        [self.link_deadline(), self.refusals.next_deadline(), self.leases.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn link_deadline(&self) -> Option<u64> {
        match self.link {
            Link::Down { retry_at } => Some(retry_at),
            Link::Connecting { since } | Link::Greeting { since } => Some(since + self.config.greeting_ms),
            Link::Up => Some(self.beat_at),
            Link::Closing => None,
        }
    }

    /// The next message for the hub.
    pub fn poll_transmit(&mut self) -> Option<v1::AgentMessage> {
        let message = match self.link {
            Link::Up => self.outbox.next(),
            Link::Greeting { .. } => self.outbox.control.pop_front(),
            _ => None,
        }?;
        Some(v1::AgentMessage { message: Some(message) })
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

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

    /// A Delete or Unmark ended for good.
    pub fn withdrawn(&mut self, key: &Key, uid: &str, epoch: u64, outcome: Outcome) {
        if self.desired.forget(key, uid) {
            self.outbox.forget(key);
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
        let Some(key) = service.key.clone().map(Key::from) else { return };
        self.outbox.service(key, service);
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

    fn welcomed(&mut self, now: u64, welcome: &v1::Welcome) {
        if welcome.session != self.session {
            self.close("the hub welcomed another session");
            return;
        }
        self.link = Link::Up;
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

    fn obey(&mut self, now: u64, message: Down) {
        match message {
            Down::Welcome(_) => {}
            Down::Apply(apply) => self.apply(now, apply),
            Down::Remove(remove) => {
                let Some(key) = remove.key.map(Key::from) else { return };
                if remove.permit.is_some() {
                    self.withdraw(key, remove.uid, remove.epoch, State::Removing);
                } else {
                    self.refuse_removal(
                        &key,
                        &remove.uid,
                        remove.epoch,
                        "a removal needs the gate's permit".into(),
                    );
                }
            }
            Down::Release(release) => {
                let Some(key) = release.key.map(Key::from) else { return };
                self.withdraw(key, release.uid, release.epoch, State::Releasing);
            }
            Down::Digest(question) => {
                self.see_epoch(question.epoch);
                let ours = self.desired.digest();
                let equal = (ours.sum, ours.objects) == (question.digest, question.objects);
                let items = if equal { Vec::new() } else { self.desired.items() };
                self.outbox.control.push_back(Up::DigestReply(v1::DigestReply { equal, items }));
            }
            Down::Event(delivery) => {
                let Some(regarding) = delivery.regarding.map(Key::from) else { return };
                self.actions.push_back(Action::PostEvent {
                    id: delivery.id,
                    regarding,
                    event: delivery.event,
                });
            }
            Down::Probes(probes) => self.actions.push_back(Action::Probe(probes.probes)),
            Down::HeartbeatAck(ack) => {
                if ack.sequence == self.sequence {
                    self.rtt_micros = u32::try_from((now.saturating_sub(self.sent_at)).saturating_mul(1000))
                        .unwrap_or(u32::MAX);
                }
                self.acknowledged = self.acknowledged.max(ack.sequence.min(self.sequence));
                self.see_epoch(ack.epoch);
                if ack.current {
                    self.leases.renew(ack.sequence);
                    self.resume(now);
                }
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

    fn set_stopped(&mut self, key: &Key, stopped: bool) {
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
            state: State::Held,
        };
        self.see_epoch(entry.epoch);
        match self.desired.offer(entry.clone()) {
            Offer::Taken => {
                self.refusals.forget(&key);
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
                self.actions.push_back(Action::Persist(put));
                self.actions.push_back(act);
            }
            Err(message) => self.refuse_removal(&key, &uid, epoch, message),
        }
    }

    fn refuse_removal(&mut self, key: &Key, uid: &str, epoch: u64, message: String) {
        self.answer_removal(key, uid, epoch, Outcome { result: v1::RemoveResult::Refused, message });
    }

    fn answer_removal(&mut self, key: &Key, uid: &str, epoch: u64, outcome: Outcome) {
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

    fn persist_meta(&mut self) {
        self.actions.push_back(Action::Persist(Persist::Meta {
            epoch: self.desired.epoch(),
            incarnation: self.desired.incarnation().to_owned(),
        }));
    }

    fn beat(&mut self, now: u64) {
        self.sequence += 1;
        self.sent_at = now;
        self.leases.beat(self.sequence, now);
        self.beat_at = now + self.heartbeat_ms;
        let digest = self.desired.digest();
        let (given, votes) = &self.votes;
        let aged = u32::try_from(now.saturating_sub(*given)).unwrap_or(u32::MAX);
        let aged =
            |vote: &v1::ProbeVote| v1::ProbeVote { age_ms: vote.age_ms.saturating_add(aged), ..vote.clone() };
        let votes = votes.iter().map(aged).collect();
        let apis = if std::mem::take(&mut self.apis_changed) { self.facts.apis.clone() } else { Vec::new() };
        self.outbox.control.push_back(Up::Heartbeat(v1::Heartbeat {
            sequence: self.sequence,
            rtt_micros: self.rtt_micros,
            api_ok: self.vitals.api_ok,
            api_message: self.vitals.api_message.clone(),
            capacity: self.vitals.capacity,
            frozen: self.frozen.is_some(),
            frozen_reason: self.frozen.clone().unwrap_or_default(),
            epoch: self.desired.epoch(),
            digest: digest.sum,
            objects: digest.objects,
            certificate_not_after: self.vitals.certificate_not_after,
            votes,
            apis,
        }));
    }

    fn close(&mut self, reason: &str) {
        self.link = Link::Closing;
        self.actions.push_back(Action::Disconnect { reason: reason.into() });
    }
}

/// What the hub is told of a copy that was made so, and stopped.
fn lapsed(applied: v1::Applied) -> v1::Applied {
    let message = "scaled to zero: it may run in one cluster at a time, and the hub has not renewed this cluster's lease";
    v1::Applied { reason: LEASE_LAPSED.into(), message: message.into(), ..applied }
}

fn action(entry: &Entry) -> Action {
    let (key, uid, epoch) = (entry.key.clone(), entry.uid.clone(), entry.epoch);
    match entry.state {
        State::Held => Action::Apply(entry.clone()),
        State::Removing => Action::Delete { key, uid, epoch },
        State::Releasing => Action::Unmark { key, uid, epoch },
    }
}
