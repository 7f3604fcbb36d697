//! Kinds of worlds: what a world is made of, which faults it has, and what its users do most.
//!
//! Most worlds are [`Story::Mixed`]. The others are drawn on purpose, since what they tell would take thousands of mixed ones to happen.

use crate::dice::Dice;
use crate::faults::Fault;

/// A kind of world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Some kinds of faults, at random.
    Mixed,
    /// The hub is gone, or cut off, and a member is lost with it, for long enough that the others act on their plans.
    Outage,
    /// Users reach nothing at most sites at once, while users of the API delete.
    Blackout,
    /// Everything loses its power at once, and the store comes back from a backup.
    PowerCut,
    /// Policies move workloads from cluster to cluster, also one that no Service is in front of.
    Moves,
    /// What may run in one cluster at a time, and agents that are cut off for longer than their leases last.
    Fencing,
    /// Members' own users put things where copies were.
    Strangers,
    /// Nothing fails until a site is lost.
    Quiet,
}

/// How often a step has each kind of world, of a thousand.
const SHARES: [(Story, u64); 8] = [
    (Story::Mixed, 620),
    (Story::Outage, 80),
    (Story::Blackout, 60),
    (Story::PowerCut, 60),
    (Story::Moves, 60),
    (Story::Fencing, 50),
    (Story::Strangers, 40),
    (Story::Quiet, 30),
];

/// What users of the API do, each a share of the sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// They do something in so many of a thousand steps.
    pub(crate) rate: u64,
    /// Make, change and delete ConfigMaps.
    pub(crate) configmaps: u64,
    pub(crate) scale: u64,
    pub(crate) image: u64,
    /// Delete a workload, to make it anew.
    pub(crate) remake: u64,
    /// Take a template back, to federate it again soon.
    pub(crate) local: u64,
    /// Leave clusters out of a policy, or none.
    pub(crate) exclude: u64,
}

/// What a world is made of. Worlds with few kinds of faults get further.
pub(crate) struct Plan {
    pub(crate) story: Story,
    pub(crate) sites: usize,
    pub(crate) servers: usize,
    /// It has a workload that may run in one cluster at a time.
    pub(crate) exclusive: bool,
    /// It has a workload that no Service is in front of.
    pub(crate) worker: bool,
    /// The federation's API takes its time.
    pub(crate) slow_api: bool,
    /// How long faults happen, milliseconds.
    pub(crate) faults_ms: u64,
    /// In so many of a thousand worlds a site is lost when all is well.
    pub(crate) loses: u64,
    pub(crate) habits: Habits,
    /// Each with how often it happens in a step, of a thousand.
    pub(crate) faults: Vec<(Fault, u64)>,
}

impl Story {
    /// Every kind, with its share of a thousand.
    pub fn all() -> impl Iterator<Item = (Self, u64)> {
        SHARES.into_iter()
    }

    fn draw(dice: &mut Dice) -> Self {
        let mut left = dice.below(SHARES.iter().map(|(_, share)| share).sum());
        for (story, share) in SHARES {
            if left < share {
                return story;
            }
            left -= share;
        }
        Self::Mixed
    }

    fn habits(self) -> Habits {
        let mixed =
            Habits { rate: 40, configmaps: 50, scale: 20, image: 10, remake: 7, local: 10, exclude: 13 };
        match self {
            Self::Mixed | Self::Fencing => mixed,
            Self::Outage => Habits { rate: 0, ..mixed },
            Self::Blackout => Habits { rate: 150, configmaps: 90, remake: 1, ..mixed },
            Self::PowerCut => Habits { rate: 120, configmaps: 40, scale: 40, ..mixed },
            Self::Moves => {
                Habits { rate: 25, scale: 10, image: 5, remake: 0, local: 5, exclude: 75, configmaps: 10 }
            }
            Self::Strangers => {
                Habits { rate: 150, configmaps: 100, scale: 0, image: 0, remake: 0, local: 10, exclude: 5 }
            }
            Self::Quiet => Habits { rate: 10, ..mixed },
        }
    }

    fn faults(self, exclusive: bool, dice: &mut Dice) -> Vec<(Fault, u64)> {
        match self {
            Self::Mixed => crate::faults::RATES
                .into_iter()
                .filter(|(fault, _)| (!exclusive || fault.is_covered_by_leases()) && dice.chance(450))
                .collect(),
            Self::Outage | Self::Quiet => Vec::new(),
            Self::Blackout => vec![(Fault::ManyDark, 15), (Fault::StreamBreaks, 5)],
            Self::PowerCut => vec![(Fault::PowerCut, 12), (Fault::AgentKilled, 4)],
            Self::Moves => {
                let some = [(Fault::HubKilled, 4), (Fault::WatchBreaks, 6), (Fault::StreamBreaks, 6)];
                some.into_iter().filter(|_| dice.chance(300)).collect()
            }
            Self::Fencing => {
                let some = [(Fault::HubKilled, 4), (Fault::WayShut, 10), (Fault::SiteDark, 4)];
                let some = some.into_iter().filter(|_| dice.chance(300));
                [(Fault::CutOff, 8)].into_iter().chain(some).collect()
            }
            Self::Strangers => {
                let some = [(Fault::AgentKilled, 6), (Fault::StreamBreaks, 10), (Fault::HubKilled, 4)];
                let some = some.into_iter().filter(|_| dice.chance(300));
                [(Fault::Usurped, 60)].into_iter().chain(some).collect()
            }
        }
    }
}

impl Plan {
    /// Draws what a world is made of; `story` if it is to be of that kind.
    pub(crate) fn new(dice: &mut Dice, story: Option<Story>) -> Self {
        let drawn = Story::draw(dice);
        let story = story.unwrap_or(drawn);
        let exclusive = match story {
            Story::Mixed | Story::Outage => dice.chance(300),
            Story::Fencing => true,
            _ => false,
        };
        let worker = story == Story::Moves || (story == Story::Mixed && dice.chance(150));
        // Mostly small: more takes longer, and shows little more.
        let sites = match story {
            Story::Moves => 2,
            Story::Fencing | Story::Outage | Story::Quiet => dice.between(2, 4),
            Story::Blackout => 3,
            _ if dice.chance(100) => 5,
            _ => dice.between(2, 4),
        };
        let servers = match story {
            Story::Mixed if exclusive => dice.below(2),
            Story::Fencing => dice.below(2),
            Story::Moves | Story::PowerCut | Story::Strangers | Story::Blackout => 1,
            _ => dice.between(1, 3),
        };
        let faults = story.faults(exclusive, dice);
        Self {
            story,
            sites: sites as usize,
            servers: servers as usize,
            exclusive,
            worker,
            slow_api: dice.chance(if story == Story::Mixed { 400 } else { 200 }),
            faults_ms: match story {
                Story::Outage => 0,
                Story::Quiet => 5_000,
                Story::Moves => 40_000,
                Story::Fencing => 60_000,
                _ => 25_000,
            },
            loses: if story == Story::Quiet { 1_000 } else { 300 },
            habits: story.habits(),
            faults,
        }
    }
}
