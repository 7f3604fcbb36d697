//! The hub's side of one agent's stream.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

use crate::{Digest, FENCED, HEARTBEAT_MS, Key, content_hash, item_hash};

/// What the hub says of itself, and its limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// The hub's name, for the agent's log.
    pub hub: String,
    /// Identity of the store behind the hub: the uid of the Namespace `kube-system`.
    pub incarnation: String,
    /// Heartbeat period that agents are asked for, milliseconds.
    pub heartbeat_ms: u32,
    /// Most Applies sent and not yet answered. 512 manifests of 2 KiB are 1 MiB: at 100 ms of round trip and apply time that is
    /// 5,000 objects a second, above what an API server takes, and bounds what one slow agent holds in the hub's send buffers.
    pub window: usize,
    /// Most undelivered Events (posted to the federation for this member) kept while the agent is away; the oldest go first.
    pub event_backlog: usize,
    /// Least time between two anti-entropy questions, milliseconds.
    pub digest_interval_ms: u64,
    /// Silence after which the stream is called lost, milliseconds.
    pub silence_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hub: "hub".into(),
            incarnation: String::new(),
            heartbeat_ms: HEARTBEAT_MS,
            window: 512,
            event_backlog: 256,
            digest_interval_ms: 5_000,
            silence_ms: 10_000,
        }
    }
}

/// Desired state of one object in this member.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Which object.
    pub key: Key,
    /// The template's uid.
    pub uid: String,
    /// The template's generation.
    pub generation: i64,
    /// Epoch of the decision.
    pub epoch: u64,
    /// JSON, rendered for this member.
    pub manifest: Bytes,
    /// What to do with an object that is there and not ours.
    pub conflict: v1::ConflictPolicy,
    /// It may run in one cluster at a time: the agent's lease on it, milliseconds. 0: no lease.
    pub lease_ms: u32,
}

/// What the hub's controller learns.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The agent said hello. Its `epoch` is the newest that it ever saw: a hub with an older one was restored from a backup and must raise its own.
    Connected(v1::Hello),
    /// The stream was lost, or silent for too long: the driver closes it and calls [`Session::disconnected`].
    Lost {
        /// Since when nothing came, milliseconds of the driver's clock.
        since_ms: u64,
    },
    /// A heartbeat, already acknowledged.
    Heartbeat(v1::Heartbeat),
    /// Outcome of an Apply.
    Applied(v1::Applied),
    /// Outcome of a removal or release; it is no longer pending.
    Removed(v1::Removed),
    /// Status of a member copy.
    Status(v1::ObjectStatus),
    /// Reachability of a Service.
    Service(v1::ServiceState),
    /// An Event in the member.
    MemberEvent(v1::MemberEvent),
    /// The agent's table differs from the hub's though nothing is under way; the items are being compared.
    Mismatch {
        /// The hub's digest.
        ours: Digest,
        /// The agent's.
        theirs: Digest,
    },
    /// The agent holds an object that the hub does not want and did not remove. Never removed for that.
    Stray(v1::digest_reply::Item),
    /// The agent sent something that this protocol does not allow; it was dropped.
    Violation(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// To be sent, and in the queue.
    No,
    /// Sent on this connection, not answered.
    InFlight,
    /// Held by the agent.
    Held,
    /// Refused by the agent's fence: waits for a newer epoch.
    Fenced,
}

#[derive(Debug)]
struct Entry {
    desired: Desired,
    hash: u64,
    sent: Sent,
    /// Epoch of the Apply that was sent last.
    sent_epoch: u64,
    /// The session's change counter when this entry last changed.
    changed: u64,
}

#[derive(Debug)]
struct Removal {
    uid: String,
    epoch: u64,
    /// A removal carries a permit, a release needs none.
    permit: Option<v1::Permit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected; no Hello yet.
    Greeting,
    /// Asked for a digest; nothing is sent until the answer says what the agent has. Holds the change counter at the question.
    Comparing {
        asked: u64,
    },
    Up,
}

/// The hub's side of one agent's stream. Lives across reconnects.
#[derive(Debug)]
pub struct Session {
    config: Config,
    epoch: u64,
    link: Link,
    table: BTreeMap<Key, Entry>,
    digest: Digest,
    complete: bool,
    removals: BTreeMap<Key, Removal>,
    /// Removals that were not sent on this connection.
    leaving: VecDeque<Key>,
    /// What the agent said that it holds and that is not in the table.
    unknown: BTreeMap<Key, v1::digest_reply::Item>,
    first: VecDeque<Key>,
    then: VecDeque<Key>,
    in_flight: usize,
    changes: u64,
    control: VecDeque<Down>,
    deliveries: VecDeque<v1::DeliverEvent>,
    events: VecDeque<Event>,
    heard_at: u64,
    asked_at: Option<u64>,
    lost: bool,
    probes: Vec<v1::Probe>,
    /// When the agent was last told that it holds what is wanted.
    leased_at: Option<u64>,
    /// Events that the backlog had no room for.
    pub events_dropped: u64,
}

impl Session {
    /// Makes a session that is not connected and wants nothing.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            epoch: 0,
            link: Link::Down,
            table: BTreeMap::new(),
            digest: Digest::default(),
            complete: false,
            removals: BTreeMap::new(),
            leaving: VecDeque::new(),
            unknown: BTreeMap::new(),
            first: VecDeque::new(),
            then: VecDeque::new(),
            in_flight: 0,
            changes: 0,
            control: VecDeque::new(),
            deliveries: VecDeque::new(),
            events: VecDeque::new(),
            heard_at: 0,
            asked_at: None,
            lost: false,
            probes: Vec::new(),
            leased_at: None,
            events_dropped: 0,
        }
    }

    /// The newest epoch, told to the agent with each acknowledgement. Never goes back.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// What the agent is to probe, whole. Told again on every stream; its votes come with the heartbeats.
    pub fn set_probes(&mut self, probes: Vec<v1::Probe>) {
        if self.probes == probes {
            return;
        }
        self.probes = probes;
        if self.is_connected() {
            // Only the newest list counts.
            self.control.retain(|message| !matches!(message, Down::Probes(_)));
            self.control.push_back(Down::Probes(v1::Probes { probes: self.probes.clone() }));
        }
    }

    /// A new stream of this agent begins; an older one, if any, counts as lost.
    pub fn reconnected(&mut self, now: u64) {
        self.disconnected(now);
        self.link = Link::Greeting;
        self.heard_at = now;
        self.lost = false;
    }

    /// The stream is gone.
    pub fn disconnected(&mut self, _now: u64) {
        self.link = Link::Down;
        self.control.clear();
        self.asked_at = None;
        self.in_flight = 0;
        self.first.clear();
        self.then.clear();
        // What was on the way may or may not have arrived: the digest tells.
        for (key, entry) in &mut self.table {
            entry.sent = Sent::No;
            enqueue(&mut self.first, &mut self.then, key);
        }
        self.leaving = self.removals.keys().cloned().collect();
    }

    /// Whether the agent is connected and has said hello.
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up | Link::Comparing { .. })
    }

    /// When the agent's leases were last renewed, on the driver's clock; `None` if never by this hub. The agent counts from an earlier
    /// moment: from when it sent the heartbeat.
    pub fn leased_at(&self) -> Option<u64> {
        self.leased_at
    }

    /// Digest of the hub's table.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many objects the agent is not known to hold yet, and removals that are not acknowledged yet.
    pub fn pending(&self) -> usize {
        self.removals.len() + self.table.values().filter(|entry| entry.sent != Sent::Held).count()
    }

    /// Wants an object in this member. An older `(epoch, generation)` for the same uid changes nothing.
    pub fn set_desired(&mut self, _now: u64, desired: Desired) {
        self.set_epoch(desired.epoch);
        let hash = content_hash(&desired.manifest);
        let key = desired.key.clone();
        if let Some(removal) = self.removals.get(&key).filter(|removal| removal.uid == desired.uid) {
            if removal.epoch > desired.epoch {
                return;
            }
            // Wanted again by a newer decision. If the Remove is on its way already, this Apply follows it.
            self.removals.remove(&key);
        }
        self.changes += 1;
        let held = self.unknown.remove(&key);
        if let Some(entry) = self.table.get_mut(&key) {
            let old = &entry.desired;
            if old.uid == desired.uid {
                if (desired.epoch, desired.generation) < (old.epoch, old.generation) {
                    return;
                }
                if old.generation == desired.generation
                    && entry.hash == hash
                    && old.conflict == desired.conflict
                    && old.lease_ms == desired.lease_ms
                {
                    // A new epoch alone is not worth a write in every member.
                    entry.desired.epoch = desired.epoch;
                    if entry.sent == Sent::Fenced && entry.sent_epoch < desired.epoch {
                        entry.sent = Sent::No;
                        enqueue(&mut self.first, &mut self.then, &key);
                    }
                    return;
                }
            }
            self.digest.subtract(item_hash(&old.uid, old.generation, entry.hash));
            self.digest.add(item_hash(&desired.uid, desired.generation, hash));
            if entry.sent == Sent::InFlight {
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            let queued = entry.sent == Sent::No;
            *entry = Entry { desired, hash, sent: Sent::No, sent_epoch: 0, changed: self.changes };
            if !queued {
                enqueue(&mut self.first, &mut self.then, &key);
            }
            return;
        }
        self.digest.add(item_hash(&desired.uid, desired.generation, hash));
        let same = held.is_some_and(|item| {
            item.uid == desired.uid && item.generation == desired.generation && item.hash == hash
        });
        let sent = if same { Sent::Held } else { Sent::No };
        if sent == Sent::No {
            enqueue(&mut self.first, &mut self.then, &key);
        }
        self.table.insert(key, Entry { desired, hash, sent, sent_epoch: 0, changed: self.changes });
    }

    /// The controller has given everything that it wants here: from now on, what the agent holds besides is a stray.
    pub fn desired_complete(&mut self, _now: u64) {
        self.complete = true;
        self.report_strays();
    }

    /// Removes the member's copy, with the gate's permit. Pending until the agent answers, however often the stream breaks.
    pub fn request_removal(&mut self, _now: u64, key: Key, uid: String, epoch: u64, permit: v1::Permit) {
        self.withdraw(key, uid, epoch, Some(permit));
    }

    /// Leaves the member's copy in place, without the federation's marks. Pending until the agent answers.
    pub fn release(&mut self, _now: u64, key: Key, uid: String, epoch: u64) {
        self.withdraw(key, uid, epoch, None);
    }

    /// Whether a removal or release of this object waits for the agent's answer.
    pub fn removal_pending(&self, key: &Key) -> bool {
        self.removals.contains_key(key)
    }

    /// Sends an Event that was posted to the federation. Kept while the agent is away, up to the backlog.
    pub fn deliver_event(&mut self, _now: u64, event: v1::DeliverEvent) {
        if self.deliveries.len() >= self.config.event_backlog {
            self.deliveries.pop_front();
            self.events_dropped += 1;
        }
        self.deliveries.push_back(event);
    }

    /// Takes a message of the current stream.
    pub fn handle_message(&mut self, now: u64, message: v1::AgentMessage) {
        let Some(message) = message.message else {
            self.events.push_back(Event::Violation("an empty message"));
            return;
        };
        self.heard_at = now;
        match (self.link, message) {
            (Link::Down, _) => {}
            (Link::Greeting, Up::Hello(hello)) => self.greet(now, hello),
            (Link::Greeting, _) => self.events.push_back(Event::Violation("a message before Hello")),
            (_, Up::Hello(_)) => self.events.push_back(Event::Violation("a second Hello")),
            (_, Up::Heartbeat(heartbeat)) => self.beat(now, heartbeat),
            (_, Up::Applied(applied)) => self.applied(applied),
            (_, Up::Removed(removed)) => self.removed(removed),
            (_, Up::DigestReply(reply)) => self.compare(reply),
            (_, Up::Status(status)) => self.events.push_back(Event::Status(status)),
            (_, Up::Event(event)) => self.events.push_back(Event::MemberEvent(event)),
            (_, Up::Service(service)) => self.events.push_back(Event::Service(service)),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        if self.link != Link::Down && !self.lost && now >= self.heard_at + self.config.silence_ms {
            self.lost = true;
            self.events.push_back(Event::Lost { since_ms: self.heard_at });
        }
    }

    /// When [`Session::tick`] next has something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        (self.link != Link::Down && !self.lost).then(|| self.heard_at + self.config.silence_ms)
    }

    /// The next message for the agent.
    pub fn poll_transmit(&mut self) -> Option<v1::HubMessage> {
        if !self.is_connected() {
            return None;
        }
        let message = self
            .control
            .pop_front()
            .or_else(|| self.next_removal())
            .or_else(|| self.next_apply())
            .or_else(|| self.deliveries.pop_front().map(Down::Event))?;
        Some(v1::HubMessage { message: Some(message) })
    }

    /// The next thing for the controller to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn greet(&mut self, now: u64, hello: v1::Hello) {
        self.control.push_back(Down::Welcome(v1::Welcome {
            session: hello.session.clone(),
            hub: self.config.hub.clone(),
            incarnation: self.config.incarnation.clone(),
            epoch: self.epoch,
            heartbeat_ms: self.config.heartbeat_ms,
        }));
        self.ask(now);
        // Also when there is nothing to probe: the agent may still hold an earlier hub's list.
        self.control.push_back(Down::Probes(v1::Probes { probes: self.probes.clone() }));
        self.events.push_back(Event::Connected(hello));
    }

    fn ask(&mut self, now: u64) {
        self.asked_at = Some(now);
        if self.link == Link::Greeting {
            self.link = Link::Comparing { asked: self.changes };
        }
        self.control.push_back(Down::Digest(v1::Digest {
            digest: self.digest.sum,
            objects: self.digest.objects,
            epoch: self.epoch,
        }));
    }

    fn beat(&mut self, now: u64, heartbeat: v1::Heartbeat) {
        let theirs = Digest { sum: heartbeat.digest, objects: heartbeat.objects };
        // Before the controller has given everything, an object that moved away may be missing in both tables.
        let current = self.complete && (theirs == self.digest || self.explained(theirs));
        if current {
            self.leased_at = Some(now);
        }
        self.control.push_back(Down::HeartbeatAck(v1::HeartbeatAck {
            sequence: heartbeat.sequence,
            epoch: self.epoch,
            current,
        }));
        let quiet = self.complete
            && self.link == Link::Up
            && self.in_flight == 0
            && self.first.is_empty()
            && self.then.is_empty()
            && self.removals.is_empty();
        let rested = self.asked_at.is_none_or(|at| now >= at + self.config.digest_interval_ms);
        if quiet && rested && theirs != self.digest && !self.explained(theirs) {
            self.events.push_back(Event::Mismatch { ours: self.digest, theirs });
            self.link = Link::Comparing { asked: self.changes };
            self.ask(now);
        }
        self.events.push_back(Event::Heartbeat(heartbeat));
    }

    /// Whether known strays account for the difference.
    fn explained(&self, theirs: Digest) -> bool {
        let mut with_strays = self.digest;
        for item in self.unknown.values() {
            with_strays.add(item_hash(&item.uid, item.generation, item.hash));
        }
        with_strays == theirs
    }

    fn compare(&mut self, reply: v1::DigestReply) {
        let Link::Comparing { asked } = self.link else {
            self.events.push_back(Event::Violation("an answer to no question"));
            return;
        };
        self.link = Link::Up;
        self.unknown.clear();
        if reply.equal {
            for entry in self.table.values_mut().filter(|entry| entry.changed <= asked) {
                entry.sent = Sent::Held;
            }
        } else {
            for entry in
                self.table.values_mut().filter(|entry| entry.changed <= asked && entry.sent == Sent::Held)
            {
                entry.sent = Sent::No;
            }
            for item in reply.items {
                let Some(key) = item.key.clone().map(Key::from) else { continue };
                if let Some(entry) = self.table.get_mut(&key) {
                    let same = item.uid == entry.desired.uid
                        && item.generation == entry.desired.generation
                        && item.hash == entry.hash;
                    if same && entry.sent == Sent::No {
                        entry.sent = Sent::Held;
                    }
                } else if !self.removals.contains_key(&key) {
                    self.unknown.insert(key, item);
                }
            }
        }
        self.first.clear();
        self.then.clear();
        for (key, entry) in &self.table {
            if entry.sent == Sent::No {
                enqueue(&mut self.first, &mut self.then, key);
            }
        }
        self.report_strays();
    }

    fn report_strays(&mut self) {
        if self.complete && self.link == Link::Up {
            self.events.extend(self.unknown.values().cloned().map(Event::Stray));
        }
    }

    fn applied(&mut self, applied: v1::Applied) {
        let key = Key::from(applied.key.clone().unwrap_or_default());
        if let Some(entry) = self.table.get_mut(&key) {
            let wanted = &entry.desired;
            let answers = wanted.uid == applied.uid
                && wanted.generation == applied.generation
                && entry.sent_epoch <= applied.epoch;
            if answers && entry.sent == Sent::InFlight {
                entry.sent = if applied.reason == FENCED { Sent::Fenced } else { Sent::Held };
                self.in_flight = self.in_flight.saturating_sub(1);
            }
        }
        self.events.push_back(Event::Applied(applied));
    }

    fn removed(&mut self, removed: v1::Removed) {
        let key = Key::from(removed.key.clone().unwrap_or_default());
        let answers = |pending: &Removal| pending.uid == removed.uid && pending.epoch == removed.epoch;
        if self.removals.get(&key).is_some_and(answers) {
            self.removals.remove(&key);
            self.unknown.remove(&key);
            self.events.push_back(Event::Removed(removed));
        }
    }

    fn withdraw(&mut self, key: Key, uid: String, epoch: u64, permit: Option<v1::Permit>) {
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
        self.unknown.remove(&key);
        self.leaving.push_back(key.clone());
        self.removals.insert(key, Removal { uid, epoch, permit });
    }

    fn next_removal(&mut self) -> Option<Down> {
        if self.link != Link::Up {
            return None;
        }
        while let Some(key) = self.leaving.pop_front() {
            let Some(removal) = self.removals.get(&key) else { continue };
            let (key, uid, epoch) = (Some(key.into()), removal.uid.clone(), removal.epoch);
            return Some(match removal.permit.clone() {
                Some(permit) => Down::Remove(v1::Remove { key, uid, epoch, permit: Some(permit) }),
                None => Down::Release(v1::Release { key, uid, epoch }),
            });
        }
        None
    }

    fn next_apply(&mut self) -> Option<Down> {
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

fn enqueue(first: &mut VecDeque<Key>, then: &mut VecDeque<Key>, key: &Key) {
    if key.comes_first() { first.push_back(key.clone()) } else { then.push_back(key.clone()) }
}
