//! One verdict per cluster, from everybody's votes, with hysteresis and a mass-failure interlock.
//!
//! A machine without a clock, [`Verdicts`]: feed it with [`Verdicts::observe`] (the agents' heartbeats) and [`Verdicts::vote`] (what
//! probers see of users' access), turn it with [`Verdicts::step`], at the latest when [`Verdicts::next_deadline_ms`] says so.
//!
//! Three steps, each pure: `vote` and `quorum` make one word of what the probers say, [`judge()`] looks that word and the agent's up in a
//! table, and `member` moves the verdict there at its pace:
//!
//! - *Fall*: so many heartbeats missed in a row are silence; so many in a row that say that the member's API server does not answer
//!   are its fall. A session that ends counts as one missed heartbeat at once. Probers have counted before they vote. Voters that
//!   disagree must do so for a while.
//! - *Rise*: so many good heartbeats in a row make a cluster `Healthy` again; from `Unknown` the first one does. Where users were not
//!   served, a quorum must see them served, or nobody look any more for a long time.
//! - *Flap damping*, after RFC 2439: each fall adds a penalty that decays by half each half-life. A cluster whose penalty is above the
//!   limit stays down until it has decayed to the reuse limit.
//! - *Mass failure* (`mass`): when MORE than a share (half) of the clusters that were well a window ago have fallen, or are about to,
//!   the fault is more likely here than there: [`Verdicts::frozen`] gives the reason, and nothing may move. If they fell silent
//!   while probers see users served, the reason says that the hub's own link is suspect. One of two is half, and fails over; two of
//!   two freezes. A single cluster never freezes: there is nowhere to move to. While frozen the verdicts go on telling the truth. It
//!   thaws when no more than the share of them is still down (and, where some came back, a moment later, for the others), or by [`Verdicts::thaw`], an operator's word; and the clock for
//!   evictions starts again then.
//! - *Own stalls*: if `step` is called much later than it asked for, this process was stopped, and the silence is its own.
//! - *Start*: every cluster is `Unknown` (on which nothing moves) until a heartbeat, or until the grace after the start is over.
//! - *Old votes* count for nothing: each for [`VOTE_LIFE_MS`], or longer where probes are rare.

mod judge;
mod mass;
mod member;
mod options;
mod quorum;
mod verdicts;
mod view;
mod vote;

pub use judge::{ApiServer, Evidence, Heartbeats, Rule, judge};
pub use options::Options;
pub use quorum::{Quorum, tally};
pub use verdicts::{Signal, Verdicts};
pub use view::{AgentWord, Change, Report, ReportedVote, Served, View};
pub use vote::{Outcome, VOTE_LIFE_MS, VOTERS_MAX, Vote, Voter};

use crate::api::Verdict;

/// Whether the verdict is one of those that say that something is wrong.
pub fn is_bad(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Healthy | Verdict::Unknown)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod voting;
