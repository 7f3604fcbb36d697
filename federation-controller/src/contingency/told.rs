//! Contingency plans, and what was done by them, for operators.

use proto::v1;

use super::{Contingency, Plan};
use crate::decide::cluster_state::ClusterState;

impl Contingency {
    /// Everything, by loss.
    pub(crate) fn told(&self, cluster_state: &ClusterState) -> v1::PlansResponse {
        let state = self.0.state.lock();
        let holder = |(cluster, (epoch, digest)): (&String, &(u64, u64))| {
            let beat = cluster_state.member(cluster).heartbeat.unwrap_or_default();
            v1::PlanHolder {
                cluster: cluster.clone(),
                epoch: beat.plans_epoch,
                current: (beat.plans_epoch, beat.plans_digest) == (*epoch, *digest),
                meets: beat.meets,
            }
        };
        v1::PlansResponse {
            epoch: state.epoch,
            council: Some(state.council.clone()),
            plans: state.plans.iter().map(plan).collect(),
            holders: state.shipped.iter().map(holder).collect(),
            acts: state
                .acted
                .iter()
                .map(|act| v1::PlanAct {
                    cluster: act.cluster.clone(),
                    epoch: act.epoch,
                    losses: act.losses.clone(),
                    heard_ms: act.heard_ms,
                    adopted: !state.pending.contains_key(&act.cluster),
                    workloads: act
                        .workloads
                        .iter()
                        .map(|done| v1::ActedWorkload {
                            workload: done.workload.clone(),
                            replicas: done.replicas,
                        })
                        .collect(),
                })
                .collect(),
        }
    }
}

fn plan(plan: &Plan) -> v1::PlanOfLoss {
    let workloads = plan.workloads.iter().map(|(key, _, takeover)| v1::PlannedWorkload {
        workload: key.to_string(),
        lost: takeover.lost,
        missing: takeover.missing,
        after_ms: u64::try_from(takeover.after_ms).unwrap_or(0),
        exclusive: takeover.exclusive,
        takes: takeover
            .takes
            .iter()
            .map(|(cluster, take)| v1::PlannedTake { cluster: cluster.clone(), from: take.from, to: take.to })
            .collect(),
        reasons: takeover
            .reasons
            .iter()
            .map(|reason| format!("{}: {}: {}", reason.cluster, reason.rule, reason.message))
            .collect(),
    });
    v1::PlanOfLoss {
        loss: plan.loss.name.clone(),
        clusters: plan.loss.clusters.iter().cloned().collect(),
        workloads: workloads.collect(),
        findings: plan
            .findings
            .iter()
            .map(|found| v1::PlanFinding {
                rule: found.rule.into(),
                cluster: found.cluster.clone(),
                workload: found.workload.clone(),
                message: found.message.clone(),
            })
            .collect(),
    }
}
