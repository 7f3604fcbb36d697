//! One world.

mod controller;
mod member;
mod pipe;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hub_protocol::agent::{self, Action};
use hub_protocol::{Key, hub};
use proto::v1;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::member::Disk;
use self::pipe::Pipe;

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

#[derive(Clone, Debug, PartialEq)]
struct Copy {
    uid: String,
    epoch: u64,
    generation: i64,
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

impl World {
    pub(crate) fn new(seed: u64, bug: Bug) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            bug,
            now: 0,
            calm: false,
            hub: controller::session("store"),
            epoch: 1,
            incarnation: "store".into(),
            templates: BTreeMap::new(),
            removals: BTreeMap::new(),
            froze_at: 0,
            backup: None,
            hub_needs_reload: true,
            agent: member::session(0, agent::Desired::default()),
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
                self.hub = controller::session(&self.incarnation);
                self.reload_templates();
            }
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
}
