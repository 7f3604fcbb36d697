//! Whether a live object still is what we want.
//!
//! Values alone do not tell: an item more in a list may be a sidecar that a webhook put there, or a rule that somebody gave himself. Field
//! ownership does: who changes what we applied takes it over from us, a list or map that is one value (`atomic`) whole, and one that merges by
//! key item by item. Source: "Server-Side Apply" and `FieldsV1` in the Kubernetes reference.

mod owned;

use apimachinery::quantity::Quantity;
use serde_json::Value;

use owned::Owned;

pub(crate) use owned::is_ours;

/// The first field, as a path, that is wanted and is not so. Fields that we do not want are nobody's business here: defaults,
/// status, and what others own.
pub(crate) fn find(wanted: &Value, live: &Value) -> Option<String> {
    let mut path = String::new();
    let owned = Owned::of(live);
    // The items of a list carry neither kind nor version, and a watch was asked for one of each.
    let ours = |name: &str| !matches!(name, "status" | "apiVersion" | "kind");
    for (name, value) in wanted.as_object()?.iter().filter(|(name, _)| ours(name)) {
        let found = if name == "metadata" {
            metadata(value, live.get(name)?, owned.field(name))
        } else {
            at(value, live.get(name), owned.field(name), &mut path, name)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Of the metadata only labels and annotations are ours to correct; the rest is identity, or the server's.
fn metadata(wanted: &Value, live: &Value, owned: Owned<'_>) -> Option<String> {
    ["labels", "annotations", "finalizers"].iter().find_map(|name| {
        let wanted = wanted.get(name)?;
        at(wanted, live.get(name), owned.field(name), &mut "metadata".to_owned(), name)
    })
}

fn at(
    wanted: &Value,
    live: Option<&Value>,
    owned: Owned<'_>,
    path: &mut String,
    name: &str,
) -> Option<String> {
    let length = path.len();
    path.push('.');
    path.push_str(name);
    let found = compare(wanted, live, owned, path);
    path.truncate(length);
    found
}

fn compare(wanted: &Value, live: Option<&Value>, owned: Owned<'_>, path: &mut String) -> Option<String> {
    // The server drops empty values; wanting nothing and having nothing is the same.
    if is_empty(wanted) {
        return None;
    }
    let Some(live) = live else {
        // So are zeros, and a field that is left out is still ours: taken away by somebody else, it is not.
        return (owned.is_lost() || !is_zero(wanted)).then(|| path.clone());
    };
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            if owned.is_lost() && live.keys().any(|name| !wanted.contains_key(name)) {
                return Some(path.clone());
            }
            wanted.iter().find_map(|(name, value)| at(value, live.get(name), owned.field(name), path, name))
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            wanted.iter().zip(live).enumerate().find_map(|(index, (wanted, live))| {
                at(wanted, Some(live), owned.item(wanted), path, &index.to_string())
            })
        }
        // A list that others add to (webhooks inject containers, controllers their finalizers): each wanted item must be there somewhere.
        (Value::Array(wanted), Value::Array(live))
            if !owned.is_lost()
                && wanted.len() < live.len()
                && (owned.is_shared() || wanted.iter().all(Value::is_object)) =>
        {
            let is_there = |item: &Value| {
                let owned = owned.item(item);
                live.iter().any(|other| compare(item, Some(other), owned, &mut String::new()).is_none())
            };
            (!wanted.iter().all(is_there)).then(|| path.clone())
        }
        _ if wanted == live => None,
        // The server writes quantities in its own way, and that stays ours; what somebody else wrote is something else.
        (Value::String(_) | Value::Number(_), Value::String(_) | Value::Number(_))
            if !owned.is_lost() && same_quantity(wanted, live) =>
        {
            None
        }
        _ => Some(path.clone()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() || fields.values().all(is_empty),
        _ => false,
    }
}

/// What the server leaves out where a field is `omitempty`.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        // A struct of such fields alone.
        Value::Object(fields) => fields.values().all(|field| is_empty(field) || is_zero(field)),
        Value::Null | Value::Array(_) => false,
    }
}

/// Amounts from here on count as this one.
const LARGEST: u64 = i64::MAX as u64;

fn same_quantity(wanted: &Value, live: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match (text(wanted).parse::<Quantity>(), text(live).parse::<Quantity>()) {
        // Two amounts at the largest that Kubernetes knows may be of different texts: what looks so large may be no quantity.
        (Ok(wanted), Ok(live)) => wanted == live && wanted.units().unsigned_abs() < LARGEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use federation_core::api::marks;
    use serde_json::json;

    use super::*;

    /// `fields`: what is ours of the object.
    #[track_caller]
    fn check(wanted: Value, mut live: Value, fields: Value, expected: Option<&str>) {
        let entry = json!({"manager": marks::FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields});
        live["metadata"]["managedFields"] = json!([entry]);
        assert_eq!(find(&wanted, &live).as_deref(), expected);
    }

    #[test]
    fn defaults_status_and_other_owners_are_not_drift() {
        check(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"x": 1}}),
            json!({"metadata": {"name": "a", "uid": "u", "labels": {"x": "1", "other": "2"}},
                   "spec": {"containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always"}], "dnsPolicy": "ClusterFirst"}}),
            json!({"f:metadata": {"f:labels": {"f:x": {}}},
                   "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}}}}}),
            None,
        );
    }

    #[test]
    fn a_changed_field_is_named() {
        let nothing = || json!({});
        check(
            json!({"spec": {"replicas": 3}}),
            json!({"spec": {"replicas": 5}}),
            nothing(),
            Some(".spec.replicas"),
        );
        check(
            json!({"spec": {"c": [{"image": "a"}]}}),
            json!({"spec": {"c": [{"image": "b"}]}}),
            nothing(),
            Some(".spec.c.0.image"),
        );
        check(
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {}}),
            nothing(),
            Some("metadata.labels"),
        );
        check(json!({"data": {"k": "v"}}), json!({"data": {"k": "w"}}), nothing(), Some(".data.k"));
        check(json!({"data": {"k": "v"}}), json!({}), nothing(), Some(".data"));
    }

    #[test]
    fn every_quantity_of_kubernetes_is_compared_by_value_and_what_is_none_as_it_stands() {
        for (one, other, same) in [
            ("1E", "1000P", true),
            ("1Ei", "1024Pi", true),
            ("1e3", "1k", true),
            ("100n", "0.1u", true),
            ("1n", "2n", false),
            (".", "0", false),
            ("1.-5", "0.5", false),
            ("nginx:1.21", "nginx:1.22", false),
            ("99999999999999999999", "99999999999999999998", false),
        ] {
            assert_eq!(same_quantity(&json!(one), &json!(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn quantities_are_compared_by_value_while_they_are_ours() {
        let ours = json!({"f:spec": {"f:cpu": {}, "f:memory": {}}});
        check(
            json!({"spec": {"cpu": "1000m", "memory": "1024Mi"}}),
            json!({"spec": {"cpu": "1", "memory": "1Gi"}}),
            ours.clone(),
            None,
        );
        check(
            json!({"spec": {"cpu": "500m"}}),
            json!({"spec": {"cpu": "1"}}),
            ours.clone(),
            Some(".spec.cpu"),
        );
        check(json!({"spec": {"cpu": 2}}), json!({"spec": {"cpu": "2"}}), ours, None);
        // Text that somebody changed.
        check(
            json!({"data": {"version": "1.10", "k": "v"}}),
            json!({"data": {"version": "1.1", "k": "v"}}),
            json!({"f:data": {"f:k": {}}}),
            Some(".data.version"),
        );
    }

    #[test]
    fn injected_list_items_are_not_drift_but_lost_ones_are() {
        let fields =
            json!({"f:spec": {"f:c": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}, "f:args": {}}});
        check(
            json!({"spec": {"c": [{"name": "a"}]}}),
            json!({"spec": {"c": [{"name": "sidecar"}, {"name": "a", "x": 1}]}}),
            fields.clone(),
            None,
        );
        check(
            json!({"spec": {"c": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"c": [{"name": "a"}]}}),
            fields.clone(),
            Some(".spec.c"),
        );
        check(
            json!({"spec": {"args": ["x"]}}),
            json!({"spec": {"args": ["x", "y"]}}),
            fields,
            Some(".spec.args"),
        );
    }

    #[test]
    fn what_others_add_to_a_set_is_not_drift() {
        let set = json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"ours\"": {}}}});
        let with = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
        check(with(json!(["ours"])), with(json!(["theirs", "ours"])), set.clone(), None);
        check(with(json!(["ours"])), with(json!(["theirs", "another"])), set, Some("metadata.finalizers"));
    }

    #[test]
    fn what_is_added_to_a_list_that_is_one_value_is_drift() {
        let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
        let (wanted, more) = (json!({"rules": [rule]}), json!({"rules": [rule, all]}));
        // Who edits the rules owns them.
        check(wanted.clone(), more.clone(), json!({"f:metadata": {"f:labels": {}}}), Some(".rules"));
        // What a webhook did while we applied is not put back: it would do the same again.
        check(wanted.clone(), more.clone(), json!({"f:rules": {}}), None);
        // Nobody gets away by taking our name off: an apply puts it on again.
        assert_eq!(find(&wanted, &more).as_deref(), Some(".rules"));

        let ingress =
            json!({"spec": {"rules": [{"host": "a"}], "defaultBackend": {"service": {"name": "a"}}}});
        let backend = json!({"f:spec": {"f:defaultBackend": {"f:service": {"f:name": {}}}}});
        let more = json!({"spec": {"rules": [{"host": "a"}, {"host": "b"}], "defaultBackend": {"service": {"name": "a"}}}});
        check(ingress, more, backend, Some(".spec.rules"));
    }

    #[test]
    fn what_is_added_within_an_item_of_such_a_list_or_to_such_a_map_is_drift() {
        check(
            json!({"rules": [{"verbs": ["get"], "resources": ["pods"]}]}),
            json!({"rules": [{"verbs": ["get"], "resources": ["pods"], "nonResourceURLs": ["*"]}]}),
            json!({"f:metadata": {}}),
            Some(".rules.0"),
        );
        let policy =
            json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}});
        let mut narrowed = policy.clone();
        narrowed["spec"]["podSelector"]["matchLabels"]["tier"] = json!("none");
        check(
            policy.clone(),
            narrowed,
            json!({"f:spec": {"f:policyTypes": {}}}),
            Some(".spec.podSelector.matchLabels"),
        );
        check(policy.clone(), policy, json!({"f:spec": {"f:podSelector": {}, "f:policyTypes": {}}}), None);
    }

    #[test]
    fn an_atomic_list_within_an_item_that_merges_by_key_is_found_too() {
        let wanted = json!({"c": [{"name": "a", "envFrom": [{"secretRef": {"name": "s"}}]}]});
        let live = json!({"c": [{"name": "a", "envFrom": [{"secretRef": {"name": "s"}}, {"secretRef": {"name": "t"}}]}]});
        let item = |fields: Value| json!({"f:c": {"k:{\"name\":\"a\"}": fields}});
        check(wanted.clone(), live.clone(), item(json!({".": {}, "f:name": {}})), Some(".c.0.envFrom"));
        check(wanted, live, item(json!({".": {}, "f:name": {}, "f:envFrom": {}})), None);
    }

    #[test]
    fn empty_values_that_the_server_drops_are_not_drift() {
        check(
            json!({"spec": {"template": {"metadata": {"creationTimestamp": null}}, "x": {}, "y": []}}),
            json!({"spec": {}}),
            json!({"f:spec": {"f:template": {"f:metadata": {"f:creationTimestamp": {}}}, "f:x": {}, "f:y": {}}}),
            None,
        );
    }

    #[test]
    fn zeros_that_the_server_leaves_out_are_not_drift_but_taken_away_or_changed_they_are() {
        let wanted = json!({"spec": {"hostNetwork": false, "minReadySeconds": 0, "c": [{"name": "a", "env": [{"name": "E", "value": ""}]}]}});
        let fields = json!({"f:spec": {"f:hostNetwork": {}, "f:minReadySeconds": {}, "f:c": {"k:{\"name\":\"a\"}":
            {".": {}, "f:name": {}, "f:env": {"k:{\"name\":\"E\"}": {".": {}, "f:name": {}, "f:value": {}}}}}}});
        let live = json!({"spec": {"c": [{"name": "a", "env": [{"name": "E"}]}]}});
        check(wanted.clone(), live.clone(), fields.clone(), None);
        let mut changed = live.clone();
        changed["spec"]["hostNetwork"] = json!(true);
        check(wanted.clone(), changed, fields.clone(), Some(".spec.hostNetwork"));
        let mut taken = fields;
        taken["f:spec"].as_object_mut().map(|spec| spec.remove("f:hostNetwork"));
        check(wanted, live, taken, Some(".spec.hostNetwork"));
    }
}
