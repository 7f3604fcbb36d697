//! Faults that are injected into a world.

use crate::net::Node;
use crate::site::Around;
use crate::store::Data;
use crate::world::World;

/// Faults of one kind happen this often in a step, of a thousand, in a mixed world that has them.
pub(crate) const RATES: [(Fault, u64); 14] = [
    (Fault::StreamBreaks, 14),
    (Fault::WayShut, 14),
    (Fault::HubKilled, 6),
    (Fault::HubKilledWriting, 6),
    (Fault::AgentKilled, 8),
    (Fault::ServerKilled, 8),
    (Fault::ApiAway, 5),
    (Fault::WatchBreaks, 10),
    (Fault::CalendarSet, 6),
    (Fault::Restored, 5),
    (Fault::SiteDark, 8),
    (Fault::ManyDark, 2),
    (Fault::MemberApiAway, 5),
    (Fault::HubAlone, 4),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A stream breaks, and its ends notice one after the other.
    StreamBreaks,
    /// A way is shut in one direction.
    WayShut,
    HubKilled,
    /// Between a decision and its end.
    HubKilledWriting,
    AgentKilled,
    ServerKilled,
    /// The federation's API fails.
    ApiAway,
    WatchBreaks,
    /// Somebody sets a machine's calendar.
    CalendarSet,
    /// The store is restored from an earlier backup.
    Restored,
    /// Users reach nothing at a site.
    SiteDark,
    /// The same at most sites at once.
    ManyDark,
    MemberApiAway,
    /// The hub reaches nobody.
    HubAlone,
    /// The hub and one agent do not hear each other, or one does not hear the other, for longer than leases last.
    CutOff,
    /// The hub, all agents and DNS servers die at once, and the store is restored from a backup.
    PowerCut,
    /// A member's own user puts something of the same name where a copy was.
    Usurped,
}

impl Fault {
    /// Whether agents' leases hold whatever it does: see docs/adr/0010-fencing.md.
    pub(crate) fn is_covered_by_leases(self) -> bool {
        !matches!(self, Self::AgentKilled | Self::MemberApiAway | Self::CalendarSet | Self::Restored)
    }
}

/// What happened so far, and what is to come of it.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) kills: u64,
    pub(crate) restores: u64,
    backup: Option<Data>,
    api_back_at: Option<u64>,
}

impl World {
    /// Lets happen what happens in this step.
    pub(crate) fn befall(&mut self) {
        if self.faults.api_back_at.is_some_and(|at| self.now >= at) {
            self.faults.api_back_at = None;
            self.store.0.lock().down = false;
        }
        for index in 0..self.plan.faults.len() {
            let (fault, rate) = self.plan.faults[index];
            if self.dice.chance(rate) {
                self.happen(fault);
            }
        }
    }

    fn any_node(&mut self) -> Node {
        let nodes = 1 + self.sites.len() + self.servers.len();
        match self.dice.index(nodes) {
            0 => Node::Hub,
            number if number <= self.sites.len() => Node::Site(number - 1),
            number => Node::Server(number - 1 - self.sites.len()),
        }
    }

    pub(crate) fn happen(&mut self, fault: Fault) {
        let now = self.now;
        let site = self.dice.index(self.sites.len());
        match fault {
            Fault::StreamBreaks => self.break_stream(site),
            Fault::WayShut => self.shut_a_way(),
            Fault::HubKilled => {
                self.checks.note(now, || "hub: killed".into());
                let longest = if self.dice.chance(300) { 12_000 } else { 3_000 };
                self.kill_hub(longest);
            }
            Fault::HubKilledWriting => {
                if self.hub.is_running() {
                    self.store.0.lock().kill_in = Some(1 + self.dice.below(3) as u32);
                }
            }
            Fault::AgentKilled => {
                self.faults.kills += 1;
                self.checks.note(now, || format!("c{site}: the agent is killed"));
                let down_ms = self.dice.between(50, 8_000);
                self.sites[site].kill(now, down_ms);
            }
            Fault::ServerKilled => {
                if !self.servers.is_empty() {
                    self.faults.kills += 1;
                    let server = self.dice.index(self.servers.len());
                    let (down_ms, loses) = (self.dice.between(50, 5_000), self.dice.chance(300));
                    self.checks.note(now, || format!("d{server}: killed, and loses its last write: {loses}"));
                    self.servers[server].kill(now, down_ms, loses);
                    if loses {
                        self.checks.server_forgets(server);
                    }
                }
            }
            Fault::ApiAway => {
                let until = now + self.dice.between(100, 4_000);
                self.checks.note(now, || format!("the API fails until {until}"));
                self.store.0.lock().down = true;
                self.faults.api_back_at = Some(until);
            }
            Fault::WatchBreaks => {
                let (dice, checks) = (&mut self.dice, &mut self.checks);
                let mut around = Around { now, calm: false, bug: crate::bug::Bug::None, dice, checks };
                self.hub.break_watch(&mut around);
            }
            Fault::CalendarSet => self.set_a_calendar(),
            Fault::Restored => self.restore(),
            Fault::SiteDark => {
                let until = now + self.dice.between(1_000, 15_000);
                self.checks.note(now, || format!("c{site}: users reach nothing until {until}"));
                self.sites[site].dark_until = until;
            }
            Fault::ManyDark => self.darken_many(),
            Fault::MemberApiAway => {
                let until = now + self.dice.between(500, 8_000);
                self.checks.note(now, || format!("c{site}: the member's API fails until {until}"));
                self.sites[site].api_down_until = until;
            }
            Fault::HubAlone => self.leave_the_hub_alone(),
            Fault::CutOff => self.cut_off(site),
            Fault::PowerCut => self.cut_power(),
            Fault::Usurped => {
                let (dice, checks) = (&mut self.dice, &mut self.checks);
                let mut around = Around { now, calm: false, bug: crate::bug::Bug::None, dice, checks };
                self.sites[site].usurp(&mut around);
            }
        }
    }

    /// The stream of a site breaks, and perhaps that of a server.
    fn break_stream(&mut self, site: usize) {
        let now = self.now;
        let (agent_after, hub_after) = (self.dice.below(4_000), self.dice.below(4_000));
        if self.sites[site].link.agent {
            self.checks.note(now, || format!("the stream of c{site} breaks"));
            self.sites[site].cut(now, agent_after, hub_after);
        }
        if self.dice.chance(300) && !self.servers.is_empty() {
            let server = self.dice.index(self.servers.len());
            self.servers[server].cut(now, agent_after);
        }
    }

    /// Nothing passes from one node to another for a while.
    fn shut_a_way(&mut self) {
        let now = self.now;
        let (one, other) = (self.any_node(), self.any_node());
        // Mostly it is a way from or to the hub.
        let other = if self.dice.chance(600) { Node::Hub } else { other };
        if one != other {
            let until = now + self.dice.between(200, 14_000);
            let (from, to) = if self.dice.chance(500) { (one, other) } else { (other, one) };
            self.checks.note(now, || format!("no way from {from:?} to {to:?} until {until}"));
            self.net.shut(from, to, until);
            if self.dice.chance(300) {
                self.net.shut(to, from, until);
            }
        }
    }

    /// Somebody sets the wall clock of a node.
    fn set_a_calendar(&mut self) {
        let now = self.now;
        let by_ms = self.dice.between(0, 7_200_000) as i64 - 3_600_000;
        let by_ms = if self.dice.chance(700) { by_ms / 600 } else { by_ms };
        let node = self.any_node();
        self.checks.note(now, || format!("{node:?}: the calendar is set by {by_ms} ms"));
        match node {
            Node::Hub => self.hub.clock.jump(by_ms),
            Node::Site(index) => self.sites[index].clock.jump(by_ms),
            Node::Server(index) => self.servers[index].clock.jump(by_ms),
        }
    }

    /// All sites but perhaps one lose their users, and most of them the hub.
    fn darken_many(&mut self) {
        let now = self.now;
        let until = now + self.dice.between(3_000, 25_000);
        self.checks.note(now, || format!("everywhere users reach nothing until {until}"));
        let spared = self.dice.index(self.sites.len() + 1);
        for (index, site) in self.sites.iter_mut().enumerate().filter(|(index, _)| *index != spared) {
            site.dark_until = until;
            if self.dice.chance(700) {
                self.net.shut(Node::Site(index), Node::Hub, until);
            }
        }
    }

    /// The hub reaches nobody, and nobody reaches the hub.
    fn leave_the_hub_alone(&mut self) {
        let now = self.now;
        let until = now + self.dice.between(1_000, 12_000);
        self.checks.note(now, || format!("the hub reaches nobody until {until}"));
        for index in 0..self.sites.len() {
            self.net.shut(Node::Hub, Node::Site(index), until);
            self.net.shut(Node::Site(index), Node::Hub, until);
        }
        for index in 0..self.servers.len() {
            self.net.shut(Node::Hub, Node::Server(index), until);
            self.net.shut(Node::Server(index), Node::Hub, until);
        }
    }

    /// The hub and a site are cut off from each other, in one way or both.
    fn cut_off(&mut self, site: usize) {
        let now = self.now;
        let until = now + self.dice.between(8_000, 30_000);
        self.checks.note(now, || format!("the hub and c{site} are cut off from each other until {until}"));
        let ways = self.dice.below(3);
        if ways != 1 {
            self.net.shut(Node::Hub, Node::Site(site), until);
        }
        if ways != 2 {
            self.net.shut(Node::Site(site), Node::Hub, until);
        }
    }

    /// Everything goes down at once, if the hub is to come back from its backup.
    fn cut_power(&mut self) {
        let now = self.now;
        if self.faults.backup.is_some() {
            for index in 0..self.sites.len() {
                let down_ms = self.dice.between(50, 500);
                self.sites[index].kill(now, down_ms);
            }
            for index in 0..self.servers.len() {
                let down_ms = self.dice.between(50, 500);
                self.servers[index].kill(now, down_ms, false);
            }
        }
        self.restore();
    }

    /// Makes a backup of the store, or restores the store from the one that there is.
    fn restore(&mut self) {
        let now = self.now;
        match self.faults.backup.take() {
            None => {
                self.checks.note(now, || "a backup of the store is made".into());
                self.faults.backup = Some(self.store.0.lock().data.clone());
            }
            Some(backup) => {
                self.checks.note(now, || "the store is restored from the backup".into());
                self.faults.restores += 1;
                self.kill_hub(2_000);
                self.store.0.lock().data = backup;
            }
        }
    }
}
