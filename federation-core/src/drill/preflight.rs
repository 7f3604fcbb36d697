//! Whether a drill may start.

use std::collections::BTreeMap;

use crate::api::{DrillFinding, DrillScope, FailoverDrillSpec};

use super::{Hypothesis, Metric};

/// What is known of the world when a drill wants to start, and while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Why nothing may move.
    pub frozen: Option<String>,
    /// Another drill that runs or is being restored.
    pub other: Option<String>,
    /// By name.
    pub clusters: BTreeMap<String, ClusterFacts>,
    /// None if there is no such Service.
    pub app: Option<AppFacts>,
    /// Vantages that will see what users see.
    pub vantages: usize,
}

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// The verdict is Healthy.
    pub healthy: bool,
    /// New replicas may come: neither cordoned nor tainted.
    pub open: bool,
    /// Its agent can behave as cut off, and come back by itself.
    pub isolable: bool,
}

/// The application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppFacts {
    /// Replicas that it wants, of all its workloads.
    pub wanted: i64,
    /// Milliseconds of a loss after which replicas are planned elsewhere.
    pub evict_after_ms: i64,
    /// By cluster name.
    pub shares: BTreeMap<String, AppShare>,
}

/// What of the application is in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppShare {
    /// Users are sent here.
    pub answered: bool,
    /// Replicas that exist.
    pub replicas: i64,
    /// Replicas that are ready.
    pub ready: i64,
    /// More replicas that fit; no bound is known if none.
    pub room: Option<i64>,
}

impl AppFacts {
    /// Sums over the clusters that are left.
    pub fn left(&self, lost: &[String], of: fn(&AppShare) -> i64) -> i64 {
        self.shares.iter().filter(|(name, _)| !lost.contains(name)).map(|(_, share)| of(share).max(0)).sum()
    }
}

/// Everything that speaks against starting, whether or not `spec.force` passes over it.
pub fn preflight(spec: &FailoverDrillSpec, facts: &Facts) -> Vec<DrillFinding> {
    let mut found = Vec::new();
    let mut say = |rule: &str, forcible: bool, message: String| {
        found.push(DrillFinding { rule: rule.into(), forcible, message });
    };
    if let Some(reason) = &facts.frozen {
        say("Frozen", false, format!("nothing moves now: {reason}"));
    }
    if let Some(other) = &facts.other {
        say("AnotherRuns", false, format!("drill {other} is not over yet"));
    }
    for name in &spec.lose {
        match facts.clusters.get(name) {
            None => say("NoSuchCluster", false, format!("{name} is no member")),
            Some(cluster) if !cluster.healthy => {
                say("NotHealthy", true, format!("{name} is not Healthy: its loss would measure nothing"));
            }
            Some(cluster) if spec.scope == DrillScope::Isolate && !cluster.isolable => {
                say(
                    "NotIsolable",
                    false,
                    format!("the agent of {name} does not know how to behave as cut off"),
                );
            }
            Some(_) => {}
        }
    }
    let left = |(name, _): &(&String, &ClusterFacts)| !spec.lose.contains(name);
    if !facts.clusters.iter().filter(left).any(|(_, cluster)| cluster.healthy) {
        say("NothingLeft", false, "no Healthy cluster would be left".into());
    }
    match &facts.app {
        None => say("NoSuchApp", false, format!("there is no federated Service {}", spec.app.key())),
        Some(app) => application(spec, facts, app, &mut say),
    }
    let measured = |term: &super::Term| matches!(term.metric, Metric::Errors | Metric::Duration(_));
    let terms = spec.hypothesis.parse::<Hypothesis>().unwrap_or_default().0;
    if facts.vantages == 0
        && let Some(term) = terms.iter().find(|term| measured(term))
    {
        say("NoVantage", true, format!("nobody looks from where users are, so that {term} cannot be told"));
    }
    found
}

/// What keeps a drill from starting.
pub fn refusal(spec: &FailoverDrillSpec, facts: &Facts) -> Option<DrillFinding> {
    preflight(spec, facts).into_iter().find(|finding| !finding.forcible || !spec.force)
}

fn application(
    spec: &FailoverDrillSpec,
    facts: &Facts,
    app: &AppFacts,
    say: &mut impl FnMut(&str, bool, String),
) {
    let key = spec.app.key();
    let left = |name: &String| {
        !spec.lose.contains(name) && facts.clusters.get(name).is_some_and(|cluster| cluster.healthy)
    };
    let touched = app.shares.iter().any(|(name, share)| spec.lose.contains(name) && share.answered);
    if !touched {
        say("NotServedThere", true, format!("users of {key} are not sent to {}", spec.lose.join(", ")));
    }
    let serves = app.shares.iter().any(|(name, share)| left(name) && share.ready > 0);
    if !serves && spec.scope == DrillScope::Traffic {
        say("NobodyServes", false, format!("no ready replica of {key} would be left"));
    }
    let terms = spec.hypothesis.parse::<Hypothesis>().unwrap_or_default().0;
    let ready = terms.iter().find(|term| term.metric == Metric::Ready);
    let staying = app.left(&spec.lose, |share| share.ready);
    if spec.scope == DrillScope::Traffic {
        // Nothing is created: what is ready elsewhere must do.
        if let Some(term) = ready.filter(|term| !term.holds_share(count(staying), count(app.wanted))) {
            let wanted = app.wanted;
            let message = format!(
                "{staying} of {wanted} replicas are ready in the clusters that are left, and the scope Traffic creates none: {term} cannot hold"
            );
            say("Capacity", true, message);
        }
        return;
    }
    let to_move: i64 =
        spec.lose.iter().filter_map(|name| app.shares.get(name)).map(|share| share.replicas).sum();
    let open = |name: &String| left(name) && facts.clusters.get(name).is_some_and(|cluster| cluster.open);
    // A cluster without a known bound takes them all.
    let mut rooms = app.shares.iter().filter(|(name, _)| open(name)).map(|(_, share)| share.room);
    let room = rooms.try_fold(0_i64, |sum, room| Some(sum.saturating_add(room?.max(0))));
    if let Some(room) = room.filter(|room| *room < to_move) {
        let message = format!(
            "{to_move} replicas would have to move, and {room} more fit in the clusters that are left"
        );
        say("Capacity", true, message);
    }
    if to_move > 0 && app.evict_after_ms >= spec.duration_ms() && (ready.is_some() || !serves) {
        let message = format!(
            "replicas are planned elsewhere after {} s, when the drill of {} s is over: raise durationSeconds, or lower evictAfterSeconds of the policy",
            app.evict_after_ms / 1000,
            spec.duration_ms() / 1000
        );
        say("EvictsTooLate", true, message);
    }
}

pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
