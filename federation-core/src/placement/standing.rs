//! The standing of a cluster for one object: whether the object may come, grow, shrink, or must leave.

use crate::api::{ClusterTarget, FailbackMode, Reason, Taint, TaintEffect, Verdict};
use crate::labels;

use super::{ClusterView, Placed, Request, Wishes};

/// What may happen to the object in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may come, grow, shrink.
    Open,
    /// It is here and may shrink, but not grow: cordoned, or a NoSchedule taint that came later.
    Capped,
    /// It is here and stays exactly as it is: the cluster cannot be seen well enough to change anything.
    Fixed,
    /// It is here, and moves away once its replacement is ready: a NoExecute taint.
    Draining,
    /// It is here, was lost for longer than `evictAfter`, and is replaced elsewhere; it stays in the plan for the cluster's return.
    Evicted,
    /// It is here and is not wanted here any more: it goes once its replacement is ready.
    Unselected,
    /// It is not here, and does not come.
    Refused,
}

/// Names of the rules in a Placement's reasons.
pub mod rules {
    /// Selected, nothing against it.
    pub const DEFAULT: &str = "Default";
    /// The policy's names, label selector or exclusions.
    pub const CLUSTER_SELECTION: &str = "ClusterSelection";
    /// Federation v1's annotation.
    pub const CLUSTER_SELECTOR: &str = "ClusterSelector";
    /// A Federation v1 annotation cannot be read.
    pub const INVALID_ANNOTATION: &str = "InvalidAnnotation";
    /// spec.cordoned.
    pub const CORDONED: &str = "Cordoned";
    /// A taint that is not tolerated.
    pub const TAINT: &str = "Taint";
    /// The member does not serve the API.
    pub const API_NOT_SERVED: &str = "ApiNotServed";
    /// The Cluster object cannot be read.
    pub const CLUSTER_UNREAD: &str = "ClusterUnread";
    /// The agent has not connected yet, or the hub does not take the cluster in.
    pub const NOT_JOINED: &str = "NotJoined";
    /// The verdict is not Healthy.
    pub const NOT_READY: &str = "NotReady";
    /// The verdict was bad for longer than evictAfter.
    pub const EVICTED: &str = "Evicted";
    /// It was lost, is well again, and does not get its share back yet.
    pub const FAILBACK_WAITS: &str = "FailbackWaits";
    /// Divided by weight.
    pub const WEIGHT: &str = "Weight";
    /// Its share is larger than what it has, and it gets nothing new.
    pub const OVERFLOW: &str = "Overflow";
    /// Every cluster runs all replicas.
    pub const DUPLICATE: &str = "Duplicate";
    /// Kept until what replaces it is ready.
    pub const REPLACEMENT_NOT_READY: &str = "ReplacementNotReady";
    /// Kept until no DNS answer points here.
    pub const TRAFFIC_NOT_DRAINED: &str = "TrafficNotDrained";
    /// Moved away.
    pub const DRAINED: &str = "Drained";
    /// The one cluster that runs what may run in one at a time, or is to.
    pub const EXCLUSIVE: &str = "Exclusive";
    /// Held, scaled to zero: another cluster runs it.
    pub const STANDBY: &str = "Standby";
    /// Not heard for longer than its lease: its agent has stopped the copy.
    pub const LEASE_LAPSED: &str = "LeaseLapsed";
    /// The verdict is bad, and users are served all the same, or the voters disagree about it.
    pub const USERS_SERVED: &str = "UsersServed";
    /// The store was restored from a backup, and nobody has said yet that what it says is what is wanted.
    pub const STORE_RESTORED: &str = "StoreRestored";
    /// Nothing moves: mass failure.
    pub const FROZEN: &str = "Frozen";
}

pub(super) struct Found {
    pub(super) standing: Standing,
    pub(super) reason: Reason,
}

/// Sorts one cluster. The first rule that speaks decides; what users want comes before what can be seen.
pub(super) fn of(
    request: &Request<'_>,
    wishes: &Wishes<'_>,
    cluster: &ClusterView,
    held: Option<&ClusterTarget>,
) -> Found {
    let found = |standing: Standing, rule: &str, message: String| Found {
        standing,
        reason: Reason {
            cluster: cluster.name.clone(),
            selected: standing != Standing::Refused,
            rule: rule.into(),
            message,
        },
    };
    let is_held = held.is_some();
    let seen = cluster.joined && cluster.verdict == Verdict::Healthy;
    // A cluster that cannot be seen is not told anything new, not even to go.
    let or_refused = |standing: Standing| if is_held { standing } else { Standing::Refused };

    if cluster.unread {
        let message = "its Cluster object cannot be read: nothing changes there until it can, or is gone";
        return found(or_refused(Standing::Fixed), rules::CLUSTER_UNREAD, message.into());
    }
    if let Some((rule, message)) = unselected(wishes, cluster) {
        let standing = match (is_held, request.frozen.is_some() || cluster.verdict == Verdict::Unknown, seen)
        {
            (false, ..) => Standing::Refused,
            (true, true, _) => Standing::Fixed,
            (true, false, true) => Standing::Unselected,
            // It cannot be told to go; its replicas need not wait for that.
            (true, false, false) => Standing::Evicted,
        };
        let mut found = found(standing, rule, message);
        found.reason.selected = false;
        return found;
    }
    if !cluster.joined || cluster.spec.hub_accepts == Some(false) {
        let why = if cluster.joined { "spec.hubAccepts is false" } else { "its agent has not connected yet" };
        return found(or_refused(Standing::Fixed), rules::NOT_JOINED, why.into());
    }
    if cluster.verdict != Verdict::Healthy {
        return not_healthy(request, wishes, cluster, is_held, &found);
    }
    if !cluster.apis.is_empty() && !cluster.apis.contains(&request.template.api()) {
        let message = format!("it does not serve {}", request.template.api());
        return found(or_refused(Standing::Fixed), rules::API_NOT_SERVED, message);
    }
    if held.is_some_and(|held| held.leaving && held.lost)
        && taint(wishes, cluster, TaintEffect::NoExecute).is_none()
        && let Some(message) = failback(request, wishes, cluster)
    {
        // As it was while it was lost: its users stay away with its replicas.
        return found(Standing::Evicted, rules::FAILBACK_WAITS, message);
    }
    if let Some(taint) = taint(wishes, cluster, TaintEffect::NoExecute) {
        let standing = match (is_held, request.frozen) {
            (false, _) => Standing::Refused,
            (true, None) => Standing::Draining,
            (true, Some(_)) => Standing::Fixed,
        };
        return found(standing, rules::TAINT, format!("taint {}:NoExecute is not tolerated", taint.key));
    }
    if let Some(taint) = taint(wishes, cluster, TaintEffect::NoSchedule) {
        let message = format!("taint {}:NoSchedule is not tolerated", taint.key);
        return found(or_refused(Standing::Capped), rules::TAINT, message);
    }
    if cluster.spec.cordoned {
        return found(or_refused(Standing::Capped), rules::CORDONED, "cordoned: no new placements".into());
    }
    found(Standing::Open, rules::DEFAULT, "selected".into())
}

fn not_healthy(
    request: &Request<'_>,
    wishes: &Wishes<'_>,
    cluster: &ClusterView,
    is_held: bool,
    found: &dyn Fn(Standing, &str, String) -> Found,
) -> Found {
    let verdict = cluster.verdict;
    if !is_held {
        return found(Standing::Refused, rules::NOT_READY, format!("the verdict is {verdict:?}"));
    }
    // Unknown is no vote: nothing moves on it, however long it lasts.
    if verdict == Verdict::Unknown {
        return found(Standing::Fixed, rules::NOT_READY, "no verdict yet: existing copies stay".into());
    }
    if let Some(reason) = request.frozen {
        return found(
            Standing::Fixed,
            rules::FROZEN,
            format!("the verdict is {verdict:?}, but nothing moves: {reason}"),
        );
    }
    if taint(wishes, cluster, TaintEffect::NoExecute).is_some() {
        return found(
            Standing::Evicted,
            rules::EVICTED,
            format!("the verdict is {verdict:?}, and it is being drained"),
        );
    }
    if cluster.users_served {
        let message = format!("the verdict is {verdict:?}, but probes see users served: nothing moves");
        return found(Standing::Fixed, rules::USERS_SERVED, message);
    }
    if verdict == Verdict::Partitioned {
        let message = "some see users served there and others do not: nothing moves".into();
        return found(Standing::Fixed, rules::USERS_SERVED, message);
    }
    let left = cluster.since_ms.saturating_add(wishes.evict_after_ms).saturating_sub(request.now_ms);
    if left > 0 {
        let message =
            format!("the verdict is {verdict:?}; replicas move after {} s", wishes.evict_after_ms / 1000);
        return found(Standing::Fixed, rules::NOT_READY, message);
    }
    let message = format!(
        "the verdict was {verdict:?} for more than {} s: replaced elsewhere",
        wishes.evict_after_ms / 1000
    );
    found(Standing::Evicted, rules::EVICTED, message)
}

/// Why a cluster that is well again does not get its share back yet.
fn failback(request: &Request<'_>, wishes: &Wishes<'_>, cluster: &ClusterView) -> Option<String> {
    let failback = &wishes.policy.failover.failback;
    let said = || cluster.failback_ms.is_some_and(|said| said >= cluster.since_ms);
    if failback.mode == FailbackMode::Manual && !said() {
        return Some(format!(
            "it has recovered, and gets its share back when an operator allows it: fedctl failback {}",
            cluster.name
        ));
    }
    let seconds = failback.after_seconds.unwrap_or(0);
    (failback_at_ms(wishes, cluster) > request.now_ms).then(|| {
        format!("it has recovered, and gets its share back when it has been healthy for {seconds} s")
    })
}

fn failback_at_ms(wishes: &Wishes<'_>, cluster: &ClusterView) -> i64 {
    let seconds = wishes.policy.failover.failback.after_seconds.unwrap_or(0);
    cluster.since_ms.saturating_add(i64::from(seconds) * 1000)
}

/// When the passing of time will change this cluster's standing.
pub(super) fn deadline_ms(request: &Request<'_>, wishes: &Wishes<'_>, placed: &Placed<'_>) -> Option<i64> {
    if placed.standing == Standing::Evicted && placed.reason.rule == rules::FAILBACK_WAITS {
        let at_ms = failback_at_ms(wishes, placed.cluster);
        return (at_ms > request.now_ms).then_some(at_ms);
    }
    let waits = placed.standing == Standing::Fixed && placed.reason.rule == rules::NOT_READY;
    let deadline = placed.cluster.since_ms.saturating_add(wishes.evict_after_ms);
    (waits && placed.cluster.verdict != Verdict::Unknown && deadline > request.now_ms).then_some(deadline)
}

fn unselected(wishes: &Wishes<'_>, cluster: &ClusterView) -> Option<(&'static str, String)> {
    let selection = &wishes.policy.clusters;
    if !selection.names.is_empty() && !selection.names.contains(&cluster.name) {
        return Some((rules::CLUSTER_SELECTION, "spec.clusters.names does not name it".into()));
    }
    if selection.exclude.contains(&cluster.name) {
        return Some((rules::CLUSTER_SELECTION, "spec.clusters.exclude names it".into()));
    }
    if selection.label_selector.as_ref().is_some_and(|selector| !labels::matches(selector, &cluster.labels)) {
        return Some((rules::CLUSTER_SELECTION, "spec.clusters.labelSelector does not select it".into()));
    }
    if !wishes.v1_selector.iter().all(|requirement| requirement.matches(&cluster.labels)) {
        return Some((rules::CLUSTER_SELECTOR, "the cluster-selector annotation does not select it".into()));
    }
    None
}

fn taint<'a>(wishes: &Wishes<'_>, cluster: &'a ClusterView, effect: TaintEffect) -> Option<&'a Taint> {
    let tolerated = |taint: &Taint| {
        wishes.policy.clusters.tolerations.iter().any(|toleration| {
            (toleration.key.is_empty() || toleration.key == taint.key)
                && toleration.value.as_ref().is_none_or(|value| *value == taint.value)
        })
    };
    cluster.spec.taints.iter().find(|taint| taint.effect == effect && !tolerated(taint))
}
