//! Who owns the replicas that a Scale sets (`managedfields.ScaleHandler`).

use apimachinery::{
    ApiError,
    apply::{self, PathElement},
    status::Reason,
};
use serde_json::Value;

use super::Call;

/// Whether anybody owns the field at a JSON pointer. A Scale shows the ownership of its object's replicas and nothing else, and what nobody
/// tracks stays so.
pub(super) fn is_owned(object: &Value, pointer: &str) -> bool {
    let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    let path: Vec<_> = steps.map(|step| PathElement::field(&step)).collect();
    apply::managed_fields(object).unwrap_or_default().iter().any(|entry| entry.fields.has_path(&path))
}

/// Records who set the replicas. The time at which somebody did so through a Scale is lost when kube-apiserver brings it to the object.
pub(super) async fn own(call: &Call, old: &Value, next: Value, pointer: &str, manager: &str) -> Value {
    if !is_owned(old, pointer) {
        return next;
    }
    let mut next = call.own(Some(old), next, Some(manager)).await;
    keep_times(&mut next, old);
    next
}

/// Gives the entries of the subresource the times that they had, or none.
fn keep_times(next: &mut Value, old: &Value) {
    const NAMES: [&str; 4] = ["manager", "operation", "apiVersion", "subresource"];
    let before = old["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entries = next.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
    let entries = entries.map(Vec::as_mut_slice).unwrap_or_default();
    for entry in entries.iter_mut().filter(|entry| entry["subresource"] == "scale") {
        let known = before.iter().find(|known| NAMES.iter().all(|name| known.get(name) == entry.get(name)));
        let Some(entry) = entry.as_object_mut() else { continue };
        match known.and_then(|known| known.get("time")) {
            Some(time) => drop(entry.insert("time".to_owned(), time.clone())),
            None => drop(entry.remove("time")),
        }
    }
    // Those without a time stand first.
    entries.sort_by_key(|entry| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        (text("operation"), text("time"), text("manager"), text("apiVersion"), text("subresource"))
    });
}

/// What an apply of a custom kind's Scale comes to: it tells of conflicts, and then fails, because a Scale is none of the definition's
/// versions.
pub(super) fn check_applied(call: &Call, old: &Value, next: &Value, pointer: &str) -> Result<(), ApiError> {
    if call.kind.custom.is_none() {
        return Ok(());
    }
    let refused = |what: &str, named: &str| {
        Err(ApiError::new(
            500,
            Reason::Unknown,
            format!(
                "failed to {what} ({named}; autoscaling/v1, Kind=Scale) to proper version: request to convert CR to an invalid group/version: autoscaling/v1"
            ),
        ))
    };
    if !is_owned(old, pointer) {
        return refused("create manager for existing fields: failed to convert live object", "/");
    }
    if old.pointer(pointer) != next.pointer(pointer) {
        return refused("convert new object", &format!("/{}", call.name()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_scales_has_the_time_that_he_had() {
        let entry = |manager: &str, time: Option<&str>| {
            let mut entry = json!({
                "manager": manager, "operation": "Update", "apiVersion": "e.com/v1", "subresource": "scale",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
            });
            if let Some(time) = time {
                entry["time"] = time.into();
            }
            entry
        };
        let object = |entries: Vec<Value>| json!({"metadata": {"managedFields": entries}});
        let old = object(vec![entry("b", Some("1"))]);
        let mut next = object(vec![entry("b", Some("2")), entry("c", Some("2"))]);
        keep_times(&mut next, &old);
        assert_eq!(next, object(vec![entry("c", None), entry("b", Some("1"))]));
        assert!(is_owned(&old, "/spec/replicas") && !is_owned(&old, "/spec/size"));
        assert!(!is_owned(&json!({"metadata": {}}), "/spec/replicas"));
    }
}
