//! One object: decide where it goes, write the decision, hand it to the sessions.
//!
//! Level-triggered: everything is read anew, nothing says what changed, and doing it twice does nothing. The order keeps a
//! killed controller harmless: the finalizer and the Placement are durable before any member hears of the object, and a
//! cluster stays in the Placement (as `leaving`) until its agent has acknowledged that the copy is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use federation_core::api::{ClusterTarget, Conflict, PlacementSpec, Propagation, marks};
use federation_core::gate::{self, Cause, Replacement};
use federation_core::placement::{self, Decision, Defaults, Observed};
use federation_core::{render, select, template as core_template};
use hub_protocol::hub::Desired;
use proto::v1;

use super::board::{Board, Snapshot, Unjoin};
use super::ledger::Ledger;
use super::queue::{Priority, Queue};
use super::removal::Gate;
use crate::act::events::Recorder;
use crate::act::write::{self, Writer};
use crate::epoch::{self, Epochs};
use crate::hub::sessions::Sessions;
use crate::metrics::Metrics;
use crate::observe::{Decided, Key, Reports, Template, World};
use crate::traffic::Traffic;

/// After a refusal of the gate the question is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Contents wait for their Namespace's decision this long, and this often; the agent's own retries do the rest.
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
}

/// Everything that a reconciliation reads and writes.
#[derive(Clone)]
pub(crate) struct Reconciler {
    pub(crate) world: World,
    pub(crate) board: Board,
    pub(crate) sessions: Sessions,
    pub(crate) writer: Writer,
    pub(crate) epochs: Epochs,
    pub(crate) queue: Queue<Key>,
    pub(crate) statuses: Queue<Key>,
    pub(crate) ledger: Ledger,
    pub(crate) gate: Gate,
    pub(crate) traffic: Traffic,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) defaults: Defaults,
}

impl Reconciler {
    /// Works on one object.
    pub(crate) async fn reconcile(&self, key: &Key) -> Result<(), Error> {
        let Some(template) = self.world.template(key) else {
            return self.leave_orphan(key).await;
        };
        if template.deleting {
            return if template.finalized { self.delete(&template).await } else { Ok(()) };
        }
        let view = core_template::Template::from_value(key.kind.plural, &template.object)?;
        if let Err(why) = select::federated(&view) {
            // It was federated once, and its user took it back.
            if template.finalized || self.world.decided(key).is_some() {
                tracing::info!(%key, %why, "not federated any more: its copies are released");
                return self.give_back(&template).await;
            }
            return Ok(());
        }
        if self.must_wait_for_namespace(key, &template) {
            self.queue.add_after(key.clone(), Priority::Normal, NAMESPACE_WAIT.0);
            return Ok(());
        }
        self.place(&template, &view).await
    }

    async fn place(&self, template: &Arc<Template>, view: &core_template::Template) -> Result<(), Error> {
        let key = &template.key;
        let snapshot = self.board.snapshot();
        let reports = self.world.reports(key);
        let last = self.world.decided(key);
        let decision = self.decide(template, view, &snapshot, &reports, last.as_deref());
        let (targets, going) = self.with_those_who_go(template, &snapshot, &decision, last.as_deref());

        let mut spec = decision.spec(view, 0);
        spec.clusters = targets;
        let changed = last.as_ref().is_none_or(|last| differs(&last.spec, &spec));
        let mut current = template.clone();
        if changed {
            spec.epoch = self.epochs.next().await?;
        } else if let Some(last) = &last {
            spec.epoch = last.spec.epoch;
        }
        let needs_finalizer = !template.finalized && !spec.clusters.is_empty();
        // Concurrently: they share a batch of the store.
        let (finalized, placed) = tokio::join!(
            async { if needs_finalizer { Some(self.writer.add_finalizer(template).await) } else { None } },
            async {
                if changed {
                    self.writer.put_placement(template, &spec, last.is_some()).await
                } else {
                    Ok(())
                }
            }
        );
        Metrics::count(
            &self.metrics.decisions,
            match (&placed, changed) {
                (Err(_), _) => "failed",
                (Ok(()), true) => "changed",
                (Ok(()), false) => "unchanged",
            },
        );
        placed?;
        if changed {
            let status = last.as_ref().map(|last| last.status.clone()).unwrap_or_default();
            self.world.put_decided(key, Decided { spec: spec.clone(), status });
            self.sessions.set_epoch(spec.epoch);
        }
        if let Some(finalized) = finalized {
            let mut newer = Template::read(key.kind, finalized?);
            newer.seen = template.seen;
            current = Arc::new(newer);
        }
        let explained = self.ledger.with(key, &template.uid, |entry| {
            let same = entry.reasons == decision.reasons;
            if !same {
                entry.reasons.clone_from(&decision.reasons);
            }
            !same
        });
        self.hand_out(&current, &spec, &decision);
        self.let_go(&current, &spec, &snapshot, &reports, &going).await?;
        if changed || explained {
            self.statuses.add(key.clone(), Priority::Normal);
        }
        if let Some(at) = decision.next_check_ms {
            let wait = at.saturating_sub(Timestamp::now().as_millisecond()).max(1);
            self.queue.add_after(key.clone(), Priority::Normal, Duration::from_millis(wait as u64));
        }
        Ok(())
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
            if view.replicas.is_some() { observed(reports, &template.uid) } else { BTreeMap::new() };
        let drained = self.traffic.drained(template, &self.world, snapshot);
        placement::place(&placement::Request {
            template: view,
            policies: &policies,
            cluster_policies: &cluster_policies,
            clusters: &snapshot.views,
            current: last.map(|last| &last.spec).filter(|spec| spec.template.uid == *template.uid),
            observed: &observed,
            capacity: &BTreeMap::new(),
            traffic_drained: &drained,
            defaults: self.defaults,
            frozen: snapshot.frozen.as_deref(),
            now_ms: Timestamp::now().as_millisecond(),
        })
    }

    /// The decision's targets, and those clusters of the last decision that are still to give their copy up.
    fn with_those_who_go(
        &self,
        template: &Template,
        snapshot: &Snapshot,
        decision: &Decision,
        last: Option<&Decided>,
    ) -> (Vec<ClusterTarget>, Vec<ClusterTarget>) {
        let mut targets = decision.clusters.clone();
        let wanted: BTreeSet<&str> = decision.clusters.iter().map(|target| target.name.as_str()).collect();
        let gone = self.ledger.with(&template.key, &template.uid, |entry| {
            entry.gone.retain(|name| !wanted.contains(name.as_str()));
            entry.gone.clone()
        });
        let going: Vec<ClusterTarget> = last
            .map(|last| last.spec.clusters.as_slice())
            .unwrap_or_default()
            .iter()
            .filter(|held| !wanted.contains(held.name.as_str()) && !gone.contains(&held.name))
            .filter(|held| self.is_asked(&held.name, snapshot))
            .map(|held| {
                // A cluster that detaches loses every copy at once: that is not worth a write for each.
                let detaches = snapshot.leaving.get(&held.name) == Some(&Unjoin::Detach);
                ClusterTarget { leaving: held.leaving || !detaches, ..held.clone() }
            })
            .collect();
        targets.extend(going.iter().cloned());
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        (targets, going)
    }

    /// Whether a cluster that holds a copy must acknowledge that it is gone: not if it has left, or is forgotten.
    fn is_asked(&self, cluster: &str, snapshot: &Snapshot) -> bool {
        self.world.cluster(cluster).is_some() && snapshot.leaving.get(cluster) != Some(&Unjoin::Forget)
    }

    /// Gives each target's rendering to its session.
    fn hand_out(&self, template: &Template, spec: &PlacementSpec, decision: &Decision) {
        let key = &template.key;
        let policy = format!("{}@{}", decision.policy, decision.policy_generation.unwrap_or_default());
        let version = (template.resource_version.clone(), spec.epoch, policy);
        let fingerprint = fingerprint(&template.object);
        let own_generation = core_template::generation(&template.object);
        let generation = self.ledger.with(key, &template.uid, |entry| {
            if entry.rendered.as_ref() == Some(&version) {
                return None;
            }
            entry.rendered = Some(version);
            // Where there is a metadata.generation it rises with what is wanted, and is what users see.
            let generation = match entry.wanted {
                Some((last, generation)) if last == fingerprint && template.generation().is_none() => {
                    generation
                }
                _ => own_generation,
            };
            entry.wanted = Some((fingerprint, generation));
            Some(generation)
        });
        let Some(generation) = generation else { return };
        let mut object = Value::clone(&template.object);
        if template.generation().is_none()
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("resourceVersion".into(), generation.to_string().into());
        }
        for target in &decision.clusters {
            match render::render(&object, target, &decision.overrides, spec.epoch) {
                Ok(manifest) => self.sessions.desire(
                    &target.name,
                    Desired {
                        key: key.to_wire().into(),
                        uid: template.uid.to_string(),
                        generation,
                        epoch: spec.epoch,
                        manifest: manifest.to_string().into(),
                        conflict: conflict(decision.conflict),
                    },
                ),
                Err(error) => {
                    let message = format!("{}: {error}", target.name);
                    self.recorder.warn(template, "FailedRender", &message, &target.name);
                    self.world.report(key, &target.name, |report| {
                        report.not_rendered(&template.uid, &error.to_string());
                    });
                    self.statuses.add(key.clone(), Priority::Normal);
                }
            }
        }
    }

    /// Asks the gate for each copy that is not wanted any more, and lets it go.
    async fn let_go(
        &self,
        template: &Template,
        spec: &PlacementSpec,
        snapshot: &Snapshot,
        reports: &Reports,
        going: &[ClusterTarget],
    ) -> Result<(), Error> {
        let stays =
            |target: &ClusterTarget| !target.leaving && going.iter().all(|gone| gone.name != target.name);
        let others: Vec<&ClusterTarget> = spec.clusters.iter().filter(|target| stays(target)).collect();
        let ready = others.iter().any(|target| {
            reports
                .get(&target.name)
                .is_some_and(|report| report.uid == *template.uid && report.applied_generation.is_some())
        });
        let replacement = if ready { Replacement::Ready } else { Replacement::Missing };
        for target in going {
            match snapshot.leaving.get(&target.name) {
                Some(Unjoin::Detach) => self.release(template, &target.name).await?,
                Some(Unjoin::Drain) => {
                    self.remove(template, &target.name, Cause::Unjoined, replacement, spec.epoch).await?;
                }
                Some(Unjoin::Forget) => {}
                None => {
                    self.remove(template, &target.name, Cause::Unselected, replacement, spec.epoch).await?;
                }
            }
        }
        Ok(())
    }

    async fn remove(
        &self,
        template: &Template,
        cluster: &str,
        cause: Cause,
        replacement: Replacement,
        decided: u64,
    ) -> Result<(), Error> {
        let key = &template.key;
        let epoch = self.epochs.next().await?;
        let synced = self.world.is_synced();
        let frozen = self.board.snapshot().frozen.clone();
        match self.gate.ask(key, cluster, cause, replacement, (epoch, decided), synced, frozen) {
            Ok(permit) => {
                self.ledger.with(key, &template.uid, |entry| entry.refusals.remove(cluster));
                self.sessions.remove(cluster, key.to_wire().into(), &template.uid, epoch, wire(permit));
            }
            Err(refusal) => {
                let message = refusal.to_string();
                let new = self.ledger.with(key, &template.uid, |entry| {
                    entry.refusals.insert(cluster.to_owned(), message.clone()) != Some(message.clone())
                });
                if new {
                    tracing::warn!(%key, cluster, %refusal, "the gate refused a removal");
                    self.recorder.warn(template, "RemovalRefused", &message, cluster);
                }
                self.queue.add_after(key.clone(), Priority::Background, ASK_AGAIN);
            }
        }
        Ok(())
    }

    async fn release(&self, template: &Template, cluster: &str) -> Result<(), Error> {
        let epoch = self.epochs.next().await?;
        self.sessions.release(cluster, template.key.to_wire().into(), &template.uid, epoch);
        Ok(())
    }

    /// A template that its user deleted: its copies go or are released, and then our finalizer.
    async fn delete(&self, template: &Arc<Template>) -> Result<(), Error> {
        match self.propagation(template)? {
            Propagation::Delete => {
                let waiting = self.holders(template);
                let decided = self.world.decided(&template.key).map_or(0, |decided| decided.spec.epoch);
                for cluster in &waiting {
                    self.remove(template, cluster, Cause::Deleted, Replacement::NotLast, decided).await?;
                }
                self.finish(template, waiting.is_empty()).await
            }
            Propagation::Orphan => self.give_back(template).await,
        }
    }

    /// Releases every copy, and then takes our finalizer off.
    async fn give_back(&self, template: &Arc<Template>) -> Result<(), Error> {
        let waiting = self.holders(template);
        for cluster in &waiting {
            self.release(template, cluster).await?;
        }
        self.finish(template, waiting.is_empty()).await
    }

    async fn finish(&self, template: &Arc<Template>, done: bool) -> Result<(), Error> {
        let key = &template.key;
        if !done {
            self.statuses.add(key.clone(), Priority::Normal);
            return Ok(());
        }
        // The Placement last: after a kill in between there is a Placement without a template, which is seen to.
        if template.finalized {
            self.writer.drop_finalizer(template).await?;
        }
        self.forget(key).await
    }

    async fn forget(&self, key: &Key) -> Result<(), Error> {
        if self.world.decided(key).is_some() {
            self.writer.delete_placement(key).await?;
        }
        self.world.remove_decided(key);
        self.world.forget_reports(key);
        self.ledger.remove(key);
        Ok(())
    }

    /// A template that is gone without its finalizer having been seen to: nobody asked for the copies to go, so they are released.
    async fn leave_orphan(&self, key: &Key) -> Result<(), Error> {
        let Some(decided) = self.world.decided(key) else { return Ok(()) };
        if !self.world.is_synced() {
            self.queue.add_after(key.clone(), Priority::Background, ASK_AGAIN);
            return Ok(());
        }
        let uid = decided.spec.template.uid.as_str();
        let snapshot = self.board.snapshot();
        let gone = self.ledger.with(key, uid, |entry| entry.gone.clone());
        let mut waiting = false;
        for target in &decided.spec.clusters {
            if gone.contains(&target.name) || !self.is_asked(&target.name, &snapshot) {
                continue;
            }
            waiting = true;
            let epoch = self.epochs.next().await?;
            self.sessions.release(&target.name, key.to_wire().into(), uid, epoch);
        }
        if waiting { Ok(()) } else { self.forget(key).await }
    }

    /// Clusters that hold a copy, as far as is known, and have not said that it is gone.
    fn holders(&self, template: &Template) -> Vec<String> {
        let snapshot = self.board.snapshot();
        let gone = self.ledger.with(&template.key, &template.uid, |entry| entry.gone.clone());
        let Some(decided) = self.world.decided(&template.key) else { return Vec::new() };
        decided
            .spec
            .clusters
            .iter()
            .map(|target| target.name.clone())
            .filter(|name| !gone.contains(name) && self.is_asked(name, &snapshot))
            .collect()
    }

    /// What the delete asked for: the object's own annotation, its Namespace's when that is being deleted, the policy's word.
    fn propagation(&self, template: &Template) -> Result<Propagation, Error> {
        let asked = |template: &Template| match template.annotation(marks::DELETION_PROPAGATION) {
            Some("Background" | "Foreground") => Some(Propagation::Delete),
            Some("Orphan") => Some(Propagation::Orphan),
            _ => None,
        };
        if let Some(asked) = asked(template) {
            return Ok(asked);
        }
        let key = &template.key;
        if key.kind.namespaced
            && let Some(namespace) = self.world.template(&namespace_of(key))
            && namespace.deleting
            && asked(&namespace) == Some(Propagation::Delete)
        {
            return Ok(Propagation::Delete);
        }
        let view = core_template::Template::from_value(key.kind.plural, &template.object)?;
        let (policies, cluster_policies) = self.world.policies();
        let policy = select::policy(&view, &policies, &cluster_policies);
        Ok(policy.and_then(|policy| policy.spec.deletion).unwrap_or_default())
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

fn namespace_of(key: &Key) -> Key {
    // KINDS starts with Namespace.
    Key::new(&crate::observe::KINDS[0], "", &key.namespace)
}

/// Whether two decisions differ in anything but their epoch and the inputs that led to the same end.
fn differs(a: &PlacementSpec, b: &PlacementSpec) -> bool {
    a.clusters != b.clusters
        || a.template != b.template
        || a.policy != b.policy
        || a.policy_generation != b.policy_generation
}

/// What runs, by the members' reports.
fn observed(reports: &Reports, uid: &str) -> BTreeMap<String, Observed> {
    reports
        .iter()
        .filter(|(_, report)| report.uid == uid && report.current)
        .filter_map(|(cluster, report)| {
            let status = report.status.as_ref()?;
            let count = |field: &str| status.get(field).and_then(Value::as_i64).unwrap_or_default();
            Some((cluster.clone(), Observed { replicas: count("replicas"), ready: count("readyReplicas") }))
        })
        .collect()
}

/// Hash of everything that a user wrote: without status and without what servers write into metadata.
fn fingerprint(object: &Value) -> u64 {
    let mut hash = Hasher::default();
    if let Some(fields) = object.as_object() {
        for (name, value) in fields.iter().filter(|(name, _)| *name != "status" && *name != "metadata") {
            hash.add(name, value);
        }
    }
    for name in ["labels", "annotations"] {
        if let Some(value) = object.pointer(&format!("/metadata/{name}")) {
            hash.add(name, value);
        }
    }
    hash.finish()
}

#[derive(Default)]
struct Hasher(std::collections::hash_map::DefaultHasher);

impl Hasher {
    fn add(&mut self, name: &str, value: &Value) {
        use std::hash::Hash;
        name.hash(&mut self.0);
        value.hash(&mut self.0);
    }

    fn finish(&self) -> u64 {
        use std::hash::Hasher as _;
        self.0.finish()
    }
}

fn conflict(conflict: Conflict) -> v1::ConflictPolicy {
    match conflict {
        Conflict::Refuse => v1::ConflictPolicy::Refuse,
        Conflict::Adopt => v1::ConflictPolicy::Adopt,
        Conflict::Overwrite => v1::ConflictPolicy::Overwrite,
    }
}

fn wire(permit: gate::Permit) -> v1::Permit {
    v1::Permit { id: permit.id, epoch: permit.epoch, reason: permit.reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_or_a_finalizer_changes_nothing_that_is_wanted() {
        let before = json!({"data": {"a": "b"}, "metadata": {"name": "x", "resourceVersion": "1", "labels": {"l": "1"}}});
        let mut after = before.clone();
        after["metadata"]["resourceVersion"] = json!("2");
        after["metadata"]["finalizers"] = json!(["f"]);
        after["status"] = json!({"x": 1});
        assert_eq!(fingerprint(&before), fingerprint(&after));
        after["metadata"]["labels"]["l"] = json!("2");
        assert_ne!(fingerprint(&before), fingerprint(&after));
    }

    #[test]
    fn a_decision_that_differs_in_its_inputs_only_is_not_written_again() {
        let a = PlacementSpec { inputs_hash: "a".into(), epoch: 1, ..PlacementSpec::default() };
        let b = PlacementSpec { inputs_hash: "b".into(), epoch: 2, ..PlacementSpec::default() };
        assert!(!differs(&a, &b));
    }
}
