//! Stories of an outage: the hub is dead or cut off and a member is lost with it, survivors act on their plans, and the hub adopts that when it
//! returns.

use std::collections::BTreeMap;

use proto::v1;

use crate::check::Violation;
use crate::faults::Fault;
use crate::member::Copy;
use crate::net::Node;
use crate::story::Habits;
use crate::world::{World, serves};

/// One step, milliseconds.
const STEP_MS: u64 = 200;
/// Plans reach every agent within this time after everything agrees, milliseconds: they are made each second, and not before a DNS server
/// has dialled.
const SHIPPED_MS: u64 = 60_000;
/// After both the hub and the member are gone somebody has acted, milliseconds: the last word of whoever heard the hub counts for 12 s and the
/// loss must have lasted for `evictAfter`, 10 s; survivors meet every 4 s at first.
const ACTED_MS: u64 = 36_000;

/// What becomes of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HubIs {
    /// Killed.
    Dead,
    /// Alive, and it reaches nobody but the member that is lost to everybody else.
    Alone,
    /// Well: only one survivor does not hear it.
    Well,
}

#[derive(Debug)]
struct Course {
    lost: usize,
    hub: HubIs,
    hub_from: u64,
    hub_until: u64,
    lost_from: u64,
    lost_until: u64,
    /// The member's agent is lost too, not only what users reach.
    whole: bool,
    /// Other things fail meanwhile, and users go on.
    noise: bool,
}

/// What survivors have taken over: by site and uid, the replicas that they run at least, and whether they did once.
type Floors = BTreeMap<(usize, String), (i64, bool)>;

impl World {
    /// From everything agrees to everything is back.
    pub(crate) fn outage(&mut self) -> Result<(), Violation> {
        self.calm = true;
        self.converge()?;
        self.wait_for_plans()?;
        let course = self.draw_course();
        self.checks.note(self.now, || format!("{course:?}"));
        let takes = self.is_taken_over(course.lost) && serves(&self.sites[course.lost], self.now);
        self.calm = !course.noise;
        let mut floors = Floors::new();
        let end = course.hub_until.max(course.lost_until);
        while self.now < end {
            self.strike(&course);
            let acts: Vec<u64> = self.sites.iter().map(|site| site.acts).collect();
            self.step(STEP_MS)?;
            self.note_floors(&acts, &mut floors);
            if !course.noise && self.now < course.lost_until {
                self.keep_floors(course.lost, &mut floors)?;
            }
        }
        let must = match course.hub {
            HubIs::Dead => true,
            // The lost one's agent hears it, and would say so.
            HubIs::Alone => course.whole,
            HubIs::Well => false,
        };
        if must && takes && !course.noise && self.sites.iter().all(|site| site.acts == 0) {
            return Err(Violation(format!(
                "nobody acted on the plan of the loss of c{} within {} s without the hub",
                course.lost,
                ACTED_MS / 1000
            )));
        }
        Ok(())
    }

    fn wait_for_plans(&mut self) -> Result<(), Violation> {
        let end = self.now + SHIPPED_MS;
        let voters = (self.sites.len(), self.servers.len());
        let of = |plans: Option<&v1::Plans>| {
            let council = plans?.council.as_ref()?;
            Some((council.clusters.len(), council.servers.len()))
        };
        while self.now < end {
            self.step(STEP_MS)?;
            if self.sites.iter().all(|site| of(site.disk.plans.plans.as_ref()) == Some(voters)) {
                // Those that were made of what was there a second ago are on their way.
                let end = self.now + 4_000;
                while self.now < end {
                    self.step(STEP_MS)?;
                }
                return Ok(());
            }
        }
        Err(Violation(format!("not all agents hold plans {} s after everything agreed", SHIPPED_MS / 1000)))
    }

    fn draw_course(&mut self) -> Course {
        let now = self.now;
        let dice = &mut self.dice;
        let noise = dice.chance(500);
        let hub = match dice.below(10) {
            0..6 => HubIs::Dead,
            6..8 => HubIs::Alone,
            _ => HubIs::Well,
        };
        let hub_from = now + 3_500;
        let lost_from = now + dice.between(500, 12_000);
        let least = if noise { dice.between(5_000, ACTED_MS) } else { ACTED_MS };
        let both = hub_from.max(lost_from) + least;
        let (hub_until, lost_until) = match dice.below(3) {
            0 => (both, both + dice.between(0, 30_000)),
            1 => (both + dice.between(0, 30_000), both),
            _ => (both, both),
        };
        let lost = dice.index(self.sites.len());
        Course { lost, hub, hub_from, hub_until, lost_from, lost_until, whole: dice.chance(700), noise }
    }

    /// Whether somebody's plan gives it more at this loss.
    fn is_taken_over(&self, lost: usize) -> bool {
        let name = &self.sites[lost].name;
        let takes = |plans: &v1::Plans| {
            let of = |loss: &&v1::LossPlan| loss.clusters.len() == 1 && loss.clusters.contains(name);
            plans.losses.iter().filter(of).any(|loss| !loss.takes.is_empty())
        };
        self.sites.iter().filter_map(|site| site.disk.plans.plans.as_ref()).any(takes)
    }

    /// Lets happen what the course says of this moment.
    fn strike(&mut self, course: &Course) {
        let now = self.now;
        let begins = |at: u64| now >= at && now < at + STEP_MS;
        if begins(course.hub_from) {
            match course.hub {
                HubIs::Dead => {
                    self.kill_hub(1_000);
                    self.hub.starts_at = course.hub_until;
                }
                HubIs::Alone => {
                    let nodes = (0..self.sites.len()).filter(|index| *index != course.lost).map(Node::Site);
                    for node in nodes.chain((0..self.servers.len()).map(Node::Server)) {
                        self.net.shut(Node::Hub, node, course.hub_until);
                        self.net.shut(node, Node::Hub, course.hub_until);
                    }
                }
                HubIs::Well => {
                    let one = Node::Site((course.lost + 1) % self.sites.len());
                    self.net.shut(Node::Hub, one, course.hub_until);
                    self.net.shut(one, Node::Hub, course.hub_until);
                }
            }
        }
        if begins(course.lost_from) {
            let lost = Node::Site(course.lost);
            self.sites[course.lost].dark_until = course.lost_until;
            if course.whole {
                let others = (0..self.sites.len()).filter(|index| *index != course.lost).map(Node::Site);
                for node in others.chain((0..self.servers.len()).map(Node::Server)) {
                    self.net.shut(lost, node, course.lost_until);
                    self.net.shut(node, lost, course.lost_until);
                }
                if course.hub != HubIs::Alone {
                    self.net.shut(lost, Node::Hub, course.lost_until);
                    self.net.shut(Node::Hub, lost, course.lost_until);
                }
                // An agent that is dead stops nothing: see docs/adr/0010-fencing.md.
                if !self.plan.exclusive && course.hub != HubIs::Alone {
                    self.sites[course.lost].kill(now, course.lost_until - now);
                }
            }
        }
        if course.noise {
            self.make_noise();
        }
    }

    fn make_noise(&mut self) {
        for fault in
            [Fault::StreamBreaks, Fault::WayShut, Fault::AgentKilled, Fault::ServerKilled, Fault::SiteDark]
        {
            if self.dice.chance(6) && (!self.plan.exclusive || fault.is_covered_by_leases()) {
                self.happen(fault);
            }
        }
        if self.dice.chance(15) {
            let habits =
                Habits { configmaps: 40, scale: 40, image: 10, remake: 5, local: 0, exclude: 5, rate: 0 };
            self.users_act(habits);
        }
    }

    fn note_floors(&self, acts: &[u64], floors: &mut Floors) {
        for (index, site) in self.sites.iter().enumerate().filter(|(index, site)| site.acts > acts[*index]) {
            for raised in site.disk.plans.acted.iter().flat_map(|acted| &acted.raised) {
                floors.insert((index, raised.uid.clone()), (raised.replicas.into(), false));
            }
        }
    }

    /// Replicas that users want of a workload.
    fn replicas(&self, uid: &str) -> Option<i64> {
        let store = self.store.0.lock();
        let mut objects = store.data.objects.values();
        let template = objects.find(|object| object.pointer("/metadata/uid").is_some_and(|of| of == uid))?;
        template.pointer("/spec/replicas")?.as_i64()
    }

    /// Who took something over runs it as long as what was lost is, or the others run all of it without that: a hub that is back hears one survivor
    /// after the other.
    fn keep_floors(&self, lost: usize, floors: &mut Floors) -> Result<(), Violation> {
        let replaced = |uid: &str| {
            let ready = self.ready(Some(uid)).into_iter().enumerate();
            let ready: usize = ready.filter(|(index, _)| *index != lost).map(|(_, ready)| ready).sum();
            self.replicas(uid).is_some_and(|wanted| ready as i64 >= wanted)
        };
        for ((index, uid), (floor, reached)) in floors {
            let site = &self.sites[*index];
            let runs = site.member.copies.values().find(|copy| copy.uid == *uid).and_then(Copy::replicas);
            *reached |= runs >= Some(*floor);
            let gave_up = site.disk.plans.acted.is_none() && site.disk.replicas(uid) < Some(*floor);
            if (gave_up || (*reached && runs < Some(*floor))) && !replaced(uid) {
                return Err(Violation(format!(
                    "{}: it took over and ran {floor} replicas of uid {uid}, and gives them up before what was lost is back",
                    site.name
                )));
            }
        }
        Ok(())
    }
}
