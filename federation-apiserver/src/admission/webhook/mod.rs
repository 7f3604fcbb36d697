//! Admission webhooks: MutatingWebhookConfiguration and ValidatingWebhookConfiguration.
//!
//! Follows `apiserver/pkg/admission/plugin/webhook`: configurations in order of their names; mutating webhooks one after another, each
//! seeing what those before it made, and those with `reinvocationPolicy: IfNeeded` once more if a later one changed something; validating
//! ones all at once. A changed object goes through its kind's types and defaults again before the next sees it. Configurations of
//! admission themselves are exempt, or a bad one could not be removed.
//!
//! - [`configurations`] reads configurations, when they have changed since the last write.
//! - [`matching`] decides which of them match a write, and in which version of its kind they get it.
//! - [`review`] makes an AdmissionReview and reads the answer. Pure.
//! - [`versions`] keeps the versions of the objects that webhooks are sent, and their texts.

mod configurations;
mod dispatch;
mod matching;
mod review;
mod versions;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use apimachinery::{ApiError, status::Reason};
use futures::{StreamExt as _, stream::FuturesOrdered};
use serde_json::{Value, json};

pub(crate) use configurations::Webhooks;
use configurations::{Hook, State};
use review::Phase;
use versions::VersionedObjects;

use super::matching::Operation;
use crate::{
    registry::{Kind, KindRef},
    verbs::Call,
};

/// Webhooks that are called at the same time for one write.
const CONCURRENT: usize = 32;

/// A write, as webhooks see it.
pub(crate) struct Write<'a> {
    call: &'a Call,
    operation: Operation,
    /// The kind of its objects, if it is not the call's own.
    form: Option<&'static Kind>,
    old: Option<VersionedObjects<'a>>,
    dry_run: bool,
    /// The other versions of the call's kind, found when a webhook first needs them.
    others: OnceLock<Vec<KindRef>>,
}

/// The result of calling a mutating webhook.
enum Mutation {
    /// Its rules do not match the write.
    Nothing,
    Same,
    Changed(Value),
}

/// Which mutating webhooks have been called for one write, and which are to be called again.
pub(crate) struct Reinvocation {
    state: Arc<State>,
    exempt: bool,
    /// Those with `reinvocationPolicy: IfNeeded` that have been called since the last change.
    invoked: BTreeSet<usize>,
    again: BTreeSet<usize>,
    /// The object after the last round.
    last: Option<Value>,
}

impl Reinvocation {
    /// For a write for which no webhook has been called yet.
    pub(crate) fn new(write: &Write<'_>) -> Self {
        let state = write.call.shared.webhooks().state(&write.call.shared.storage.snapshot());
        let (invoked, again) = (BTreeSet::new(), BTreeSet::new());
        Self { state, exempt: write.is_exempt(), invoked, again, last: None }
    }

    fn is_over(&self) -> bool {
        self.exempt || self.state.mutating.is_empty()
    }

    /// After a change: all called before it with `reinvocationPolicy: IfNeeded` are to be called again.
    fn changed(&mut self) {
        self.again.append(&mut self.invoked);
    }
}

impl<'a> Write<'a> {
    /// A write of objects of the call's own kind.
    pub(crate) fn of(call: &'a Call, old: Option<&'a Value>, dry_run: bool) -> Self {
        let operation = Operation::of(None, old.is_some());
        let old = old.map(VersionedObjects::of);
        Self { call, operation, form: None, old, dry_run, others: OnceLock::new() }
    }

    /// The same for objects of another kind than the call's.
    pub(crate) fn in_form(self, form: Option<&'static Kind>) -> Self {
        Self { operation: Operation::of(form, self.old.is_some()), form, ..self }
    }

    /// The removal of an object.
    pub(crate) fn removal(call: &'a Call, old: &'a Value, dry_run: bool) -> Self {
        let (operation, old) = (Operation::Delete, Some(VersionedObjects::of(old)));
        Self { call, operation, form: None, old, dry_run, others: OnceLock::new() }
    }

    /// Calls the mutating webhooks for a new state. The result is the changed state, if they change it.
    ///
    /// # Errors
    /// When one refuses, or cannot be called and its failure policy is `Fail`.
    pub(crate) async fn mutate(&self, object: Option<&Value>) -> Result<Option<Value>, ApiError> {
        let mut reinvocation = Reinvocation::new(self);
        if reinvocation.is_over() {
            return Ok(None);
        }
        let mut current = object.cloned();
        for round in 0..2 {
            current = self.mutate_round(&mut reinvocation, round, current).await?;
        }
        Ok(current.filter(|current| Some(current) != object))
    }

    /// Calls the mutating webhooks in order: in the first round all, in the second those that are to be called again.
    pub(crate) async fn mutate_round(
        &self,
        reinvocation: &mut Reinvocation,
        round: usize,
        object: Option<Value>,
    ) -> Result<Option<Value>, ApiError> {
        if reinvocation.is_over() {
            return Ok(object);
        }
        if round > 0 && reinvocation.last != object {
            reinvocation.changed();
        }
        let state = Arc::clone(&reinvocation.state);
        let mut current = object;
        let mut views = current.as_ref().map(VersionedObjects::of);
        for (index, hook) in state.mutating.iter().enumerate() {
            if round > 0 && !reinvocation.again.contains(&index) {
                continue;
            }
            match Box::pin(self.mutate_by(hook, views.as_ref(), round, index)).await? {
                Mutation::Nothing => continue,
                Mutation::Same => {}
                Mutation::Changed(next) => {
                    reinvocation.changed();
                    drop(views);
                    current = Some(next);
                    views = current.as_ref().map(VersionedObjects::of);
                }
            }
            if hook.reinvoke {
                reinvocation.invoked.insert(index);
            }
        }
        drop(views);
        reinvocation.last.clone_from(&current);
        Ok(current)
    }

    /// Calls one.
    async fn mutate_by(
        &self,
        hook: &Hook,
        views: Option<&VersionedObjects<'_>>,
        round: usize,
        index: usize,
    ) -> Result<Mutation, ApiError> {
        let Some(matched) = self.matched(hook, views).await? else { return Ok(Mutation::Nothing) };
        self.check_dry_run(hook)?;
        let place = format!("round_{round}_index_{index}");
        let verdict = match self.ask(hook, &matched, Phase::Mutating).await {
            Ok(verdict) => verdict,
            Err(why) => {
                self.failed(hook, &why, &format!("failed-open.mutation.webhook.admission.k8s.io/{place}"))?;
                return Ok(Mutation::Same);
            }
        };
        let verdict = self.accept_verdict(hook, verdict)?;
        let mutation = match (&verdict.patch, views) {
            (None, _) => Mutation::Same,
            (Some(_), None) => {
                return Err(ApiError::internal(format!(
                    "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                    hook.name
                )));
            }
            (Some(patch), Some(views)) => {
                let before = &*views.own().value;
                let next = self.patched(hook, &matched, before, patch).await?;
                if next == *before { Mutation::Same } else { Mutation::Changed(next) }
            }
        };
        let mutated = matches!(mutation, Mutation::Changed(_));
        let told = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated});
        self.annotate(&format!("mutation.webhook.admission.k8s.io/{place}"), &told.to_string());
        if let (Some(patch), true) = (&verdict.patch, self.call.records_objects()) {
            let told = json!({"configuration": hook.configuration, "webhook": hook.name, "patch": patch, "patchType": "JSONPatch"});
            self.annotate(&format!("patch.webhook.admission.k8s.io/{place}"), &told.to_string());
        }
        Ok(mutation)
    }

    /// Calls the validating webhooks for a state that is about to be stored; none for a removal.
    ///
    /// # Errors
    /// When one refuses, or cannot be called and its failure policy is `Fail`.
    pub(crate) async fn validate(&self, object: Option<&Value>) -> Result<(), ApiError> {
        let state = self.call.shared.webhooks().state(&self.call.shared.storage.snapshot());
        if state.validating.is_empty() || self.is_exempt() {
            return Ok(());
        }
        // All are called; the error is that of the first in order that refuses.
        let mut refused = Ok(());
        let views = object.map(VersionedObjects::of);
        let mut asked = FuturesOrdered::new();
        for (index, hook) in state.validating.iter().enumerate() {
            if asked.len() == CONCURRENT
                && let Some(outcome) = asked.next().await
            {
                refused = refused.and(outcome);
            }
            asked.push_back(self.validate_by(hook, views.as_ref(), index));
        }
        while let Some(outcome) = asked.next().await {
            refused = refused.and(outcome);
        }
        refused
    }

    async fn validate_by(
        &self,
        hook: &Hook,
        views: Option<&VersionedObjects<'_>>,
        index: usize,
    ) -> Result<(), ApiError> {
        let Some(matched) = self.matched(hook, views).await? else { return Ok(()) };
        self.check_dry_run(hook)?;
        match self.ask(hook, &matched, Phase::Validating).await {
            Ok(verdict) => self.accept_verdict(hook, verdict).map(drop),
            Err(why) => {
                let key = format!("failed-open.validation.webhook.admission.k8s.io/round_0_index_{index}");
                self.failed(hook, &why, &key)
            }
        }
    }

    /// Passes on the warnings and audit annotations of a verdict.
    fn accept_verdict(&self, hook: &Hook, verdict: review::Verdict) -> Result<review::Verdict, ApiError> {
        for (key, value) in &verdict.audit_annotations {
            self.annotate(&format!("{}/{key}", hook.name), value);
        }
        self.call.shared_warnings.lock().extend(verdict.warnings.iter().cloned());
        if verdict.allowed { Ok(verdict) } else { Err(review::denied(&hook.name, &verdict.status)) }
    }

    /// A webhook that could not be called is skipped or fails the write, by its failure policy.
    fn failed(&self, hook: &Hook, why: &str, annotation: &str) -> Result<(), ApiError> {
        if hook.ignore_failures {
            tracing::warn!(webhook = %hook.name, %why, "failed calling a webhook, failing open");
            self.annotate(annotation, &hook.name);
            return Ok(());
        }
        tracing::warn!(webhook = %hook.name, %why, "failed calling a webhook, failing closed");
        let message = format!("Internal error occurred: failed calling webhook {:?}: {why}", hook.name);
        let told = message.strip_prefix("Internal error occurred: ").unwrap_or_default().to_owned();
        Err(ApiError::new(500, Reason::InternalError, message).with_cause("", told, ""))
    }

    fn annotate(&self, key: &str, value: &str) {
        if let Some(record) = &self.call.record {
            record.annotate(key, value);
        }
    }

    /// Webhooks do not get the configurations of admission.
    fn is_exempt(&self) -> bool {
        self.call.kind.group == "admissionregistration.k8s.io"
    }
}
