//! Which webhooks match a write, and in which version of its kind they get it.

use std::sync::Arc;

use apimachinery::{ApiError, labels::labels_of};
use kube_cel::{Budget, Value as Cel};
use serde_json::Value;

use super::{
    Write,
    configurations::Hook,
    versions::{VersionedObject, VersionedObjects},
};
use crate::{
    admission::{
        matching::{self, Chosen, Operation, Subject},
        policy::{self, authorizer::Decisions},
    },
    registry::{Kind, KindRef},
    store::{Key, ResourceKey},
};

/// `RuntimeCELCostBudget` of match conditions is a quarter of that of a policy, and so is this.
const STEPS_MAX: u64 = 1_250_000;

/// A write as one webhook sees it.
pub(super) struct Matched<'v> {
    /// `AdmissionRequest` without uid, objects and options.
    pub(super) request: Value,
    pub(super) object: Option<Arc<VersionedObject<'v>>>,
    pub(super) old: Option<Arc<VersionedObject<'v>>>,
    /// The version of the kind that the objects are in; none if they are of another kind than the call's.
    pub(super) kind: Option<KindRef>,
}

/// The object of a view.
fn seen<'s>(view: Option<&'s Arc<VersionedObject<'_>>>) -> Option<&'s Value> {
    view.map(|view| &*view.value)
}

impl Write<'_> {
    /// The write as a webhook sees it, if its rules match.
    ///
    /// # Errors
    /// When its conditions cannot be evaluated and its failure policy is `Fail`.
    pub(super) async fn matched<'v>(
        &'v self,
        hook: &Hook,
        views: Option<&'v VersionedObjects<'_>>,
    ) -> Result<Option<Matched<'v>>, ApiError> {
        let Some(kind) = self.version_for(hook, views) else { return Ok(None) };
        let own = &*self.call.kind;
        let (object, old) = (self.shown(&kind, views).await?, self.shown(&kind, self.old.as_ref()).await?);
        let (object_seen, old_seen) = (seen(object.as_ref()), seen(old.as_ref()));
        let subject = self.subject(&kind, object_seen, old_seen);
        let form = self.form.unwrap_or(&kind);
        let namespace = self.namespace(object_seen.or(old_seen));
        let mut request =
            policy::request_value(&subject, form.kind, namespace, &self.call.user, self.dry_run);
        request["kind"] =
            serde_json::json!({"group": form.group, "version": form.version, "kind": form.kind});
        let asked = self.form.unwrap_or(own);
        request["requestKind"] =
            serde_json::json!({"group": asked.group, "version": asked.version, "kind": asked.kind});
        request["requestResource"] =
            serde_json::json!({"group": own.group, "version": own.version, "resource": own.plural});
        let matched = Matched { request, object, old, kind: self.form.is_none().then_some(kind) };
        self.meets_conditions(hook, &matched).await.map(|meets| meets.then_some(matched))
    }

    /// An object in the version that a webhook sees.
    async fn shown<'v>(
        &self,
        kind: &KindRef,
        views: Option<&'v VersionedObjects<'_>>,
    ) -> Result<Option<Arc<VersionedObject<'v>>>, ApiError> {
        let Some(views) = views else { return Ok(None) };
        let own = &*self.call.kind;
        if self.form.is_none() && (kind.version, kind.group) != (own.version, own.group) {
            let view = views.converted(&self.call.shared.storage, own, kind).await?;
            return Ok(Some(view));
        }
        Ok(Some(Arc::clone(views.own()) as Arc<VersionedObject<'v>>))
    }

    /// The version of the kind that a webhook's rules name: the request's own, or with `matchPolicy: Equivalent` another of the same objects.
    fn version_for(&self, hook: &Hook, views: Option<&VersionedObjects<'_>>) -> Option<KindRef> {
        // A policy without rules is for everything, a webhook without rules for nothing.
        if hook.constraints["resourceRules"].as_array().is_none_or(Vec::is_empty) {
            return None;
        }
        let own = &self.call.kind;
        let others = self.others.get_or_init(|| self.call.shared.served().other_versions(own));
        let (object, old) = (views.map(VersionedObjects::own), self.old.as_ref().map(VersionedObjects::own));
        let subject = self.subject(own, seen(object), seen(old));
        match matching::chosen(&hook.constraints, &subject, others)? {
            Chosen::Own => Some(own.clone()),
            Chosen::Other(kind) => Some(kind.clone()),
        }
    }

    fn subject<'s>(
        &'s self,
        kind: &'s Kind,
        object: Option<&'s Value>,
        old: Option<&'s Value>,
    ) -> Subject<'s> {
        let call = self.call;
        let some = object.or(old);
        // The delete of a collection names no object.
        let of_many = self.operation == Operation::Delete && call.path.name.is_none();
        let name = if of_many {
            Some("")
        } else {
            some.and_then(|object| object["metadata"]["name"].as_str()).filter(|name| !name.is_empty())
        };
        let namespace_labels = if kind.is("", "namespaces") {
            some.map(labels_of)
        } else {
            let namespace = self.namespace(some);
            let key = Key::new(ResourceKey::new("", "namespaces"), "", namespace);
            let stored = (!namespace.is_empty()).then(|| call.shared.storage.get(&key)).flatten();
            stored.map(|stored| stored.meta.labels.clone())
        };
        Subject {
            group: kind.group,
            version: kind.version,
            resource: kind.plural,
            subresource: call.path.subresource.as_deref().unwrap_or_default(),
            namespaced: kind.namespaced(),
            name: name.unwrap_or_else(|| call.name()),
            operation: self.operation,
            namespace_labels,
            object,
            old,
        }
    }

    fn namespace<'s>(&'s self, object: Option<&'s Value>) -> &'s str {
        if !self.call.kind.namespaced() {
            return "";
        }
        // A collection over all namespaces has none in its path.
        let own = object.and_then(|object| object["metadata"]["namespace"].as_str());
        own.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| self.call.namespace())
    }

    /// Whether all conditions hold. One that is false outranks one that fails.
    async fn meets_conditions(&self, hook: &Hook, matched: &Matched<'_>) -> Result<bool, ApiError> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let decisions: Arc<Decisions> = Arc::default();
        loop {
            let outcome = self.conditions_hold(hook, matched, &decisions);
            if !decisions.learn(self.call).await {
                return outcome;
            }
        }
    }

    fn conditions_hold(
        &self,
        hook: &Hook,
        matched: &Matched<'_>,
        decisions: &Arc<Decisions>,
    ) -> Result<bool, ApiError> {
        let verb = self.operation.verb();
        let name = matched.request["name"].as_str().unwrap_or_default();
        let cel = |value: Option<&Value>| value.map_or(Cel::Null, Cel::from_json);
        let known = [
            ("object", cel(seen(matched.object.as_ref()))),
            ("oldObject", cel(seen(matched.old.as_ref()))),
            ("request", Cel::from_json(&matched.request)),
            ("namespaceObject", Cel::Null),
            ("authorizer", decisions.variable(self.call, verb, name)),
        ];
        let mut budget = Budget::new(STEPS_MAX);
        let mut failed = Vec::new();
        for (source, program) in &hook.conditions {
            let outcome = match program {
                Ok(program) => program.evaluate(&known, &mut budget).map_err(|error| error.to_string()),
                Err(error) => Err(format!("compilation error: {error}")),
            };
            match outcome {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(error) => failed.push(format!("expression '{source}' resulted in error: {error}")),
            }
        }
        if failed.is_empty() {
            return Ok(true);
        }
        if hook.ignore_failures {
            tracing::warn!(webhook = %hook.name, ?failed, "match conditions cannot be evaluated, failing open");
            return Ok(false);
        }
        let why = match failed.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Err(ApiError::forbidden(&self.call.resource(), name, &why))
    }
}
