//! The plugin `RuntimeClass`: adds overhead and scheduling rules of its runtime class to a Pod, and checks that they agree.

use apimachinery::{ApiError, field::quoted, status::Reason};
use serde_json::Value;

use super::tolerations;
use crate::{
    store::{Key, ResourceKey},
    validation::{items, quantities::amounts},
    verbs::Call,
};

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const NO_OVERHEAD: &str =
    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

/// Adds the overhead and the scheduling rules of its class to a new Pod.
pub(super) fn complete(call: &Call, name: &str, spec: &mut Value) -> Result<(), ApiError> {
    let class = class_of(call, name, spec)?;
    give(&class, spec).map_err(|why| ApiError::forbidden(&call.resource(), name, &why))
}

/// Checks a new Pod once webhooks have changed it.
pub(super) fn check(call: &Call, name: &str, old: Option<&Value>, pod: &Value) -> Result<(), ApiError> {
    if old.is_some() || call.path.subresource.is_some() {
        return Ok(());
    }
    let class = class_of(call, name, &pod["spec"])?;
    match disagreement(&class["overhead"], &pod["spec"]["overhead"]) {
        Some(why) => Err(ApiError::forbidden(&call.resource(), name, why)),
        None => Ok(()),
    }
}

/// The class that a pod names; null if it names none.
fn class_of(call: &Call, name: &str, spec: &Value) -> Result<Value, ApiError> {
    let Some(class) = spec["runtimeClassName"].as_str() else { return Ok(Value::Null) };
    if class.is_empty() {
        // kube-apiserver asks for it as a client does, which refuses to.
        return Err(ApiError::new(500, Reason::Unknown, "resource name may not be empty"));
    }
    let key = Key::new(ResourceKey::new("node.k8s.io", "runtimeclasses"), "", class);
    match call.shared.storage.get(&key) {
        Some(found) => found.value().map_err(ApiError::internal),
        None => {
            let why = format!("pod rejected: RuntimeClass {} not found", quoted(class));
            Err(ApiError::forbidden(&call.resource(), name, &why))
        }
    }
}

/// Why the overhead of a pod is not the one that its class defines.
fn disagreement(defined: &Value, overhead: &Value) -> Option<&'static str> {
    if defined.is_object() {
        (amounts(&defined["podFixed"]) != amounts(overhead)).then_some(OTHER_OVERHEAD)
    } else {
        overhead.is_object().then_some(NO_OVERHEAD)
    }
}

fn give(class: &Value, spec: &mut Value) -> Result<(), String> {
    if class["overhead"].is_object() {
        let fixed = &class["overhead"]["podFixed"];
        if spec["overhead"].is_object() && amounts(&spec["overhead"]) != amounts(fixed) {
            return Err(OTHER_OVERHEAD.to_owned());
        }
        if fixed.is_object() {
            spec["overhead"] = fixed.clone();
        }
    }
    let scheduling = &class["scheduling"];
    if !scheduling.is_object() {
        return Ok(());
    }
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let wanted = value.as_str().unwrap_or_default();
        if let Some(own) = spec["nodeSelector"][key].as_str().filter(|own| *own != wanted) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        spec["nodeSelector"][key] = value.clone();
    }
    let tolerations = tolerations::merged(items(spec, "tolerations"), items(scheduling, "tolerations"));
    if !tolerations.is_empty() {
        spec["tolerations"] = tolerations.into_iter().cloned().collect();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class() -> Value {
        json!({
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {
                "nodeSelector": {"a": "b", "c": "d"},
                "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}],
            },
        })
    }

    #[track_caller]
    fn check(mut spec: Value, expect: Result<Value, &str>) {
        let found = give(&class(), &mut spec).map(|()| spec);
        assert_eq!(found, expect.map_err(str::to_owned));
    }

    #[test]
    fn a_pod_gets_what_its_class_says() {
        let given = json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"});
        let whole = json!({
            "overhead": {"cpu": "250m"}, "nodeSelector": {"a": "b", "c": "d"}, "tolerations": [given],
        });
        check(json!({}), Ok(whole.clone()));
        check(whole.clone(), Ok(whole.clone()));
        let other = json!({"key": "o", "operator": "Exists"});
        let mut with_other = whole.clone();
        with_other["tolerations"] = json!([other, given]);
        let own = json!({"overhead": {"cpu": "0.25"}, "nodeSelector": {"a": "b"}, "tolerations": [other]});
        check(own, Ok(with_other));
        let covered = json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
        check(json!({"tolerations": [covered]}), Ok(whole));
        let mut spec = json!({"tolerations": [other]});
        assert_eq!(give(&Value::Null, &mut spec), Ok(()));
        assert_eq!(spec, json!({"tolerations": [other]}));
    }

    #[test]
    fn a_pod_does_not_contradict_its_class() {
        check(
            json!({"nodeSelector": {"a": "z"}}),
            Err("conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = z"),
        );
        check(json!({"overhead": {"cpu": "1m"}}), Err(OTHER_OVERHEAD));
        let defined = &class()["overhead"];
        assert_eq!(disagreement(defined, &json!({"cpu": "0.25"})), None);
        assert_eq!(disagreement(defined, &json!({"cpu": "250m", "memory": "1"})), Some(OTHER_OVERHEAD));
        assert_eq!(disagreement(defined, &Value::Null), Some(OTHER_OVERHEAD));
        assert_eq!(disagreement(&Value::Null, &json!({"cpu": "1"})), Some(NO_OVERHEAD));
        assert_eq!(disagreement(&Value::Null, &Value::Null), None);
    }
}
