//! The agent's session: connects, keeps the desired state, answers, and tells its executor what to do.
//!
//! A sans-IO state machine: [`Session`] takes messages, outcomes and the time, and returns messages and [`Action`]s. `downstream` handles the hub's
//! messages, `upstream` the executor's reports.

mod downstream;
mod types;
mod upstream;

use std::collections::VecDeque;

use proto::v1::{self, agent_message::Message as Up, hub_message::Message as Down};

use super::heartbeats::Heartbeats;
use super::isolation::Isolation;
use super::leases::Leases;
use super::outbox::Outbox;
use super::refusals::Refusals;
use super::survivors::Survivors;
use super::{Backoff, Desired, Entry, State};
use crate::HEARTBEAT_MS;

pub use types::{Action, Config, Facts, Outcome, Persist, Vitals};

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

/// Least time between two heartbeats.
const HURRY_MS: u64 = 50;

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
    isolation: Isolation,
    survivors: Survivors,
    actions: VecDeque<Action>,
    heartbeat_ms: u64,
    beat_at: u64,
    beaten_at: u64,
    heartbeats: Heartbeats,
    rtt_micros: u32,
    hub_epoch: u64,
    hub_incarnation: String,
    frozen: Option<String>,
    /// Permits of older epochs are void.
    permits_from: u64,
    /// The newest votes, and when they were given.
    votes: (u64, Vec<v1::ProbeVote>),
}

impl Session {
    /// Begins with what the disk holds: its objects are applied at once, hub or no hub, and removals that were under way go on.
    pub fn new(now: u64, config: Config, desired: Desired) -> Self {
        Self::with_plans(now, config, desired, v1::KeptPlans::default())
    }

    /// The same, with the contingency plans that the disk holds. What was done by them stands in the desired state already, by
    /// [`Desired::restore`].
    pub fn with_plans(now: u64, config: Config, desired: Desired, kept: v1::KeptPlans) -> Self {
        let survivors = Survivors::new(now, config.cluster.clone(), kept);
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
            isolation: Isolation::default(),
            survivors,
            actions,
            heartbeat_ms: HEARTBEAT_MS.into(),
            beat_at: 0,
            beaten_at: 0,
            heartbeats: Heartbeats::default(),
            rtt_micros: 0,
            hub_epoch: 0,
            hub_incarnation: String::new(),
            frozen: None,
            permits_from: 0,
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
            self.hurry(now);
        }
        self.facts = facts;
    }

    /// What to say of the member in the next heartbeat. A change of `api_ok` is told at once.
    pub fn set_vitals(&mut self, now: u64, vitals: Vitals) {
        if vitals.api_ok != self.vitals.api_ok {
            self.hurry(now);
        }
        self.vitals = vitals;
    }

    /// What this agent sees of other members, whole; their ages as of `now`. A vote that turned, or a first failure, is told at once.
    pub fn set_votes(&mut self, now: u64, votes: Vec<v1::ProbeVote>) {
        let told = |votes: &[v1::ProbeVote]| -> Vec<_> {
            votes.iter().map(|vote| (vote.state, vote.failures > 0)).collect()
        };
        if told(&votes) != told(&self.votes.1) {
            self.hurry(now);
        }
        self.survivors.see(now, &votes);
        self.votes = (now, votes);
    }

    /// What everybody said who left a word at a server of the council.
    pub fn met(&mut self, now: u64, instance: &str, words: Vec<v1::Word>) {
        self.survivors.met(now, instance, words);
    }

    /// The stream is open. `session` is a fresh random id: answers to an older stream are known by theirs.
    pub fn connected(&mut self, now: u64, session: String) {
        self.outbox.restart();
        self.session.clone_from(&session);
        self.heartbeats = Heartbeats::default();
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
            isolable: true,
            plans_epoch: self.survivors.held().0,
            plans_digest: self.survivors.held().1,
            acted: self.survivors.acted().cloned(),
        }));
    }

    /// The drill that cuts this agent off, if one does.
    pub fn isolated(&self) -> Option<&str> {
        self.isolation.drill()
    }

    /// What the hub said of the drill that cuts this agent off: the lease in milliseconds, or that there is none any more.
    pub fn held(&mut self, now: u64, drill: &str, lease_ms: Option<u64>) {
        self.isolation.answered(now, drill, lease_ms);
    }

    /// The stream, or the attempt to open one, failed. `random` spreads the next attempts of many agents.
    pub fn disconnected(&mut self, now: u64, random: u64) {
        self.link = Link::Down { retry_at: now + self.backoff.next(random) };
    }

    /// The hub refuses this agent for a reason that a person must resolve: it is dialled again, but after a longer time.
    pub fn refused(&mut self, now: u64, random: u64) {
        let wait_ms = self.config.refused_ms.max(1);
        self.link = Link::Down { retry_at: now + wait_ms + random % wait_ms };
    }

    /// Takes a message of the present stream.
    pub fn handle_message(&mut self, now: u64, message: v1::HubMessage) {
        let Some(message) = message.message else { return };
        match (self.link, message) {
            (Link::Greeting { .. }, Down::Welcome(welcome)) => self.welcomed(now, &welcome),
            (Link::Up, message) => self.receive(now, message),
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
        self.survive(now);
        if let Some(drill) = self.isolation.over(now) {
            self.actions.push_back(Action::Rejoin { drill });
            if matches!(self.link, Link::Down { .. }) {
                self.link = Link::Down { retry_at: now };
            }
        }
        match self.link {
            Link::Down { .. } if self.isolation.drill().is_some() => {}
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
                let lost_after = self.config.lost_after;
                if self.heartbeats.are_lost(now, lost_after, u64::from(lost_after) * self.heartbeat_ms) {
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
        let own =
            [self.refusals.next_deadline(), self.leases.next_deadline(), self.survivors.next_deadline()];
        own.into_iter().chain([self.link_deadline()]).flatten().min()
    }

    fn link_deadline(&self) -> Option<u64> {
        match self.link {
            Link::Down { .. } if self.isolation.drill().is_some() => self.isolation.deadline(),
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

    /// The next heartbeat carries what cannot wait. What turns just after one goes with what else turns meanwhile: each carries all votes, and
    /// of a whole site's fall there are many within a second.
    fn hurry(&mut self, now: u64) {
        self.beat_at = self.beat_at.min(now.max(self.beaten_at + HURRY_MS));
    }

    fn beat(&mut self, now: u64) {
        self.beaten_at = now;
        let sequence = self.heartbeats.next(now);
        self.leases.beat(sequence, now);
        self.beat_at = now + self.heartbeat_ms;
        let digest = self.desired.digest();
        let (given, votes) = &self.votes;
        let aged = u32::try_from(now.saturating_sub(*given)).unwrap_or(u32::MAX);
        let aged =
            |vote: &v1::ProbeVote| v1::ProbeVote { age_ms: vote.age_ms.saturating_add(aged), ..vote.clone() };
        let votes = votes.iter().map(aged).collect();
        let apis = if std::mem::take(&mut self.apis_changed) { self.facts.apis.clone() } else { Vec::new() };
        self.outbox.control.push_back(Up::Heartbeat(v1::Heartbeat {
            sequence,
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
            plans_epoch: self.survivors.held().0,
            plans_digest: self.survivors.held().1,
            meets: self.survivors.meets(now),
        }));
    }

    /// Meets the other voters, and acts on plans where they agree that the hub is away.
    fn survive(&mut self, now: u64) {
        if let Some((word, servers)) = self.survivors.meet(now) {
            self.actions.push_back(Action::Meet { word, servers });
        }
        // Who is cut off on purpose does not take that for the hub's end.
        if self.isolation.drill().is_some() {
            return;
        }
        if let Some(agreement) = self.survivors.news(now) {
            self.actions.push_back(Action::Agreed(agreement));
        }
        let Some(act) = self.survivors.act(now, &self.desired) else { return };
        self.persist_plans();
        self.actions.push_back(Action::Acted { reason: act.reason });
        for (key, floor) in act.floors {
            if let Some(entry) = self.desired.set_floor(&key, floor) {
                self.actions.push_back(Action::Persist(Persist::Put(entry.clone())));
                self.actions.push_back(Action::Apply(entry));
            }
        }
    }

    fn persist_plans(&mut self) {
        self.actions.push_back(Action::Persist(Persist::Plans(Box::new(self.survivors.kept().clone()))));
    }

    fn close(&mut self, reason: &str) {
        self.link = Link::Closing;
        self.actions.push_back(Action::Disconnect { reason: reason.into() });
    }
}

fn action(entry: &Entry) -> Action {
    let (key, uid, epoch) = (entry.key.clone(), entry.uid.clone(), entry.epoch);
    match entry.state {
        State::Held => Action::Apply(entry.clone()),
        State::Removing => Action::Delete { key, uid, epoch },
        State::Releasing => Action::Unmark { key, uid, epoch },
    }
}
