//! POST: creating an object.

use apimachinery::{ApiError, names};
use http::{Response, StatusCode};
use serde_json::Value;

use super::{Call, commit, definition, metadata, object, patch, restore};
use crate::{
    admission,
    auth::authz::{self, Decision},
    http::{Body, query::WriteOptions},
    registry::Kind,
};

/// Creates the object in the body.
pub(super) async fn create(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    if call.kind.namespaced() && call.path.namespace.is_none() {
        return Err(ApiError::no_such_method());
    }
    let object = call.decode_object(options.field_validation)?;
    let kept = restore::kept(call, &object).await?;
    let object = begin(call, object)?;
    let object = call.own(None, object, options.field_manager.as_deref()).await;
    let object = mutate(call, object, options.dry_run).await?;
    let object = finish_as(call, object, kept.as_ref())?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let stored = commit::create(call, &name, object, options.dry_run).await?;
    call.answer(StatusCode::CREATED, &stored).await
}

/// An update or an apply that makes the object needs the permission to create it, too.
pub(super) async fn authorize(call: &Call) -> Result<(), ApiError> {
    let asked = authz::of_path("create", &call.path, None);
    match call.shared.authorizer().decide(&call.user, &asked).await {
        Decision::Allow(_) => Ok(()),
        Decision::Failed(why) => Err(ApiError::internal(why)),
        Decision::NoOpinion(reason) | Decision::Deny(reason) => {
            Err(ApiError::forbidden(&call.resource(), call.name(), &reason))
        }
    }
}

/// Makes a decoded object a new one, as the client would have written it in full: with defaults, and without what only the server writes. What is
/// in it now is the client's; what [`finish`] adds is the server's, and nobody owns it.
pub(super) fn begin(call: &Call, mut object: Value) -> Result<Value, ApiError> {
    let kind = &*call.kind;
    call.canonicalise(&mut object);
    if let Some(custom) = &kind.custom {
        if custom.terminating {
            let mut refused = ApiError::method_not_allowed(&kind.resource(), "create");
            "create not allowed while custom resource definition is terminating"
                .clone_into(&mut refused.message);
            return Err(refused);
        }
        if patch::applies(call) {
            custom.complete_applied(&mut object);
        } else {
            custom.complete(&mut object);
        }
    }
    object::settle_namespace(kind, &mut object, call.namespace())?;
    metadata::dedup_owners(call, &mut object, metadata::Stage::Sent);
    object::begin(&mut object)?;
    if is_reset(kind)
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    (kind.default)(&mut object);
    Ok(object)
}

/// Whether the status of a new object is dropped. That of a Node is its kubelet's, who registers it.
fn is_reset(kind: &Kind) -> bool {
    kind.status && !(kind.group.is_empty() && kind.plural == "nodes")
}

/// Completes a new object, whose fields are owned already, and lets the webhooks change it: nobody owns what they add, as in
/// kube-apiserver. If its name is to be generated, it has none yet.
pub(super) async fn mutate(call: &Call, mut object: Value, dry_run: bool) -> Result<Value, ApiError> {
    admission::complete(call, &mut object)?;
    if admission::has_no_mutators(call) {
        return Ok(object);
    }
    let _open = commit::check_namespace(call, object::called(&object))?;
    let changed = admission::mutate(call, None, &object, dry_run).await?;
    let Some(mut changed) = changed else { return Ok(object) };
    metadata::restore_ownership(call, &mut changed, &object);
    metadata::dedup_owners(call, &mut changed, metadata::Stage::Admitted);
    if is_reset(&call.kind)
        && let Some(map) = changed.as_object_mut()
    {
        map.remove("status");
    }
    Ok(changed)
}

/// Sets what the server decides of a new object, and validates it.
pub(super) fn finish(call: &Call, object: Value) -> Result<Value, ApiError> {
    finish_as(call, object, None)
}

/// The same of an object that comes back: faults of what was kept of it may stay.
fn finish_as(call: &Call, mut object: Value, kept: Option<&Value>) -> Result<Value, ApiError> {
    let kind = &*call.kind;
    // Nobody who has changed it has moved it elsewhere.
    object::settle_namespace(kind, &mut object, call.namespace())?;
    // The missing namespace is the plainer answer, so it comes before the errors of the object, and before its name.
    let _open = commit::check_namespace(call, object::called(&object))?;
    if kind.is("", "limitranges") && object::is_unnamed(&object) {
        // `limitrangeStrategy.PrepareForCreate`: a LimitRange needs no name.
        object["metadata"]["name"] = crate::uid::random().into();
    }
    let name = |prefix: &str| free_name(call, prefix);
    object::complete(kind, &mut object, name, &crate::uid::random(), call.now)?;
    (kind.prepare_create)(&mut object);
    let old_ways = (kind.carry_over)(&mut object);
    call.shared_warnings.lock().extend(old_ways);
    definition::begin(call, &mut object);
    call.allocate(&mut object, None)?;
    (kind.sign)(&mut object, None, &call.user, &crate::deletion::seconds(call.now));
    match kept {
        Some(kept) => object::validate_restored(kind, &object, kept, call.shared.endpoint_scope)?,
        None => object::validate(kind, &object, None, call.shared.endpoint_scope)?,
    }
    call.shared_warnings.lock().extend((kind.warn)(&object, None));
    Ok(object)
}

/// What a manifest is as a new object, as far as that needs nobody else.
pub(super) fn as_new(call: &Call, manifest: Value) -> Result<Value, ApiError> {
    let kind = &*call.kind;
    let mut object = begin(call, manifest)?;
    object::complete(kind, &mut object, str::to_owned, "", call.now)?;
    (kind.prepare_create)(&mut object);
    (kind.carry_over)(&mut object);
    definition::begin(call, &mut object);
    Ok(object)
}

/// Names that are tried before one that is taken is refused: `maxNameGenerationCreateAttempts`.
const NAMES_TRIED: usize = 8;

/// A generated name that no object has. Who takes it in between is the first of two, and the other one is told so.
fn free_name(call: &Call, prefix: &str) -> String {
    let mut name = names::generated_name(prefix, rand::random());
    for _ in 1..NAMES_TRIED {
        if call.shared.storage.get(&call.key(&name)).is_none() {
            break;
        }
        name = names::generated_name(prefix, rand::random());
    }
    name
}
