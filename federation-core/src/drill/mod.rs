//! Rehearsals of a cluster's loss: [`crate::api::FailoverDrill`].
//!
//! - [`Hypothesis`]: what is expected, as people write it; [`judge`] holds what was measured against it.
//! - [`preflight`]: whether a drill may start.
//! - [`step`]: the course, from one look at the world to the next. The whole state is the object's status, so that whoever drives it may die
//!   at any moment: the next one sees a drill that is not its own, and restores.
//! - [`Tally`]: what users at one vantage saw, in bounded memory.
//! - [`report`]: what a drill came to, as text, JSON and HTML.
//! - [`Calendar`]: when a schedule makes the next drill.
//!
//! Rules that everything here keeps:
//! - *A loss is a level, not an edge*: [`Step::lost`] says at each step what is to be lost now, and says nothing in every phase but Running.
//! - *Dead-man's switch*: what is lost needs somebody who goes on saying so. The person's lease, the hub's life and the hypothesis each end
//!   it; members and DNS servers hold leases of their own, shorter than any of them.
//! - *Every course ends*: Running ends with its time, Restoring with [`RESTORE_MAX_MS`].

mod calendar;
mod course;
mod hypothesis;
mod judge;
mod preflight;
pub mod report;
mod spec;
mod stages;
mod tally;

pub use calendar::{Calendar, Fault as CalendarFault, LATE_MAX_MS};
pub use course::{RESTORE_MAX_MS, Seen, Step, step};
pub use hypothesis::{Fault, Hypothesis, Metric, Term};
pub use judge::{QUIET_MS, judge, recovery_ms};
pub use preflight::{AppFacts, AppShare, ClusterFacts, Facts, preflight, refusal};
pub use spec::problems;
pub use stages::names as stage;
pub use tally::{Outcome, Tally, bounded};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
