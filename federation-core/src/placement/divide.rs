//! Dividing or duplicating replicas over the clusters, according to their standing.

use std::collections::BTreeMap;

use crate::api::Verdict;
use crate::planner::{self, PlanRequest, Preferences};

use super::{Placed, Request, Standing, Wishes, rules};

/// Kinds without replicas: everywhere where they may be.
pub(super) fn without_replicas(request: &Request<'_>, placed: &mut [Placed<'_>]) {
    let elsewhere = placed.iter().any(|placed| stays(placed.standing));
    for placed in placed.iter_mut() {
        match placed.standing {
            // What serves nobody and costs nothing stays through a drain: workloads leave first, and their Secrets would be missed.
            Standing::Draining | Standing::Evicted => placed.leaving = true,
            Standing::Unselected => {
                placed.leaving = true;
                leave(request, placed, elsewhere);
            }
            Standing::Fixed => placed.leaving = placed.held.is_some_and(|held| held.leaving),
            Standing::Open | Standing::Capped | Standing::Refused => {}
        }
    }
}

/// Every cluster runs all replicas: a cluster is left once another one is as ready as the template wants.
pub(super) fn duplicate(request: &Request<'_>, replicas: i64, placed: &mut [Placed<'_>]) {
    let ready_elsewhere = placed.iter().any(|placed| {
        stays(placed.standing)
            && placed.observed(request).is_some_and(|observed| observed.ready >= replicas.max(1))
    });
    for placed in placed.iter_mut() {
        match placed.standing {
            Standing::Open | Standing::Capped => {
                placed.explain(rules::DUPLICATE, "runs all replicas");
                placed.replicas = all_replicas(request, placed, replicas);
            }
            Standing::Fixed => {
                placed.replicas = placed.held.and_then(|held| held.replicas);
                placed.leaving = placed.held.is_some_and(|held| held.leaving);
            }
            Standing::Evicted => placed.leaving = true,
            Standing::Draining | Standing::Unselected => {
                placed.leaving = true;
                // None means all of the template's replicas; 0 was decided earlier, and stays decided.
                let decided = placed.held.filter(|held| held.leaving).and_then(|held| held.replicas);
                placed.replicas = decided.or_else(|| all_replicas(request, placed, replicas));
                leave(request, placed, ready_elsewhere || replicas == 0);
            }
            Standing::Refused => {}
        }
    }
}

/// What "all replicas" are: what the template says. While it may say less than was wanted, because the store was restored, no cluster runs fewer
/// than it was told to; so that this is known of it at the next decision, the number is written down meanwhile.
fn all_replicas(request: &Request<'_>, placed: &mut Placed<'_>, replicas: i64) -> Option<i64> {
    let reason = request.restored?;
    let held = placed.held_replicas();
    if held > replicas {
        placed.explain(rules::STORE_RESTORED, format!("keeps {held}, and {replicas} are wanted: {reason}"));
    }
    Some(held.max(replicas))
}

/// The template's replicas are divided.
pub(super) fn divide(request: &Request<'_>, wishes: &Wishes<'_>, replicas: i64, placed: &mut [Placed<'_>]) {
    // What cannot be changed now counts as it is; the others share the rest.
    let is_fixed = |placed: &&Placed<'_>| {
        placed.standing == Standing::Fixed && !placed.held.is_some_and(|held| held.leaving)
    };
    let fixed: i64 = placed.iter().filter(is_fixed).map(Placed::held_replicas).sum();
    let plan = plan(request, wishes, (replicas - fixed).max(0), placed);
    let planned = |name: &str| plan.replicas.get(name).copied().unwrap_or_default();

    // Ready replicas that the plan keeps, and how many more than wanted are ready altogether.
    // Of those that run, the ones that the last decision took away are on their way out, whatever a report of before says: counted, they would
    // be spare a second time.
    let ready = |placed: &Placed<'_>| {
        placed.observed(request).map_or(0, |observed| observed.ready.clamp(0, placed.held_replicas().max(0)))
    };
    let wanted: i64 = plan.replicas.values().sum();
    let ready_staying: i64 = placed
        .iter()
        .filter(|placed| plan.replicas.contains_key(&placed.cluster.name))
        .map(|placed| ready(placed).min(planned(&placed.cluster.name)))
        .sum();
    let ready_open: i64 =
        placed.iter().filter(|placed| plan.replicas.contains_key(&placed.cluster.name)).map(ready).sum();
    // A share of a cluster that is not well is its own, and is no reason for others to give up what is ready: a user who asks for fewer
    // replicas while a cluster is lost would be left with the lost ones.
    let ready_fixed: i64 = placed
        .iter()
        .filter(is_fixed)
        .filter(|placed| placed.cluster.verdict == Verdict::Healthy)
        .map(ready)
        .sum();
    let needed = (wanted + fixed).min(replicas);
    let mut spare = (ready_open + ready_fixed - needed).max(0);
    // What is not ready by the last report may be by now, and be all that is. As long as nothing that stays is known to be ready, nobody
    // gives up everything; members give up first what is not ready.
    let least = i64::from(needed > 0 && ready_staying + ready_fixed == 0);
    let replaced = wanted > 0 && ready_staying + ready_fixed >= needed;

    for placed in placed.iter_mut() {
        match placed.standing {
            Standing::Open | Standing::Capped => {
                let name = placed.cluster.name.clone();
                let target = planned(&name);
                let why = plan.reasons.get(&name).cloned().unwrap_or_default();
                if plan.overflow.contains_key(&name) {
                    placed.explain(rules::OVERFLOW, why);
                } else if placed.standing == Standing::Open {
                    placed.explain(rules::WEIGHT, why);
                }
                placed.replicas = Some(shrink(request, placed, target, least, &mut spare));
            }
            Standing::Fixed => {
                placed.replicas = placed.held.map(|held| held.replicas.unwrap_or_default());
                placed.leaving = placed.held.is_some_and(|held| held.leaving);
            }
            Standing::Evicted => {
                placed.replicas = Some(placed.held_replicas());
                placed.leaving = true;
            }
            Standing::Draining | Standing::Unselected => {
                placed.replicas = Some(placed.held_replicas());
                placed.leaving = true;
                let nothing_to_lose = replicas == 0 || placed.held_replicas() == 0;
                leave(request, placed, replaced || nothing_to_lose);
            }
            Standing::Refused => {}
        }
    }
}

/// Asks the planner about every cluster whose number may change.
fn plan(request: &Request<'_>, wishes: &Wishes<'_>, replicas: i64, placed: &[Placed<'_>]) -> planner::Plan {
    let mut clusters = Vec::new();
    let mut current = BTreeMap::new();
    let mut capacity = BTreeMap::new();
    let mut returning = false;
    for placed in placed.iter().filter(|placed| stays(placed.standing)) {
        let name = placed.cluster.name.clone();
        let held = placed.held_replicas();
        // The last decision, not what is ready at the moment, is what stays: readiness that flickers moves nothing.
        if let Some(target) = placed.held {
            current.insert(name.clone(), held);
            returning |= target.leaving;
        }
        // It keeps what it has, and gets nothing more. What a cluster has free is not asked for: the scheduler there says what does not fit.
        if placed.standing == Standing::Capped {
            capacity.insert(name.clone(), held);
        }
        clusters.push(name);
    }
    // Nothing is moved for a nicer division while everything is held still.
    let rebalance = wishes.preferences.rebalance && request.frozen.is_none();
    let preferences = Preferences { rebalance, clusters: wishes.preferences.clusters.clone() };
    let key = request.template.key();
    let ask = |preferences: &Preferences, current: &BTreeMap<String, i64>| {
        let question = PlanRequest {
            preferences,
            replicas,
            clusters: &clusters,
            current,
            capacity: &capacity,
            key: &key,
        };
        planner::plan(&question)
    };
    if returning && !rebalance && current.values().sum::<i64>() > replicas {
        // More runs than is wanted because a cluster came back: each keeps at most its fair share, so that the surplus goes where
        // the failure put it, and not where the hash says.
        let fair =
            ask(&Preferences { rebalance: true, clusters: preferences.clusters.clone() }, &BTreeMap::new());
        for (name, count) in &mut current {
            *count = (*count).min(fair.replicas.get(name).copied().unwrap_or_default());
        }
    }
    ask(&preferences, &current)
}

/// The cluster that would get one replica, were there only one. Where a copy stands at zero says nothing of where the next one goes.
pub(super) fn one(request: &Request<'_>, wishes: &Wishes<'_>, placed: &[Placed<'_>]) -> Option<String> {
    let plan = plan(request, wishes, 1, placed);
    plan.replicas.into_iter().find(|(_, count)| *count > 0).map(|(name, _)| name)
}

/// Takes replicas away only as far as none that is ready is missed: those that are not ready first, then from what is spare. Leaves at least
/// `least`.
fn shrink(request: &Request<'_>, placed: &mut Placed<'_>, target: i64, least: i64, spare: &mut i64) -> i64 {
    let held = placed.held_replicas();
    if held <= target {
        return target;
    }
    if let Some(reason) = request.restored {
        placed.explain(rules::STORE_RESTORED, format!("keeps {held}, and {target} are wanted: {reason}"));
        return held;
    }
    let Some(observed) = placed.observed(request) else {
        placed.explain(
            rules::REPLACEMENT_NOT_READY,
            format!("keeps {held} until its state is known; the target is {target}"),
        );
        return held;
    };
    let unready = (held - observed.ready.max(0)).max(0);
    let from_spare = (held - target - unready).clamp(0, *spare);
    *spare -= from_spare;
    let kept = target.max(held - unready - from_spare).max(least);
    if kept > target {
        placed.explain(
            rules::REPLACEMENT_NOT_READY,
            format!("keeps {kept} until others are ready; the target is {target}"),
        );
    }
    kept
}

/// A leaving cluster gives its replicas up once they are replaced and nobody is sent there.
fn leave(request: &Request<'_>, placed: &mut Placed<'_>, replaced: bool) {
    let gone = placed.held.is_some_and(|held| held.leaving && held.replicas == Some(0));
    let drained = request.traffic_drained.contains(&placed.cluster.name);
    if !gone && !replaced {
        placed
            .explain(rules::REPLACEMENT_NOT_READY, "leaving: waits until its replacement is ready elsewhere");
    } else if !gone && !drained {
        placed.explain(rules::TRAFFIC_NOT_DRAINED, "leaving: waits until no DNS answer points here");
    } else if let Some(reason) = request.restored.filter(|_| !gone) {
        placed.explain(rules::STORE_RESTORED, format!("leaving: stays for now: {reason}"));
    } else if placed.standing == Standing::Unselected {
        give_up(placed);
    } else {
        placed.replicas = Some(0);
        placed.explain(rules::DRAINED, "its replicas are ready elsewhere");
    }
}

pub(super) fn give_up(placed: &mut Placed<'_>) {
    placed.standing = Standing::Refused;
    placed.leaving = false;
    placed.replicas = None;
}

/// Whether a cluster of this standing goes on running the object.
fn stays(standing: Standing) -> bool {
    matches!(standing, Standing::Open | Standing::Capped)
}
