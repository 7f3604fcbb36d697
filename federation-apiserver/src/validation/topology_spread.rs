//! The rules of where pods go beside each other: spread constraints, keys of labels that pods are compared by, and gates before it all.

use std::collections::{HashMap, HashSet};

use apimachinery::{FieldError, FieldPath, labels::validate_label_selector, names};
use serde_json::{Value, json};

use super::{items, items_mut, one_of, text};
use crate::registry::ErrorList;

/// What must be removed before a pod is scheduled (KEP-3521): `validation.validateSchedulingGates`.
pub(super) fn gates(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut seen = HashSet::new();
    for (index, gate) in items(spec, "schedulingGates").enumerate() {
        let (path, name) = (path.child("schedulingGates").index(index), text(gate, "name"));
        errors
            .extend(names::qualified_name(name).iter().map(|error| FieldError::invalid(&path, name, error)));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

/// Gates go, and none comes.
pub(crate) fn gates_only_go(new: &Value, old: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let known: HashSet<&str> = items(old, "schedulingGates").map(|gate| text(gate, "name")).collect();
    for (index, gate) in items(new, "schedulingGates").enumerate() {
        let name = text(gate, "name");
        if !known.contains(name) {
            let path = path.child("schedulingGates").index(index).child("name");
            let message = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(&path, &message));
        }
    }
}

/// `validation.validateTopologySpreadConstraints`.
pub(super) fn validate(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    const LIST: &str = "topologySpreadConstraints";
    let pair = |spread| (text(spread, "topologyKey"), text(spread, "whenUnsatisfiable"));
    let last: HashMap<(&str, &str), usize> =
        items(spec, LIST).enumerate().map(|(index, spread)| (pair(spread), index)).collect();
    for (index, spread) in items(spec, LIST).enumerate() {
        // Of two that say the same the first one is told.
        let path = path.child(LIST).index(index);
        let again = last.get(&pair(spread)).is_some_and(|last| *last > index).then(|| {
            let (key, action) = pair(spread);
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            FieldError::duplicate(&path, format!("{{{key}, {action}}}"))
        });
        constraint(spread, again, &path, errors);
    }
}

fn constraint(spread: &Value, again: Option<FieldError>, path: &FieldPath, errors: &mut ErrorList) {
    const POSITIVE: &str = "must be greater than zero";
    let skew = spread["maxSkew"].as_i64().unwrap_or_default();
    if skew <= 0 {
        errors.push(FieldError::invalid(&path.child("maxSkew"), skew, POSITIVE));
    }
    if text(spread, "topologyKey").is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    }
    let (action, strict) = (text(spread, "whenUnsatisfiable"), "DoNotSchedule");
    one_of(action, &path.child("whenUnsatisfiable"), &[strict, "ScheduleAnyway"], errors);
    errors.extend(again);
    if let Some(domains) = spread["minDomains"].as_i64() {
        let path = path.child("minDomains");
        if domains <= 0 {
            errors.push(FieldError::invalid(&path, domains, POSITIVE));
        }
        if action != strict {
            let message = format!("can only use minDomains if whenUnsatisfiable={strict}, not {action}");
            errors.push(FieldError::invalid(&path, domains, &message));
        }
    }
    for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        if let Some(policy) = spread[name].as_str() {
            one_of(policy, &path.child(name), &["Honor", "Ignore"], errors);
        }
    }
    keys_of_constraint(spread, &path.child("matchLabelKeys"), errors);
    if let Some(selector) = spread.get("labelSelector") {
        errors.extend(validate_label_selector(selector, &path.child("labelSelector")));
    }
}

const UNSELECTED: &str = "must not be specified when labelSelector is not set";
const SELECTED: &str = "exists in both matchLabelKeys and labelSelector";

/// `validation.validateMatchLabelKeysInTopologySpread`.
fn keys_of_constraint(spread: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if spread["labelSelector"].is_null() && items(spread, "matchLabelKeys").next().is_some() {
        errors.push(FieldError::forbidden(path, UNSELECTED));
    }
    let selected = selected_by_user(&spread["labelSelector"]);
    for (index, key) in items(spread, "matchLabelKeys").enumerate() {
        let (path, key) = (path.index(index), key.as_str().unwrap_or_default());
        errors.extend(names::label_key(key).iter().map(|error| FieldError::invalid(&path, key, error)));
        if selected.contains(key) {
            errors.push(FieldError::invalid(&path, key, SELECTED));
        }
    }
}

/// The keys that a selector names other than by what [`settle_keys`] adds.
fn selected_by_user(selector: &Value) -> HashSet<&str> {
    let own = |expression: &Value| {
        expression["operator"] == "In" && expression["values"].as_array().is_some_and(|all| all.len() == 1)
    };
    let labels = selector["matchLabels"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let expressions = items(selector, "matchExpressions").filter(|expression| !own(expression));
    labels.chain(expressions.map(|expression| text(expression, "key"))).collect()
}

fn label_keys(owner: &Value, name: &str, path: &FieldPath, errors: &mut ErrorList) {
    if items(owner, name).next().is_none() {
        return;
    }
    if owner["labelSelector"].is_null() {
        errors.push(FieldError::forbidden(path, UNSELECTED));
        return;
    }
    for (index, key) in items(owner, name).enumerate() {
        let (path, key) = (path.index(index), key.as_str().unwrap_or_default());
        errors.extend(names::label_key(key).iter().map(|error| FieldError::invalid(&path, key, error)));
    }
}

/// `validation.validateMatchLabelKeysAndMismatchLabelKeys`, of a term of affinity to pods.
pub(super) fn keys_of_term(term: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (same, other) = ("matchLabelKeys", "mismatchLabelKeys");
    for name in [same, other] {
        label_keys(term, name, &path.child(name), errors);
    }
    // A key that the selector names twice is in it by the user, too, and not only by what `settle_keys` adds. The places of these have no
    // name of the list, as kube-apiserver tells them.
    let selector = &term["labelSelector"];
    let places: HashMap<&str, usize> =
        items(term, same).filter_map(Value::as_str).enumerate().map(|(index, key)| (key, index)).collect();
    let mut selected: HashSet<&str> =
        selector["matchLabels"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    for key in items(selector, "matchExpressions").map(|expression| text(expression, "key")) {
        if let (Some(index), false) = (places.get(key), selected.insert(key)) {
            errors.push(FieldError::invalid(&path.index(*index), key, SELECTED));
        }
    }
    let others: HashSet<&Value> = items(term, other).collect();
    for (index, key) in items(term, same).enumerate() {
        if others.contains(key) {
            let message = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(FieldError::invalid(&path.child(same).index(index), key.clone(), message));
        }
    }
}

/// Writes into the selectors of a new pod what its own labels say by the keys that it names (KEP-3633, KEP-3243).
pub(crate) fn settle_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let spec = &mut pod["spec"];
    if !spec.is_object() {
        return;
    }
    let settle = |term: &mut Value| {
        if !term["labelSelector"].is_object() {
            return;
        }
        let mut all: Vec<Value> = items(&term["labelSelector"], "matchExpressions").cloned().collect();
        let (before, mut known) = (all.len(), all.iter().cloned().collect::<HashSet<_>>());
        for (name, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            for key in items(term, name).filter_map(Value::as_str) {
                let Some(value) = labels[key].as_str() else { continue };
                let added = json!({"key": key, "operator": operator, "values": [value]});
                if known.insert(added.clone()) {
                    all.push(added);
                }
            }
        }
        if all.len() > before {
            term["labelSelector"]["matchExpressions"] = all.into();
        }
    };
    items_mut(spec, "topologySpreadConstraints").for_each(settle);
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|affinity| affinity.get_mut(kind)) else {
            continue;
        };
        items_mut(affinity, "requiredDuringSchedulingIgnoredDuringExecution").for_each(settle);
        items_mut(affinity, "preferredDuringSchedulingIgnoredDuringExecution")
            .filter_map(|term| term.get_mut("podAffinityTerm"))
            .for_each(settle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(spec: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        gates(spec, &FieldPath::new("spec"), &mut errors);
        validate(spec, &FieldPath::new("spec"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    fn spread(more: Value) -> Value {
        let mut spread = json!({
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            spread[name] = value.clone();
        }
        json!({"topologySpreadConstraints": [spread]})
    }

    #[test]
    fn nodes_are_counted_as_one_of_two_policies_says() {
        told(&spread(json!({"nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"})), &[]);
        told(
            &spread(json!({"nodeTaintsPolicy": "x"})),
            &[
                r#"spec.topologySpreadConstraints[0].nodeTaintsPolicy: Unsupported value: "x": supported values: "Honor", "Ignore""#,
            ],
        );
    }

    #[test]
    fn a_key_stands_in_the_selector_or_in_the_list() {
        told(&spread(json!({"matchLabelKeys": ["pod-template-hash"]})), &[]);
        told(
            &spread(json!({"matchLabelKeys": ["app"]})),
            &[
                r#"spec.topologySpreadConstraints[0].matchLabelKeys[0]: Invalid value: "app": exists in both matchLabelKeys and labelSelector"#,
            ],
        );
        told(
            &spread(json!({"matchLabelKeys": ["app"], "labelSelector": null})),
            &[
                "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ],
        );
    }

    #[test]
    fn a_key_by_which_pods_are_compared_is_not_selected_otherwise() {
        let check = |term: Value, expect: &[&str]| {
            let mut errors = ErrorList::new();
            keys_of_term(&term, &FieldPath::new("t"), &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
        };
        let is = |key: &str, operator: &str| json!({"key": key, "operator": operator, "values": ["x"]});
        check(
            json!({"matchLabelKeys": ["a"], "labelSelector": {"matchLabels": {"b": "x"}, "matchExpressions": [is("a", "In")]}}),
            &[],
        );
        let error = r#"t[1]: Invalid value: "a": exists in both matchLabelKeys and labelSelector"#;
        check(
            json!({"matchLabelKeys": ["c", "a"], "labelSelector": {"matchLabels": {"a": "x"}, "matchExpressions": [is("a", "In")]}}),
            &[error],
        );
        check(
            json!({"matchLabelKeys": ["c", "a"], "labelSelector": {"matchExpressions": [is("a", "NotIn"), is("a", "In")]}}),
            &[error],
        );
    }

    #[test]
    fn gates_have_names_of_their_own_and_only_go() {
        let with = |names: &[&str]| json!({"schedulingGates": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()});
        told(&with(&["a.b/c", "d"]), &[]);
        told(&with(&["a", "a"]), &[r#"spec.schedulingGates[1]: Duplicate value: "a""#]);
        let mut errors = ErrorList::new();
        gates_only_go(&with(&["b"]), &with(&["a"]), &FieldPath::new("spec"), &mut errors);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'"
            ]
        );
    }

    #[test]
    fn a_pod_is_compared_by_the_labels_that_it_has() {
        let term = json!({"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["a", "none"], "mismatchLabelKeys": ["b"]});
        let mut pod = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}},
        });
        settle_keys(&mut pod);
        let place =
            "/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector";
        let expect = json!({"matchExpressions": [
            {"key": "a", "operator": "In", "values": ["1"]}, {"key": "b", "operator": "NotIn", "values": ["2"]},
        ]});
        assert_eq!(pod.pointer(place), Some(&expect));
        let once = pod.clone();
        settle_keys(&mut pod);
        assert_eq!(pod, once);
    }
}
