//! Calls mutating policies and webhooks for what is about to be written.
//!
//! As in kube-apiserver: first the policies, one after another, then the webhooks. If anything was changed, those with
//! `reinvocationPolicy: IfNeeded` that were called before the change are called once more.

use std::{collections::BTreeSet, sync::Arc};

use apimachinery::{
    ApiError,
    apply::{Duplicates, ObjectType},
    patch::{self, PatchError},
    status::Reason,
};
use serde_json::Value;

use super::{
    matching::Chosen,
    policy::{
        Bound, Misconfigured, Request, State,
        mutating::{Change, MutatingPolicy, Mutation},
    },
    validating_policies::{PolicyAttributes, unconverted},
    webhook::{self, Reinvocation},
};
use crate::{
    crd::conversion,
    registry::{Kind, KindRef},
    verbs::{Call, called, settle_mutated},
};

/// Whether there are neither mutating policies nor mutating webhooks, the most frequent case.
pub(crate) fn has_no_mutators(call: &Call) -> bool {
    let snapshot = call.shared.storage.snapshot();
    call.shared.webhooks().is_idle(&snapshot) && call.shared.policies().state(&snapshot).mutating.is_empty()
}

/// Calls mutating policies and webhooks for a new state, which replaces `old` if there is one. The result is the changed state, if they
/// change it.
///
/// # Errors
/// When one refuses, or fails and its failure policy is `Fail`.
pub(crate) async fn mutate(
    call: &Call,
    old: Option<&Value>,
    object: &Value,
    dry_run: bool,
) -> Result<Option<Value>, ApiError> {
    mutate_as(call, None, old, object, dry_run).await
}

/// The same for objects of another kind than the call's.
pub(super) async fn mutate_as(
    call: &Call,
    form: Option<&'static Kind>,
    old: Option<&Value>,
    object: &Value,
    dry_run: bool,
) -> Result<Option<Value>, ApiError> {
    let snapshot = call.shared.storage.snapshot();
    let state = call.shared.policies().state(&snapshot);
    let asked = if state.mutating.is_empty() { None } else { PolicyAttributes::new(call, form) };
    let hooks = webhook::Write::of(call, old, dry_run).in_form(form);
    let Some(asked) = asked else {
        return hooks.mutate(Some(object)).await;
    };
    let mut policies = Policies::new(&asked, &state, old, object, dry_run);
    let mut reinvocation = Reinvocation::new(&hooks);
    let mut current = object.clone();
    for round in 0..2 {
        current = policies.round(round, current).await?;
        let before = current.clone();
        current = hooks.mutate_round(&mut reinvocation, round, Some(current)).await?.unwrap_or(before);
        if current == *object {
            break;
        }
    }
    Ok((current != *object).then_some(current))
}

/// A policy with a binding and one of its parameters.
struct Invocation<'a> {
    policy: &'a MutatingPolicy,
    binding: &'a str,
    params: Option<Value>,
    /// The version of the kind that its rules match, if it is not the request's own.
    seen: Option<&'a KindRef>,
}

/// The mutating policies of one write.
struct Policies<'a> {
    asked: &'a PolicyAttributes<'a>,
    old: Option<&'a Value>,
    dry_run: bool,
    invocations: Vec<Invocation<'a>>,
    /// Errors in policies' configurations.
    errors: Vec<String>,
    /// Those with `reinvocationPolicy: IfNeeded` that have been called since the last change.
    invoked: BTreeSet<usize>,
    again: BTreeSet<usize>,
    /// The object after the last round.
    last: Option<Value>,
}

impl<'a> Policies<'a> {
    /// The policies that match a write. As in kube-apiserver, that is decided once, by the object as the client sent it.
    fn new(
        asked: &'a PolicyAttributes<'a>,
        state: &'a Arc<State>,
        old: Option<&'a Value>,
        object: &Value,
        dry_run: bool,
    ) -> Self {
        let request = asked.request(old, Some(object), dry_run);
        let (mut invocations, mut errors) = (Vec::new(), Vec::new());
        for Bound { policy, binding } in &state.mutating {
            let Some(chosen) = policy.common.chosen(&request, &asked.others) else { continue };
            if !binding.is_for(&request.subject, &asked.others) {
                continue;
            }
            let seen = match chosen {
                Chosen::Own => None,
                Chosen::Other(kind) => Some(kind),
            };
            let name = &policy.common.name;
            match policy.common.params(&asked.snapshot, &*asked.served, binding, &request) {
                Ok(all) => invocations.extend(all.into_iter().map(|params| Invocation {
                    policy,
                    binding: &binding.name,
                    params,
                    seen,
                })),
                Err(_) if policy.common.ignore_failures => {}
                Err(Misconfigured::Policy(why)) => {
                    errors.push(format!("policy {name:?} denied request: failed to configure policy: {why}"));
                }
                Err(Misconfigured::Binding(why)) => {
                    errors.push(denied(name, &binding.name, &format!("failed to configure binding: {why}")));
                }
            }
        }
        let (invoked, again) = (BTreeSet::new(), BTreeSet::new());
        Self { asked, old, dry_run, invocations, errors, invoked, again, last: None }
    }

    /// Evaluates them in order; in the second round only those that are to be called again.
    async fn round(&mut self, round: usize, object: Value) -> Result<Value, ApiError> {
        if round > 0 && self.last.as_ref() != Some(&object) {
            self.again.append(&mut self.invoked);
        }
        let mut errors = std::mem::take(&mut self.errors);
        let mut current = object;
        for (index, invocation) in self.invocations.iter().enumerate() {
            if round > 0 && !self.again.contains(&index) {
                continue;
            }
            let before = current.clone();
            match self.invoke(invocation, current).await? {
                Ok(next) => current = next,
                Err((next, why)) => {
                    current = next;
                    if !invocation.policy.common.ignore_failures {
                        let name = &invocation.policy.common.name;
                        errors.extend(why.iter().map(|why| denied(name, invocation.binding, why)));
                    }
                }
            }
            if current != before {
                self.again.append(&mut self.invoked);
            }
            if invocation.policy.reinvoke {
                self.invoked.insert(index);
            }
        }
        self.last = Some(current.clone());
        let Some(first) = errors.first() else { return Ok(current) };
        let mut error = ApiError::forbidden(&self.asked.call.resource(), called(&current), "");
        error.message.clone_from(first);
        error.reason = Reason::Invalid;
        Err(errors.into_iter().fold(error, |error, why| error.with_cause("", why, "")))
    }

    /// The object after one policy, and the errors of its mutations that failed. The other mutations count.
    async fn invoke(
        &self,
        invocation: &Invocation<'_>,
        object: Value,
    ) -> Result<Result<Value, (Value, Vec<String>)>, ApiError> {
        let Some(kind) = invocation.seen else {
            let old = self.old;
            return self.invoke_as(invocation, &self.asked.call.kind, old, object).await;
        };
        if self.asked.form.is_some() {
            return self.invoke_as(invocation, kind, self.old, object).await;
        }
        let call = self.asked.call;
        let (old, shown) = match self.asked.both_shown(kind, self.old, Some(&object)).await {
            Ok((old, shown)) => (old, shown.unwrap_or_default()),
            Err(why) => return Ok(Err((object, vec![why]))),
        };
        let made = self.invoke_as(invocation, kind, old.as_ref(), shown.clone()).await?;
        let (next, why) = match made {
            Ok(next) => (next, None),
            Err((next, why)) => (next, Some(why)),
        };
        let next = if next == shown {
            object
        } else {
            let converted = conversion::between(&call.shared.storage, kind, &call.kind, next).await;
            let mut next = match converted {
                Ok(next) => next,
                Err(error) => {
                    let mut all = why.unwrap_or_default();
                    all.push(unconverted(&error));
                    return Ok(Err((object, all)));
                }
            };
            call.canonicalise(&mut next);
            settle_mutated(&call.kind, &mut next, &object)?;
            next
        };
        Ok(match why {
            None => Ok(next),
            Some(why) => Err((next, why)),
        })
    }

    /// The same with objects that are in this version of the kind.
    async fn invoke_as(
        &self,
        invocation: &Invocation<'_>,
        kind: &Kind,
        old: Option<&Value>,
        object: Value,
    ) -> Result<Result<Value, (Value, Vec<String>)>, ApiError> {
        let (policy, params) = (invocation.policy, invocation.params.as_ref());
        let mut current = object;
        match self.meets(policy, params, &self.request(kind, old, &current)).await {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(current)),
            Err(why) => return Ok(Err((current, vec![why]))),
        }
        let mut failed = Vec::new();
        for mutation in &policy.mutations {
            let change = match self.change(policy, mutation, params, &self.request(kind, old, &current)).await
            {
                Ok(change) => change,
                Err(why) => {
                    failed.push(why);
                    continue;
                }
            };
            match changed(self.asked.call, self.asked.form.unwrap_or(kind), &current, &change)? {
                Ok(next) => current = next,
                Err(why) => failed.push(why),
            }
        }
        Ok(if failed.is_empty() { Ok(current) } else { Err((current, failed)) })
    }

    fn request<'r>(&'r self, kind: &'r Kind, old: Option<&'r Value>, object: &'r Value) -> Request<'r> {
        self.asked.request_as(kind, old, Some(object), self.dry_run)
    }

    async fn meets(
        &self,
        policy: &MutatingPolicy,
        params: Option<&Value>,
        request: &Request<'_>,
    ) -> Result<bool, String> {
        loop {
            let outcome = policy.meets(params, request);
            if !self.asked.decisions.learn(self.asked.call).await {
                return outcome;
            }
        }
    }

    async fn change(
        &self,
        policy: &MutatingPolicy,
        mutation: &Mutation,
        params: Option<&Value>,
        request: &Request<'_>,
    ) -> Result<Change, String> {
        loop {
            let outcome = policy.change(mutation, params, request);
            if !self.asked.decisions.learn(self.asked.call).await {
                return outcome;
            }
        }
    }
}

fn denied(policy: &str, binding: &str, why: &str) -> String {
    format!("policy '{policy}' with binding '{binding}' denied request: {why}")
}

/// The object after a change, with types checked and defaults filled in, or why the change does not fit.
fn changed(
    call: &Call,
    kind: &Kind,
    before: &Value,
    change: &Change,
) -> Result<Result<Value, String>, ApiError> {
    let mut next = match change {
        Change::Apply(configuration) => match call.typed_as(kind, |kind| merged(kind, before, configuration))
        {
            Ok(next) => next,
            Err(why) => return Ok(Err(format!("error applying patch: {why}"))),
        },
        Change::Json(operations) => {
            let mut next = before.clone();
            match patch::json::apply(&mut next, operations) {
                Ok(()) => next,
                // A test that fails is no error: the patch does not apply.
                Err(PatchError::Failed(why)) if why.ends_with("test failed") => {
                    return Ok(Ok(before.clone()));
                }
                Err(why) => return Ok(Err(format!("JSONPath: {why}"))),
            }
        }
    };
    if let Some(why) = call.undecodable(kind, &next) {
        return Err(ApiError::internal(why));
    }
    call.canonicalise_as(kind, &mut next);
    settle_mutated(kind, &mut next, before)?;
    Ok(Ok(next))
}

/// Merges a configuration as server-side apply does. It may not have atomic lists, maps and structs, since it would remove all of them that it
/// does not repeat.
fn merged(kind: ObjectType<'_>, before: &Value, configuration: &Value) -> Result<Value, String> {
    let mut configuration = configuration.clone();
    for name in ["apiVersion", "kind"] {
        configuration[name] = before[name].clone();
    }
    kind.validate(&configuration, Duplicates::Refuse)
        .map_err(|errors| format!("failed to convert patch object to typed object: {}", errors.join(", ")))?;
    let atomic = kind.atomic_fields(&configuration);
    if !atomic.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomic.join(", ")
        ));
    }
    kind.merge(before, &configuration).map_err(|why| format!("failed to merge patch: {why}"))
}
