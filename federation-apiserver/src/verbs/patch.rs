//! PATCH, in its four formats.

use apimachinery::{
    ApiError, FieldError, FieldPath,
    apply::{self, ApplyError, Conflict, Conflicts, Manager, ObjectType},
    json::type_name,
    patch::{self, PatchError},
    status::{Details, Reason},
};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Call,
    commit::{self, Outcome},
    create,
    decode::{self, Undecodable},
    metadata, object, parse_errors, parts, scale, update, yaml,
};
use crate::{
    admission,
    http::{
        Body,
        negotiate::{APPLY, content_type},
        query::{FieldValidation, WriteOptions},
    },
};

/// Rounds of a patch against other writers: parallel patches must all land.
const ROUNDS: usize = 64;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// The version of every Scale.
const SCALE_VERSION: &str = "autoscaling/v1";

enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

/// Changes the object that the URL names as the body says.
pub(super) async fn patch(call: &mut Call) -> Result<Response<Body>, ApiError> {
    update::check_subresource(call, "patch")?;
    let options = options(call)?;
    let patch = read(call, &options)?;
    let twice = match &patch {
        Patch::Json(operations) => strange_operations(call, operations, options.field_validation)?,
        _ => call.duplicates(options.field_validation)?,
    };
    // A resourceVersion in the patch is the patcher's precondition: a conflict is his to resolve.
    let conditional = match &patch {
        Patch::Json(_) => false,
        Patch::Merge(patch) | Patch::Strategic(patch) | Patch::Apply(patch) => {
            !object::version(patch).is_empty()
        }
    };
    for round in 0..ROUNDS {
        let current = match (&patch, call.current()) {
            (_, Ok(current)) => current,
            (Patch::Apply(configuration), Err(_)) if call.path.subresource.is_none() => {
                match create_by_apply(call, configuration.clone(), &options, &twice).await {
                    // Another applier was faster: this one changes what that one made.
                    Err(error) if error.reason == Reason::AlreadyExists => continue,
                    outcome => return outcome,
                }
            }
            (_, Err(error)) => return Err(error),
        };
        let old = call.old_value(&current).await?;
        let mut next = apply_to(call, &patch, &old, &options).await?;
        if let Patch::Apply(configuration) = &patch {
            check_yaml(options.field_validation, &twice)?;
            // Of what is applied nothing may be left in the merged object, or nothing changed by it: the precondition holds all the same.
            let version = object::version(configuration);
            if !version.is_empty() && version != current.revision.to_string() {
                return Err(ApiError::stale(&call.resource(), call.name()));
            }
        }
        // Others may make a change of what is none.
        if next == old && twice.is_empty() && admission::has_no_mutators(call) {
            if call.kind.custom.is_some() {
                update::validate(call, &old, &old)?;
            }
            commit::unchanged(call, &current, &old, options.dry_run).await?;
            return call.answer(StatusCode::OK, &current).await;
        }
        // Each round, because the patch may mean something else for another base; the warnings are told once.
        let warned = call.warnings.len();
        check_patched(call, &patch, &mut next, &old, (options.field_validation, &twice))?;
        if round > 0 {
            call.warnings.truncate(warned);
        }
        object::settle_namespace(&call.kind, &mut next, call.namespace())?;
        if !matches!(patch, Patch::Apply(_)) {
            update::check_named(call, &next)?;
        }
        update::check_name(call, &mut next)?;
        let version = object::version(&next);
        if !version.is_empty() && version != current.revision.to_string() {
            update::check_number(version)?;
            return Err(ApiError::stale(&call.resource(), call.name()));
        }
        check_uid(call, &next, &current.meta.uid)?;
        let applied = matches!(patch, Patch::Apply(_));
        if !applied {
            metadata::keep_reset(&call.kind, &mut next);
        }
        let mut next = update::arrange(call, next, &old)?;
        if !applied {
            next = call.own(Some(&old), next, options.field_manager.as_deref()).await;
        }
        let next = update::settle(call, next, &old, options.dry_run).await?;
        match commit::replace(call, &current, &old, next, options.dry_run).await? {
            Outcome::Stale if !conditional => {}
            outcome => {
                let stored = outcome.into_stored(call, call.name())?;
                return call.answer(StatusCode::OK, &stored).await;
            }
        }
    }
    Err(ApiError::stale(&call.resource(), call.name()))
}

/// The options of a patch, of a format that the kind takes: no other format is looked at further.
fn options(call: &Call) -> Result<WriteOptions, ApiError> {
    let formats: &[&str] =
        if call.kind.built_in { &[JSON_PATCH, MERGE, STRATEGIC, APPLY] } else { &[JSON_PATCH, MERGE, APPLY] };
    let format = content_type(&call.headers).unwrap_or_default();
    if !formats.contains(&format.as_str()) {
        return Err(ApiError::unsupported_media_type(formats));
    }
    WriteOptions::of_patch(&call.query, format == APPLY)
}

fn read(call: &Call, options: &WriteOptions) -> Result<Patch, ApiError> {
    let format = content_type(&call.headers).unwrap_or_default();
    if format == APPLY {
        let value = yaml::parse(&call.body).map_err(|error| match error {
            yaml::Unreadable::Text(error) => {
                let why = format!("error decoding YAML: error converting YAML to JSON: {error}");
                ApiError::bad_request(why)
            }
            yaml::Unreadable::Refused(error) => error,
        })?;
        parts::check(&value)?;
        return Ok(Patch::Apply(value));
    }
    // What is not there is missed before anybody looks at the patch.
    call.current()?;
    let looks = options.field_validation != FieldValidation::Ignore;
    let wrong = |error: String| {
        // Who looks for fields that are not known reads a JSON patch by types of its own, before it is read as a patch.
        let head = if looks || format != JSON_PATCH { "error decoding patch: " } else { "" };
        ApiError::bad_request(format!("{head}{error}"))
    };
    let value = decode::decode_json(&call.body).map_err(wrong)?;
    if format == JSON_PATCH {
        parts::check_all(value.as_array().into_iter().flatten().map(|operation| &operation["value"]))?;
        return match mistyped(&value).filter(|_| looks) {
            Some(error) => Err(wrong(error)),
            None => Ok(Patch::Json(value)),
        };
    }
    parts::check(&value)?;
    if value.is_null() {
        return match format.as_str() {
            MERGE => Err(ApiError::bad_request("Invalid JSON Patch")),
            // A patch of nothing.
            _ => Ok(Patch::Strategic(json!({}))),
        };
    }
    if !value.is_object() {
        let found = type_name(&value);
        let wanted = "map[string]interface {}";
        return Err(wrong(format!("json: cannot unmarshal {found} into Go value of type {wanted}")));
    }
    match format.as_str() {
        MERGE => Ok(Patch::Merge(value)),
        _ => Ok(Patch::Strategic(value)),
    }
}

/// What of a JSON patch is of another type than operations and their fields have, in Go's words.
fn mistyped(patch: &Value) -> Option<String> {
    const OPERATION: &str = "handlers.jsonPatchOp";
    let wrong = |found: &Value, place: &str| {
        Some(format!("json: cannot unmarshal {} into Go {place}", type_name(found)))
    };
    let operations = match patch {
        Value::Null => return None,
        Value::Array(operations) => operations,
        other => return wrong(other, &format!("value of type []{OPERATION}")),
    };
    operations.iter().find_map(|operation| match operation {
        Value::Null => None,
        Value::Object(fields) => fields.iter().find_map(|(name, value)| match name.as_str() {
            "op" | "path" | "from" if !value.is_string() && !value.is_null() => {
                wrong(value, &format!("struct field jsonPatchOp.{name} of type string"))
            }
            _ => None,
        }),
        other => wrong(other, &format!("value of type {OPERATION}")),
    })
}

async fn apply_to(
    call: &Call,
    patch: &Patch,
    old: &Value,
    options: &WriteOptions,
) -> Result<Value, ApiError> {
    let mut next = old.clone();
    match patch {
        Patch::Json(operations) => {
            patch::json::apply(&mut next, operations).map_err(|error| refuse(call, &error))?;
        }
        Patch::Merge(patch) => patch::merge::apply(&mut next, patch),
        Patch::Strategic(patch) => {
            return call.merge_strategically(old, patch).map_err(|error| refuse(call, &error));
        }
        Patch::Apply(configuration) => return merge_apply(call, Some(old), configuration, options).await,
    }
    Ok(next)
}

/// Checks what a patch made: it must be an object of the kind still, of the right types. What cannot be decoded is the patch's error.
fn check_patched(
    call: &mut Call,
    patch: &Patch,
    next: &mut Value,
    old: &Value,
    (validation, twice): (FieldValidation, &[String]),
) -> Result<(), ApiError> {
    let (api_version, kind) = (call.kind.api_version(), call.kind.kind);
    let custom = call.kind.custom.is_some() && !matches!(patch, Patch::Apply(_));
    let typed = match (parse_errors::no_object(next), patch) {
        (Some(error), _) => Err(ApiError::bad_request(error)),
        (None, Patch::Strategic(_)) => call.check_restored(next, old),
        (None, _) => decode::untyped(next).map_or(Ok(()), |why| Err(ApiError::bad_request(why))),
    };
    let typed = typed.and_then(|()| if custom { check_version(call, next, &api_version) } else { Ok(()) });
    let checked = typed.map_err(Undecodable::from);
    let checked = checked.and_then(|()| call.check_kind(next, &api_version, kind));
    let checked = checked.and_then(|()| call.check_fields(next, Some(old), validation, twice));
    checked.map_err(|error| match patch {
        Patch::Apply(_) => error.into(),
        Patch::Strategic(patch) => undecodable_result(error, &parse_errors::printed(patch)),
        _ => undecodable_result(error, &next.to_string()),
    })
}

/// A custom resource says its kind and stays in the version of the URL.
fn check_version(call: &Call, next: &Value, api_version: &str) -> Result<(), ApiError> {
    let says = |name: &str| next[name].as_str().is_some_and(|text| !text.is_empty());
    if !says("kind") {
        return Err(ApiError::bad_request(format!("Object 'Kind' is missing in '{next}'")));
    }
    if !says("apiVersion") {
        return Err(ApiError::internal("Object 'apiVersion' is missing in 'object has no apiVersion field'"));
    }
    match next["apiVersion"].as_str().filter(|found| !found.is_empty() && *found != api_version) {
        Some(found) => {
            let detail = format!("must be {api_version}");
            let error = FieldError::invalid(&FieldPath::new("apiVersion"), found, &detail);
            Err(ApiError::invalid(call.kind.group, call.kind.kind, call.name(), &[error]))
        }
        None => Ok(()),
    }
}

/// A patch is blamed for a result that cannot be decoded; `shown` is its value in the error.
fn undecodable_result(error: Undecodable, shown: &str) -> ApiError {
    match error {
        Undecodable::Unreadable { why, .. } => invalid_patch(shown, &why),
        Undecodable::Refused(error) if error.code == 400 => invalid_patch(shown, &error.message),
        Undecodable::Refused(error) => error,
    }
}

fn invalid_patch(shown: &str, why: &str) -> ApiError {
    ApiError::invalid("", "", "", &[FieldError::invalid(&FieldPath::new("patch"), shown, why)])
}

/// A configuration that is no strict YAML is refused where that is asked for, before anybody looks at its fields.
fn check_yaml(validation: FieldValidation, twice: &[String]) -> Result<(), ApiError> {
    match twice.first().filter(|_| validation == FieldValidation::Strict) {
        Some(why) => Err(ApiError::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: {why}"
        ))),
        None => Ok(()),
    }
}

/// What is to be said of operations with fields that operations do not have, or that stand there twice.
fn strange_operations(
    call: &Call,
    operations: &Value,
    validation: FieldValidation,
) -> Result<Vec<String>, ApiError> {
    if validation == FieldValidation::Ignore {
        return Ok(Vec::new());
    }
    let all = operations.as_array().into_iter().flatten().enumerate();
    let fields = all.flat_map(|(at, operation)| {
        operation.as_object().into_iter().flat_map(|fields| fields.keys()).map(move |name| (at, name))
    });
    let unknown: Vec<_> = fields
        .filter(|(_, name)| !matches!(name.as_str(), "op" | "path" | "from" | "value"))
        .map(|(at, name)| format!("[{at}].{name}"))
        .collect();
    let errors = kube_schema::strict_faults(&call.body, &unknown)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    Ok(errors.iter().map(|error| format!("json patch {error}")).collect())
}

/// The uid never changes.
fn check_uid(call: &Call, next: &Value, own: &str) -> Result<(), ApiError> {
    let uid = next["metadata"]["uid"].as_str().unwrap_or_default();
    if uid.is_empty() || uid == own {
        return Ok(());
    }
    let error = FieldError::invalid(&FieldPath::new("metadata.uid"), uid, "field is immutable");
    // Told by two, as [`object::validate`] says.
    Err(ApiError::invalid(call.kind.group, call.kind.kind, call.name(), &[error.clone(), error]))
}

fn refuse(call: &Call, error: &PatchError) -> ApiError {
    match error {
        PatchError::Malformed(text) => ApiError::bad_request(text.clone()),
        PatchError::Unexpected(text) => ApiError::new(500, Reason::Unknown, text.clone()),
        // What exactly failed is not told: kube-apiserver's words for any answer of this code.
        PatchError::Failed(text) => {
            tracing::debug!(name = call.name(), %text, "a patch does not fit");
            let told = "the server rejected our request due to an error in our request";
            ApiError::new(422, Reason::Invalid, told).with_details(Details::default())
        }
        PatchError::TooManyOperations { .. } => {
            let told = format!("Request entity too large: {error}");
            ApiError::new(413, Reason::RequestEntityTooLarge, told)
        }
    }
}

/// Merges an applied configuration into the live object and settles who owns what.
async fn merge_apply(
    call: &Call,
    live: Option<&Value>,
    configuration: &Value,
    options: &WriteOptions,
) -> Result<Value, ApiError> {
    let said = configuration;
    let mut configuration = configuration.clone();
    let api_version = call.kind.api_version();
    if !configuration.is_object() && !configuration.is_null() {
        let found = type_name(&configuration);
        return Err(ApiError::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    check_type(&configuration, &api_version, call.kind.kind)?;
    object::settle_namespace(&call.kind, &mut configuration, call.namespace())?;
    update::check_name(call, &mut configuration)?;
    let conflicts = if options.force { Conflicts::Force } else { Conflicts::Refuse };
    let name = call.field_manager(options.field_manager.as_deref());
    // A Scale has no annotations, so kubectl's ways with them are not asked for.
    let of_scale = is_of_scale(call);
    let step = |kind: ObjectType<'_>, manager: &Manager<'_>| {
        let applied = if of_scale {
            apply::apply(kind, live, &configuration, manager, conflicts)
        } else {
            apply::apply_after_kubectl(kind, live, &configuration, said, manager, conflicts)
        };
        applied.map_err(|error| apply_error(call, said, error))
    };
    call.with_manager(&name, step).await
}

/// A configuration is of the type that is applied to, whatever it could be converted to.
fn check_type(configuration: &Value, api_version: &str, kind: &str) -> Result<(), ApiError> {
    let said = |key: &str| configuration[key].as_str().unwrap_or_default();
    if (said("apiVersion"), said("kind")) == (api_version, kind) {
        return Ok(());
    }
    let version = said("apiVersion");
    let (group, version) = match version.matches('/').count() {
        0 => ("", version),
        1 => version.split_once('/').unwrap_or_default(),
        _ => ("", ""),
    };
    Err(ApiError::bad_request(format!("invalid object type: {group}/{version}, Kind={}", said("kind"))))
}

/// An apply's error in kube-apiserver's words: a configuration that does not fit its type is named as it names itself, and those who conflict
/// with an apply of a Scale are named by the Scale's version.
fn apply_error(call: &Call, said: &Value, error: ApplyError) -> ApiError {
    match error {
        ApplyError::Configuration(errors) => {
            let kind = &call.kind;
            let [namespace, name] =
                ["namespace", "name"].map(|key| said["metadata"][key].as_str().unwrap_or_default());
            let version =
                if kind.group.is_empty() { format!("/{}", kind.version) } else { kind.api_version() };
            let message = format!(
                "failed to create typed patch object ({namespace}/{name}; {version}, Kind={}): {}",
                kind.kind,
                errors.join(", ")
            );
            ApiError::new(500, Reason::Unknown, message)
        }
        ApplyError::Conflicts(mut conflicts) if is_of_scale(call) => {
            let own = call.kind.api_version();
            for Conflict { owner, .. } in
                conflicts.iter_mut().filter(|conflict| conflict.owner.api_version == own)
            {
                SCALE_VERSION.clone_into(&mut owner.api_version);
            }
            ApiError::from(&ApplyError::Conflicts(conflicts))
        }
        error => ApiError::from(&error),
    }
}

fn is_of_scale(call: &Call) -> bool {
    call.path.subresource.as_deref() == Some("scale")
}

async fn create_by_apply(
    call: &mut Call,
    configuration: Value,
    options: &WriteOptions,
    twice: &[String],
) -> Result<Response<Body>, ApiError> {
    create::authorize(call).await?;
    let mut object = merge_apply(call, None, &configuration, options).await?;
    // A resourceVersion is compared with what is there, and nothing is: as kube-apiserver does it, an apply with a version that cannot be
    // makes the object or changes nothing. A uid asks for the very object.
    if let Some(uid) = configuration["metadata"]["uid"].as_str() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(ApiError::conflict(&call.resource(), call.name(), &why));
    }
    update::check_named(call, &configuration)?;
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    check_yaml(options.field_validation, twice)?;
    call.check_fields(&object, None, options.field_validation, twice)?;
    let managed = object["metadata"].get("managedFields").cloned();
    let mut object = create::begin(call, object)?;
    if let Some(managed) = managed {
        object["metadata"]["managedFields"] = managed;
    }
    let object = create::mutate(call, object, options.dry_run).await?;
    let object = create::finish(call, object)?;
    let name = call.name().to_owned();
    match commit::create(call, &name, object, options.dry_run).await {
        Ok(stored) => call.answer(StatusCode::CREATED, &stored).await,
        Err(error) => Err(error),
    }
}

/// Whether the request applies a configuration.
pub(super) fn applies(call: &Call) -> bool {
    content_type(&call.headers).is_some_and(|format| format == APPLY)
}

/// Applies the replicas of a Scale to its object: a configuration that says nothing else.
pub(super) async fn apply_replicas(call: &Call, old: &Value, pointer: &str) -> Result<Value, ApiError> {
    let options = options(call)?;
    let Patch::Apply(scale) = read(call, &options)? else { return Ok(old.clone()) };
    let api_version = call.kind.api_version();
    let mut configuration = json!({
        "apiVersion": api_version, "kind": call.kind.kind, "metadata": {"name": call.name()},
    });
    // Who says nothing of them owns none.
    if let Some(replicas) = scale["spec"].get("replicas").filter(|replicas| !replicas.is_null()) {
        scale::set(&mut configuration, pointer, replicas.clone());
    }
    merge_apply(call, Some(old), &configuration, &options).await
}

/// A patch of a Scale, for the scale subresource: JSON, merge or apply. What it makes of the Scale, and what is warned of.
pub(super) fn apply_to_plain(call: &Call, old: &Value) -> Result<(Value, Vec<String>), ApiError> {
    let mut next = old.clone();
    let options = options(call)?;
    let validation = options.field_validation;
    let patch = read(call, &options)?;
    let mut errors = match &patch {
        Patch::Json(operations) => strange_operations(call, operations, validation)?,
        _ => call.duplicates(validation)?,
    };
    match patch {
        Patch::Json(operations) => {
            patch::json::apply(&mut next, &operations).map_err(|error| refuse(call, &error))?;
        }
        Patch::Apply(configuration) => {
            check_yaml(validation, &errors)?;
            check_type(&configuration, SCALE_VERSION, "Scale")?;
            patch::merge::apply(&mut next, &configuration);
        }
        Patch::Merge(patch) | Patch::Strategic(patch) => patch::merge::apply(&mut next, &patch),
    }
    if !next.is_object() {
        return Err(ApiError::bad_request("the patch leaves no Scale behind"));
    }
    if next["spec"].is_null() {
        next["spec"] = json!({});
    }
    let report = call.shared.schemas().validate("autoscaling", "v1", "Scale", &next);
    let report = report.unwrap_or_default();
    if let Some(first) = report.mismatches.first() {
        return Err(invalid_patch(&next.to_string(), &first.to_string()));
    }
    errors.extend(report.unknown.iter().map(|field| decode::unknown(field)));
    match validation {
        FieldValidation::Ignore => Ok((next, Vec::new())),
        FieldValidation::Strict if !errors.is_empty() => {
            let why = format!("strict decoding error: {}", errors.join(", "));
            Err(invalid_patch(&next.to_string(), &why))
        }
        FieldValidation::Warn | FieldValidation::Strict => Ok((next, errors)),
    }
}
