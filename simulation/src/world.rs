//! One world: a hub with its store, members with their agents, DNS servers, users, and whatever befalls them.

use std::fmt;
use std::sync::Arc;

use dns_lb::testing::wire::Name;

use crate::anew::Anew;
use crate::bug::Bug;
use crate::check::{Checks, Violation};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::hub::{Hub, ZONE};
use crate::known::Known;
use crate::net::{Net, Node, delay};
use crate::run::Case;
use crate::server::{Server, users_ask};
use crate::site::{Around, Site};
use crate::store::Shared;
use crate::story::{Habits, Plan, Story};
use crate::users::{self, WEB};

/// One step, milliseconds.
const STEP_MS: u64 = 100;
/// A step while it is only waited, milliseconds: no longer than between two heartbeats.
const LONG_STEP_MS: u64 = 800;
/// What keeps a world from agreeing for longer than this, milliseconds, is waited for.
const WAITS_MS: u64 = 6_000;
/// After the last fault everything agrees within this time, milliseconds: flapping members are held down for minutes.
const CALM_MS: u64 = 400_000;
/// Before a site is lost, all has been well for so long, milliseconds: a few probes.
const PROVEN_MS: u64 = 6_000;
/// Users who are asked what they get.
const USERS: u64 = 16;
/// When a site is lost in a world in which all is well, nobody is sent there after this time, milliseconds: three probes a second apart, and
/// the way to every DNS server.
const LED_AWAY_MS: u64 = 15_000;

/// What happened in a world, so that one in which nothing happens is seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Manifests that members took.
    pub applied: u64,
    /// Copies that members lost.
    pub removed: u64,
    /// Times that an agent acted on its contingency plans.
    pub acts: u64,
    /// Times that something was killed.
    pub kills: u64,
    /// Times that the store was restored from a backup.
    pub restores: u64,
    /// Writes of the controller.
    pub writes: u64,
    /// Milliseconds of world time.
    pub time_ms: u64,
}

impl Tally {
    /// Adds another world's.
    pub(crate) fn add(&mut self, other: Self) {
        self.applied += other.applied;
        self.removed += other.removed;
        self.acts += other.acts;
        self.kills += other.kills;
        self.restores += other.restores;
        self.writes += other.writes;
        self.time_ms += other.time_ms;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} applies, {} removals, {} acts without the hub, {} kills, {} restores, {} writes, {:.1} hours",
            self.applied,
            self.removed,
            self.acts,
            self.kills,
            self.restores,
            self.writes,
            self.time_ms as f64 / 3_600_000.0
        )
    }
}

/// The world of one seed.
pub struct World {
    pub(crate) now: u64,
    pub(crate) calm: bool,
    pub(crate) bug: Bug,
    pub(crate) dice: Dice,
    pub(crate) checks: Checks,
    pub(crate) net: Net,
    pub(crate) hub: Hub,
    pub(crate) sites: Vec<Site>,
    pub(crate) servers: Vec<Server>,
    pub(crate) store: Shared,
    pub(crate) plan: Plan,
    pub(crate) faults: Faults,
    pub(crate) name: Name,
    pub(crate) look_at: u64,
    pub(crate) known: Known,
    pub(crate) anew: Anew,
    // Of the sites.
    names: Arc<[String]>,
}

impl World {
    /// The world of a case. `verbose` worlds keep a trace.
    pub fn new(case: Case, verbose: bool) -> Self {
        let Case { seed, bug, story } = case;
        let mut dice = Dice::new(seed);
        let plan = Plan::new(&mut dice, story);
        let store = Shared::default();
        let sites: Vec<Site> = (0..plan.sites).map(|index| Site::new(index, &mut dice)).collect();
        let servers = (0..plan.servers).map(|index| Server::new(index, &mut dice)).collect();
        let names: Arc<[String]> = sites.iter().map(|site| site.name.clone()).collect();
        users::found(&mut store.0.lock(), &names, &plan);
        let hub = Hub::new(store.clone(), &mut dice);
        if plan.slow_api {
            store.0.lock().slow = Some(Dice::new(dice.roll()));
        }
        let checks = Checks::new(verbose, !plan.exclusive);
        let name = Name::parse(&format!("web.default.svc.{ZONE}.")).expect("it is a name");
        Self {
            now: 0,
            calm: false,
            bug,
            dice,
            checks,
            net: Net::default(),
            hub,
            sites,
            servers,
            store,
            plan,
            faults: Faults::default(),
            name,
            look_at: 0,
            known: Known::default(),
            anew: Anew::default(),
            names,
        }
    }

    /// The last lines of the trace.
    pub fn trace(&self) -> String {
        self.checks.trace()
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        Tally {
            applied: self.sites.iter().map(|site| site.applied).sum(),
            removed: self.sites.iter().map(|site| site.removed).sum(),
            acts: self.sites.iter().map(|site| site.acts).sum(),
            kills: self.faults.kills,
            restores: self.faults.restores,
            writes: self.store.0.lock().writes,
            time_ms: self.now,
        }
    }

    /// Runs the faulty part, and then the calm one until everything agrees.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn run(&mut self) -> Result<(), Violation> {
        let result = self.live();
        self.hub.kill(self.now, 0);
        federation_runtime::clock::set(None);
        result
    }

    fn live(&mut self) -> Result<(), Violation> {
        if self.plan.story == Story::Outage {
            self.outage()?;
        }
        while self.now < self.plan.faults_ms {
            self.befall();
            if self.dice.chance(self.plan.habits.rate) {
                self.users_act(self.plan.habits);
            }
            users::federate_again(&mut self.store.0.lock(), &mut self.checks, &mut self.dice, self.now);
            self.step(STEP_MS)?;
        }
        self.heal();
        self.converge()?;
        self.lose_one()
    }

    /// A user of the API does something.
    pub(crate) fn users_act(&mut self, habits: Habits) {
        let mut store = self.store.0.lock();
        users::act(&mut store, &self.names, habits, &mut self.checks, &mut self.dice, self.now);
    }

    /// Waits until everything agrees.
    pub(crate) fn converge(&mut self) -> Result<(), Violation> {
        let end = self.now + CALM_MS;
        let (mut why, mut since) = (String::new(), self.now);
        while self.now < end {
            {
                let mut store = self.store.0.lock();
                if !store.data.objects.contains_key(WEB) {
                    // It was deleted, or is only gone now.
                    users::remake(&mut store);
                }
            }
            // An operator has looked at what was restored.
            if let Some(machine) = self.hub.machine().filter(|machine| machine.restored().is_some()) {
                self.hub.clock.enter(self.now);
                machine.confirm_restored();
            }
            // Nothing happens that fast any more, and less where something is waited for.
            let waits = self.now - since > WAITS_MS;
            self.step(if waits { LONG_STEP_MS } else { 2 * STEP_MS })?;
            let Some(reason) = self.disagreement() else { return Ok(()) };
            if reason != why {
                self.checks.note(self.now, || format!("not yet: {reason}"));
                (why, since) = (reason, self.now);
            }
        }
        self.note_decisions();
        Err(Violation(format!("it did not converge within {} s of the last fault: {why}", CALM_MS / 1000)))
    }

    /// For the trace of a world that fails.
    fn note_decisions(&mut self) {
        for (path, object) in &self.store.0.lock().data.objects {
            if path.contains("/placements/") || path.contains("/clusters/") {
                self.checks.note(self.now, || format!("{path}: {} {}", object["spec"], object["status"]));
            }
        }
    }

    /// All is well: now users are served at one site no more, and are to be led away from it.
    fn lose_one(&mut self) -> Result<(), Violation> {
        if self.servers.is_empty() || !self.dice.chance(self.plan.loses) {
            return Ok(());
        }
        // Probers have to have seen what serves: what never answered says nothing.
        let end = self.now + PROVEN_MS;
        while self.now < end {
            self.step(2 * STEP_MS)?;
        }
        let sent = |server: &Server, address: &String| {
            // Each user gets one of the addresses.
            (0..USERS).any(|user| server.ask(&self.name, user).is_some_and(|answer| answer.contains(address)))
        };
        let answered: Vec<usize> = (0..self.sites.len())
            .filter(|index| {
                let site = &self.sites[*index];
                serves(site, self.now) && sent(&self.servers[0], &site.address)
            })
            .collect();
        // A stray, as a restored store leaves them, is nowhere where users are sent.
        let placed = users::placed(&self.store.0.lock(), users::SERVICE);
        let is_placed = |site: &&Site| placed.contains(&site.name);
        let working = self.sites.iter().filter(is_placed).filter(|site| serves(site, self.now)).count();
        // One that flapped is held down for minutes. With the lost one these may be more than half: then nothing moves, on purpose.
        let unwell = users::unwell(&self.store.0.lock());
        if answered.is_empty() || working < 2 || 2 * (unwell + 1) > self.sites.len() {
            return Ok(());
        }
        let lost = answered[self.dice.index(answered.len())];
        let Site { name, address, .. } = &self.sites[lost];
        let (name, address) = (name.clone(), address.clone());
        self.checks.note(self.now, || format!("{name}: users reach nothing from here on"));
        self.sites[lost].dark_until = u64::MAX;
        let end = self.now + LED_AWAY_MS;
        while self.now < end {
            self.step(STEP_MS)?;
            let sent = |server: &Server| {
                (0..USERS)
                    .any(|user| server.ask(&self.name, user).is_some_and(|answer| answer.contains(&address)))
            };
            if !self.servers.iter().any(sent) {
                return Ok(());
            }
        }
        self.note_decisions();
        Err(Violation(format!(
            "users are still sent to {name}, where nothing serves them, {} s after it was lost",
            LED_AWAY_MS / 1000
        )))
    }

    fn heal(&mut self) {
        self.checks.note(self.now, || "from here on nothing fails any more".into());
        self.calm = true;
        self.net.heal();
        {
            let mut store = self.store.0.lock();
            store.down = false;
            store.kill_in = None;
        }
        let (now, bug) = (self.now, self.bug);
        for site in &mut self.sites {
            site.dark_until = 0;
            site.api_down_until = 0;
            let (dice, checks) = (&mut self.dice, &mut self.checks);
            site.reclaim(&mut Around { now, calm: true, bug, dice, checks });
        }
    }

    pub(crate) fn step(&mut self, by: u64) -> Result<(), Violation> {
        self.now += by;
        let now = self.now;
        self.checks.begin_step();
        let reach: Vec<bool> = self.sites.iter().map(|site| serves(site, now)).collect();
        let names = self.names.clone();
        let reaches = |net: &Net, from: Node, cluster: &str| {
            names.iter().position(|name| name == cluster).is_some_and(|index| {
                reach[index] && (from == Node::Site(index) || net.talk(from, Node::Site(index), now))
            })
        };
        let (net, bug, calm) = (&self.net, self.bug, self.calm);
        let (dice, checks) = (&mut self.dice, &mut self.checks);
        let mut around = Around { now, calm, bug, dice, checks };
        self.hub.step(|cluster| bug == Bug::VotesLost || reaches(net, Node::Hub, cluster), &mut around);
        self.listen();
        if !self.hub.turn(now)? {
            self.checks.note(now, || "hub: killed in the middle of a write".into());
            self.kill_hub(1_000);
        }
        self.watch_freeze();
        self.speak()?;
        let workloads = self.workloads();
        let ready = workloads.each_ref().map(|(_, uid)| self.ready(uid.as_deref()));
        for index in 0..self.sites.len() {
            let open = self.net.is_open(Node::Hub, Node::Site(index), now);
            let net = &self.net;
            let (dice, checks) = (&mut self.dice, &mut self.checks);
            let mut around = Around { now, calm, bug, dice, checks };
            let site = &mut self.sites[index];
            if site.is_running() && now >= site.probe_at {
                site.probe(now, |cluster| reaches(net, Node::Site(index), cluster));
            }
            let acts = site.acts;
            site.step(open, &mut around)?;
            if site.acts > acts {
                self.may_act(index)?;
            }
            self.connect(index);
            self.meet(index);
            let site = &mut self.sites[index];
            while let Some(message) = site.transmit() {
                let at = now + delay(&mut self.dice);
                if !site.link.cut {
                    site.link.up.send(at, message);
                }
            }
        }
        for ((name, uid), before) in workloads.iter().zip(&ready) {
            if let Some(uid) = uid {
                self.stay_ready(name, uid, before)?;
            }
        }
        for index in 0..self.servers.len() {
            let open = self.net.is_open(Node::Hub, Node::Server(index), now);
            let net = &self.net;
            let (dice, checks) = (&mut self.dice, &mut self.checks);
            let mut around = Around { now, calm, bug, dice, checks };
            let server = &mut self.servers[index];
            server.reaches_hub(now, net.talk(Node::Hub, Node::Server(index), now));
            server.step(open, |cluster| reaches(net, Node::Server(index), cluster), &mut around)?;
            if server.wants_to_connect(now) {
                server.connects_at = now + 1_000;
                if let Some(machine) =
                    self.hub.machine().filter(|_| self.net.talk(Node::Hub, Node::Server(index), now))
                {
                    self.hub.clock.enter(now);
                    let stream = machine.dns_connected();
                    self.servers[index].connected(now, stream);
                }
            }
        }
        if self.calm || self.dice.chance(300) {
            users_ask(&self.servers, &self.name, now, &mut self.checks, &mut self.dice)?;
        }
        self.one_at_a_time()
    }

    pub(crate) fn kill_hub(&mut self, down_ms: u64) {
        self.faults.kills += 1;
        // What the next one has not asked for itself it cannot know of.
        self.anew = Anew::default();
        let now = self.now;
        // Streams first: they are the controller's.
        for server in &mut self.servers {
            server.cut(now, self.dice.below(500));
        }
        for site in &mut self.sites {
            site.link.hub = None;
            site.cut(now, self.dice.below(1_000), 0);
        }
        self.hub.kill(now, self.dice.between(50, down_ms.max(51)));
    }
}

/// Whether users who reach the site are served there.
pub(crate) fn serves(site: &Site, now: u64) -> bool {
    now >= site.dark_until && site.member.endpoints("web", now) > 0
}
