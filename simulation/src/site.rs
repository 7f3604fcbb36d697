//! A member with its agent: the real session, a disk, an executor, and the cluster itself.

use std::collections::{BTreeMap, VecDeque};

use federation_core::probe::{Ended, Failure};
use federation_prober::Probing;
use hub_protocol::Key;
use hub_protocol::agent::{self, Action, Desired, Entry, Facts, State, Vitals};
use proto::v1;

use crate::bug::Bug;
use crate::check::{Checks, Violation};
use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::hearing::Hearing;
use crate::jobs::Job;
use crate::member::Member;
use crate::pipe::Pipe;

/// The agent's process.
pub(crate) struct Agent {
    pub(crate) session: agent::Session,
    pub(crate) jobs: BTreeMap<Key, VecDeque<(u64, Job)>>,
    votes_at: u64,
}

/// The stream between an agent and the hub: each end has its own belief of it.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) up: Pipe<v1::AgentMessage>,
    pub(crate) down: Pipe<v1::HubMessage>,
    /// The hub's number of the stream, as long as the hub believes in it.
    pub(crate) hub: Option<u64>,
    /// The agent believes in it.
    pub(crate) agent: bool,
    /// It is cut, and each end will notice at its time.
    pub(crate) cut: bool,
    pub(crate) hub_notices: Option<u64>,
    pub(crate) agent_notices: Option<u64>,
    pub(crate) connecting_at: Option<u64>,
}

/// The site.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) clock: Clock,
    pub(crate) member: Member,
    pub(crate) link: Link,
    pub(crate) probing: Probing,
    pub(crate) probe_at: u64,
    /// Users reach nothing here until then.
    pub(crate) dark_until: u64,
    /// The member's API server answers nothing until then.
    pub(crate) api_down_until: u64,
    /// The agent's process starts then, if it is down.
    pub(crate) starts_at: u64,
    /// Messages of streams that are over.
    late: Vec<v1::HubMessage>,
    pub(crate) agent: Option<Agent>,
    pub(crate) disk: Disk,
    sessions: u64,
    /// Where the agent wants to meet, and what it says there.
    pub(crate) meets: Option<(v1::Word, Vec<v1::MeetingPoint>)>,
    /// Words on their way to the agent, by the server that they are from.
    pub(crate) words: Pipe<(String, Vec<v1::Word>)>,
    pub(crate) hearing: Hearing,
    pub(crate) acts: u64,
    pub(crate) applied: u64,
    pub(crate) removed: u64,
}

/// What a site's steps need of the world.
pub(crate) struct Around<'w> {
    pub(crate) now: u64,
    pub(crate) calm: bool,
    pub(crate) bug: Bug,
    pub(crate) dice: &'w mut Dice,
    pub(crate) checks: &'w mut Checks,
}

impl Site {
    pub(crate) fn new(index: usize, dice: &mut Dice) -> Self {
        let clock = Clock::new(dice);
        clock.enter(0);
        Self {
            name: format!("c{index}"),
            address: format!("192.0.2.{}", index + 1),
            clock,
            member: Member::default(),
            link: Link::default(),
            probing: Probing::still(dice.roll()),
            probe_at: 0,
            dark_until: 0,
            api_down_until: 0,
            starts_at: 0,
            late: Vec::new(),
            agent: None,
            disk: Disk::default(),
            sessions: 0,
            meets: None,
            words: Pipe::default(),
            hearing: Hearing::default(),
            acts: 0,
            applied: 0,
            removed: 0,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    pub(crate) fn frozen(&self) -> Option<&str> {
        self.agent.as_ref()?.session.frozen()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.agent
            .as_ref()
            .is_some_and(|agent| agent.session.is_connected() && agent.jobs.values().all(VecDeque::is_empty))
    }

    /// The process starts, from its disk.
    pub(crate) fn start(&mut self, around: &mut Around<'_>) {
        self.clock.enter(around.now);
        let now = self.clock.running(around.now);
        let mut entries: Vec<Entry> = self.disk.entries.values().cloned().collect();
        if around.bug == Bug::ForgetfulDisk {
            for entry in &mut entries {
                entry.epoch = 0;
            }
            self.disk.epoch = 0;
        }
        let mut desired = Desired::load(self.disk.epoch, self.disk.incarnation.clone(), entries);
        if let Some(acted) = &self.disk.plans.acted {
            desired.restore(acted);
        }
        let mut session = agent::Session::with_plans(
            now,
            agent::Config { cluster: self.name.clone(), ..agent::Config::default() },
            desired,
            self.disk.plans.clone(),
        );
        session.set_facts(now, Facts { agent_version: "1".into(), ..Facts::default() });
        session.set_vitals(now, Vitals { api_ok: true, ..Vitals::default() });
        self.member.forget_told();
        self.probing = Probing::still(around.dice.roll());
        self.agent = Some(Agent { session, jobs: BTreeMap::new(), votes_at: 0 });
        around.checks.note(around.now, || format!("{}: the agent starts", self.name));
    }

    /// The process is killed.
    pub(crate) fn kill(&mut self, now: u64, down_ms: u64) {
        self.agent = None;
        self.meets = None;
        self.words.take();
        self.starts_at = now + down_ms;
        self.link.agent = false;
        self.link.connecting_at = None;
        // The hub's machine may hear of it, or not.
        self.cut(now, 0, down_ms / 2);
    }

    /// The stream breaks, and each end notices after so long.
    pub(crate) fn cut(&mut self, now: u64, agent_after: u64, hub_after: u64) {
        let link = &mut self.link;
        link.cut = true;
        self.late.extend(link.down.take());
        link.up.take();
        link.agent_notices.get_or_insert(now + agent_after);
        link.hub_notices.get_or_insert(now + hub_after);
    }

    /// The agent has a stream again.
    pub(crate) fn connected(&mut self, now: u64, hub: u64) {
        self.link = Link { hub: Some(hub), agent: true, ..Link::default() };
        self.sessions += 1;
        let session = format!("{}-{}", self.name, self.sessions);
        if let Some(agent) = &mut self.agent {
            agent.session.connected(self.clock.running(now), session);
        }
    }

    /// The agent's stream, or its attempt to get one, failed.
    pub(crate) fn disconnected(&mut self, now: u64, random: u64) {
        self.link.agent = false;
        self.link.agent_notices = None;
        self.link.connecting_at = None;
        if let Some(agent) = &mut self.agent {
            agent.session.disconnected(self.clock.running(now), random);
        }
    }

    /// Lets the agent and its member go on.
    pub(crate) fn step(&mut self, hub_to_site: bool, around: &mut Around<'_>) -> Result<(), Violation> {
        let now = around.now;
        let statuses = self.member.evolve(now, around.dice);
        if self.agent.is_none() {
            if now < self.starts_at {
                // Nobody tells: it is told when an agent is there.
                if !statuses.is_empty() {
                    self.member.forget_told();
                }
                return Ok(());
            }
            self.start(around);
        }
        if around.bug == Bug::LateMessages && around.dice.chance(100) {
            self.hear_late(around)?;
        }
        if self.link.agent_notices.is_some_and(|at| now >= at) {
            let random = around.dice.roll();
            self.disconnected(now, random);
        }
        let clock = self.clock.running(now);
        let services = self.member.services(now, &self.address);
        while self.link.agent
            && let Some(message) = self.link.down.receive(now, hub_to_site)
        {
            self.hearing.note(now);
            self.hear(clock, message, around)?;
        }
        let Some(agent) = &mut self.agent else { return Ok(()) };
        while let Some((instance, words)) = self.words.receive(now, true) {
            agent.session.met(clock, &instance, words);
        }
        for status in statuses {
            agent.session.status(status);
        }
        for service in services {
            agent.session.service(service);
        }
        let api_ok = now >= self.api_down_until;
        agent.session.set_vitals(clock, Vitals { api_ok, ..Vitals::default() });
        if now >= agent.votes_at {
            agent.votes_at = now + 1000;
            self.clock.enter(now);
            agent.session.set_votes(clock, self.probing.votes());
        }
        agent.session.tick(clock);
        self.act(around);
        self.work(around)
    }

    fn hear(
        &mut self,
        clock: u64,
        message: v1::HubMessage,
        around: &mut Around<'_>,
    ) -> Result<(), Violation> {
        let Some(agent) = &mut self.agent else { return Ok(()) };
        if around.bug == Bug::AbsenceRemoves
            && let Some(v1::hub_message::Message::Digest(question)) = &message.message
            && question.objects < agent.session.desired().digest().objects
            && let Some(key) = self.member.copies.keys().next().cloned()
        {
            return self.delete(&key, &self.member.copies[&key].uid.clone(), u64::MAX, around);
        }
        agent.session.handle_message(clock, message);
        Ok(())
    }

    fn hear_late(&mut self, around: &mut Around<'_>) -> Result<(), Violation> {
        if self.late.is_empty() {
            return Ok(());
        }
        let message = self.late.remove(0);
        let Some(v1::hub_message::Message::Apply(apply)) = message.message else { return Ok(()) };
        let Some(key) = apply.key.map(Key::from) else { return Ok(()) };
        let entry = Entry {
            key,
            uid: apply.uid,
            generation: apply.generation,
            epoch: apply.epoch,
            manifest: apply.manifest,
            conflict: v1::ConflictPolicy::Refuse,
            lease_ms: apply.lease_ms,
            stopped: false,
            floor: 0,
            state: State::Held,
        };
        self.apply(entry, around)
    }

    /// What the session wants done: first what must be on disk, then the rest. A kill may come in between.
    fn act(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let Some(agent) = &mut self.agent else { return };
        let (mut persists, mut actions) = (Vec::new(), Vec::new());
        while let Some(action) = agent.session.poll_action() {
            match action {
                Action::Persist(persist) => persists.push(persist),
                other => actions.push(other),
            }
        }
        if !around.calm && !persists.is_empty() && around.checks.may_kill_agents && around.dice.chance(4) {
            let written = around.dice.chance(500);
            around.checks.note(now, || {
                format!("{}: the agent is killed as it writes (written: {written})", self.name)
            });
            if written {
                for persist in persists {
                    self.disk.put(persist);
                }
            }
            self.kill(now, around.dice.between(100, 3_000));
            return;
        }
        for persist in persists {
            self.disk.put(persist);
        }
        for action in actions {
            match action {
                Action::Connect => self.link.connecting_at = Some(now + around.dice.between(1, 200)),
                Action::Disconnect { reason } => {
                    around.checks.note(now, || format!("{}: {reason}", self.name));
                    let hub_after = around.dice.below(500);
                    self.cut(now, 0, hub_after);
                    let random = around.dice.roll();
                    self.disconnected(now, random);
                }
                Action::Apply(entry) => self.submit(Job::Apply(entry), around),
                Action::Delete { key, uid, epoch } => {
                    self.submit(Job::Withdraw { key, uid, epoch, delete: true }, around);
                }
                Action::Unmark { key, uid, epoch } => {
                    self.submit(Job::Withdraw { key, uid, epoch, delete: false }, around);
                }
                Action::Freeze { reason } => {
                    around.checks.note(now, || format!("{}: removals are frozen: {reason}", self.name));
                }
                Action::Probe(probes) => {
                    self.clock.enter(now);
                    self.probing.set_targets(federation_prober::targets(&probes));
                }
                Action::Meet { word, servers } => self.meets = Some((word, servers)),
                Action::Acted { reason } => {
                    around.checks.note(now, || format!("{}: acts on its plans: {reason}", self.name));
                    self.acts += 1;
                }
                Action::Persist(_)
                | Action::Look(_)
                | Action::Thaw
                | Action::Void { .. }
                | Action::Agreed(_)
                | Action::PostEvent { .. }
                | Action::Isolate { .. }
                | Action::Rejoin { .. } => {}
            }
        }
    }

    /// What the agent sends now.
    pub(crate) fn transmit(&mut self) -> Option<v1::AgentMessage> {
        if !self.link.agent {
            return None;
        }
        self.agent.as_mut()?.session.poll_transmit()
    }

    /// Makes the probes that are due; `reach` says whether users here would be served.
    pub(crate) fn probe(&mut self, now: u64, reach: impl Fn(&str) -> bool) {
        self.clock.enter(now);
        self.probe_at = probe(&self.probing, now, reach);
    }
}

/// Makes the probes that are due at a machine whose clock is set; says when the next are.
pub(crate) fn probe(probing: &Probing, now: u64, reach: impl Fn(&str) -> bool) -> u64 {
    let (attempts, wait) = probing.poll();
    for attempt in &attempts {
        let served = reach(&attempt.target.key.cluster);
        let outcome = if served { Ok(20_000) } else { Err(Failure::Silence("no answer".to_owned())) };
        probing.ended(attempt, Ended { outcome, certificate_not_after: None });
    }
    if attempts.is_empty() { now + wait.unwrap_or(1000).min(1000) } else { now }
}
