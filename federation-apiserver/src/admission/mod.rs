//! Admission: defaults that depend on other objects, and checks of what the namespace and the user may do.
//!
//! [`complete`] runs before an object is validated and may change it; the policies of the administrators and the webhooks that they have
//! named change it, too ([`mutate`]). Once it is complete and valid, [`permit`] checks the user's permissions, then validating policies and
//! webhooks are called ([`validating_policies`], [`webhook`]), and last of all [`reserve`] charges it to quotas.

mod certificate_signers;
mod default_class;
mod limit_ranger;
mod matching;
mod mountable_secrets;
mod mutate;
mod pod_resize;
mod pod_security;
mod pod_topology_labels;
mod pods;
mod policy;
mod pvc_resize;
mod quota;
mod resource_claim;
mod runtime_class;
mod service_account;
pub(crate) mod subresource;
mod tolerations;
mod usage;
mod validating_policies;
pub(crate) mod webhook;

use std::collections::HashSet;

use apimachinery::ApiError;
use serde_json::Value;

pub(crate) use mutate::{has_no_mutators, mutate};
pub(crate) use pod_security::secure;
pub(crate) use pod_topology_labels::label as label_with_place;
pub(crate) use policy::{Policies, check_conditions, check_policy, type_warnings};
pub(crate) use quota::{Quotas, Reservation};
pub(crate) use service_account::keep as keep_token;
pub(crate) use validating_policies::check_policies;

use crate::{
    auth::escalation, deletion, housekeeping::protection, store::ResourceKey, validation::deleting,
    verbs::Call,
};

/// Fills in the fields of a new object that come from other objects. They have no field manager, like those that webhooks add.
pub(crate) fn complete(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    if is_core(call, "pods") {
        return pods::complete(call, object);
    }
    default_class::complete(call, object);
    if let Some(finalizer) = protector(call) {
        let mut finalizers = deletion::finalizers(object);
        if !finalizers.iter().any(|name| name == finalizer) {
            finalizers.push(finalizer.to_owned());
            deletion::set_finalizers(object, &finalizers);
        }
    }
    Ok(())
}

/// The finalizer that the plugin `StorageObjectInUseProtection` gives a new object of a kind.
fn protector(call: &Call) -> Option<&'static str> {
    match (call.kind.group, call.kind.plural) {
        ("", "persistentvolumeclaims") => Some(protection::CLAIM),
        ("", "persistentvolumes") => Some(protection::VOLUME),
        ("storage.k8s.io", "volumeattributesclasses") => Some(protection::ATTRIBUTES_CLASS),
        _ => None,
    }
}

/// Whether a write is of a subresource that these checks do not concern: of all subresources, they concern `resize` only.
fn is_part(call: &Call) -> bool {
    call.path.subresource.as_deref().is_some_and(|part| part != "resize")
}

/// Checks that the user may write `new`, in place of `old` if there is one, before any policy or webhook sees it.
pub(crate) async fn permit(
    call: &Call,
    name: &str,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    certificate_signers::check(call, name, old, new).await?;
    resource_claim::check(call, name, old, new).await?;
    if is_core(call, "pods") {
        mountable_secrets::check(call, name, old, new)?;
        runtime_class::check(call, name, old, new)?;
        pod_resize::check(call, name, old, new)?;
    }
    if is_part(call) {
        return Ok(());
    }
    default_class::check(call, name, old, new)?;
    pvc_resize::check(call, name, old, new)?;
    escalation::check(call.shared.authorizer(), &call.user, &call.resource(), old, new).await?;
    check_limits(call, name, old, new)
}

/// Charges a write to the namespace's quotas. The reservation must live until the write is done.
pub(crate) fn reserve<'a>(
    call: &'a Call,
    name: &str,
    old: Option<(&Value, u64)>,
    new: &Value,
    dry_run: bool,
) -> Result<Option<Reservation<'a>>, ApiError> {
    // Of what is being deleted, nothing is taken any more.
    if is_part(call) || new["metadata"]["deletionTimestamp"].is_string() {
        return Ok(None);
    }
    call.shared.quotas().admit(&call.shared.storage, &call.key(name), old, new, dry_run)
}

/// Checks the permissions that a write needs even if it changes nothing.
pub(crate) async fn permit_unchanged(call: &Call, name: &str, object: &Value) -> Result<(), ApiError> {
    certificate_signers::check(call, name, Some(object), object).await
}

fn is_core(call: &Call, plural: &str) -> bool {
    call.kind.group.is_empty() && call.kind.plural == plural
}

/// The LimitRanges of the namespace.
fn ranges(call: &Call) -> Vec<Value> {
    let resource = ResourceKey::new("", "limitranges");
    let snapshot = call.shared.storage.snapshot();
    let all = snapshot.range(&resource, Some(call.namespace()), None);
    all.filter_map(|stored| stored.value().ok()).collect()
}

fn check_limits(call: &Call, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let check: fn(&Value, &Value) -> Vec<String> = if is_core(call, "pods") {
        // What a pod may use changes by a resize only: narrower limits are not for those that are there.
        if old.is_some() && call.path.subresource.is_none() {
            return Ok(());
        }
        limit_ranger::check_pod
    } else if is_core(call, "persistentvolumeclaims") {
        limit_ranger::check_claim
    } else {
        return Ok(());
    };
    if old.is_some_and(deleting) {
        return Ok(());
    }
    // Only one LimitRange is reported at a time, and each of its errors once.
    let told = ranges(call).iter().map(|range| distinct(check(range, new))).find(|errors| !errors.is_empty());
    let why = match told.as_deref() {
        None | Some([]) => return Ok(()),
        Some([one]) => one.clone(),
        Some(many) => format!("[{}]", many.join(", ")),
    };
    Err(ApiError::forbidden(&call.resource(), name, &why))
}

fn distinct(errors: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    errors.into_iter().filter(|error| seen.insert(error.clone())).collect()
}
