//! One world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use hub_protocol::agent::{self, Action, Entry, Outcome, Persist};
use hub_protocol::{FENCED, Key, hub};
use proto::v1::{self, ApplyResult, ConflictPolicy, RemoveResult};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A bug planted in the world around the machines, to see that the checks catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// The agent deletes what a digest's question does not cover.
    RemoveByAbsence,
    /// Messages reach the member without the fence, and late ones of an older stream too.
    NoFence,
    /// The hub's controller forgets pending removals when the stream breaks.
    LostRemovals,
}

const STEP_MS: u64 = 50;
const FAULTY_STEPS: u64 = 250;
/// Twenty seconds of calm are longer than every timeout and backoff of the configuration below.
const CALM_STEPS: u64 = 1200;
const OBJECTS: u64 = 6;

#[derive(Clone, Debug, PartialEq)]
struct Copy {
    uid: String,
    epoch: u64,
    generation: i64,
}

#[derive(Default)]
struct Disk {
    entries: BTreeMap<Key, Entry>,
    epoch: u64,
    incarnation: String,
}

/// One way of a stream: messages with their time of arrival, in order.
struct Pipe<T> {
    queue: VecDeque<(u64, T)>,
    stalled_until: u64,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), stalled_until: 0 }
    }
}

impl<T> Pipe<T> {
    fn send(&mut self, at: u64, message: T) {
        let at = self.queue.back().map_or(at, |(last, _)| at.max(*last));
        self.queue.push_back((at, message));
    }

    fn receive(&mut self, now: u64) -> Option<T> {
        if now < self.stalled_until || self.queue.front()?.0 > now {
            return None;
        }
        self.queue.pop_front().map(|(_, message)| message)
    }
}

/// The store as it was: epoch, templates, removals.
type Backup = (u64, BTreeMap<Key, Copy>, BTreeMap<Key, (String, u64)>);

pub(crate) struct World {
    random: StdRng,
    bug: Bug,
    now: u64,
    calm: bool,
    // The hub's side.
    hub: hub::Session,
    epoch: u64,
    incarnation: String,
    templates: BTreeMap<Key, Copy>,
    removals: BTreeMap<Key, (String, u64)>,
    // The epoch at which the federation froze last.
    froze_at: u64,
    backup: Option<Backup>,
    hub_needs_reload: bool,
    // The agent's side.
    agent: agent::Session,
    disk: Disk,
    member: BTreeMap<Key, Copy>,
    jobs: BTreeMap<Key, VecDeque<(u64, Action)>>,
    // Between them.
    up: Pipe<v1::AgentMessage>,
    down: Pipe<v1::HubMessage>,
    connected: bool,
    connecting_at: Option<u64>,
    partition_until: u64,
    stale: Vec<v1::HubMessage>,
    // What the controller wants probed, what the agent was told to probe, the number of its newest votes, and of those that the hub heard.
    probes: Vec<v1::Probe>,
    probed: Vec<v1::Probe>,
    voted: u32,
    heard: u32,
    // The checks.
    permitted: BTreeSet<(String, u64)>,
    serial: u64,
    pub(crate) applied: u64,
    pub(crate) removed: u64,
    pub(crate) restarts: u64,
    trace: VecDeque<String>,
}

fn key(number: u64) -> Key {
    Key {
        version: "v1".into(),
        kind: "ConfigMap".into(),
        resource: "configmaps".into(),
        namespace: "n".into(),
        name: format!("o{number}"),
        ..Key::default()
    }
}

fn hub_session(incarnation: &str) -> hub::Session {
    hub::Session::new(hub::Config {
        incarnation: incarnation.into(),
        window: 2,
        digest_interval_ms: 1_000,
        silence_ms: 4_000,
        heartbeat_ms: 500,
        ..hub::Config::default()
    })
}

fn agent_session(now: u64, desired: agent::Desired) -> agent::Session {
    let config = agent::Config {
        lost_after: 3,
        greeting_ms: 2_000,
        backoff_cap_ms: 2_000,
        ..agent::Config::default()
    };
    agent::Session::new(now, config, desired)
}

impl World {
    pub(crate) fn new(seed: u64, bug: Bug) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            bug,
            now: 0,
            calm: false,
            hub: hub_session("store"),
            epoch: 1,
            incarnation: "store".into(),
            templates: BTreeMap::new(),
            removals: BTreeMap::new(),
            froze_at: 0,
            backup: None,
            hub_needs_reload: true,
            agent: agent_session(0, agent::Desired::default()),
            disk: Disk::default(),
            member: BTreeMap::new(),
            jobs: BTreeMap::new(),
            up: Pipe::default(),
            down: Pipe::default(),
            connected: false,
            connecting_at: None,
            partition_until: 0,
            stale: Vec::new(),
            probes: Vec::new(),
            probed: Vec::new(),
            voted: 0,
            heard: 0,
            permitted: BTreeSet::new(),
            serial: 0,
            applied: 0,
            removed: 0,
            restarts: 0,
            trace: VecDeque::new(),
        }
    }

    pub(crate) fn log(&self) -> String {
        self.trace.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    fn note(&mut self, text: impl Into<String>) {
        if self.trace.len() >= 120 {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>6} {}", self.now, text.into()));
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.random.random_range(0..1000) < per_mille
    }

    /// Runs the faulty part and then the calm one.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..FAULTY_STEPS {
            self.fault();
            self.decide();
            self.step()?;
        }
        self.calm = true;
        self.partition_until = 0;
        self.up.stalled_until = 0;
        self.down.stalled_until = 0;
        for _ in 0..CALM_STEPS {
            self.step()?;
            if self.agreed() {
                return Ok(());
            }
        }
        Err(format!(
            "did not converge: templates {:?}, member {:?}, removals {:?}, pending {}, frozen {:?}",
            self.templates,
            self.member,
            self.removals,
            self.hub.pending(),
            self.agent.frozen()
        ))
    }

    fn agreed(&self) -> bool {
        self.removals.is_empty()
            && self.probed == self.probes
            && self.heard == self.voted
            && self.hub.pending() == 0
            && self.hub.is_connected()
            && self.jobs.values().all(VecDeque::is_empty)
            && self.templates.len() == self.templates.iter().filter(|(key, wanted)| {
                self.member.get(*key).is_some_and(|copy| copy.uid == wanted.uid && copy.generation == wanted.generation)
            }).count()
            // A hub restored from a copy does not know what was made since: those stay, as strays.
            && (self.backup.is_none() || self.member.keys().all(|key| self.templates.contains_key(key) || self.agent.desired().get(key).is_some()))
            && (self.backup.is_some() || self.member.len() == self.templates.len())
    }

    fn fault(&mut self) {
        if self.connected && self.chance(8) {
            self.break_stream("the stream breaks");
        }
        if self.chance(4) {
            self.partition_until = self.now + self.random.random_range(100..3_000);
            self.break_stream("a partition");
        }
        if self.chance(4) {
            self.up.stalled_until = self.now + self.random.random_range(100..6_000);
        }
        if self.chance(4) {
            self.down.stalled_until = self.now + self.random.random_range(100..6_000);
        }
        if self.chance(8) {
            self.restart_hub();
        }
        if self.chance(8) {
            self.restart_agent();
        }
        if self.chance(8) {
            self.note("the federation freezes for a moment");
            self.froze_at = self.epoch;
            self.hub.void_permits(self.epoch + 1);
        }
        if self.chance(4) && self.backup.is_none() && self.serial.is_multiple_of(3) {
            self.backup = Some((self.epoch, self.templates.clone(), self.removals.clone()));
        } else if self.backup.is_some() && self.chance(4) {
            self.restore_hub();
        }
    }

    fn break_stream(&mut self, why: &str) {
        self.note(why);
        let late = std::mem::take(&mut self.down).queue.into_iter().map(|(_, message)| message);
        self.stale.extend(late);
        self.up = Pipe::default();
        self.connecting_at = None;
        if std::mem::replace(&mut self.connected, false) {
            self.hub.disconnected();
            let random = self.random.random();
            self.agent.disconnected(self.now, random);
            if self.bug == Bug::LostRemovals {
                self.hub = hub_session(&self.incarnation);
                self.reload_templates();
            }
        }
    }

    fn restart_hub(&mut self) {
        self.restarts += 1;
        self.break_stream("the hub restarts");
        self.hub = hub_session(&self.incarnation);
        // It does not remember, but holds no permits either.
        self.froze_at = 0;
        self.hub_needs_reload = true;
    }

    /// The hub's store goes back to an older copy.
    fn restore_hub(&mut self) {
        let Some((epoch, templates, removals)) = self.backup.clone() else { return };
        self.restart_hub();
        self.note("the hub's store is an older copy");
        self.epoch = epoch;
        self.templates = templates;
        self.removals = removals;
    }

    fn restart_agent(&mut self) {
        self.restarts += 1;
        self.break_stream("the agent restarts");
        self.jobs.clear();
        let desired = agent::Desired::load(
            self.disk.epoch,
            self.disk.incarnation.clone(),
            self.disk.entries.values().cloned(),
        );
        self.agent = agent_session(self.now, desired);
        self.probed.clear();
        self.vote();
    }

    /// The agent's prober has news.
    fn vote(&mut self) {
        self.voted += 1;
        let cluster = self.probed.first().map(|probe| probe.cluster.clone()).unwrap_or_default();
        let vote = v1::ProbeVote { cluster, failures: self.voted, ..v1::ProbeVote::default() };
        self.agent.set_votes(self.now, vec![vote]);
    }

    /// The controller decides something.
    fn decide(&mut self) {
        if self.hub_needs_reload {
            if self.chance(200) {
                self.reload();
            }
            return;
        }
        if self.chance(30) {
            let cluster = format!("peer-{}", self.random.random_range(0..3));
            self.probes = vec![v1::Probe { cluster, ..v1::Probe::default() }];
            self.hub.set_probes(self.probes.clone());
        }
        if !self.chance(120) {
            return;
        }
        let key = key(self.random.random_range(0..OBJECTS));
        self.epoch += 1;
        self.serial += 1;
        match self.templates.get(&key).cloned() {
            None if self.removals.contains_key(&key) => {}
            None => {
                let copy = Copy { uid: format!("uid-{}", self.serial), epoch: self.epoch, generation: 1 };
                self.want(&key, copy);
            }
            Some(copy) if self.chance(300) => self.remove(&key, copy.uid),
            Some(copy) => {
                self.want(&key, Copy { epoch: self.epoch, generation: copy.generation + 1, ..copy });
            }
        }
    }

    fn want(&mut self, key: &Key, copy: Copy) {
        self.note(format!("want {key} {copy:?}"));
        self.templates.insert(key.clone(), copy.clone());
        self.hub.set_desired(desired(key, &copy));
    }

    fn remove(&mut self, key: &Key, uid: String) {
        self.note(format!("remove {key} {uid} epoch {}", self.epoch));
        self.templates.remove(key);
        self.removals.insert(key.clone(), (uid.clone(), self.epoch));
        self.permitted.insert((uid.clone(), self.epoch));
        let permit = v1::Permit { id: "p".into(), epoch: self.epoch, reason: "deleted".into() };
        self.hub.request_removal(key.clone(), uid, self.epoch, permit);
    }

    fn reload(&mut self) {
        self.hub_needs_reload = false;
        self.reload_templates();
        for (key, (uid, _)) in self.removals.clone() {
            self.epoch += 1;
            self.remove(&key, uid);
        }
        self.hub.desired_complete();
    }

    fn reload_templates(&mut self) {
        self.hub.set_epoch(self.epoch);
        self.hub.set_probes(self.probes.clone());
        for (key, copy) in &self.templates {
            self.hub.set_desired(desired(key, copy));
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += STEP_MS;
        if self.calm && self.hub_needs_reload {
            self.reload();
        }
        self.connect();
        if !self.calm && self.chance(100) {
            self.vote();
        }
        self.hub.tick(self.now);
        self.agent.tick(self.now);
        self.hear()?;
        self.act();
        self.learn()?;
        self.speak()?;
        self.carry_out()
    }

    fn connect(&mut self) {
        if self.connecting_at.is_some_and(|at| self.now >= at) {
            self.connecting_at = None;
            if self.now < self.partition_until {
                let random = self.random.random();
                self.agent.disconnected(self.now, random);
                return;
            }
            self.note("connected");
            self.connected = true;
            self.serial += 1;
            self.agent.connected(self.now, format!("session-{}", self.serial));
            self.hub.reconnected(self.now);
        }
    }

    fn hear(&mut self) -> Result<(), String> {
        if self.bug == Bug::NoFence && !self.stale.is_empty() && self.chance(100) {
            let message = self.stale.remove(0);
            if let Some(v1::hub_message::Message::Apply(apply)) = message.message {
                let copy = Copy { uid: apply.uid, epoch: apply.epoch, generation: apply.generation };
                self.write(&apply.key.unwrap().into(), copy)?;
            }
        }
        while let Some(message) = self.down.receive(self.now) {
            if self.bug == Bug::RemoveByAbsence
                && let Some(v1::hub_message::Message::Digest(question)) = &message.message
                && question.objects < self.agent.desired().digest().objects
                && let Some((key, copy)) = self.member.pop_first()
            {
                self.check_removal(&key, &copy.uid, u64::MAX)?;
            }
            self.agent.handle_message(self.now, message);
        }
        while let Some(message) = self.up.receive(self.now) {
            self.hub.handle_message(self.now, message);
        }
        Ok(())
    }

    fn speak(&mut self) -> Result<(), String> {
        while let Some(message) = self.hub.poll_transmit() {
            if let Some(v1::hub_message::Message::Remove(remove)) = &message.message
                && remove.permit.as_ref().is_none_or(|permit| permit.epoch <= self.froze_at)
            {
                return Err(format!(
                    "a removal of epoch {} was sent after a freeze at {}",
                    remove.epoch, self.froze_at
                ));
            }
            let at = self.now + self.random.random_range(0..200);
            if self.connected {
                self.down.send(at, message);
            }
        }
        while let Some(message) = self.agent.poll_transmit() {
            let at = self.now + self.random.random_range(0..200);
            if self.connected {
                self.up.send(at, message);
            }
        }
        Ok(())
    }

    fn act(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::Connect => self.connecting_at = Some(self.now + self.random.random_range(0..300)),
                Action::Disconnect { .. } => {
                    let was = self.connected;
                    self.break_stream("the agent gives the stream up");
                    if !was {
                        let random = self.random.random();
                        self.agent.disconnected(self.now, random);
                    }
                }
                Action::Persist(Persist::Put(entry)) => {
                    self.disk.entries.insert(entry.key.clone(), entry);
                }
                Action::Persist(Persist::Forget(key)) => {
                    self.disk.entries.remove(&key);
                }
                Action::Persist(Persist::Meta { epoch, incarnation }) => {
                    self.disk.epoch = epoch;
                    self.disk.incarnation = incarnation;
                }
                Action::Apply(Entry { ref key, .. })
                | Action::Delete { ref key, .. }
                | Action::Unmark { ref key, .. } => {
                    let (key, at) = (key.clone(), self.now + self.random.random_range(0..400));
                    self.jobs.entry(key).or_default().push_back((at, action));
                }
                Action::Probe(probes) => self.probed = probes,
                // What an agent does while the hub is away has tests of its own.
                Action::Persist(Persist::Plans(_))
                | Action::Look(_)
                | Action::Meet { .. }
                | Action::Agreed(_)
                | Action::Acted { .. }
                | Action::PostEvent { .. }
                | Action::Freeze { .. }
                | Action::Thaw
                | Action::Void { .. }
                | Action::Isolate { .. }
                | Action::Rejoin { .. } => {}
            }
        }
    }

    fn learn(&mut self) -> Result<(), String> {
        while let Some(event) = self.hub.poll_event() {
            match event {
                hub::Event::Connected(hello) if hello.epoch > self.epoch => {
                    // Restored from an older copy: everything is decided anew with newer epochs.
                    self.note(format!("the hub is behind: epoch {} against {}", self.epoch, hello.epoch));
                    self.epoch = hello.epoch + 1;
                    for copy in self.templates.values_mut() {
                        self.epoch += 1;
                        copy.epoch = self.epoch;
                    }
                    if !self.hub_needs_reload {
                        self.reload();
                    }
                }
                hub::Event::Removed(removed) => {
                    let key = Key::from(removed.key.clone().unwrap());
                    self.note(format!("removed {key} {:?} {}", removed.result(), removed.message));
                    if removed.result() != RemoveResult::Refused {
                        self.removals.remove(&key);
                    } else if self.removals.get(&key).is_some_and(|(uid, _)| *uid == removed.uid) {
                        // Decided again, with a new permit.
                        self.epoch += 1;
                        self.remove(&key, removed.uid);
                    }
                }
                hub::Event::Lapsed { key, uid }
                    if self.removals.get(&key).is_some_and(|(wanted, _)| *wanted == uid) =>
                {
                    self.epoch += 1;
                    self.remove(&key, uid);
                }
                // The store was an older copy, but other decisions have overtaken the agent's epoch meanwhile.
                hub::Event::Applied(applied) if applied.reason == FENCED => {
                    let key = Key::from(applied.key.unwrap());
                    if let Some(copy) =
                        self.templates.get(&key).cloned().filter(|copy| copy.uid == applied.uid)
                    {
                        self.epoch += 1;
                        self.want(&key, Copy { epoch: self.epoch, ..copy });
                    }
                }
                hub::Event::Heartbeat(heartbeat) => {
                    let newest = heartbeat.votes.first().map_or(0, |vote| vote.failures);
                    if newest < self.heard {
                        return Err(format!("votes {newest} were heard after {}", self.heard));
                    }
                    self.heard = newest;
                }
                hub::Event::Lost { .. } => {
                    let was = self.connected;
                    self.break_stream("the hub gives the stream up");
                    debug_assert!(was);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), String> {
        let keys: Vec<Key> = self.jobs.keys().cloned().collect();
        for key in keys {
            while let Some((at, action)) = self.jobs.get_mut(&key).and_then(VecDeque::pop_front) {
                let fails = !self.calm && self.chance(100);
                if at > self.now || fails {
                    self.jobs.get_mut(&key).unwrap().push_front((at.max(self.now), action));
                    break;
                }
                self.perform(action)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Apply(entry) => {
                // Now and then the member says no: a quota is full, a kind is not installed yet. Not to the successor of a copy of another
                // uid: the template's finalizer keeps a name from being used again while such a copy stands, and this world has none.
                let other = self.member.get(&entry.key).is_some_and(|copy| copy.uid != entry.uid);
                let refused = !self.calm && !other && self.chance(200);
                let result = if refused { ApplyResult::Refused } else { ApplyResult::Applied };
                let copy = Copy { uid: entry.uid.clone(), epoch: entry.epoch, generation: entry.generation };
                if !refused {
                    self.write(&entry.key, copy)?;
                }
                self.agent.applied(
                    self.now,
                    v1::Applied {
                        key: Some((&entry.key).into()),
                        uid: entry.uid,
                        generation: entry.generation,
                        epoch: entry.epoch,
                        result: result.into(),
                        ..v1::Applied::default()
                    },
                );
            }
            Action::Delete { key, uid, epoch } => {
                // As the executor does: only the very copy.
                if self.member.get(&key).is_some_and(|copy| copy.uid == uid) {
                    self.check_removal(&key, &uid, epoch)?;
                    self.member.remove(&key);
                    self.removed += 1;
                    self.note(format!("member deletes {key}"));
                }
                let outcome = Outcome { result: RemoveResult::Removed, message: String::new() };
                self.agent.withdrawn(&key, &uid, epoch, outcome);
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, key: &Key, copy: Copy) -> Result<(), String> {
        self.applied += 1;
        self.note(format!("member applies {key} {copy:?}"));
        if let Some(old) = self.member.get(key) {
            let older = if old.uid == copy.uid {
                (copy.epoch, copy.generation) < (old.epoch, old.generation)
            } else {
                copy.epoch < old.epoch
            };
            if older {
                return Err(format!("{key}: older {copy:?} was applied over {old:?}"));
            }
        }
        self.member.insert(key.clone(), copy);
        Ok(())
    }

    fn check_removal(&self, key: &Key, uid: &str, epoch: u64) -> Result<(), String> {
        if self.permitted.contains(&(uid.to_owned(), epoch)) {
            Ok(())
        } else {
            Err(format!("{key}: uid {uid} was removed at epoch {epoch} without a permit"))
        }
    }
}

fn desired(key: &Key, copy: &Copy) -> hub::Desired {
    hub::Desired {
        key: key.clone(),
        uid: copy.uid.clone(),
        generation: copy.generation,
        epoch: copy.epoch,
        manifest: Bytes::from(format!("{{\"generation\":{}}}", copy.generation)),
        conflict: ConflictPolicy::Refuse,
        lease_ms: 0,
    }
}
