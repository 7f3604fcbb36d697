//! The scale subresource: an `autoscaling/v1` Scale over `spec.replicas`.

use apimachinery::{ApiError, FieldError, FieldPath, labels::Selector, status::GroupResource};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Call, commit, commit::Outcome, object, patch, preconditions, scale_ownership, update};
use crate::{
    admission::subresource::{self, SubresourceRequest},
    crd::custom::ScalePaths,
    encode,
    http::{Body, query::WriteOptions, respond},
    registry::{Column, Kind, count},
};

const ROUNDS: usize = 64;

/// What a Scale looks like in a Table.
const SHOWN: Kind = Kind {
    group: "autoscaling",
    kind: "Scale",
    columns: &[
        Column::NAME,
        Column::integer("Desired", "Wanted pods.", |object, _| count(object, "/spec/replicas")),
        Column::integer("Available", "Pods.", |object, _| count(object, "/status/replicas")),
        Column::AGE,
    ],
    ..Kind::BUILT_IN
};

/// Answers with the Scale.
pub(super) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    check(call)?;
    let object = call.value(&found(call)?).await?;
    if let Some(paths) = paths(call)
        && object.pointer(&paths.spec_replicas).and_then(Value::as_i64).is_none()
    {
        let path = paths.spec_replicas.replace('/', ".");
        return Err(ApiError::internal(format!("the spec replicas field {path:?} does not exist")));
    }
    Ok(answer(call, &object))
}

fn answer(call: &Call, object: &Value) -> Response<Body> {
    let shown = encode::in_view(&SHOWN, call.format, scale_of(call, object), call.now);
    call.finish(respond::value(StatusCode::OK, call.format, &shown))
}

/// Sets the replicas that the body's Scale asks for.
pub(super) async fn update(call: &mut Call) -> Result<Response<Body>, ApiError> {
    check(call)?;
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let mut scale = call.decode_as("autoscaling/v1", "Scale", options.field_validation)?;
    object::settle_namespace(&call.kind, &mut scale, call.namespace())?;
    update::check_named(call, &scale)?;
    update::check_name(call, &mut scale)?;
    write(call, Form::Whole, |_, _| Ok((scale.clone(), Vec::new()))).await
}

/// Patches the Scale.
pub(super) async fn patch(call: &mut Call) -> Result<Response<Body>, ApiError> {
    check(call)?;
    write(call, Form::Patch, patch::apply_to_plain).await
}

/// The object whose Scale is read; a missing one is told as the subresource.
fn found(call: &Call) -> Result<std::sync::Arc<crate::store::Stored>, ApiError> {
    call.current().map_err(|error| {
        if call.kind.custom.is_some() {
            return error;
        }
        let part = GroupResource::new(call.kind.group, format!("{}/scale", call.kind.plural));
        ApiError::not_found(&part, call.name())
    })
}

fn check(call: &Call) -> Result<(), ApiError> {
    if call.kind.scale { Ok(()) } else { Err(ApiError::no_such_path()) }
}

/// In which form a Scale comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    /// A patch means something for whatever is there: if somebody else was faster it is applied once more.
    Patch,
}

async fn write(
    call: &mut Call,
    kind: Form,
    wanted: impl Fn(&Call, &Value) -> Result<(Value, Vec<String>), ApiError>,
) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let manager = call.field_manager(options.field_manager.as_deref());
    let applies = patch::applies(call);
    for round in 0..ROUNDS {
        // Here the object itself is missed.
        let current = call.current()?;
        let old = call.old_value(&current).await?;
        let before = scale_of(call, &old);
        let (mut scale, warnings) = wanted(call, &before)?;
        if round == 0 {
            call.warnings.extend(warnings);
        }
        check_types(&scale)?;
        let pointer = paths(call).map_or("/spec/replicas", |paths| &paths.spec_replicas).to_owned();
        let mut object =
            if applies { patch::apply_replicas(call, &old, &pointer).await? } else { old.clone() };
        if applies {
            scale_ownership::check_applied(call, &old, &object, &pointer)?;
            // What nobody applies any more is Go's zero.
            let left = object.pointer(&pointer).and_then(Value::as_i64).unwrap_or_default();
            set(&mut scale, "/spec/replicas", left.into());
        }
        let form = Some(&subresource::SCALE);
        let shown = SubresourceRequest { call, form, old: Some(&before), dry_run: options.dry_run };
        scale = shown.mutate(scale).await?;
        check_types(&scale)?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        if replicas < 0 {
            if let Some(paths) = paths(call) {
                let path = FieldPath::new(paths.spec_replicas.replace('/', "."));
                let error = FieldError::invalid(&path, replicas, "should be a non-negative integer");
                return Err(ApiError::invalid(call.kind.group, call.kind.kind, call.name(), &[error]));
            }
            let path = FieldPath::new("spec.replicas");
            let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
            return Err(ApiError::invalid("autoscaling", "Scale", call.name(), &[error]));
        }
        let uid = scale["metadata"]["uid"].as_str().unwrap_or_default();
        preconditions::check_uid(call, uid, &current.meta.uid, options.dry_run)?;
        let version = object::version(&scale).to_owned();
        if !version.is_empty() && version != current.revision.to_string() {
            return Err(ApiError::stale(&call.resource(), call.name()));
        }
        set(&mut object, &pointer, replicas.into());
        // The parts that an update of the object itself changes.
        let subresource = call.path.subresource.take();
        let prepared = update::prepare(call, object, &old);
        call.path.subresource = subresource;
        let next = prepared?;
        let shown = SubresourceRequest { call, form, old: Some(&before), dry_run: options.dry_run };
        // With the status that nobody can ask for.
        shown.validate(&scale_of(call, &next)).await?;
        call.is_admitted = true;
        let next =
            if applies { next } else { scale_ownership::own(call, &old, next, &pointer, &manager).await };
        match commit::replace(call, &current, &old, next, options.dry_run).await? {
            Outcome::Stale if version.is_empty() || kind == Form::Patch => {}
            outcome => {
                let stored = outcome.into_stored(call, call.name())?;
                return Ok(answer(call, &call.value(&stored).await?));
            }
        }
    }
    Err(ApiError::stale(&call.resource(), call.name()))
}

/// A wrong type must not pass for the absent number, which means zero.
fn check_types(scale: &Value) -> Result<(), ApiError> {
    let wrong = |field: &str, expected: &str| {
        Err(ApiError::bad_request(format!(
            "Scale in version \"v1\" cannot be handled as a Scale: json: {field} must be {expected}"
        )))
    };
    match (&scale["spec"], &scale["spec"]["replicas"]) {
        (Value::Null, _) | (Value::Object(_), Value::Null) => Ok(()),
        (Value::Object(_), replicas)
            if replicas.as_i64().is_some_and(|count| i32::try_from(count).is_ok()) =>
        {
            Ok(())
        }
        (Value::Object(_), _) => wrong("spec.replicas", "an int32"),
        _ => wrong("spec", "an object"),
    }
}

/// Where a custom kind keeps what its Scale tells.
fn paths(call: &Call) -> Option<&ScalePaths> {
    call.kind.custom.as_ref()?.scale.as_ref()
}

/// Sets the value at a JSON pointer; what is missing on the way is made.
pub(super) fn set(object: &mut Value, pointer: &str, value: Value) {
    let place = pointer.split('/').filter(|step| !step.is_empty()).fold(object, |at, step| {
        if !at.is_object() {
            *at = json!({});
        }
        &mut at[step.replace("~1", "/").replace("~0", "~")]
    });
    *place = value;
}

/// The pods that are counted, as text. A ReplicationController names labels where others have a selector.
fn pods(call: &Call, object: &Value) -> Option<String> {
    let selector = &object["spec"]["selector"];
    let labels = json!({"matchLabels": selector});
    let selector = if call.kind.kind == "ReplicationController" { &labels } else { selector };
    Selector::from_label_selector(Some(selector)).map(|selector| selector.to_string()).ok()
}

/// The Scale of an object. Replicas that it does not have are none, as long as nobody asks for the Scale itself.
fn scale_of(call: &Call, object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut kept = serde_json::Map::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = metadata.get(name) {
            kept.insert(name.to_owned(), value.clone());
        }
    }
    let (spec, status, selector) = match paths(call) {
        Some(paths) => {
            let spec = object.pointer(&paths.spec_replicas).and_then(Value::as_i64);
            let status = object.pointer(&paths.status_replicas).and_then(Value::as_i64);
            let selector = paths.selector.as_ref().and_then(|path| object.pointer(path)?.as_str());
            (spec.unwrap_or_default(), status.unwrap_or_default(), selector.map(str::to_owned))
        }
        None => (
            object["spec"]["replicas"].as_i64().unwrap_or_default(),
            object["status"]["replicas"].as_i64().unwrap_or_default(),
            pods(call, object),
        ),
    };
    let mut status = json!({"replicas": status});
    if paths(call).is_none() || selector.is_some() {
        status["selector"] = selector.unwrap_or_default().into();
    }
    // Go leaves out what is zero.
    let spec = if spec == 0 { json!({}) } else { json!({"replicas": spec}) };
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": kept,
        "spec": spec,
        "status": status,
    })
}
