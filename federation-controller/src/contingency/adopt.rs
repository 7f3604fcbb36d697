//! Adopting what agents did by contingency plans while this hub was away.

use std::collections::{BTreeMap, BTreeSet};

use federation_core::api::PlacementSpec;
use federation_core::contingency::{self, Act};
use federation_runtime::{clock, tasks};
use proto::v1;

use super::Contingency;
use crate::act::contingency_log::{self, ActedPlan, ActedWorkload};
use crate::decide::queue::{Priority, Queue};
use crate::observe::Key;

/// What one agent did, until every decision has taken it in.
#[derive(Debug, Default)]
pub(super) struct Pending {
    epoch: u64,
    revision: u64,
    lost: BTreeSet<String>,
    waits: BTreeMap<Key, Wait>,
}

#[derive(Debug)]
struct Wait {
    uid: String,
    replicas: i64,
    /// A decision that started from it is being made.
    seen: bool,
}

impl Contingency {
    /// An agent says that it acted. Its objects are decided anew, first of all.
    pub(crate) fn acted(&self, cluster: &str, acted: &v1::Acted, queue: &Queue<Key>) {
        let waits: BTreeMap<Key, Wait> = acted
            .raised
            .iter()
            .filter_map(|raised| {
                let key = Key::from_wire(raised.key.as_ref()?)?;
                let wait = Wait { uid: raised.uid.clone(), replicas: raised.replicas.into(), seen: false };
                Some((key, wait))
            })
            .collect();
        let keys: Vec<Key> = waits.keys().cloned().collect();
        tracing::warn!(
            cluster,
            losses = acted.losses.join(","),
            epoch = acted.epoch,
            "an agent acted on contingency plans while the hub was away"
        );
        let pending = Pending {
            epoch: acted.epoch,
            revision: acted.revision,
            lost: acted.clusters.iter().cloned().collect(),
            waits,
        };
        self.0.state.lock().pending.insert(cluster.to_owned(), pending);
        self.note(cluster, acted);
        if keys.is_empty() {
            self.taken_in_by(cluster);
        }
        for key in keys {
            queue.add(key, Priority::Urgent);
        }
    }

    /// The decision from which the next one of an object is to start, where agents did something since the last.
    pub(crate) fn adopt(&self, key: &Key, uid: &str, last: &PlacementSpec) -> Option<PlacementSpec> {
        let mut state = self.0.state.lock();
        let mut adopted = None;
        for (cluster, pending) in &mut state.pending {
            let Some(wait) = pending.waits.get_mut(key) else { continue };
            wait.seen = true;
            if wait.uid != uid {
                continue;
            }
            let act = Act {
                cluster: cluster.clone(),
                epoch: pending.epoch,
                revision: pending.revision,
                replicas: wait.replicas,
                lost: pending.lost.clone(),
            };
            adopted = contingency::adopt(adopted.as_ref().unwrap_or(last), &act).or(adopted);
        }
        adopted
    }

    /// The object was decided, and what its members are to hold was given to their sessions; or it is not federated any more.
    pub(crate) fn taken_in(&self, key: &Key, gone: bool) {
        let done: Vec<String> = {
            let mut state = self.0.state.lock();
            let mut done = Vec::new();
            for (cluster, pending) in &mut state.pending {
                if pending.waits.get(key).is_some_and(|wait| wait.seen || gone) {
                    pending.waits.remove(key);
                    if pending.waits.is_empty() {
                        done.push(cluster.clone());
                    }
                }
            }
            done
        };
        for cluster in done {
            self.taken_in_by(&cluster);
        }
    }

    fn taken_in_by(&self, cluster: &str) {
        let pending = self.0.state.lock().pending.remove(cluster);
        if let Some(pending) = pending {
            tracing::info!(
                cluster,
                revision = pending.revision,
                "what an agent did by contingency plans is adopted"
            );
            self.0.sessions.set_adopted(cluster, pending.revision);
        }
    }

    /// Tells people, once for each act.
    fn note(&self, cluster: &str, acted: &v1::Acted) {
        let workload = |raised: &v1::Raised| {
            let key = Key::from_wire(raised.key.as_ref()?)?;
            Some(ActedWorkload { workload: key.to_string(), replicas: raised.replicas })
        };
        let plan = ActedPlan {
            cluster: cluster.to_owned(),
            epoch: acted.epoch,
            revision: acted.revision,
            losses: acted.losses.clone(),
            workloads: acted.raised.iter().filter_map(workload).collect(),
            heard_ms: clock::unix_ms(),
        };
        {
            let mut state = self.0.state.lock();
            if state.acted.iter().any(|known| known.is_same(&plan)) {
                return;
            }
            state.acted.push(plan.clone());
            let surplus = state.acted.len().saturating_sub(contingency_log::KEPT);
            state.acted.drain(..surplus);
        }
        if let Some(object) = self.0.world.cluster(cluster) {
            let message = format!(
                "while the hub was away it took over at the loss {}, by the plans of epoch {}: {}",
                plan.losses.join(" and "),
                plan.epoch,
                plan.workloads
                    .iter()
                    .map(|workload| format!("{} runs {}", workload.workload, workload.replicas))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            self.0.recorder.cluster(&object, "Warning", "ContingencyPlanActed", &message);
        }
        let api = self.0.api.clone();
        tasks::spawn(async move {
            if let Err(error) = contingency_log::append(&api, &plan).await {
                tracing::warn!(%error, "what an agent did by contingency plans could not be kept for later");
            }
        });
    }

    /// What earlier runs of the controller were told.
    pub(super) async fn remember_acts(&self) {
        match contingency_log::read(&self.0.api).await {
            Ok(kept) => {
                let mut state = self.0.state.lock();
                let new: Vec<ActedPlan> = std::mem::take(&mut state.acted);
                state.acted = kept;
                for plan in new {
                    if !state.acted.iter().any(|known| known.is_same(&plan)) {
                        state.acted.push(plan);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "what agents did by contingency plans cannot be read"),
        }
    }
}
