//! Contingency plans: what survivors take over at each loss, computed in advance.
//!
//! [`losses`] says what is prepared for: each cluster, and each *failure domain*, which is clusters that may fail together: those of one
//! region, of one zone in it, or with the same value of the label `federation.rs/failure-domain`. [`take_over`] asks the planner, for one
//! workload, what it would decide if a loss had lasted for longer than `evictAfter`; [`unfit`] holds all of that against what members have
//! free. [`adopt`] takes in what members did by plans, when the hub is back. Who acts on a plan while the hub is away, and when, is decided in `hub-protocol`.
//!
//! A plan only ever adds: no survivor is told to run less than it does. What may run in one cluster at a time is planned, with the time
//! after which the lost cluster's lease has lapsed.

mod adopt;
mod fit;
mod losses;
mod takeover;

pub use adopt::{Act, adopt};
pub use fit::{Free, Needs, Wish, unfit};
pub use losses::{Loss, losses};
pub use takeover::{Take, Takeover, take_over};

/// Something that speaks against a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// See [`rules`].
    pub rule: &'static str,
    /// The survivor that it is about; empty if it is about none.
    pub cluster: String,
    /// The workload that it is about; empty if it is about none.
    pub workload: String,
    /// For people.
    pub message: String,
}

/// Names of the rules in a plan's findings.
pub mod rules {
    /// So many clusters would be lost that nobody acts: it would rather be a fault of who looks.
    pub const TOO_MANY: &str = "TooMany";
    /// Replicas find no cluster: policies, maxima and taints leave none.
    pub const NO_PLACE: &str = "NoPlace";
    /// A survivor has not so much free.
    pub const NO_ROOM: &str = "NoRoom";
    /// What may run in one cluster at a time waits for the hub.
    pub const EXCLUSIVE: &str = "Exclusive";
    /// The survivors' agents and DNS servers have nowhere to agree without the hub.
    pub const NOBODY_TO_ASK: &str = "NobodyToAsk";
}

/// Whether losing `lost` of `all` clusters is more than a half: then nothing moves, as with the hub's own interlock.
pub fn is_mass_failure(lost: usize, all: usize) -> bool {
    lost.saturating_mul(2) > all
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
