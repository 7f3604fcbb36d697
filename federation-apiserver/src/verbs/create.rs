//! POST.

use apimachinery::{ApiError, names::SUFFIX_LEN};
use http::{Response, StatusCode};
use serde_json::Value;

use super::{Call, commit, object, patch, tidying};
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
    if !object::version(&object).is_empty() {
        return Err(ApiError::resource_version_on_create());
    }
    let object = begin(call, object)?;
    let object = call.own(None, object, options.field_manager.as_deref()).await;
    let object = mutate(call, object, options.dry_run).await?;
    let object = finish(call, object)?;
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

/// Makes a decoded object a new one, as the client would have written it in full: with metadata and defaults. What is in
/// it now is the client's; what [`finish`] adds is the server's, and nobody owns it.
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
    tidying::dedup_owners(call, &mut object, tidying::Stage::Sent);
    let random: [u8; SUFFIX_LEN] = rand::random();
    object::begin(kind, &mut object, &crate::uid::random(), random, call.now)?;
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
/// kube-apiserver.
pub(super) async fn mutate(call: &Call, mut object: Value, dry_run: bool) -> Result<Value, ApiError> {
    admission::complete(call, &mut object)?;
    if admission::nobody_mutates(call) {
        return Ok(object);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let _open = commit::check_namespace(call, name)?;
    let changed = admission::mutate(call, None, &object, dry_run).await?;
    let Some(mut changed) = changed else { return Ok(object) };
    tidying::restore_ownership(call, &mut changed, &object);
    tidying::dedup_owners(call, &mut changed, tidying::Stage::Admitted);
    if is_reset(&call.kind)
        && let Some(map) = changed.as_object_mut()
    {
        map.remove("status");
    }
    Ok(changed)
}

/// Sets what the server decides of a new object, and validates it.
pub(super) fn finish(call: &Call, mut object: Value) -> Result<Value, ApiError> {
    let kind = &*call.kind;
    (kind.prepare_create)(&mut object);
    call.settle_definition(&mut object);
    // The missing namespace is the plainer answer, so it comes before the faults of the object.
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let _open = commit::check_namespace(call, name)?;
    call.allocate(&mut object, None)?;
    (kind.sign)(&mut object, None, &call.user, &crate::deletion::seconds(call.now));
    object::validate(kind, &object, None, call.shared.leading)?;
    call.told.lock().extend((kind.warn)(&object, None));
    Ok(object)
}
