//! The verdicts with their reasons and votes, for operators.

use crate::api::Verdict;

use super::{Quorum, Rule, Vote, Voter};

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The Cluster's name.
    pub cluster: String,
    /// What it was.
    pub from: Verdict,
    /// What it is: the same, if only the rule changed.
    pub to: Verdict,
    /// The rule that decided.
    pub rule: Rule,
    /// For people.
    pub reason: String,
}

/// What is known of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: Rule,
    /// Since when, in Unix milliseconds; for bad verdicts not before the last thaw, nor before users were last seen served, so that
    /// evictions are counted from there.
    pub since_ms: i64,
    /// Why.
    pub reason: String,
    /// The last heartbeat, in Unix milliseconds.
    pub last_heartbeat_ms: Option<i64>,
    /// The probers' quorum sees users served: whatever the verdict, nobody needs to move.
    pub users_served: bool,
}

/// Everything that was said of one cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The outcome.
    pub view: View,
    /// The agent: its heartbeats, and through them its API server.
    pub agent: AgentWord,
    /// What the probers say together.
    pub data: Quorum,
    /// What each of them says of each Service, by Service and voter.
    pub votes: Vec<ReportedVote>,
    /// Penalty for flapping, in falls.
    pub penalty: f64,
    /// It is held down until the penalty has decayed.
    pub held_down: bool,
}

/// What the agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentWord {
    /// Milliseconds since its last heartbeat; none if there never was one.
    pub age_ms: Option<i64>,
    /// Heartbeats missed in a row.
    pub missed: u32,
    /// Its API server answers, as the last heartbeat said.
    pub api_ok: bool,
    /// Why not.
    pub api_message: String,
}

/// One prober's word on one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedVote {
    /// `namespace/name`.
    pub service: String,
    /// Who.
    pub voter: Voter,
    /// What.
    pub vote: Vote,
    /// Milliseconds since the last probe.
    pub age_ms: i64,
    /// Whether it counts: it is fresh, its prober trusts itself, and no other server of its identity speaks for it.
    pub counts: bool,
}

/// What the quorum says of users of one Service in one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// They are served.
    pub passing: bool,
    /// Milliseconds since the oldest vote that counts.
    pub age_ms: i64,
    /// For people.
    pub message: String,
}
