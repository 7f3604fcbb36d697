//! What survivors take over of one workload.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{FailoverPreference, Lease, PlacementSpec, Reason, Verdict};
use crate::placement::{self, ClusterView, Request};
use crate::select;

use super::Loss;

/// Decisions for one loss until nothing changes: what may run in one cluster at a time takes two, all else one.
const ROUNDS: usize = 4;

/// Replicas of one survivor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Take {
    /// By the decision of today.
    pub from: i64,
    /// Once the loss is acted on; more than `from`.
    pub to: i64,
}

/// What becomes of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Takeover {
    /// Replicas that the decision of today has in the clusters that are lost.
    pub lost: i64,
    /// By cluster name: survivors that run more than today.
    pub takes: BTreeMap<String, Take>,
    /// Lost replicas that find no place.
    pub missing: i64,
    /// Milliseconds for which the loss must have lasted: `evictAfter`; of what may run in one cluster at a time, the time after which
    /// the lease of the lost cluster has lapsed and its pods are gone, if that is longer.
    pub after_ms: i64,
    /// It may run in one cluster at a time.
    pub exclusive: bool,
    /// Why, one for each cluster, ordered by name.
    pub reasons: Vec<Reason>,
}

/// What the placement would decide of the request's object once the loss had lasted long enough; `None` where it concerns no replica.
///
/// The request is the one of the decision of today. Survivors are as they are in it: one that has a bad verdict takes nothing.
pub fn take_over(request: &Request<'_>, loss: &Loss) -> Option<Takeover> {
    let today = request.current?;
    let wanted = request.template.replicas?.max(0);
    let held = |lost: bool| {
        let targets = today.clusters.iter();
        targets.filter(move |target| loss.clusters.contains(&target.name) == lost && !target.leaving)
    };
    // Who duplicates runs everything everywhere already.
    let lost: i64 = held(true).filter_map(|target| target.replicas).sum();
    if lost <= 0 {
        return None;
    }
    let (decided, reasons) = decide(request, loss, today);
    let mut takes: BTreeMap<String, Take> = decided
        .clusters
        .iter()
        .filter(|target| !loss.clusters.contains(&target.name) && !target.leaving)
        .map(|target| {
            let from = held(false).find(|held| held.name == target.name).and_then(|held| held.replicas);
            let from = from.unwrap_or_default();
            (target.name.clone(), Take { from, to: target.replicas.unwrap_or_default().max(from) })
        })
        .collect();
    let running: i64 = held(false).filter_map(|target| target.replicas).sum();
    // A plan that takes nothing away gives no more than what is missing, whatever the planner would move besides.
    let mut spare = takes.values().map(|take| take.to).sum::<i64>() - wanted.max(running);
    for take in takes.values_mut().rev() {
        let less = spare.clamp(0, take.to - take.from);
        take.to -= less;
        spare -= less;
    }
    let runs: i64 = takes.values().map(|take| take.to).sum();
    takes.retain(|_, take| take.to > take.from);
    let exclusive = exclusive(request);
    let evict_after_ms = evict_after_ms(request);
    let after_ms = if exclusive {
        // The lost agents may go by an earlier decision's lease, or by none.
        held(true)
            .map(|target| target.lease.or(today.lease).and_then(Lease::takeover_ms).unwrap_or(i64::MAX))
            .chain([evict_after_ms, placement::takeover_ms(evict_after_ms, request.template.grace_ms)])
            .max()
            .unwrap_or(i64::MAX)
    } else {
        evict_after_ms
    };
    let missing = (wanted - runs).clamp(0, lost);
    Some(Takeover { lost, takes, missing, after_ms, exclusive, reasons })
}

fn decide(request: &Request<'_>, loss: &Loss, today: &PlacementSpec) -> (PlacementSpec, Vec<Reason>) {
    let clusters: Vec<ClusterView> = request
        .clusters
        .iter()
        .map(|cluster| {
            let mut cluster = cluster.clone();
            if loss.clusters.contains(&cluster.name) {
                cluster.verdict = Verdict::DataPlaneDown;
                cluster.since_ms = 0;
                cluster.users_served = false;
            }
            cluster
        })
        .collect();
    let lost = |name: &String| loss.clusters.contains(name);
    let mut observed = request.observed.clone();
    observed.retain(|name, _| !lost(name));
    let mut silent_ms = request.silent_ms.clone();
    silent_ms.extend(loss.clusters.iter().map(|name| (name.clone(), i64::from(u32::MAX) * 1000)));
    // Nobody is sent to what is lost.
    let mut traffic_drained: BTreeSet<String> = request.traffic_drained.clone();
    traffic_drained.extend(loss.clusters.iter().cloned());
    let mut current = today.clone();
    let mut reasons = Vec::new();
    for _ in 0..ROUNDS {
        let decision = placement::place(&Request {
            clusters: &clusters,
            current: Some(&current),
            observed: &observed,
            silent_ms: &silent_ms,
            traffic_drained: &traffic_drained,
            frozen: None,
            ..*request
        });
        let next = decision.spec(request.template, today.epoch);
        let settled = next.clusters == current.clusters;
        (current, reasons) = (next, decision.reasons);
        if settled {
            break;
        }
    }
    (current, reasons)
}

fn exclusive(request: &Request<'_>) -> bool {
    select::policy(request.template, request.policies, request.cluster_policies)
        .is_some_and(|policy| policy.spec.failover.prefer == FailoverPreference::Exclusivity)
}

fn evict_after_ms(request: &Request<'_>) -> i64 {
    select::policy(request.template, request.policies, request.cluster_policies)
        .and_then(|policy| policy.spec.failover.evict_after_seconds)
        .map_or(request.defaults.evict_after_ms, |seconds| i64::from(seconds) * 1000)
}
