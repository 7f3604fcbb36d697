//! Computes the plans. Only what changed is computed again.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use federation_core::api::Verdict;
use federation_core::contingency::{
    Finding, Free, Loss, Needs, Takeover, Wish, losses, rules, take_over, unfit,
};
use federation_core::{placement, template as core_template};
use federation_runtime::clock;
use proto::v1;

use super::{Contingency, Plan, PlanningContext};
use crate::decide::cluster_state::Snapshot;
use crate::decide::reconcile::observed;
use crate::observe::{Decided, Key, Template, World};

/// A workload that a loss concerns.
type Concerned = (Key, Arc<str>, Arc<Takeover>, Needs);

/// Hash of what users wrote that counts here, epoch of the decision of today, and [`Contingency::fingerprint`]. A status that is written changes
/// none of them.
type MadeFrom = (u64, u64, u64);

/// One workload's answers, and what they were made from.
pub(super) struct Remembered {
    made_from: MadeFrom,
    needs: Needs,
    /// By loss, in the order of [`losses`].
    takeovers: Vec<Option<Arc<Takeover>>>,
}

impl Contingency {
    /// Makes plans anew; false while that would say nothing: the views are not whole, nothing may move, or nobody was judged yet.
    pub(super) fn plan(&self, context: &PlanningContext) -> bool {
        let world = &self.0.world;
        let snapshot = context.cluster_state.snapshot();
        let unknown = |view: &placement::ClusterView| view.joined && view.verdict == Verdict::Unknown;
        if !world.is_synced()
            || snapshot.frozen.is_some()
            || snapshot.views.is_empty()
            || snapshot.views.iter().any(unknown)
        {
            return false;
        }
        let losses = losses(&snapshot.views);
        let surroundings = self.fingerprint(&snapshot, &losses);
        let mut keys: Vec<Key> =
            world.keys().into_iter().filter(|key| core_template::has_replicas(key.kind.kind)).collect();
        keys.sort_by_cached_key(ToString::to_string);
        let mut memory = std::mem::take(&mut self.0.state.lock().memory);
        let mut next = std::collections::HashMap::with_capacity(keys.len());
        let mut used: BTreeMap<String, (i64, Needs)> = BTreeMap::new();
        let mut concerned: Vec<Vec<Concerned>> = vec![Vec::new(); losses.len()];
        for key in keys {
            let (Some(template), Some(decided)) = (world.template(&key), world.decided(&key)) else {
                continue;
            };
            if template.deleting || decided.spec.template.uid != *template.uid {
                continue;
            }
            let made_from = (written(&template), decided.spec.epoch, surroundings);
            let known = memory.remove(&key).filter(|known| known.made_from == made_from);
            let Some(known) =
                known.or_else(|| self.ask(context, &snapshot, &losses, &template, &decided, made_from))
            else {
                continue;
            };
            for target in &decided.spec.clusters {
                let count = target.replicas.unwrap_or_default().max(0);
                let (pods, needs) = used.entry(target.name.clone()).or_default();
                *pods = pods.saturating_add(count);
                needs.cpu_millis =
                    needs.cpu_millis.saturating_add(known.needs.cpu_millis.saturating_mul(count));
                needs.memory_bytes =
                    needs.memory_bytes.saturating_add(known.needs.memory_bytes.saturating_mul(count));
            }
            for (at, takeover) in known.takeovers.iter().enumerate() {
                if let (Some(takeover), Some(workloads)) = (takeover, concerned.get_mut(at)) {
                    workloads.push((key.clone(), template.uid.clone(), takeover.clone(), known.needs));
                }
            }
            next.insert(key, known);
        }
        let free =
            snapshot.views.iter().map(|view| (view.name.clone(), free(context, &view.name, &used))).collect();
        let members: Vec<&str> =
            snapshot.views.iter().filter(|view| view.joined).map(|view| view.name.as_str()).collect();
        let council = council(context, &members, &self.0.world);
        let plans = losses
            .into_iter()
            .zip(concerned)
            .map(|(loss, workloads)| {
                let findings = findings(&loss, &members, &council, &workloads, &free);
                let workloads =
                    workloads.into_iter().map(|(key, uid, takeover, _)| (key, uid, takeover)).collect();
                Plan { loss, workloads, findings }
            })
            .collect();
        let mut state = self.0.state.lock();
        state.memory = next;
        state.plans = Arc::new(plans);
        state.council = council;
        true
    }

    fn ask(
        &self,
        context: &PlanningContext,
        snapshot: &Snapshot,
        losses: &[Loss],
        template: &Template,
        decided: &Decided,
        made_from: MadeFrom,
    ) -> Option<Remembered> {
        let view = core_template::Template::from_value(template.key.kind.plural, &template.object).ok()?;
        let (policies, cluster_policies) = self.0.world.policies();
        let reports = self.0.world.reports(&template.key);
        let observed = observed(&reports, &template.uid, Some(decided));
        let request = placement::Request {
            template: &view,
            policies: &policies,
            cluster_policies: &cluster_policies,
            clusters: &snapshot.views,
            current: Some(&decided.spec),
            observed: &observed,
            traffic_drained: &BTreeSet::new(),
            silent_ms: &BTreeMap::new(),
            defaults: context.defaults,
            frozen: None,
            restored: None,
            now_ms: clock::unix_ms(),
        };
        let takeovers = losses.iter().map(|loss| take_over(&request, loss).map(Arc::new)).collect();
        Some(Remembered { made_from, needs: Needs::of(&template.object), takeovers })
    }

    /// Of everything besides one object that its answers depend on. Readiness, which comes and goes, is left out.
    fn fingerprint(&self, snapshot: &Snapshot, losses: &[Loss]) -> u64 {
        let mut hash = std::collections::hash_map::DefaultHasher::new();
        for view in &snapshot.views {
            view.name.hash(&mut hash);
            view.labels.hash(&mut hash);
            format!("{:?}{:?}{}{}", view.spec, view.verdict, view.users_served, view.joined).hash(&mut hash);
            view.apis.hash(&mut hash);
        }
        for loss in losses {
            (&loss.name, &loss.clusters).hash(&mut hash);
        }
        let (policies, cluster_policies) = self.0.world.policies();
        let all = policies.iter().map(|policy| &policy.metadata);
        for metadata in all.chain(cluster_policies.iter().map(|policy| &policy.metadata)) {
            (&metadata.uid, &metadata.resource_version).hash(&mut hash);
        }
        hash.finish()
    }
}

fn written(template: &Template) -> u64 {
    let mut hash = std::collections::hash_map::DefaultHasher::new();
    template.uid.hash(&mut hash);
    core_template::generation(&template.object).hash(&mut hash);
    for map in ["/metadata/labels", "/metadata/annotations"] {
        template.object.pointer(map).hash(&mut hash);
    }
    hash.finish()
}

/// What a member has free: what its agent says, less what the federation placed there where that is more than the agent counts.
fn free(context: &PlanningContext, cluster: &str, used: &BTreeMap<String, (i64, Needs)>) -> Free {
    let capacity = context.cluster_state.member(cluster).heartbeat.and_then(|heartbeat| heartbeat.capacity);
    let Some(capacity) = capacity else { return Free::default() };
    let (pods, needs) = used.get(cluster).copied().unwrap_or_default();
    let left = |all: i64, requested: i64, placed: i64| (all > 0).then(|| all - requested.max(placed));
    Free {
        cpu_millis: left(capacity.cpu_allocatable_millis, capacity.cpu_requested_millis, needs.cpu_millis),
        memory_bytes: left(
            capacity.memory_allocatable_bytes,
            capacity.memory_requested_bytes,
            needs.memory_bytes,
        ),
        pods: left(i64::from(capacity.pods_allocatable), i64::from(capacity.pods_running), pods),
    }
}

/// The voters of today.
fn council(context: &PlanningContext, members: &[&str], world: &World) -> v1::Council {
    let points = context.zones.meeting_points().into_iter().map(|(instance, addresses)| v1::MeetingPoint {
        instance,
        addresses: addresses.iter().map(ToString::to_string).collect(),
    });
    let uid = |name: &str| {
        let cluster = world.cluster(name);
        cluster.and_then(|cluster| cluster.metadata.uid.clone()).unwrap_or_default()
    };
    v1::Council {
        clusters: members.iter().map(|name| (*name).to_owned()).collect(),
        servers: points.collect(),
        away_ms: context.away_ms,
        uids: members.iter().map(|name| uid(name)).collect(),
    }
}

fn findings(
    loss: &Loss,
    members: &[&str],
    council: &v1::Council,
    workloads: &[Concerned],
    free: &BTreeMap<String, Free>,
) -> Vec<Finding> {
    let names: Vec<String> = workloads.iter().map(|(key, ..)| key.to_string()).collect();
    let wishes: Vec<Wish<'_>> = workloads
        .iter()
        .zip(&names)
        .map(|((_, _, takeover, needs), workload)| Wish { workload, needs: *needs, takeover })
        .collect();
    let mut found = unfit(loss, members.len(), &wishes, free);
    let voters = council.clusters.len() + council.servers.len();
    let left = voters.saturating_sub(loss.clusters.len());
    if council.servers.is_empty() || left * 2 <= voters {
        let message = if council.servers.is_empty() {
            "no DNS server says where agents may meet (--meet-listen): nobody acts without the hub".to_owned()
        } else {
            format!(
                "{left} of {voters} voters would be left, which is no majority: nobody acts without the hub"
            )
        };
        found.push(Finding { rule: rules::NOBODY_TO_ASK, message, ..Finding::default() });
    }
    found
}
