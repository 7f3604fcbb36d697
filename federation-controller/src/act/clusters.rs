//! Writes the `.status` of each Cluster.
//!
//! A changed verdict is written at once, a heartbeat at most every 10 s: what changes each second belongs in metrics.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use parking_lot::Mutex;
use serde_json::json;

use federation_core::api::{API_VERSION, Cluster, ClusterStatus, Verdict, conditions};
use federation_runtime::clock::{self, Instant};
use federation_runtime::shutdown::Shutdown;
use proto::v1;

use crate::decide::cluster_state::{ClusterState, Member};
use crate::decide::queue::{Priority, Queue};
use crate::observe::World;

use super::write::Writer;

/// Heartbeats are written at most this often.
const EVERY: Duration = Duration::from_secs(10);

/// Writes the statuses of Clusters. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClusterStatuses {
    queue: Queue<String>,
    written: Arc<Mutex<HashMap<String, Instant>>>,
    world: World,
    cluster_state: ClusterState,
    writer: Writer,
}

impl ClusterStatuses {
    pub(crate) fn new(world: World, cluster_state: ClusterState, writer: Writer) -> Self {
        Self { queue: Queue::default(), written: Arc::default(), world, cluster_state, writer }
    }

    /// Something changed that others wait for.
    pub(crate) fn now(&self, cluster: &str) {
        self.queue.add(cluster.to_owned(), Priority::Urgent);
    }

    /// A heartbeat came.
    pub(crate) fn beat(&self, cluster: &str) {
        let due = self.written.lock().get(cluster).is_none_or(|written| written.elapsed() >= EVERY);
        if due {
            self.queue.add(cluster.to_owned(), Priority::Background);
        }
    }

    /// Writes until `shutdown`.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let statuses = &self;
        let look = |cluster: String| async move { statuses.write(cluster).await };
        self.queue.work("cluster-statuses", &shutdown, look).await;
    }

    async fn write(&self, cluster: String) {
        self.written.lock().insert(cluster.clone(), Instant::now());
        let Some(object) = self.world.cluster(&cluster) else { return };
        let member = self.cluster_state.member(&cluster);
        let frozen = self.cluster_state.snapshot().frozen.clone();
        let now = Timestamp::from_millisecond(clock::unix_ms()).unwrap_or_default();
        let status = status(&object, &member, frozen.as_deref(), now);
        if object.status.as_ref() == Some(&status) {
            return;
        }
        let collection = format!("/apis/{API_VERSION}/clusters");
        if let Err(error) = self.writer.put_status(&collection, &cluster, &json!(status)).await {
            tracing::warn!(%error, cluster, "the status of a cluster could not be written");
            self.queue.add_after(cluster, Priority::Background, Duration::from_secs(1));
        }
    }
}

/// The status of a Cluster, from what is known of it.
fn status(cluster: &Cluster, member: &Member, frozen: Option<&str>, now: Timestamp) -> ClusterStatus {
    let mut status = cluster.status.clone().unwrap_or_default();
    let generation = cluster.metadata.generation;
    let before = std::mem::take(&mut status.conditions);
    let mut all: BTreeMap<String, Condition> =
        before.into_iter().map(|condition| (condition.type_.clone(), condition)).collect();
    let mut set = |kind: &str, holds: Option<bool>, reason: &str, message: &str| {
        let word = match holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let since = all
            .get(kind)
            .filter(|old| old.status == word)
            .map_or(Time(now), |old| old.last_transition_time.clone());
        all.insert(
            kind.into(),
            Condition {
                type_: kind.into(),
                status: word.into(),
                reason: reason.into(),
                message: message.into(),
                observed_generation: generation,
                last_transition_time: since,
            },
        );
    };
    if let Some(hello) = &member.hello {
        set(
            conditions::JOINED,
            Some(true),
            "Connected",
            "the agent connected with the federation's certificate",
        );
        status.kubernetes_version.clone_from(&hello.kubernetes_version);
        status.agent_version.clone_from(&hello.agent_version);
        status.apis.clone_from(&hello.apis);
    }
    if let Some((view, epoch)) = &member.verdict {
        let word = format!("{:?}", view.verdict);
        let known = view.verdict != Verdict::Unknown;
        let healthy = view.verdict == Verdict::Healthy;
        set(conditions::READY, known.then_some(healthy), &word, &view.reason);
        let reachable = !matches!(view.verdict, Verdict::HubUnreachable | Verdict::Partitioned);
        set(conditions::REACHABLE, known.then_some(reachable), &word, &view.reason);
        let serving = (healthy || view.users_served) && cluster.spec.traffic_weight != Some(0);
        set(conditions::SERVING, known.then_some(serving), &word, &view.reason);
        status.verdict = Some(view.verdict);
        status.verdict_reason.clone_from(&view.reason);
        status.epoch = Some(*epoch);
        // The zero-th sub-second: metav1.Time has whole seconds.
        status.last_heartbeat_time = view
            .last_heartbeat_ms
            .and_then(|millis| Timestamp::from_second(millis / 1000).ok())
            .map(Time)
            .or_else(|| status.last_heartbeat_time.take());
    }
    let (agent_frozen, why) = member
        .heartbeat
        .as_ref()
        .map_or((false, ""), |heartbeat| (heartbeat.frozen, heartbeat.frozen_reason.as_str()));
    match frozen {
        Some(reason) => set(conditions::FROZEN, Some(true), "MassFailure", reason),
        None if agent_frozen => set(conditions::FROZEN, Some(true), "AgentFrozen", why),
        None => set(conditions::FROZEN, Some(false), "NotFrozen", ""),
    }
    if let Some(heartbeat) = &member.heartbeat {
        status.objects = Some(heartbeat.objects);
        status.certificate_not_after = Timestamp::from_second(heartbeat.certificate_not_after)
            .ok()
            .filter(|time| time.as_second() > 0)
            .map(Time);
        if let Some(capacity) = &heartbeat.capacity {
            fill(&mut status, capacity);
        }
    }
    status.conditions = all.into_values().collect();
    status
}

fn fill(status: &mut ClusterStatus, capacity: &v1::Capacity) {
    status.ready_nodes = Some(capacity.nodes_ready);
    status.allocatable = BTreeMap::from([
        ("cpu".to_owned(), format!("{}m", capacity.cpu_allocatable_millis)),
        ("memory".to_owned(), capacity.memory_allocatable_bytes.to_string()),
        ("pods".to_owned(), capacity.pods_allocatable.to_string()),
    ]);
    // Agents' numbers, which may be any.
    let cpu = capacity.cpu_allocatable_millis.saturating_sub(capacity.cpu_requested_millis);
    let memory = capacity.memory_allocatable_bytes.saturating_sub(capacity.memory_requested_bytes);
    status.free =
        BTreeMap::from([("cpu".to_owned(), format!("{cpu}m")), ("memory".to_owned(), memory.to_string())]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use federation_core::api::ClusterSpec;
    use federation_core::health::View;

    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let mut cluster = Cluster::new("taiwan", ClusterSpec::default());
        let mut member = Member {
            hello: Some(v1::Hello::default()),
            verdict: Some((
                View { verdict: Verdict::Healthy, last_heartbeat_ms: Some(1_000), ..View::default() },
                7,
            )),
            ..Member::default()
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let time = |status: &ClusterStatus, kind: &str| {
            status.conditions.iter().find(|condition| condition.type_ == kind).unwrap().last_transition_time.0
        };
        cluster.status = Some(status(&cluster, &member, None, at(10)));
        let later = status(&cluster, &member, None, at(20));
        assert_eq!(time(&later, conditions::READY), at(10));
        member.verdict.as_mut().unwrap().0.verdict = Verdict::HubUnreachable;
        let down = status(&cluster, &member, None, at(30));
        assert_eq!(time(&down, conditions::READY), at(30));
        assert_eq!(down.epoch, Some(7));
        assert_eq!(time(&down, conditions::JOINED), at(10));
    }
}
