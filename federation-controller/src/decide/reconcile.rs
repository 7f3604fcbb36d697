//! One object: decide where it goes, write the decision, hand it to the sessions.
//!
//! Level-triggered and idempotent: everything is read again, and nothing depends on what changed. The order makes it safe to kill the
//! controller at any point: the finalizer and the Placement are durable before any member gets the object, and a cluster stays in the
//! Placement (as `leaving`) until its agent has acknowledged that the copy is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use federation_core::api::{FailoverPreference, PlacementSpec};
use federation_core::placement::{self, Decision, Defaults, Observed};
use federation_core::select::{self, NotFederated};
use federation_core::template as core_template;
use federation_runtime::{clock, tasks};

use super::cluster_state::{ClusterState, Snapshot};
use super::ledger::Ledger;
use super::moves::Moves;
use super::queue::{Priority, Queue};
use super::recover::{INVENTORY_WAIT, Recovery};
use super::removal::Gate;
use crate::act::events::Recorder;
use crate::act::write::{self, Writer};
use crate::contingency::Contingency;
use crate::drill::Drills;
use crate::epoch::{self, Epochs};
use crate::hub::sessions::Sessions;
use crate::metrics::{Metrics, MoveLabel};
use crate::observe::{Decided, Key, Reports, Template, World};
use crate::traffic::Traffic;

/// How long, and how often, an object waits for the decision about its Namespace. After that the agent's own retries do the rest.
const NAMESPACE_WAIT: (Duration, u8) = (Duration::from_millis(4), 10);

/// Why an object could not be worked on now. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("take an epoch")]
    Epoch(#[from] epoch::Error),
    #[error("write the decision")]
    Write(#[from] write::Error),
    #[error("read the template")]
    Template(#[from] core_template::TemplateError),
    #[error("reconcile")]
    Panicked(#[source] tasks::Panicked),
}

/// Everything that a reconciliation reads and writes.
#[derive(Clone)]
pub(crate) struct Reconciler {
    pub(crate) world: World,
    pub(crate) cluster_state: ClusterState,
    pub(crate) sessions: Sessions,
    pub(crate) writer: Writer,
    pub(crate) epochs: Epochs,
    pub(crate) queue: Queue<Key>,
    pub(crate) statuses: Queue<Key>,
    pub(crate) ledger: Ledger,
    pub(crate) gate: Gate,
    pub(crate) traffic: Traffic,
    pub(crate) drills: Drills,
    pub(crate) contingency: Contingency,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) defaults: Defaults,
    /// How long deleted templates are kept; zero: not at all.
    pub(crate) trash_grace: Duration,
}

/// What came of a look at an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// What is wanted of it was given to the sessions; or it waits for members to say what they hold ([`Recovery::Wait`]), or for an object that
    /// cannot be read. The initial sync does not wait for those: before it is over no agent's leases are renewed, and one agent that hangs must
    /// not stop what runs in the others. What members hold of the object counts as strays for the while, and of strays nothing is removed.
    Done,
    /// It waits for another object, and is looked at again by itself.
    Waits,
}

impl Reconciler {
    /// Works on one object.
    pub(crate) async fn reconcile(&self, key: &Key) -> Result<Looked, Error> {
        let Some(template) = self.world.template(key) else {
            self.contingency.taken_in(key, true);
            self.leave_orphan(key).await?;
            return Ok(Looked::Done);
        };
        // Where copies are is not known.
        if let Some(unread) = self.world.untaken_placement(key) {
            self.wait_for_unread(&template, &unread);
            return Ok(Looked::Done);
        }
        if template.deleting {
            self.contingency.taken_in(key, true);
            if template.finalized {
                self.delete(&template).await?;
            }
            return Ok(Looked::Done);
        }
        let view = core_template::Template::from_value(key.kind.plural, &template.object)?;
        let selected = || {
            let (policies, cluster_policies) = self.world.policies();
            select::policy(&view, &policies, &cluster_policies).is_some()
        };
        let federated = select::federated(&view, selected);
        if matches!(federated, Ok(()) | Err(NotFederated::NotSelected))
            && let Some(unread) = self.unread_policies(&template, &view)
        {
            self.wait_for_unread(&template, &unread);
            return Ok(Looked::Done);
        }
        if let Err(why) = federated {
            self.contingency.taken_in(key, true);
            // It was federated once, and its user took it back.
            if template.finalized || self.world.decided(key).is_some() {
                tracing::info!(%key, %why, "not federated any more: its copies are released");
                self.give_back(&template).await?;
            }
            return Ok(Looked::Done);
        }
        if self.must_wait_for_namespace(key, &template) {
            self.queue.add_after(key.clone(), Priority::Normal, NAMESPACE_WAIT.0);
            return Ok(Looked::Waits);
        }
        self.place(&template, &view).await?;
        Ok(Looked::Done)
    }

    async fn place(&self, template: &Arc<Template>, view: &core_template::Template) -> Result<(), Error> {
        let key = &template.key;
        let mut snapshot = self.cluster_state.snapshot();
        let reports = self.world.reports(key);
        let last = self.world.decided(key);
        // A namesake's decision says nothing of this object, but where the namesake's copies are.
        let former = last.clone().filter(|last| last.spec.template.uid != *template.uid);
        let last = last.filter(|last| last.spec.template.uid == *template.uid);
        let start = match self.start(template, view, &snapshot, last.clone()) {
            Recovery::From(start) => start,
            Recovery::Wait => {
                self.queue.add_after(key.clone(), Priority::Normal, INVENTORY_WAIT);
                return Ok(());
            }
        };
        if let Some(known) = self.without_unheard(view, &snapshot, start.as_deref()) {
            snapshot = Arc::new(known);
            self.queue.add_after(key.clone(), Priority::Normal, INVENTORY_WAIT);
        }
        let decision = self.decide(template, view, &snapshot, &reports, start.as_deref());
        let withdrawn = self.ledger.with(key, &template.uid, |entry| entry.withdrawn.clone());
        let (targets, going) =
            self.with_those_who_go(template, &snapshot, &decision, start.as_deref(), &withdrawn);

        let mut spec = decision.spec(view, 0);
        spec.clusters = targets;
        spec.adopted = start.as_ref().map(|start| start.spec.adopted.clone()).unwrap_or_default();
        spec.former =
            self.former_copies(template, &snapshot, former.or_else(|| last.clone()), &spec.clusters);
        let unchanged =
            last.as_ref().filter(|last| !last.lost && !placement::is_new(&last.spec, &spec, &withdrawn));
        let changed = unchanged.is_none();
        spec.epoch = match unchanged {
            Some(last) => last.spec.epoch,
            None => self.epochs.next().await?,
        };
        let finalized = self.write(template, &spec, last.is_some(), changed).await?;
        if changed {
            self.note_decided(template, last.as_deref(), &spec, &decision);
        }
        let mut current = template.clone();
        if let Some(finalized) = finalized {
            let mut newer = Template::read(key.kind, finalized?);
            newer.seen = template.seen;
            current = Arc::new(newer);
        }
        let explained = self.ledger.with(key, &template.uid, |entry| {
            let new = entry.reasons != decision.reasons;
            if new {
                entry.reasons.clone_from(&decision.reasons);
            }
            new
        });
        let stalled = self.stall(template, self.unread_traffic(template));
        let distributed = self.distribute(&current, &spec, &decision);
        self.release_unwanted(key, &spec.former, &decision).await?;
        self.let_go(&current, &spec, &snapshot, &reports, &going).await?;
        // An agent that acted gives up its own number for the manifest's, which must be there.
        if distributed {
            self.contingency.taken_in(key, false);
        }
        if changed || explained || stalled {
            self.statuses.add(key.clone(), Priority::Normal);
        }
        if let Some(at) = decision.next_check_ms {
            let wait = at.saturating_sub(clock::unix_ms()).max(1);
            self.queue.add_after(key.clone(), Priority::Normal, Duration::from_millis(wait as u64));
        }
        Ok(())
    }

    /// Where the next decision starts.
    fn start(
        &self,
        template: &Template,
        view: &core_template::Template,
        snapshot: &Snapshot,
        last: Option<Arc<Decided>>,
    ) -> Recovery {
        // From what members did while this hub was away.
        let adopted = last.as_ref().and_then(|last| {
            let spec = self.contingency.adopt(&template.key, &template.uid, &last.spec)?;
            Some(Arc::new(Decided { spec, ..Decided::clone(last) }))
        });
        self.recover(template, view, snapshot, adopted.or(last))
    }

    /// Writes the finalizer, if it is missing where there are to be copies, and the decision, if it `changed`. What came of the finalizer.
    async fn write(
        &self,
        template: &Template,
        spec: &PlacementSpec,
        known: bool,
        changed: bool,
    ) -> Result<Option<Result<Value, write::Error>>, Error> {
        let needs_finalizer = !template.finalized && !spec.clusters.is_empty();
        // Concurrently: they share a batch of the store.
        let (finalized, placed) = tokio::join!(
            async { if needs_finalizer { Some(self.writer.add_finalizer(template).await) } else { None } },
            async { if changed { self.writer.put_placement(template, spec, known).await } else { Ok(()) } }
        );
        let outcome = match (&placed, changed) {
            (Err(_), _) => "failed",
            (Ok(()), true) => "changed",
            (Ok(()), false) => "unchanged",
        };
        Metrics::count(&self.metrics.decisions, outcome);
        placed?;
        Ok(finalized)
    }

    /// A decision was written that differs from the last one.
    fn note_decided(
        &self,
        template: &Template,
        last: Option<&Decided>,
        spec: &PlacementSpec,
        decision: &Decision,
    ) {
        if let Some(last) = last {
            self.say_moves(template, &Moves::between(&last.spec, spec), decision);
        }
        let status = last.map(|last| last.status.clone()).unwrap_or_default();
        self.world.put_decided(&template.key, Decided { spec: spec.clone(), status, lost: false });
        self.sessions.set_epoch(spec.epoch);
        // Users leave before the workload does.
        let leaves = |spec: &PlacementSpec| spec.clusters.iter().any(|target| target.leaving);
        if leaves(spec) || last.is_some_and(|last| leaves(&last.spec)) {
            self.traffic.poke();
        }
    }

    /// Tells people what moves, and why.
    fn say_moves(&self, template: &Template, moves: &Moves, decision: &Decision) {
        if moves.is_empty() {
            return;
        }
        // What is counted of a cluster is forgotten when it leaves.
        for (cluster, count) in moves.each().filter(|(cluster, _)| self.world.cluster(cluster).is_some()) {
            let direction = if count > 0 { "in" } else { "out" };
            let label = MoveLabel { cluster: cluster.to_owned(), direction };
            self.metrics.moved.get_or_create(&label).inc_by(count.unsigned_abs());
        }
        let message = moves.told(&decision.reasons);
        tracing::info!(key = %template.key, %message, "replicas move");
        self.recorder.tell(template, "Normal", "ReplicasMoved", &message, "federation");
    }

    fn decide(
        &self,
        template: &Template,
        view: &core_template::Template,
        snapshot: &Snapshot,
        reports: &Reports,
        last: Option<&Decided>,
    ) -> Decision {
        let (policies, cluster_policies) = self.world.policies();
        let observed =
            if view.replicas.is_some() { observed(reports, &template.uid, last) } else { BTreeMap::new() };
        let exclusive = policies
            .iter()
            .map(|policy| &policy.spec)
            .chain(cluster_policies.iter().map(|policy| &policy.spec))
            .any(|spec| spec.failover.prefer == FailoverPreference::Exclusivity);
        let silent_ms = if exclusive { self.sessions.silent_ms() } else { BTreeMap::new() };
        let drained = self.traffic.drained(template, &self.world, snapshot);
        let rehearsed =
            self.drills.loss().and_then(|loss| loss.views(&self.world, template, &snapshot.views));
        placement::place(&placement::Request {
            template: view,
            policies: &policies,
            cluster_policies: &cluster_policies,
            clusters: rehearsed.as_deref().unwrap_or(&snapshot.views),
            current: last.map(|last| &last.spec),
            observed: &observed,
            traffic_drained: &drained,
            silent_ms: &silent_ms,
            defaults: self.defaults,
            frozen: snapshot.frozen.as_deref(),
            restored: self.epochs.restored().as_deref(),
            now_ms: clock::unix_ms(),
        })
    }

    /// Whether the Namespace is federated and has no decision yet. Waits a bounded time: the agent tries again anyway.
    fn must_wait_for_namespace(&self, key: &Key, template: &Template) -> bool {
        if !key.kind.namespaced || &*key.namespace == "default" {
            return false;
        }
        let namespace = namespace_of(key);
        if self.world.template(&namespace).is_none() || self.world.decided(&namespace).is_some() {
            return false;
        }
        self.ledger.with(key, &template.uid, |entry| {
            entry.waits = entry.waits.saturating_add(1);
            entry.waits <= NAMESPACE_WAIT.1
        })
    }
}

pub(super) fn namespace_of(key: &Key) -> Key {
    // KINDS starts with Namespace.
    Key::new(&crate::observe::KINDS[0], "", &key.namespace)
}

/// What runs, by the members' reports.
pub(crate) fn observed(reports: &Reports, uid: &str, last: Option<&Decided>) -> BTreeMap<String, Observed> {
    // A copy that was down before the decision that it be down may have been on its way up.
    let epoch = last.map_or(0, |last| last.spec.epoch);
    reports
        .iter()
        .filter(|(_, report)| report.uid == uid && report.current)
        .filter_map(|(cluster, report)| {
            let status = report.status.as_ref()?;
            let count = |field: &str| status.get(field).and_then(Value::as_i64).unwrap_or_default();
            let of_last_decision = report.status_epoch >= epoch;
            let down_since_ms = report.down_since_ms.filter(|_| of_last_decision);
            let (replicas, ready) = (count("replicas"), count("readyReplicas"));
            Some((cluster.clone(), Observed { replicas, ready, of_last_decision, down_since_ms }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use federation_core::api::ClusterTarget;
    use prometheus_client::registry::Registry;
    use serde_json::json;

    use super::*;
    use crate::act::events::Recorder;
    use crate::observe::Kind;
    use crate::testing;

    #[tokio::test]
    async fn what_moves_is_an_event_on_the_workload_and_counts_for_the_clusters_that_are_there() {
        let machine = testing::machine().await;
        let tokyo = json!({"apiVersion": "federation.rs/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "tokyo", "uid": "c"}, "spec": {}});
        machine.world.put_cluster(serde_json::from_value(tokyo).expect("a cluster"));
        let (recorder, mut told) = Recorder::heard();
        let metrics = Metrics::register(&mut Registry::default());
        let reconciler = Reconciler { recorder, metrics: metrics.clone(), ..machine.reconciler() };
        let object = json!({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}});
        let template = Template::read(Kind::find("apps", "deployments").expect("a kind"), object);
        let spec = |replicas: [(&str, i64); 2]| {
            let target = |(name, replicas): (&str, i64)| ClusterTarget {
                name: name.into(),
                replicas: Some(replicas),
                ..ClusterTarget::default()
            };
            PlacementSpec { clusters: replicas.map(target).into(), ..PlacementSpec::default() }
        };
        let moves = Moves::between(&spec([("left", 2), ("tokyo", 1)]), &spec([("left", 0), ("tokyo", 3)]));
        reconciler.say_moves(&template, &moves, &Decision::default());
        let message = "left 2 → 0, tokyo 1 → 3".to_owned();
        assert_eq!(told(), Some(("shop/web".to_owned(), "ReplicasMoved".to_owned(), message)));
        let count = |cluster: &str, direction| {
            let label = MoveLabel { cluster: cluster.into(), direction };
            metrics.moved.get(&label).map(|count| count.get())
        };
        assert_eq!((count("tokyo", "in"), count("left", "out")), (Some(2), None));
    }
}
