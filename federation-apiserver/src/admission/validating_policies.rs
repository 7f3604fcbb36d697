//! Evaluates the ValidatingAdmissionPolicies for a write.

use std::sync::Arc;

use apimachinery::{ApiError, labels::labels_of, status::Reason};
use serde_json::{Value, json};

use super::{
    matching::{Chosen, Operation, Subject},
    policy::{
        self, Binding, Misconfigured, Request,
        authorizer::Decisions,
        validating::{Failure, ValidatingPolicy, Verdict},
    },
};
use crate::{
    crd::conversion,
    registry::{Kind, KindRef, Served},
    store::{Key, ResourceKey, Snapshot},
    verbs::Call,
};

/// A write, as policies see it.
pub(super) struct PolicyAttributes<'a> {
    pub(super) call: &'a Call,
    pub(super) snapshot: Snapshot,
    pub(super) served: Arc<Served>,
    pub(super) decisions: Arc<Decisions>,
    /// The other versions in which the kind is served.
    pub(super) others: Vec<KindRef>,
    /// The kind of the objects, if it is not the call's own.
    pub(super) form: Option<&'static Kind>,
}

impl<'a> PolicyAttributes<'a> {
    /// A write by a call; none if its kind is exempt. Policies do not apply to policies, or a bad one could not be removed.
    pub(super) fn new(call: &'a Call, form: Option<&'static Kind>) -> Option<Self> {
        (call.kind.group != "admissionregistration.k8s.io").then(|| {
            let served = call.shared.served();
            Self {
                call,
                snapshot: call.shared.storage.snapshot(),
                others: served.other_versions(&call.kind),
                served,
                decisions: Arc::default(),
                form,
            }
        })
    }

    /// The old and the new object in another version of the call's kind, or why they cannot be converted: an error of configuration, to
    /// which a policy's `failurePolicy` applies.
    pub(super) async fn both_shown(
        &self,
        kind: &Kind,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(Option<Value>, Option<Value>), String> {
        let old = self.shown(kind, old).await.map_err(|error| unconverted(&error))?;
        Ok((old, self.shown(kind, new).await.map_err(|error| unconverted(&error))?))
    }

    /// An object of the call's kind in another version.
    async fn shown(&self, kind: &Kind, object: Option<&Value>) -> Result<Option<Value>, ApiError> {
        let Some(object) = object else { return Ok(None) };
        if self.form.is_some() {
            return Ok(Some(object.clone()));
        }
        conversion::between(&self.call.shared.storage, &self.call.kind, kind, object.clone()).await.map(Some)
    }

    /// A write of `new` in place of `old`, either of which may be absent.
    pub(super) fn request<'r>(
        &'r self,
        old: Option<&'r Value>,
        new: Option<&'r Value>,
        dry_run: bool,
    ) -> Request<'r> {
        self.request_as(&self.call.kind, old, new, dry_run)
    }

    /// The same with objects that are in this version of the call's kind.
    pub(super) fn request_as<'r>(
        &'r self,
        kind: &'r Kind,
        old: Option<&'r Value>,
        new: Option<&'r Value>,
        dry_run: bool,
    ) -> Request<'r> {
        let (call, own) = (self.call, &self.call.kind);
        let operation = match (old, new) {
            (Some(_), None) => Operation::Delete,
            _ => Operation::of(self.form, old.is_some()),
        };
        let object = new.or(old);
        let text =
            |pointer: &str| object.and_then(|object| object.pointer(pointer)?.as_str()).unwrap_or_default();
        let (mut name, mut own_namespace) = (text("/metadata/name"), text("/metadata/namespace"));
        // The body of such a request need not name its object.
        if self.form.is_some() {
            own_namespace = call.namespace();
            if !call.name().is_empty() {
                name = call.name();
            }
        }
        // The delete of a collection names no object.
        let of_many = operation == Operation::Delete && call.path.name.is_none();
        let name = if of_many { "" } else { name };
        let namespace = if kind.namespaced() { own_namespace } else { "" };
        let found = (!namespace.is_empty())
            .then(|| self.snapshot.get(&Key::new(ResourceKey::new("", "namespaces"), "", namespace)))
            .flatten()
            .and_then(|stored| stored.value().ok());
        let namespace_labels =
            if kind.is("", "namespaces") { object.map(labels_of) } else { found.as_ref().map(labels_of) };
        let subject = Subject {
            group: kind.group,
            version: kind.version,
            resource: kind.plural,
            subresource: call.path.subresource.as_deref().unwrap_or_default(),
            namespaced: kind.namespaced(),
            name,
            operation,
            namespace_labels,
            object: new,
            old,
        };
        let mut request = policy::request_value(&subject, kind.kind, namespace, &call.user, dry_run);
        let told = |kind: &Kind| json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        if let Some(form) = self.form {
            request["kind"] = told(form);
        }
        request["requestKind"] = told(self.form.unwrap_or(own));
        request["requestResource"] =
            json!({"group": own.group, "version": own.version, "resource": own.plural});
        let authorizer = self.decisions.variable(call, operation.verb(), name);
        Request { subject, request, namespace: found, authorizer }
    }
}

/// Evaluates the policies for a write of `new` in place of `old`, either of which may be absent. Warnings go to the call.
pub(crate) async fn check_policies(
    call: &Call,
    old: Option<&Value>,
    new: Option<&Value>,
    dry_run: bool,
) -> Result<(), ApiError> {
    check_policies_as(call, None, old, new, dry_run).await
}

/// The same for objects of another kind than the call's.
pub(super) async fn check_policies_as(
    call: &Call,
    form: Option<&'static Kind>,
    old: Option<&Value>,
    new: Option<&Value>,
    dry_run: bool,
) -> Result<(), ApiError> {
    let state = call.shared.policies().state(&call.shared.storage.snapshot());
    if state.validating.is_empty() {
        return Ok(());
    }
    let Some(asked) = PolicyAttributes::new(call, form) else { return Ok(()) };
    let request = asked.request(old, new, dry_run);
    let mut denied: Option<ApiError> = None;
    let mut deny = |policy: &str, binding: Option<&str>, reason: Option<Reason>, text: &str| {
        if denied.is_none() {
            denied = Some(refusal(call, request.subject.name, policy, binding, reason, text));
        }
    };
    for bound in &state.validating {
        let (policy, binding) = (&bound.policy, &bound.binding);
        let Some(chosen) = policy.common.chosen(&request, &asked.others) else { continue };
        if !binding.is_for(&request.subject, &asked.others) {
            continue;
        }
        let name = &policy.common.name;
        let params = match policy.common.params(&asked.snapshot, &*asked.served, binding, &request) {
            Ok(params) => params,
            Err(_) if policy.common.ignore_failures => continue,
            Err(Misconfigured::Policy(why)) => {
                deny(name, None, None, &format!("failed to configure policy: {why}"));
                continue;
            }
            Err(Misconfigured::Binding(why)) => {
                deny(name, Some(&binding.name), None, &format!("failed to configure binding: {why}"));
                continue;
            }
        };
        let in_other;
        let seen = match chosen {
            Chosen::Own => &request,
            Chosen::Other(kind) => {
                in_other = match asked.both_shown(kind, old, new).await {
                    Ok(both) => both,
                    Err(_) if policy.common.ignore_failures => continue,
                    Err(why) => {
                        deny(name, Some(&binding.name), None, &why);
                        continue;
                    }
                };
                &asked.request_as(kind, in_other.0.as_ref(), in_other.1.as_ref(), dry_run)
            }
        };
        for params in &params {
            let verdict = ask(&asked, policy, params.as_ref(), seen).await;
            let actions = binding.spec["validationActions"].as_array().map(Vec::as_slice).unwrap_or_default();
            for failure in &verdict.failures {
                for action in actions.iter().filter_map(Value::as_str) {
                    match action {
                        "Deny" => deny(name, Some(&binding.name), failure.reason, &failure.text),
                        "Audit" => note(call, name, binding, failure),
                        _ => {
                            let about = about(name, Some(&binding.name));
                            let told = format!("Validation failed for {about}: {}", failure.text);
                            call.shared_warnings.lock().push(told);
                        }
                    }
                }
            }
            for why in &verdict.unannotated {
                deny(name, Some(&binding.name), None, why);
            }
            if let Some(record) = &call.record {
                for (key, value) in &verdict.annotations {
                    record.gather(&format!("{name}/{key}"), value);
                }
            }
        }
    }
    denied.map_or(Ok(()), Err)
}

/// The result of a policy, repeated until all its authorizer checks are decided.
async fn ask(
    asked: &PolicyAttributes<'_>,
    policy: &ValidatingPolicy,
    params: Option<&Value>,
    request: &Request<'_>,
) -> Verdict {
    loop {
        let verdict = policy.ask(params, request);
        if !asked.decisions.learn(asked.call).await {
            return verdict;
        }
    }
}

/// kube-apiserver's error for a conversion that failed.
pub(super) fn unconverted(error: &ApiError) -> String {
    format!("failed to convert object version: {}", error.message)
}

fn about(policy: &str, binding: Option<&str>) -> String {
    match binding {
        Some(binding) => format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"),
        None => format!("ValidatingAdmissionPolicy '{policy}'"),
    }
}

fn refusal(
    call: &Call,
    name: &str,
    policy: &str,
    binding: Option<&str>,
    reason: Option<Reason>,
    text: &str,
) -> ApiError {
    let message = format!("{} denied request: {text}", about(policy, binding));
    let mut error = ApiError::forbidden(&call.resource(), name, &message).with_cause("", message, "");
    error.reason = reason.unwrap_or(Reason::Invalid);
    error.code = match error.reason {
        Reason::Unauthorized => 401,
        Reason::Forbidden => 403,
        Reason::RequestEntityTooLarge => 413,
        _ => 422,
    };
    error
}

/// Records a failure that goes to the audit log only.
fn note(call: &Call, policy: &str, binding: &Binding, failure: &Failure) {
    tracing::info!(%policy, binding = %binding.name, text = %failure.text, "a write failed a policy");
    if let Some(record) = &call.record {
        let told = json!([{
            "message": failure.text,
            "policy": policy,
            "binding": binding.name,
            "expressionIndex": failure.index,
            "validationActions": binding.spec["validationActions"],
        }]);
        record.annotate("validation.policy.admission.k8s.io/validation_failure", &told.to_string());
    }
}

impl policy::Parameters for Served {
    fn resource_of(&self, api_version: &str, kind: &str) -> Option<(ResourceKey, bool)> {
        let row = self.kinds().iter().find(|row| row.kind == kind && row.api_version() == api_version)?;
        Some((row.storage(), row.namespaced()))
    }
}
