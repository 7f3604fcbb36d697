//! The hub's side of one agent's stream: a machine without clock or I/O.

mod compare;
mod plans;
mod send;
mod types;

use std::collections::{BTreeMap, VecDeque};

use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

use crate::{Digest, FENCED, Key, MANIFEST_LIMIT, content_hash, item_hash};

use plans::Plans;
pub use types::{Config, Desired, Event, PendingWithdrawal, Withdrawal};

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
    /// What the agent said on this connection that it holds, if that is another copy and it has not taken this one since.
    theirs: Option<v1::digest_reply::Item>,
    /// The agent said on this connection that it holds no copy of it, and has not taken this one since.
    absent: bool,
}

#[derive(Debug)]
struct Removal {
    uid: String,
    epoch: u64,
    /// A removal carries a permit, a release needs none.
    permit: Option<v1::Permit>,
    /// The permit is void: another is to be asked for.
    lapsed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Connected; no Hello yet.
    Greeting,
    /// Asked for a digest; nothing is sent until the answer says what the agent has. Holds the change counter at the question, and whether a
    /// part of the answer is there.
    Comparing {
        asked: u64,
        begun: bool,
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
    /// What is wanted and no message holds, by uid and generation: the agent keeps what it has of it.
    too_large: BTreeMap<Key, (String, i64)>,
    /// Removals that were not sent on this connection.
    unsent_removals: VecDeque<Key>,
    /// Permits of older epochs are void.
    permits_from: u64,
    /// The agent has said once what it holds: what it holds besides since then was wanted here.
    told: bool,
    /// What the agent said that it holds and that is not in the table.
    unknown: BTreeMap<Key, v1::digest_reply::Item>,
    /// How many strays were last told of.
    strays: usize,
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
    plans: Plans,
    /// When the agent was last told that it holds what is wanted.
    leased_at: Option<u64>,
    events_dropped: u64,
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
            too_large: BTreeMap::new(),
            unsent_removals: VecDeque::new(),
            permits_from: 0,
            told: false,
            unknown: BTreeMap::new(),
            strays: 0,
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
            plans: Plans::default(),
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
        self.disconnected();
        self.link = Link::Greeting;
        self.heard_at = now;
        self.lost = false;
    }

    /// The stream is gone.
    pub fn disconnected(&mut self) {
        self.link = Link::Down;
        self.control.clear();
        self.asked_at = None;
        self.plans.disconnected();
        self.in_flight = 0;
        self.first.clear();
        self.then.clear();
        // What was on the way may or may not have arrived: the digest tells.
        for (key, entry) in &mut self.table {
            entry.sent = Sent::No;
            entry.theirs = None;
            entry.absent = false;
            enqueue(&mut self.first, &mut self.then, key);
        }
        self.unsent_removals.clear();
        for (key, removal) in &mut self.removals {
            if removal.permit.is_some() {
                removal.lapsed = true;
            } else {
                self.unsent_removals.push_back(key.clone());
            }
        }
    }

    /// Whether the agent is connected and has said hello.
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up | Link::Comparing { .. })
    }

    /// Whether the agent has said on this connection what it holds.
    pub fn is_compared(&self) -> bool {
        self.link == Link::Up
    }

    /// Whether the agent has ever said to this session what it holds.
    pub fn has_told(&self) -> bool {
        self.told
    }

    /// What the agent said on this connection that it holds, where that is not what is wanted here and it has not taken that since.
    pub fn claim(&self, key: &Key) -> Option<&v1::digest_reply::Item> {
        self.unknown.get(key).or_else(|| self.table.get(key)?.theirs.as_ref())
    }

    /// Whether the agent has said on this connection that it holds nothing of this object, and has not taken any since.
    pub fn holds_none(&self, key: &Key) -> bool {
        let none = match self.table.get(key) {
            Some(entry) => entry.absent,
            None => !self.unknown.contains_key(key),
        };
        none && self.is_compared() && !self.removals.contains_key(key)
    }

    /// The same, and it was not sent any on this connection either.
    pub fn is_without(&self, key: &Key) -> bool {
        self.holds_none(key) && self.table.get(key).is_none_or(|entry| entry.sent == Sent::No)
    }

    /// When the agent's leases were last renewed, on the driver's clock; `None` if never by this hub. The agent counts from an earlier
    /// moment: from when it sent the heartbeat.
    pub fn leased_at(&self) -> Option<u64> {
        self.leased_at
    }

    /// Events that the backlog had no room for, or no message.
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    /// Digest of the hub's table.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many objects the agent is not known to hold yet, and removals that are not acknowledged yet. Those whose permit has lapsed are the
    /// controller's to ask for again, or not.
    pub fn pending(&self) -> usize {
        let under_way = self.removals.values().filter(|removal| !removal.lapsed).count();
        under_way + self.table.values().filter(|entry| entry.sent != Sent::Held).count()
    }

    /// Wants an object in this member. An older `(epoch, generation)` for the same uid changes nothing, nor does an epoch that is older than
    /// that of a removal or release which is pending. A manifest over [`MANIFEST_LIMIT`] is not sent, and the agent keeps what it has:
    /// [`Event::Applied`] says so once for each generation.
    pub fn set_desired(&mut self, desired: Desired) {
        self.set_epoch(desired.epoch);
        let hash = content_hash(&desired.manifest);
        let key = desired.key.clone();
        match self.removals.get(&key) {
            Some(removal) if removal.uid != desired.uid => {
                // This Apply takes the other template's copy over.
                let uid = removal.uid.clone();
                self.take_back_release(&key, &uid);
            }
            Some(removal) if removal.epoch > desired.epoch => return,
            Some(_) => {
                // Wanted again by a newer decision. If the Remove is on its way already, this Apply follows it.
                self.removals.remove(&key);
            }
            None => {}
        }
        if desired.manifest.len() > MANIFEST_LIMIT {
            self.refuse(desired);
            return;
        }
        self.too_large.remove(&key);
        self.changes += 1;
        let absent = self.holds_none(&key);
        let held = self.unknown.remove(&key);
        let was_held = held.is_some();
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
            let theirs = entry.theirs.take();
            *entry =
                Entry { desired, hash, sent: Sent::No, sent_epoch: 0, changed: self.changes, theirs, absent };
            if !queued {
                enqueue(&mut self.first, &mut self.then, &key);
            }
            return;
        }
        self.digest.add(item_hash(&desired.uid, desired.generation, hash));
        let theirs = held.filter(|item| {
            item.uid != desired.uid || item.generation != desired.generation || item.hash != hash
        });
        let same = was_held && theirs.is_none();
        let sent = if same { Sent::Held } else { Sent::No };
        if sent == Sent::No {
            enqueue(&mut self.first, &mut self.then, &key);
        }
        let entry = Entry { desired, hash, sent, sent_epoch: 0, changed: self.changes, theirs, absent };
        self.table.insert(key, entry);
    }

    /// The controller has given everything that it wants here: from now on, what the agent holds besides is a stray.
    pub fn desired_complete(&mut self) {
        self.complete = true;
        self.report_strays();
    }

    /// Removes the member's copy, with the gate's permit. Pending until the agent answers, however often the stream breaks; but what was
    /// permitted while the agent was away, or on an earlier stream, or before a freeze, is not done: [`Event::Lapsed`] asks for another permit.
    pub fn request_removal(&mut self, key: Key, uid: String, epoch: u64, permit: v1::Permit) {
        self.withdraw(key, uid, epoch, Some(permit));
    }

    /// Leaves the member's copy in place, without the federation's marks. Pending until the agent answers. It takes the place of a
    /// removal of the same object that is pending: one that was not sent yet never is.
    pub fn release(&mut self, key: Key, uid: String, epoch: u64) {
        self.withdraw(key, uid, epoch, None);
    }

    /// The copy may stay as it is: a release that the agent was not told of on this stream is not told any more.
    pub fn take_back_release(&mut self, key: &Key, uid: &str) {
        let is_release =
            self.removals.get(key).is_some_and(|removal| removal.uid == uid && removal.permit.is_none());
        if is_release && let Some(at) = self.unsent_removals.iter().position(|unsent| unsent == key) {
            self.unsent_removals.remove(at);
            self.removals.remove(key);
        }
    }

    /// Nothing is to be removed by a permit of an older epoch: the federation froze after it was given.
    pub fn void_permits(&mut self, before: u64) {
        self.permits_from = self.permits_from.max(before);
        // So that a hub which is restored from a backup later goes on above it.
        self.set_epoch(before.saturating_sub(1));
        for (key, removal) in &mut self.removals {
            let void = removal.permit.as_ref().is_some_and(|permit| permit.epoch < self.permits_from);
            if void && !removal.lapsed {
                removal.lapsed = true;
                self.events.push_back(Event::Lapsed { key: key.clone(), uid: removal.uid.clone() });
            }
        }
    }

    /// What waits for the agent's answer about this object.
    pub fn withdrawal(&self, key: &Key) -> Option<PendingWithdrawal<'_>> {
        let removal = self.removals.get(key)?;
        let how = match (&removal.permit, removal.lapsed) {
            (None, _) => Withdrawal::Release,
            (Some(_), true) => Withdrawal::Lapsed,
            (Some(_), false) => Withdrawal::Removal,
        };
        Some(PendingWithdrawal { uid: &removal.uid, how })
    }

    /// Whether the agent may have given a copy up already: that is asked of it, on whichever stream, and it has neither answered nor listed the
    /// copy since.
    pub fn may_be_gone(&self, key: &Key, uid: &str) -> bool {
        let asked = self.removals.get(key).is_some_and(|removal| removal.uid == uid);
        asked && self.claim(key).is_none_or(|item| item.uid != uid)
    }

    /// Sends an Event that was posted to the federation. Kept while the agent is away, up to the backlog.
    pub fn deliver_event(&mut self, event: v1::DeliverEvent) {
        if event.event.len() > MANIFEST_LIMIT {
            self.events_dropped += 1;
            return;
        }
        if self.deliveries.len() >= self.config.event_backlog {
            self.deliveries.pop_front();
            self.events_dropped += 1;
        }
        self.deliveries.push_back(event);
    }

    /// Cuts the agent off, for a drill. Only one that is connected: what is cut off already needs no word.
    pub fn isolate(&mut self, drill: &str, lease_ms: u32) {
        if self.is_connected() && !self.control.iter().any(|message| matches!(message, Down::Isolate(_))) {
            self.control.push_front(Down::Isolate(v1::Isolate { drill: drill.to_owned(), lease_ms }));
        }
    }

    /// Has the agent look at an application as users do, for a drill. The newest word counts, and one that finds nobody is none.
    pub fn look(&mut self, look: v1::Look) {
        if self.is_connected() {
            self.control.retain(|message| !matches!(message, Down::Look(_)));
            self.control.push_back(Down::Look(look));
        }
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

    fn applied(&mut self, applied: v1::Applied) {
        let key = Key::from(applied.key.clone().unwrap_or_default());
        if let Some(entry) = self.table.get_mut(&key) {
            let wanted = &entry.desired;
            let answers = wanted.uid == applied.uid
                && wanted.generation == applied.generation
                && entry.sent_epoch <= applied.epoch;
            if answers && entry.sent == Sent::InFlight {
                if applied.reason == FENCED {
                    entry.sent = Sent::Fenced;
                } else {
                    entry.sent = Sent::Held;
                    entry.theirs = None;
                    entry.absent = false;
                }
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
}

fn enqueue(first: &mut VecDeque<Key>, then: &mut VecDeque<Key>, key: &Key) {
    if key.comes_first() { first.push_back(key.clone()) } else { then.push_back(key.clone()) }
}
