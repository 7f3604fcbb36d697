//! Removals and releases of copies: all of the controller's are in this file.
//!
//! A copy is removed only with the gate's permit, and only because a person asked for it: deleted the template, wrote a policy that leaves
//! the cluster out, or let the cluster leave. In all other cases (a template that vanished, a label that makes an object local, an earlier
//! object of the same name) it is *released*: the copy stays, unmanaged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use federation_core::api::{ClusterTarget, FormerCopy, PlacementSpec, Propagation, Verdict, marks};
use federation_core::gate::accounts::{self, SETTLE_MS};
use federation_core::gate::{self, Cause, Replacement, Rule};
use federation_core::placement::{self, Decision, Withdrawals};
use federation_core::{select, template as core_template};
use proto::v1;
use serde_json::Value;

use super::cluster_state::{Snapshot, Unjoin};
use super::queue::Priority;
use super::reconcile::{Error, Reconciler, namespace_of};
use super::removal::Asked;
use crate::observe::{Decided, Key, Kind, Report, Reports, Template};

/// Time after which the gate is asked again after a refusal.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl Reconciler {
    /// The decision's targets, and those clusters of the last decision that are still to give their copy up.
    pub(super) fn with_those_who_go(
        &self,
        template: &Template,
        snapshot: &Snapshot,
        decision: &Decision,
        last: Option<&Decided>,
        withdrawn: &Withdrawals,
    ) -> (Vec<ClusterTarget>, Vec<ClusterTarget>) {
        let mut targets = decision.clusters.clone();
        let wanted: BTreeSet<&str> = decision.clusters.iter().map(|target| target.name.as_str()).collect();
        self.ledger.with(&template.key, &template.uid, |entry| {
            entry.paid.retain(|name, _| !wanted.contains(name.as_str()));
        });
        let going: Vec<ClusterTarget> = last
            .into_iter()
            .flat_map(|last| placement::still_held(&last.spec, withdrawn))
            .filter(|held| !wanted.contains(held.name.as_str()) && self.is_asked(&held.name, snapshot))
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
        self.world.has_cluster(cluster) && snapshot.leaving.get(cluster) != Some(&Unjoin::Forget)
    }

    /// Asks the gate for each copy that is not wanted any more, and lets it go.
    pub(super) async fn let_go(
        &self,
        template: &Template,
        spec: &PlacementSpec,
        snapshot: &Snapshot,
        reports: &Reports,
        going: &[ClusterTarget],
    ) -> Result<(), Error> {
        let stays =
            |target: &ClusterTarget| !target.leaving && going.iter().all(|gone| gone.name != target.name);
        let verdict = |name: &str| {
            let view = snapshot.views.iter().find(|view| view.name == name);
            view.map_or(Verdict::Unknown, |view| view.verdict)
        };
        let others = spec.clusters.iter().filter(|target| stays(target)).filter_map(|target| {
            let report = reports.get(&target.name).filter(|report| report.uid == *template.uid)?;
            Some(gate::Other {
                verdict: verdict(&target.name),
                applied: report.applied_generation.filter(|_| report.applied_now),
                refused: report.refused_generation.is_some(),
                runs: runs(template.key.kind, report),
            })
        });
        let wanted = self.ledger.with(&template.key, &template.uid, |entry| entry.wanted);
        let replacement = Replacement::among(others, wanted.map_or(i64::MAX, |(_, generation)| generation));
        self.gate.keep_only(&template.key, &going.iter().map(|target| target.name.as_str()).collect());
        for target in going {
            let (cause, charge) = match snapshot.leaving.get(&target.name) {
                Some(Unjoin::Detach) => {
                    self.release(template, &target.name).await?;
                    continue;
                }
                Some(Unjoin::Forget) => continue,
                Some(Unjoin::Drain) => (Cause::Unjoined, self.charge_to_cluster(&target.name)),
                None => (Cause::Unselected, charge_to_policy(template, spec)),
            };
            self.remove(template, &target.name, cause, Some(&charge), replacement, spec.epoch).await?;
        }
        Ok(())
    }

    fn charge_to_cluster(&self, name: &str) -> accounts::Cause {
        let uid = self.world.cluster(name).and_then(|cluster| cluster.metadata.uid.clone());
        let (subject, instance) = (format!("Cluster {name}"), uid.unwrap_or_default());
        accounts::Cause { subject, instance, known: 0, by_share: true }
    }

    /// A template that goes with its Namespace is charged to the Namespace; one that was deleted by its own name, to nobody.
    fn charge_to_namespace(&self, template: &Template) -> Option<accounts::Cause> {
        let key = &template.key;
        let namespace = if key.kind.is_namespace() { key.clone() } else { namespace_of(key) };
        let uid = self.world.template(&namespace).filter(|namespace| namespace.deleting)?.uid.to_string();
        let subject = format!("Namespace {}", namespace.name);
        let mut cause = accounts::Cause { subject, instance: uid, known: 0, by_share: false };
        if self.gate.is_new(&cause) {
            cause.known = self.world.copies_in(&namespace.name);
        }
        Some(cause)
    }

    async fn remove(
        &self,
        template: &Template,
        cluster: &str,
        cause: Cause,
        charge: Option<&accounts::Cause>,
        replacement: Replacement,
        decided: u64,
    ) -> Result<(), Error> {
        let key = &template.key;
        if charge.is_some_and(|charge| self.gate.note_released(charge, key, cluster)) {
            return self.release(template, cluster).await;
        }
        if self.sessions.is_removing(cluster, &key.to_wire().into(), &template.uid) {
            return Ok(());
        }
        // A permit that lapsed was paid for: an agent that is away, or a freeze, costs no budget twice.
        let account = charge.map(accounts::Cause::id).unwrap_or_default();
        let paid = self.ledger.with(key, &template.uid, |entry| entry.paid.get(cluster) == Some(&account));
        let charge = charge.filter(|_| !paid);
        let asked = Asked { key, cluster, cause, charge, replacement, epoch: self.epochs.current(), decided };
        let frozen = self.cluster_state.snapshot().frozen.clone();
        match self.gate.ask(&asked, frozen) {
            Ok(permit) => {
                self.ledger.with(key, &template.uid, |entry| {
                    entry.refusals.remove(cluster);
                    entry.paid.insert(cluster.to_owned(), account);
                });
                let epoch = self.epochs.next().await?;
                // A freeze makes void what has an older epoch than it; that this one is not newer is seen here.
                if self.cluster_state.snapshot().frozen.is_some() {
                    self.queue.add_after(key.clone(), Priority::Background, ASK_AGAIN);
                    return Ok(());
                }
                let (permit, uid) = (wire(permit.under(epoch)), &template.uid);
                let note = || self.ledger.with(key, uid, |entry| entry.asked(cluster, epoch));
                self.sessions.remove(cluster, key.to_wire().into(), uid, epoch, permit, note);
            }
            // Not worth an Event: the question is asked again when all is counted.
            Err(refusal) if refusal.rule == Rule::Counting => {
                let again = Duration::from_millis(SETTLE_MS as u64);
                self.queue.add_after(key.clone(), Priority::Background, again);
            }
            Err(refusal) => {
                if let Some(hold) = charge.and_then(|charge| self.gate.hold(charge, &refusal)) {
                    let (id, spec) = (&hold.id, &hold.spec);
                    tracing::warn!(
                        id,
                        cause = spec.cause,
                        copies = spec.copies,
                        "removals are held for a person's word"
                    );
                    self.writer.create_held(id, spec).await?;
                    hold.written();
                }
                let message = refusal.to_string();
                let new = self.ledger.with(key, &template.uid, |entry| {
                    entry.refusals.insert(cluster.to_owned(), refusal.rule) != Some(refusal.rule)
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

    /// Copies of templates that had the name before, in clusters that the present one does not go to, and which have not said that they
    /// are released. Those in the others are taken over by the Apply. `last` is the last decision under the name, whosever it was.
    pub(super) fn former_copies(
        &self,
        template: &Template,
        snapshot: &Snapshot,
        last: Option<Arc<Decided>>,
        targets: &[ClusterTarget],
    ) -> Vec<FormerCopy> {
        let Some(last) = last else { return Vec::new() };
        let uid = &last.spec.template.uid;
        let held = last.spec.clusters.iter().filter(|_| **uid != *template.uid);
        let held = held.map(|held| FormerCopy { cluster: held.name.clone(), uid: uid.clone() });
        let all: BTreeSet<FormerCopy> = held.chain(last.spec.former.iter().cloned()).collect();
        let taken_over = |copy: &FormerCopy| targets.iter().any(|target| target.name == copy.cluster);
        self.owed(&template.key, &template.uid, snapshot, all)
            .into_iter()
            .filter(|copy| !taken_over(copy))
            .collect()
    }

    /// Those of former namesakes' copies whose agents are to answer still.
    fn owed(
        &self,
        key: &Key,
        uid: &str,
        snapshot: &Snapshot,
        copies: impl IntoIterator<Item = FormerCopy>,
    ) -> Vec<FormerCopy> {
        let released = self.ledger.with(key, uid, |entry| entry.released.clone());
        let owes = |copy: &FormerCopy| !released.contains(copy) && self.is_asked(&copy.cluster, snapshot);
        copies.into_iter().filter(owes).collect()
    }

    /// Where nobody can tell yet whether the present template goes, its namesake's copy stays as it is: one that was released could not be taken
    /// over any more, since it would be somebody else's object.
    pub(super) async fn release_unwanted(
        &self,
        key: &Key,
        former: &[FormerCopy],
        decision: &Decision,
    ) -> Result<(), Error> {
        let (undecided, unwanted): (Vec<FormerCopy>, Vec<FormerCopy>) =
            former.iter().cloned().partition(|copy| decision.is_undecided(&copy.cluster));
        let wire = key.to_wire().into();
        for copy in undecided {
            self.sessions.take_back_release(&copy.cluster, &wire, &copy.uid);
        }
        self.release_former(key, &unwanted).await
    }

    /// The Placement names them until their agents have answered, so that a hub which restarts asks again.
    async fn release_former(&self, key: &Key, copies: &[FormerCopy]) -> Result<(), Error> {
        for copy in copies {
            self.release_copy(key, &copy.uid, &copy.cluster).await?;
        }
        Ok(())
    }

    /// Whether no former namesake's copy is waited for before a template goes.
    async fn former_are_gone(&self, key: &Key, uid: &str) -> Result<bool, Error> {
        let Some(decided) = self.world.decided(key) else { return Ok(true) };
        let owed = self.owed(key, uid, &self.cluster_state.snapshot(), decided.spec.former.clone());
        self.release_former(key, &owed).await?;
        Ok(owed.is_empty())
    }

    async fn release(&self, template: &Template, cluster: &str) -> Result<(), Error> {
        self.release_copy(&template.key, &template.uid, cluster).await
    }

    async fn release_copy(&self, key: &Key, uid: &str, cluster: &str) -> Result<(), Error> {
        let wire = key.to_wire().into();
        if !self.sessions.is_releasing(cluster, &wire, uid) {
            let epoch = self.epochs.next().await?;
            let note = || self.ledger.with_known(key, uid, |entry| entry.asked(cluster, epoch));
            self.sessions.release(cluster, wire, uid, epoch, note);
        }
        Ok(())
    }

    /// A template that its user deleted: its copies go or are released, and then our finalizer.
    pub(super) async fn delete(&self, template: &Arc<Template>) -> Result<(), Error> {
        let propagation = match self.propagation(template)? {
            Said::Propagation(propagation) => propagation,
            Said::Unread(unread) => {
                self.wait_for_unread(template, &unread);
                return Ok(());
            }
        };
        match propagation {
            Propagation::Delete => {
                self.keep_in_trash(template).await?;
                let waiting = self.holders(template);
                self.gate.keep_only(&template.key, &waiting.iter().map(String::as_str).collect());
                let decided = self.world.decided(&template.key).map_or(0, |decided| decided.spec.epoch);
                let charge = self.charge_to_namespace(template);
                for cluster in &waiting {
                    let (cause, replacement) = (Cause::Deleted, Replacement::NotLast);
                    self.remove(template, cluster, cause, charge.as_ref(), replacement, decided).await?;
                }
                let done = self.former_are_gone(&template.key, &template.uid).await? && waiting.is_empty();
                self.finish(template, done).await
            }
            Propagation::Orphan => {
                self.keep_in_trash(template).await?;
                self.give_back(template).await
            }
        }
    }

    /// Releases every copy, and then takes our finalizer off.
    pub(super) async fn give_back(&self, template: &Arc<Template>) -> Result<(), Error> {
        let waiting = self.holders(template);
        self.gate.keep_only(&template.key, &BTreeSet::new());
        for cluster in &waiting {
            self.release(template, cluster).await?;
        }
        let done = self.former_are_gone(&template.key, &template.uid).await? && waiting.is_empty();
        self.finish(template, done).await
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
        self.gate.keep_only(key, &BTreeSet::new());
        Ok(())
    }

    /// A template that is gone without its finalizer having been seen to: nobody asked for the copies to go, so they are released.
    pub(super) async fn leave_orphan(&self, key: &Key) -> Result<(), Error> {
        let Some(decided) = self.world.decided(key) else { return Ok(()) };
        // Of a kind that the API does not serve (now), nothing is known: its templates are not gone.
        if !self.world.is_watched(key.kind) {
            return Ok(());
        }
        if !self.world.is_complete() {
            self.queue.add_after(key.clone(), Priority::Background, ASK_AGAIN);
            return Ok(());
        }
        let uid = decided.spec.template.uid.as_str();
        let snapshot = self.cluster_state.snapshot();
        let withdrawn = self.ledger.with(key, uid, |entry| entry.withdrawn.clone());
        let mut waiting = !self.former_are_gone(key, uid).await?;
        for target in placement::still_held(&decided.spec, &withdrawn) {
            if !self.is_asked(&target.name, &snapshot) {
                continue;
            }
            waiting = true;
            self.release_copy(key, uid, &target.name).await?;
        }
        if waiting { Ok(()) } else { self.forget(key).await }
    }

    /// Clusters that hold a copy, as far as is known, and have not said that it is gone.
    fn holders(&self, template: &Template) -> Vec<String> {
        let snapshot = self.cluster_state.snapshot();
        let withdrawn = self.ledger.with(&template.key, &template.uid, |entry| entry.withdrawn.clone());
        let Some(decided) = self.world.decided(&template.key) else { return Vec::new() };
        placement::still_held(&decided.spec, &withdrawn)
            .map(|target| target.name.clone())
            .filter(|name| self.is_asked(name, &snapshot))
            .collect()
    }

    /// What the delete asked for: the object's own annotation, its Namespace's when that is being deleted, the policy's word.
    fn propagation(&self, template: &Template) -> Result<Said, Error> {
        let asked = |template: &Template| match template.annotation(marks::DELETION_PROPAGATION) {
            Some("Background" | "Foreground") => Some(Propagation::Delete),
            Some("Orphan") => Some(Propagation::Orphan),
            _ => None,
        };
        if let Some(asked) = asked(template) {
            return Ok(Said::Propagation(asked));
        }
        let key = &template.key;
        if key.kind.namespaced
            && let Some(namespace) = self.world.template(&namespace_of(key))
            && namespace.deleting
            && asked(&namespace) == Some(Propagation::Delete)
        {
            return Ok(Said::Propagation(Propagation::Delete));
        }
        let view = core_template::Template::from_value(key.kind.plural, &template.object)?;
        if let Some(unread) = self.unread_policies(template, &view) {
            return Ok(Said::Unread(unread));
        }
        let (policies, cluster_policies) = self.world.policies();
        let policy = select::policy(&view, &policies, &cluster_policies);
        Ok(Said::Propagation(policy.and_then(|policy| policy.spec.deletion).unwrap_or_default()))
    }
}

/// What is to become of a deleted template's copies.
enum Said {
    Propagation(Propagation),
    /// A policy's word, and these cannot be read.
    Unread(String),
}

/// What a policy does not want any more; without a policy, what taints and labels of clusters do not.
fn charge_to_policy(template: &Template, spec: &PlacementSpec) -> accounts::Cause {
    let subject = match spec.policy.split_once('/') {
        None => "the placement without a policy".to_owned(),
        Some(("PlacementPolicy", name)) => format!("PlacementPolicy {}/{name}", template.key.namespace),
        Some((kind, name)) => format!("{kind} {name}"),
    };
    let instance = spec.policy_generation.map(|generation| generation.to_string()).unwrap_or_default();
    accounts::Cause { subject, instance, known: 0, by_share: true }
}

/// Whether a copy's pods run, for kinds whose replicas nobody counts out: a DaemonSet runs when one of its pods is ready, or no node is to have
/// one. Replicas are seen to by the placement.
fn runs(kind: &Kind, report: &Report) -> Option<bool> {
    if !kind.is_daemon_set() {
        return None;
    }
    let Some(status) = report.status.as_ref().filter(|_| report.current) else { return Some(false) };
    let number = |field: &str| status.get(field).and_then(Value::as_i64).unwrap_or_default();
    // Before its controller has looked at it, a status says nothing.
    let seen = number("observedGeneration") >= report.member_generation.max(1);
    Some(seen && (number("numberReady") > 0 || number("desiredNumberScheduled") == 0))
}

fn wire(permit: gate::Permit) -> v1::Permit {
    v1::Permit { id: permit.id(), epoch: permit.epoch, reason: permit.reason }
}

#[cfg(test)]
mod tests;
