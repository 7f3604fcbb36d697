//! Adopting what members did by contingency plans while the hub was away.

use std::collections::BTreeSet;

use crate::api::{AdoptedPlan, ClusterTarget, PlacementSpec};

/// What one member did with one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Act {
    /// The member's name.
    pub cluster: String,
    /// Epoch of the plans.
    pub epoch: u64,
    /// The member's own count of its acts.
    pub revision: u64,
    /// Replicas that it runs at least.
    pub replicas: i64,
    /// The clusters that were lost.
    pub lost: BTreeSet<String>,
}

/// The decision from which the next one starts: what the survivor runs is what it was told to run, and what was lost is being replaced. So
/// the survivor keeps its replicas until the lost cluster is back and takes its own by the planner's rules. `None` where the decision has taken
/// this act in already, or the member is not told to hold the object. Nobody is believed to run more than all were told to together, which is the
/// most that a plan gives to one, nor that a survivor lost itself.
pub fn adopt(current: &PlacementSpec, act: &Act) -> Option<PlacementSpec> {
    let known = current.adopted.iter().find(|known| known.cluster == act.cluster);
    if known.is_some_and(|known| (known.epoch, known.revision) >= (act.epoch, act.revision)) {
        return None;
    }
    let all = current.clusters.iter().filter_map(|target| target.replicas).fold(0, i64::saturating_add);
    let mut next = current.clone();
    let target = next.clusters.iter_mut().find(|target| target.name == act.cluster)?;
    let held = target.replicas?;
    target.replicas = Some(held.max(act.replicas.min(all)));
    let lost = |target: &&mut ClusterTarget| target.name != act.cluster && act.lost.contains(&target.name);
    for target in next.clusters.iter_mut().filter(lost) {
        (target.leaving, target.lost) = (true, true);
    }
    next.adopted.retain(|known| known.cluster != act.cluster);
    next.adopted.push(AdoptedPlan {
        cluster: act.cluster.clone(),
        epoch: act.epoch,
        revision: act.revision,
        replicas: act.replicas,
    });
    next.adopted.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_not_believed_to_have_done_more_than_a_plan_can_say() {
        let target =
            |name: &str| ClusterTarget { name: name.into(), replicas: Some(3), ..ClusterTarget::default() };
        let clusters = vec![target("taiwan"), target("tokyo")];
        let current = PlacementSpec { clusters, ..PlacementSpec::default() };
        let act = Act {
            cluster: "tokyo".into(),
            epoch: 7,
            revision: 1,
            replicas: i64::from(u32::MAX),
            lost: BTreeSet::from(["taiwan".into(), "tokyo".into()]),
        };
        let adopted = adopt(&current, &act).map(|adopted| adopted.clusters).unwrap_or_default();
        let told: Vec<_> = adopted.iter().map(|target| (target.replicas, target.leaving)).collect();
        assert_eq!(told, [(Some(3), true), (Some(6), false)]);
    }
}
