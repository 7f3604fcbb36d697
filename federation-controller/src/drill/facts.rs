//! The driver's inputs, from what is observed.

use std::collections::BTreeMap;

use federation_core::api::{DrillScope, FailoverDrill, FailoverDrillSpec, TaintEffect, Verdict};
use federation_core::drill::{AppFacts, ClusterFacts, Facts};
use federation_core::{select, template};
use serde_json::Value;

use super::DrillContext;
use super::loss::{Loss, is_workload};
use crate::observe::{Reports, Template};

/// What the pre-flight asks for, and what the course goes by.
pub(super) fn facts(context: &DrillContext, drill: &FailoverDrill, other: Option<String>) -> Facts {
    let snapshot = context.cluster_state.snapshot();
    let clusters = snapshot
        .views
        .iter()
        .map(|view| {
            let tainted = |effect| view.spec.taints.iter().any(|taint| taint.effect == effect);
            let closed = view.spec.cordoned
                || tainted(TaintEffect::NoSchedule)
                || tainted(TaintEffect::NoExecute)
                || snapshot.leaving.contains_key(&view.name);
            let healthy = view.joined && view.verdict == Verdict::Healthy;
            let hello = context.cluster_state.member(&view.name).hello;
            let isolable = hello.is_some_and(|hello| hello.isolable);
            (view.name.clone(), ClusterFacts { healthy, open: !closed, isolable })
        })
        .collect();
    Facts {
        frozen: snapshot.frozen.clone(),
        other,
        clusters,
        app: app(context, &drill.spec),
        vantages: context.zones.addresses().len().min(1),
    }
}

/// The Service's workloads, with their reports.
fn workloads(context: &DrillContext, spec: &FailoverDrillSpec) -> Vec<(std::sync::Arc<Template>, Reports)> {
    let keys = context.world.keys_in(spec.app.namespace());
    let templates = keys.iter().filter_map(|key| context.world.template(key));
    templates
        .filter(|template| {
            !template.deleting && is_workload(&context.world, template, spec.app.namespace(), &spec.app.name)
        })
        .map(|template| {
            let reports = context.world.reports(&template.key);
            (template, reports)
        })
        .collect()
}

fn app(context: &DrillContext, spec: &FailoverDrillSpec) -> Option<AppFacts> {
    let services = context.world.services_in(spec.app.namespace());
    services.iter().find(|service| !service.deleting && *service.key.name == *spec.app.name)?;
    let (policies, cluster_policies) = context.world.policies();
    let mut facts = AppFacts { evict_after_ms: context.defaults.evict_after_ms, ..AppFacts::default() };
    for (cluster, answered) in answered(context, spec) {
        facts.shares.entry(cluster).or_default().answered |= answered;
    }
    let mut longest = None;
    for (workload, reports) in workloads(context, spec) {
        let count = |value: &Value, field: &str| value.get(field).and_then(Value::as_i64).unwrap_or_default();
        facts.wanted += workload.object.get("spec").map_or(0, |spec| count(spec, "replicas")).max(0);
        // The last of them to go is waited for.
        let mut evict_after_ms = context.defaults.evict_after_ms;
        if let Ok(view) = template::Template::from_value(workload.key.kind.plural, &workload.object)
            && let Some(policy) = select::policy(&view, &policies, &cluster_policies)
            && let Some(seconds) = policy.spec.failover.evict_after_seconds
        {
            evict_after_ms = i64::from(seconds) * 1000;
        }
        longest = longest.max(Some(evict_after_ms));
        for (cluster, report) in reports.iter().filter(|(_, report)| report.uid == *workload.uid) {
            let Some(status) = &report.status else { continue };
            let share = facts.shares.entry(cluster.clone()).or_default();
            share.replicas += count(status, "replicas");
            share.ready += count(status, "readyReplicas");
        }
    }
    facts.evict_after_ms = longest.unwrap_or(facts.evict_after_ms);
    for (cluster, share) in &mut facts.shares {
        share.room = room(context, cluster);
    }
    Some(facts)
}

/// More pods that a member can take, as far as its agent said.
fn room(context: &DrillContext, cluster: &str) -> Option<i64> {
    room_in(&context.cluster_state.member(cluster).heartbeat?.capacity?)
}

/// By number, and by what the nodes have left at all.
fn room_in(capacity: &proto::v1::Capacity) -> Option<i64> {
    let full = capacity.cpu_allocatable_millis > 0
        && capacity.cpu_requested_millis >= capacity.cpu_allocatable_millis
        || capacity.memory_allocatable_bytes > 0
            && capacity.memory_requested_bytes >= capacity.memory_allocatable_bytes;
    if full {
        return Some(0);
    }
    let left = i64::from(capacity.pods_allocatable) - i64::from(capacity.pods_running);
    (capacity.pods_allocatable > 0).then_some(left.max(0))
}

/// By cluster: whether users are sent there.
fn answered(context: &DrillContext, spec: &FailoverDrillSpec) -> BTreeMap<String, bool> {
    let Some(last) = context.traffic.last() else { return BTreeMap::new() };
    let key = spec.app.key();
    let mut answered = BTreeMap::new();
    for found in last.decision.explanations.iter().filter(|found| found.object == key) {
        *answered.entry(found.cluster.clone()).or_default() |= found.answered;
    }
    answered
}

/// Whether the last decision leaves the clusters out, and at what epoch and time it was made.
pub(super) fn decided(context: &DrillContext, loss: &Loss) -> Option<(u64, i64)> {
    let last = context.traffic.last()?;
    let key = format!("{}/{}", loss.namespace, loss.app);
    let mut own = last.decision.explanations.iter().filter(|found| found.object == key).peekable();
    own.peek()?;
    let none = own.all(|found| !found.answered || !loss.clusters.contains(&found.cluster));
    (none && last.at_ms >= loss.since_ms).then_some((last.epoch, last.at_ms))
}

/// Whether nothing shows any more that a cluster was lost: its agent is back, its verdict Healthy, its answers are decided anew and served
/// by every DNS server, and its replicas are not about to leave.
pub(super) fn restored(context: &DrillContext, loss: &Loss, ended_ms: i64) -> bool {
    let snapshot = context.cluster_state.snapshot();
    let back = |name: &String| {
        let view = snapshot.views.iter().find(|view| view.name == *name);
        // A cluster that left meanwhile has nothing to be given back.
        view.is_none_or(|view| view.verdict == Verdict::Healthy && context.sessions.is_connected(name))
    };
    if !loss.clusters.iter().all(back) {
        return false;
    }
    let Some(last) = context.traffic.last() else { return false };
    let message = loss.message();
    let told = last.decision.explanations.iter().any(|found| found.message.contains(&message));
    if last.at_ms < ended_ms || told || !context.zones.all_serve(last.epoch) {
        return false;
    }
    if loss.scope == DrillScope::Traffic {
        return true;
    }
    let keys = context.world.keys_in(&loss.namespace);
    let own = keys.iter().filter_map(|key| context.world.template(key));
    own.filter(|template| is_workload(&context.world, template, &loss.namespace, &loss.app)).all(|template| {
        let Some(decided) = context.world.decided(&template.key) else { return true };
        !decided.spec.clusters.iter().any(|target| target.leaving && loss.clusters.contains(&target.name))
    })
}

/// When decisions began to see the clusters as lost, and how they say so.
pub(super) fn detected(context: &DrillContext, loss: &Loss) -> BTreeMap<String, (i64, String)> {
    if loss.scope != DrillScope::Isolate {
        let told = |cluster: &String| (cluster.clone(), (loss.since_ms, "told by the drill".to_owned()));
        return loss.clusters.iter().map(told).collect();
    }
    let snapshot = context.cluster_state.snapshot();
    let bad = snapshot.views.iter().filter(|view| {
        loss.clusters.contains(&view.name)
            && !matches!(view.verdict, Verdict::Healthy | Verdict::Unknown)
            && view.since_ms >= loss.since_ms
    });
    bad.map(|view| (view.name.clone(), (view.since_ms, format!("the verdict became {:?}", view.verdict))))
        .collect()
}

#[cfg(test)]
mod tests {
    use proto::v1::Capacity;

    use super::*;

    #[test]
    fn a_member_has_room_for_what_its_nodes_can_take_less_what_they_run() {
        let member = |running, requested| Capacity {
            pods_allocatable: 110,
            pods_running: running,
            cpu_allocatable_millis: 4000,
            cpu_requested_millis: requested,
            ..Capacity::default()
        };
        assert_eq!(room_in(&member(0, 0)), Some(110));
        assert_eq!(room_in(&member(104, 1000)), Some(6));
        assert_eq!(room_in(&member(112, 1000)), Some(0));
        assert_eq!(room_in(&member(3, 4000)), Some(0));
        assert_eq!(room_in(&Capacity::default()), None, "nothing is known");
    }
}
