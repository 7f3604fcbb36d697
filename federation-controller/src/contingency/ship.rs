//! Sends each member its part of the plans.

use federation_core::contingency::is_mass_failure;
use hub_protocol::plans;
use proto::v1;

use super::{Contingency, Plan, PlanningContext};

impl Contingency {
    /// Gives every member what it does not have yet, at one new epoch. In the first seconds of a hub that no DNS server has dialled yet nothing
    /// is sent: the agents have an earlier hub's plans, with its council.
    pub(super) async fn ship(&self, context: &PlanningContext) {
        let (all, council) = {
            let state = self.0.state.lock();
            (state.plans.clone(), state.council.clone())
        };
        if council.servers.is_empty() && !context.zones.settled() {
            return;
        }
        let mut new = Vec::new();
        for cluster in &council.clusters {
            let part = part(cluster, &all, &council);
            let shipped = self.0.state.lock().shipped.get(cluster).map(|(_, digest)| *digest);
            if shipped != Some(part.digest) {
                new.push((cluster.clone(), part));
            }
        }
        if new.is_empty() {
            return;
        }
        let epoch = match context.epochs.next().await {
            Ok(epoch) => epoch,
            Err(error) => {
                tracing::warn!(%error, "no new epoch for contingency plans: agents keep those that they have");
                return;
            }
        };
        self.0.sessions.set_epoch(epoch);
        {
            let mut state = self.0.state.lock();
            state.epoch = epoch;
            state.shipped.retain(|cluster, _| council.clusters.contains(cluster));
        }
        tracing::debug!(epoch, members = new.len(), "contingency plans");
        for (cluster, part) in new {
            let digest = part.digest;
            self.0.sessions.set_plans(&cluster, v1::Plans { epoch, ..part });
            self.0.state.lock().shipped.insert(cluster, (epoch, digest));
        }
    }
}

/// What one member needs to know: every loss that it may survive, and what it takes over. What may run in one cluster at a time is not in
/// it: only the hub knows that nobody else runs it.
fn part(cluster: &str, all: &[Plan], council: &v1::Council) -> v1::Plans {
    let losses = all
        .iter()
        .filter(|plan| !plan.loss.clusters.contains(cluster))
        .filter(|plan| !is_mass_failure(plan.loss.clusters.len(), council.clusters.len()))
        .map(|plan| {
            let takes = plan.workloads.iter().filter_map(|(key, uid, takeover)| {
                let take = takeover.takes.get(cluster).filter(|_| !takeover.exclusive)?;
                Some(v1::Take {
                    key: Some(key.to_wire()),
                    uid: uid.to_string(),
                    from: u32::try_from(take.from).unwrap_or(0),
                    to: u32::try_from(take.to).unwrap_or(u32::MAX),
                    after_ms: u64::try_from(takeover.after_ms).unwrap_or(0),
                })
            });
            v1::LossPlan {
                name: plan.loss.name.clone(),
                clusters: plan.loss.clusters.iter().cloned().collect(),
                takes: takes.collect(),
                ..v1::LossPlan::default()
            }
        })
        .collect();
    let mut part = v1::Plans { council: Some(council.clone()), losses, ..v1::Plans::default() };
    part.digest = plans::digest(&part);
    part
}
