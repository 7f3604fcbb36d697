//! PUT, of objects and of their status.

use std::sync::Arc;

use apimachinery::{ApiError, FieldError, FieldPath, status::Reason};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Call, commit, commit::Outcome, create, metadata, object, patch, preconditions};
use crate::{
    admission,
    crd::Part,
    http::{Body, query::WriteOptions},
    registry::Kind,
    store::Stored,
};

/// Rounds of an unconditional update against other writers. Each round that is lost was won by somebody else, so even
/// hundreds of writers get through; kube-apiserver does not bound it at all.
const ROUNDS: usize = 64;

/// Kinds whose subresources may be replaced without a resourceVersion, but not they themselves.
const PARTS_OF_ANY_VERSION: [(&str, &str); 3] = [("", "pods"), ("batch", "jobs"), ("batch", "cronjobs")];

/// Replaces the object that the URL names with the one in the body.
pub(super) async fn update(call: &mut Call) -> Result<Response<Body>, ApiError> {
    check_subresource(call, "update")?;
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let mut object = call.decode_replacement(options.field_validation).await?;
    object::settle_namespace(&call.kind, &mut object, call.namespace())?;
    check_named(call, &object)?;
    check_name(call, &mut object)?;
    let version = object::version(&object).to_owned();
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let manager = options.field_manager.as_deref();
    for _ in 0..ROUNDS {
        let current = call.current();
        // Where nothing is made, what is missing is told before whose it should be.
        if let Err(error) = &current
            && !call.kind.create_on_update
        {
            return Err(error.clone());
        }
        let found = current.as_ref().map_or("", |current| &*current.meta.uid);
        preconditions::check_uid(call, &uid, found, options.dry_run)?;
        let current = match current {
            Ok(current) => current,
            Err(_) if call.kind.create_on_update && call.path.subresource.is_none() => {
                create::authorize(call).await?;
                // A version that nothing has is not compared with anything.
                object::metadata(&mut object)?.remove("resourceVersion");
                let object = create::begin(call, object)?;
                let object = call.own(None, object, manager).await;
                let object = create::mutate(call, object, options.dry_run).await?;
                let object = create::finish(call, object)?;
                let stored = commit::create(call, call.name(), object, options.dry_run).await?;
                return call.answer(StatusCode::CREATED, &stored).await;
            }
            Err(error) => return Err(error),
        };
        check_version(call, &current, &version)?;
        let old = call.old_value(&current).await?;
        let mut next = object.clone();
        metadata::keep_reset(&call.kind, &mut next);
        let next = arrange(call, next, &old)?;
        let next = call.own(Some(&old), next, manager).await;
        let next = settle(call, next, &old, options.dry_run).await?;
        match commit::replace(call, &current, &old, next, options.dry_run).await? {
            Outcome::Stale if version.is_empty() => {}
            outcome => {
                let stored = outcome.into_stored(call, call.name())?;
                return call.answer(StatusCode::OK, &stored).await;
            }
        }
    }
    Err(ApiError::stale(&call.resource(), call.name()))
}

/// A subresource must exist, be a part of the object rather than an action on it, and have the verb.
pub(super) fn check_subresource(call: &Call, verb: &str) -> Result<(), ApiError> {
    let Some(name) = call.path.subresource.as_deref() else { return Ok(()) };
    let part = call.kind.subresource(name).ok_or_else(ApiError::no_such_path)?;
    if part.verbs.contains(&verb) && !part.changes.is_empty() {
        Ok(())
    } else {
        Err(ApiError::no_such_method())
    }
}

/// The body must say which object it is.
pub(super) fn check_named(call: &Call, object: &Value) -> Result<(), ApiError> {
    if object["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty()) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({} based on URL) was undeterminable: name must be provided",
        call.name()
    )))
}

/// The body's name must be the URL's; it may be left out.
pub(super) fn check_name(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let metadata = object::metadata(object)?;
    let own = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    if !own.is_empty() && own != call.name() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    metadata.insert("name".into(), call.name().into());
    Ok(())
}

/// The resourceVersion in the body is a precondition.
fn check_version(call: &Call, current: &Arc<Stored>, version: &str) -> Result<(), ApiError> {
    if version.is_empty() {
        let part = call.path.subresource.is_some();
        let is_listed = |kind: &(&str, &str)| call.kind.is(kind.0, kind.1);
        if call.kind.unconditional_update || part && PARTS_OF_ANY_VERSION.iter().any(is_listed) {
            return Ok(());
        }
        let path = FieldPath::new("metadata.resourceVersion");
        let error = FieldError::invalid(&path, 0, "must be specified for an update");
        return Err(ApiError::invalid(call.kind.group, call.kind.plural, call.name(), &[error]));
    }
    if version != current.revision.to_string() {
        check_number(version)?;
        return Err(ApiError::stale(&call.resource(), call.name()));
    }
    Ok(())
}

/// A version that is none is answered with 500 by kube-apiserver, not with 400.
pub(super) fn check_number(version: &str) -> Result<(), ApiError> {
    match version.parse::<u64>() {
        Ok(_) => Ok(()),
        Err(_) => {
            let why = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
            Err(ApiError::new(500, Reason::Unknown, why))
        }
    }
}

/// Makes an object ready to replace `old`, and checks it.
pub(super) fn prepare(call: &Call, object: Value, old: &Value) -> Result<Value, ApiError> {
    let object = arrange(call, object, old)?;
    validate(call, &object, old)?;
    Ok(object)
}

/// Finds the errors of an object that is to replace `old`; a subresource may have rules of its own.
pub(super) fn validate(call: &Call, object: &Value, old: &Value) -> Result<(), ApiError> {
    let kind = &*call.kind;
    let part = call.path.subresource.as_deref().and_then(|name| kind.subresource(name)?.validate);
    let changes = part.unwrap_or(kind.validate_update);
    let part = match call.path.subresource.as_deref() {
        Some("status") => Part::Status,
        _ => Part::Whole,
    };
    let mut warnings = Vec::new();
    let change = (object, Some(old));
    let outcome = object::validate_by(kind, changes, part, change, call.shared.endpoint_scope, &mut warnings);
    call.shared_warnings.lock().extend(warnings);
    outcome
}

/// Lets the webhooks change an arranged object, whose fields are owned already, and checks what comes of it.
pub(super) async fn settle(
    call: &Call,
    mut object: Value,
    old: &Value,
    dry_run: bool,
) -> Result<Value, ApiError> {
    if !admission::has_no_mutators(call)
        && let Some(mut changed) = admission::mutate(call, Some(old), &object, dry_run).await?
    {
        metadata::restore_ownership(call, &mut changed, &object);
        metadata::dedup_owners(call, &mut changed, metadata::Stage::Admitted);
        object = arrange(call, changed, old)?;
    }
    if let Some(part) = call.path.subresource.as_deref() {
        (call.kind.stamp)(&mut object, old, part, &crate::deletion::seconds(call.now));
    }
    validate(call, &object, old)?;
    if call.path.subresource.is_none() {
        call.shared_warnings.lock().extend((call.kind.warn)(&object, Some(old)));
    }
    Ok(object)
}

/// Makes an object ready to replace `old`: each subresource changes its own part and nothing else.
pub(super) fn arrange(call: &Call, mut object: Value, old: &Value) -> Result<Value, ApiError> {
    let kind = &*call.kind;
    call.canonicalise(&mut object);
    object::carry_over(&mut object, old)?;
    metadata::dedup_owners(call, &mut object, metadata::Stage::Sent);
    if let Some(custom) = &kind.custom {
        if patch::applies(call) {
            custom.complete_applied(&mut object);
        } else {
            custom.complete(&mut object);
        }
    }
    match call.path.subresource.as_deref() {
        Some(name) => {
            let part = kind.subresource(name).ok_or_else(ApiError::no_such_path)?;
            let mut next = old.clone();
            for pointer in part.changes {
                take(&mut next, &object, pointer);
            }
            // An apply has told already what it owns. Nobody else says so through a part.
            if patch::applies(call) {
                take(&mut next, &object, "/metadata/managedFields");
            }
            object = next;
            let of_spec = part.changes.iter().any(|pointer| pointer.starts_with("/spec"));
            if kind.built_in && (of_spec || part.changes.contains(&"/status")) {
                (kind.default)(&mut object);
                if part.changes.contains(&"/status") {
                    complete_status(kind, &mut object, old);
                }
                // A definition always tells a version that its objects may be stored in.
                if !object["status"].is_object() {
                    call.settle_definition(&mut object);
                }
            }
            // What a part of the spec says counts, too; the status does not.
            if of_spec {
                object::count_generation(kind, &mut object, old)?;
            }
        }
        None => {
            if kind.status {
                take(&mut object, old, "/status");
            }
            (kind.default)(&mut object);
            (kind.prepare_update)(&mut object, old);
            (kind.sign)(&mut object, Some(old), &call.user, &crate::deletion::seconds(call.now));
            call.allocate(&mut object, Some(old))?;
            call.settle_definition(&mut object);
            object::count_generation(kind, &mut object, old)?;
        }
    }
    Ok(object)
}

/// Fills in what Go always writes of a status, as in that of a new object: counts of zero, and the phase in which objects begin.
fn complete_status(kind: &Kind, object: &mut Value, old: &Value) {
    if ["pods", "nodes", "apiservices"].contains(&kind.plural) {
        return;
    }
    let mut new = old.clone();
    let Some(members) = new.as_object_mut() else { return };
    members.remove("status");
    (kind.prepare_create)(&mut new);
    let Value::Object(begin) = new["status"].take() else { return };
    if object["status"].is_null() {
        object["status"] = json!({});
    }
    let Some(status) = object["status"].as_object_mut() else { return };
    for (name, value) in begin {
        if name == "phase" || !value.is_string() && !value.is_array() {
            status.entry(name).or_insert(value);
        }
    }
}

/// Brings the value at a JSON pointer, or its absence, from one object to another; `/*/` is each element of a list. Where the names of the
/// two lists are others all of it is brought over, for the rules to refuse.
fn take(to: &mut Value, from: &Value, pointer: &str) {
    if let Some((list, rest)) = pointer.split_once("/*/") {
        let others = from.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let own = to.pointer_mut(list).and_then(Value::as_array_mut);
        let own = own.map(Vec::as_mut_slice).unwrap_or_default();
        if own.len() != others.len()
            || own.iter().zip(others).any(|(own, other)| own["name"] != other["name"])
        {
            return take(to, from, list);
        }
        for (item, other) in own.iter_mut().zip(others) {
            take(item, other, &format!("/{rest}"));
        }
        return;
    }
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    match from.pointer(pointer) {
        Some(value) => {
            let steps = parent.split('/').filter(|step| !step.is_empty());
            let place = steps.fold(to, |at, step| {
                if !at.is_object() {
                    *at = json!({});
                }
                &mut at[step]
            });
            if !place.is_object() {
                *place = json!({});
            }
            place[name] = value.clone();
        }
        None => {
            if let Some(place) = to.pointer_mut(parent).and_then(Value::as_object_mut) {
                place.remove(name);
            }
        }
    }
}
