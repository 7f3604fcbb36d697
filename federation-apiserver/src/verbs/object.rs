//! The steps that bring an object into the state in which it is stored. Pure but for the ids and the time that come in.

use std::collections::{BTreeMap, HashSet};

use apimachinery::{ApiError, FieldError, FieldPath, addresses, field::quoted, meta::validate_object_meta};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::ratchet;
use crate::{
    crd::{Custom, Part},
    deletion,
    kinds::check_cluster_selector,
    registry::{ErrorList, Generation, Kind, Registry},
    store::{Encoded, Meta},
    validation::net,
};

/// Metadata that only the server writes.
const SERVER_WRITTEN: [&str; 6] =
    ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];
const GRACE_PERIOD: &str = "deletionGracePeriodSeconds";
/// What of it is about the end of the object.
const DELETION: [&str; 2] = ["deletionTimestamp", GRACE_PERIOD];

/// The object's metadata; made if absent.
pub(super) fn metadata(object: &mut Value) -> Result<&mut Map<String, Value>, ApiError> {
    let object =
        object.as_object_mut().ok_or_else(|| ApiError::bad_request("the object must be a JSON object"))?;
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    metadata.as_object_mut().ok_or_else(|| ApiError::bad_request("metadata must be a JSON object"))
}

/// Checks or fills in the namespace from the URL.
pub(super) fn settle_namespace(kind: &Kind, object: &mut Value, namespace: &str) -> Result<(), ApiError> {
    let metadata = metadata(object)?;
    let own = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if !kind.namespaced() {
        // Cleared, as `rest.EnsureObjectNamespaceMatchesRequestNamespace` does it.
        metadata.remove("namespace");
        return Ok(());
    }
    if !own.is_empty() && own != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    metadata.insert("namespace".into(), namespace.into());
    Ok(())
}

/// Clears what only the server writes out of a new object's metadata: `rest.WipeObjectMetaSystemFields`. Kinds that count no generations keep
/// the one that was sent.
pub(super) fn begin(object: &mut Value) -> Result<(), ApiError> {
    let metadata = metadata(object)?;
    for name in SERVER_WRITTEN.into_iter().filter(|name| *name != "generation") {
        metadata.remove(name);
    }
    if metadata.get("generation").is_some_and(|generation| *generation == 0) {
        metadata.remove("generation");
    }
    drop_empty(metadata);
    Ok(())
}

/// Sets what the server decides of a new object's metadata, once nobody changes the object any more: `rest.FillObjectMetaSystemFields`, and
/// the name if the object says only how it starts.
pub(super) fn complete(
    kind: &Kind,
    object: &mut Value,
    name: impl FnOnce(&str) -> String,
    uid: &str,
    now: Timestamp,
) -> Result<(), ApiError> {
    let metadata = metadata(object)?;
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("name").is_empty() && !text("generateName").is_empty() {
        let name = name(text("generateName"));
        metadata.insert("name".into(), name.into());
    }
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), deletion::seconds(now).into());
    if kind.generation != Generation::None {
        metadata.insert("generation".into(), 1.into());
    }
    Ok(())
}

/// Whether an object says neither its name nor how its name will start.
pub(super) fn is_unnamed(object: &Value) -> bool {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    text("name").is_empty() && text("generateName").is_empty()
}

/// What a new object is called before it has a name: by how its name will start (`admission.extractResourceName`).
pub(crate) fn called(object: &Value) -> &str {
    let text = |name: &str| object["metadata"][name].as_str().filter(|text| !text.is_empty());
    text("name").or_else(|| text("generateName")).unwrap_or("Unknown")
}

/// Go's `omitempty`: absent, null and empty maps and lists of metadata are one and the same.
fn drop_empty(metadata: &mut Map<String, Value>) {
    metadata.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
}

/// Restores what only the server writes from the old state. When the object is to be gone is not for a client to say, where nobody has asked
/// for that: what it says of it stays, and is refused ([`moved_deletion`]).
pub(super) fn carry_over(object: &mut Value, old: &Value) -> Result<(), ApiError> {
    let metadata = metadata(object)?;
    for name in SERVER_WRITTEN {
        match old["metadata"].get(name) {
            Some(_) if name == GRACE_PERIOD && metadata.get(name).is_some_and(Value::is_number) => None,
            Some(value) => metadata.insert(name.to_owned(), value.clone()),
            None if DELETION.contains(&name) => None,
            None => metadata.remove(name),
        };
    }
    if !metadata.contains_key("generateName")
        && let Some(prefix) = old["metadata"].get("generateName")
    {
        metadata.insert("generateName".into(), prefix.clone());
    }
    drop_empty(metadata);
    Ok(())
}

/// Brings what webhooks made of an object into the form in which requests bring it. What only the server writes stays as it was, and so
/// does field ownership if it cannot be read any more.
pub(crate) fn settle_mutated(kind: &Kind, object: &mut Value, before: &Value) -> Result<(), ApiError> {
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    carry_over(object, before)?;
    // A webhook ends nothing.
    if before["metadata"]["deletionTimestamp"].is_null() {
        let metadata = metadata(object)?;
        for name in DELETION {
            metadata.remove(name);
        }
    }
    let owned = |entry: &Value| entry["manager"].is_string() && entry["fieldsV1"].is_object();
    let managed = &object["metadata"]["managedFields"];
    if !managed.is_null() && !managed.as_array().is_some_and(|entries| entries.iter().all(owned)) {
        object["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
    }
    if let Some(custom) = &kind.custom {
        custom.complete(object);
    }
    (kind.default)(object);
    Ok(())
}

/// Lets the generation rise if what it counts has changed.
pub(super) fn count_generation(kind: &Kind, object: &mut Value, old: &Value) -> Result<(), ApiError> {
    if matches!(kind.generation, Generation::None | Generation::Fixed) {
        return Ok(());
    }
    let annotations = kind.generation == Generation::SpecAndAnnotations
        && object["metadata"].get("annotations") != old["metadata"].get("annotations");
    let uncounted = |name: &str| match name {
        "metadata" | "apiVersion" | "kind" => true,
        // A custom kind without a status of its own has a field of that name like any other.
        "status" => kind.status || kind.custom.is_none(),
        _ => false,
    };
    let before = old["metadata"]["generation"].as_i64().unwrap_or(1);
    let changed = annotations || !equal_but(object, old, uncounted);
    metadata(object)?.insert("generation".into(), (before + i64::from(changed)).into());
    Ok(())
}

/// Levels of nesting that are stored. Parsers of JSON stop at 128, here and in clients, and an object is read back inside
/// of lists and events.
const DEPTH_MAX: usize = 100;
/// Field ownership nests a little deeper than the object itself.
const OWNERSHIP_DEPTH_MAX: usize = DEPTH_MAX + 10;

/// Refuses what could be stored but not be read again.
pub(super) fn check_depth(object: &Value) -> Result<(), ApiError> {
    fn fits(value: &Value, levels: usize) -> bool {
        let mut inner: Box<dyn Iterator<Item = &Value>> = match value {
            Value::Object(map) => Box::new(map.values()),
            Value::Array(items) => Box::new(items.iter()),
            _ => return true,
        };
        levels > 0 && inner.all(|inner| fits(inner, levels - 1))
    }
    let fit = object.as_object().into_iter().flatten().all(|(name, part)| match part.as_object() {
        Some(metadata) if name == "metadata" => metadata.iter().all(|(name, part)| {
            fits(part, if name == "managedFields" { OWNERSHIP_DEPTH_MAX } else { DEPTH_MAX })
        }),
        _ => fits(part, DEPTH_MAX),
    });
    if fit {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("the object is nested deeper than {DEPTH_MAX} levels: flatten it")))
}

/// Where objects may lead those who follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointScope {
    /// Not to the machine or the link of whoever follows: as in Kubernetes. This server follows Services itself, for webhooks.
    External,
    /// Anywhere: all of a sandbox is on one machine.
    Any,
}

/// All errors of an object, and of the change from `old` if there is one. What is wrong with a change of metadata is told twice where
/// kube-apiserver does so: before an update of any kind (`rest.BeforeUpdate`), and again by the rules of the kind.
pub(super) fn validate(
    kind: &Kind,
    object: &Value,
    old: Option<&Value>,
    endpoint_scope: EndpointScope,
) -> Result<(), ApiError> {
    validate_by(kind, kind.validate_update, Part::Whole, (object, old), endpoint_scope, &mut Vec::new())
}

/// The same of a part, with the rules of changes of a subresource. What is wrong with a custom object, but may stay, is told in `warnings`.
pub(super) fn validate_by(
    kind: &Kind,
    changes: fn(&Value, &Value, &mut ErrorList),
    part: Part,
    (object, old): (&Value, Option<&Value>),
    endpoint_scope: EndpointScope,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    refuse(kind, object, &errors_of(kind, changes, part, (object, old), endpoint_scope, warnings)?)
}

/// All errors of an object that comes back, but for those of what was kept of it, in the form of a new object.
pub(super) fn validate_restored(
    kind: &Kind,
    object: &Value,
    kept: &Value,
    endpoint_scope: EndpointScope,
) -> Result<(), ApiError> {
    let of_new = |object| {
        let as_new = (object, None);
        errors_of(kind, kind.validate_update, Part::Whole, as_new, endpoint_scope, &mut Vec::new())
    };
    let mut errors = of_new(object)?;
    if !errors.is_empty() && !errors.is_full() {
        ratchet::leave_out(&mut errors, &of_new(kept)?);
    }
    refuse(kind, object, &errors)
}

fn errors_of(
    kind: &Kind,
    changes: fn(&Value, &Value, &mut ErrorList),
    part: Part,
    (object, old): (&Value, Option<&Value>),
    endpoint_scope: EndpointScope,
    warnings: &mut Vec<String>,
) -> Result<ErrorList, ApiError> {
    check_depth(object)?;
    let all = |object: &Value| {
        let mut errors = ErrorList::from(validate_object_meta(object, kind.name_rule, kind.scope));
        if kind.built_in && !kind.bare_finalizers {
            check_finalizer_names(object, &mut errors);
        }
        check_cluster_selector_once(kind, object, &mut errors);
        (kind.validate)(object, &mut errors);
        errors
    };
    let mut errors = all(object);
    match old {
        // Where not all are known, it is not known either which of them are news.
        Some(old) if !errors.is_empty() && !errors.is_full() => ratchet::leave_out(&mut errors, &all(old)),
        Some(_) => {}
        None => (kind.validate_create)(object, &mut errors),
    }
    // What was wrong with a status before must not stand in the way of who changes something else: kube-apiserver checks statuses only
    // where they are written.
    if old.is_some_and(|old| old.get("status") == object.get("status")) {
        errors.retain(|error| !is_below_status(&error.field));
    }
    if endpoint_scope == EndpointScope::External {
        check_places(kind, object, old, &mut errors);
    }
    if let Some(custom) = &kind.custom {
        if old.is_some() {
            let again: Vec<_> = errors.iter().filter(|error| is_of_metadata(&error.field)).cloned().collect();
            errors.extend(again);
        }
        let blocked = errors.iter().any(Custom::is_blocking);
        errors.gather(|errors| custom.validate(part, (object, old), blocked, errors, warnings));
    }
    if let Some(old) = old {
        changes(object, old, &mut errors);
        let added = added_finalizers(object, old);
        errors.extend(added.clone());
        errors.extend(added);
        let moved = moved_deletion(object, old);
        errors.extend(moved.clone());
        errors.extend(moved);
    }
    Ok(errors)
}

/// Refuses an object that has errors.
fn refuse(kind: &Kind, object: &Value, errors: &ErrorList) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    // Go has one type of Events, in the core group.
    let group = if kind.kind == "Event" && kind.built_in { "" } else { kind.group };
    Err(ApiError::invalid(group, kind.kind, name, errors))
}

fn is_of_metadata(field: &str) -> bool {
    field.starts_with("metadata.")
}

fn is_below_status(field: &str) -> bool {
    field.strip_prefix("status").is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn check_places(kind: &Kind, object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let places = (kind.places)(object);
    if old.is_some_and(|old| (kind.places)(old) == places) {
        return;
    }
    for (path, text) in places {
        let wrong = addresses::sloppy_ip(text).map(net::special).unwrap_or_default();
        errors.extend(wrong.iter().map(|message| FieldError::invalid(&path, text, message)));
    }
}

/// Deployments and ReplicaSets check it with the rest of Federation v1's annotations.
fn check_cluster_selector_once(kind: &Kind, object: &Value, errors: &mut ErrorList) {
    if kind.group != "apps" && kind.built_in {
        check_cluster_selector(object, errors);
    }
}

/// Finalizers without a domain that Kubernetes itself knows.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", deletion::FOREGROUND, deletion::ORPHAN];

/// `core/validation.ValidateFinalizerName`: only names with a domain, and the standard ones.
fn check_finalizer_names(object: &Value, errors: &mut ErrorList) {
    for (index, name) in deletion::finalizers(object).iter().enumerate() {
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name.as_str()) {
            let path = FieldPath::new("metadata.finalizers").index(index);
            let message = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path, name.as_str(), message));
        }
    }
}

/// What clients say of an object's deletion that is not so.
fn moved_deletion(object: &Value, old: &Value) -> Vec<FieldError> {
    let moved = DELETION.iter().filter(|name| object["metadata"].get(**name) != old["metadata"].get(**name));
    let error = |name: &&str| {
        let path = FieldPath::new("metadata").child(name);
        FieldError::invalid(&path, object["metadata"][*name].clone(), "field is immutable")
    };
    moved.map(error).collect()
}

/// While an object is being deleted, finalizers may only go.
fn added_finalizers(object: &Value, old: &Value) -> Option<FieldError> {
    if !old["metadata"]["deletionTimestamp"].is_string() {
        return None;
    }
    let before: HashSet<_> = deletion::finalizers(old).into_iter().collect();
    let added: Vec<_> =
        deletion::finalizers(object).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
    if added.is_empty() {
        return None;
    }
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
    );
    Some(FieldError::forbidden(&FieldPath::new("metadata.finalizers"), &detail))
}

/// The version that a written object must replace; empty for any, as `0` is in Go.
pub(super) fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().filter(|version| *version != "0").unwrap_or_default()
}

/// Whether two states differ in nothing but resourceVersion and the times of managed fields.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    let entries = |one: &Value, other: &Value| match (one.as_array(), other.as_array()) {
        (Some(one), Some(other)) if one.len() == other.len() => {
            one.iter().zip(other).all(|(one, other)| equal_but(one, other, |name| name == "time"))
        }
        _ => one == other,
    };
    equal_but(one, other, |name| name == "metadata")
        && equal_but(&one["metadata"], &other["metadata"], |name| {
            matches!(name, "resourceVersion" | "managedFields")
        })
        && entries(&one["metadata"]["managedFields"], &other["metadata"]["managedFields"])
}

/// Whether two values are equal, leaving some members of theirs aside.
fn equal_but(one: &Value, other: &Value, aside: impl Fn(&str) -> bool) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let kept = |(name, _): &(&String, &Value)| !aside(name);
    one.iter().filter(kept).eq(other.iter().filter(kept))
}

/// Serializes an object for the store, in its stored form.
pub(super) fn encode(kind: &Kind, object: Value) -> Encoded {
    encode_stored(kind, kind.to_stored(object))
}

/// Serializes an object of a call for the store, in the version in which it is stored.
pub(super) async fn encode_for(call: &super::Call, object: Value) -> Result<Encoded, ApiError> {
    Ok(encode_stored(&call.kind, call.to_stored(object).await?))
}

/// Serializes an object that is in the version in which it is stored.
pub(super) fn encode_stored(kind: &Kind, stored: Value) -> Encoded {
    let fields = selectable_fields(kind, &stored);
    let meta = Meta::from_value(&stored, fields);
    Encoded::new(&stored, meta)
}

/// The selectable fields of a stored object, for every kind that it is served as. Name and namespace stand in its key.
pub(crate) fn selectable_fields(kind: &Kind, stored: &Value) -> BTreeMap<String, String> {
    let values = if let Some(custom) = &kind.custom {
        custom.field_values(stored)
    } else {
        let resource = kind.storage();
        let kinds = Registry::get().kinds().iter();
        kinds
            .filter(|kind| !kind.selectable.is_empty() && kind.is_stored_as(&resource))
            .flat_map(|kind| match &kind.conversion {
                Some(_) => kind.field_values(&kind.to_served(stored.clone())),
                None => kind.field_values(stored),
            })
            .collect()
    };
    values.into_iter().filter(|(name, value)| !value.is_empty() && !name.starts_with("metadata.")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::Registry;

    #[test]
    fn a_status_that_was_wrong_before_does_not_stand_in_the_way() {
        let kind = Registry::get().find("apps", "v1", "deployments").expect("it is built in");
        let object = |replicas: u32, ready: u32| {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "demo"},
                "spec": {
                    "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"type": "Recreate"},
                    "template": {
                        "metadata": {"labels": {"app": "web"}},
                        "spec": {
                            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
                            "containers": [{
                                "name": "web", "image": "nginx:1", "imagePullPolicy": "Always",
                                "terminationMessagePolicy": "File",
                            }],
                        },
                    },
                },
                "status": {"readyReplicas": ready},
            })
        };
        let check = |new: &Value, old: Option<&Value>| validate(kind, new, old, EndpointScope::Any);
        let (stored, refused) = (object(1, 1), object(1, 2));
        assert_eq!(check(&object(3, 1), Some(&stored)).err().map(|error| error.message), None);
        let error = check(&refused, Some(&stored)).expect_err("it counts more than there are");
        assert!(error.message.contains("status.readyReplicas"), "{}", error.message);
        assert!(check(&stored, None).is_err());
    }
}
