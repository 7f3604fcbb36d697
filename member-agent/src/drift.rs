//! Whether a live object still is what we want.

use serde_json::Value;

use crate::quantity;

/// The first field, as a path, that is wanted and is not so. Fields that we do not want are nobody's business here: defaults,
/// status, and what others own.
pub(crate) fn find(wanted: &Value, live: &Value) -> Option<String> {
    let mut path = String::new();
    // The items of a list carry neither kind nor version, and a watch was asked for one of each.
    let ours = |name: &str| !matches!(name, "status" | "apiVersion" | "kind");
    for (name, value) in wanted.as_object()?.iter().filter(|(name, _)| ours(name)) {
        let found = if name == "metadata" {
            metadata(value, live.get(name)?)
        } else {
            at(value, live.get(name), &mut path, name)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Of the metadata only labels and annotations are ours to correct; the rest is identity, or the server's.
fn metadata(wanted: &Value, live: &Value) -> Option<String> {
    ["labels", "annotations", "finalizers"].iter().find_map(|name| {
        let wanted = wanted.get(name)?;
        at(wanted, live.get(name), &mut "metadata".to_owned(), name)
    })
}

fn at(wanted: &Value, live: Option<&Value>, path: &mut String, name: &str) -> Option<String> {
    let length = path.len();
    path.push('.');
    path.push_str(name);
    let found = compare(wanted, live, path);
    path.truncate(length);
    found
}

fn compare(wanted: &Value, live: Option<&Value>, path: &mut String) -> Option<String> {
    // The server drops empty values; wanting nothing and having nothing is the same.
    if is_empty(wanted) {
        return None;
    }
    let Some(live) = live else { return Some(path.clone()) };
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().find_map(|(name, value)| at(value, live.get(name), path, name))
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => wanted
            .iter()
            .zip(live)
            .enumerate()
            .find_map(|(index, (wanted, live))| at(wanted, Some(live), path, &index.to_string())),
        // A list that others add to (webhooks inject containers): each wanted item must be there somewhere.
        (Value::Array(wanted), Value::Array(live))
            if wanted.len() < live.len() && wanted.iter().all(Value::is_object) =>
        {
            wanted
                .iter()
                .any(|item| {
                    !live.iter().any(|other| compare(item, Some(other), &mut String::new()).is_none())
                })
                .then(|| path.clone())
        }
        (Value::String(_) | Value::Number(_), Value::String(_) | Value::Number(_))
            if same_scalar(wanted, live) =>
        {
            None
        }
        _ if wanted == live => None,
        _ => Some(path.clone()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        // Zero, false and "" are what `omitempty` drops, but they may also be meant: only absence is forgiven, below.
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() || fields.values().all(is_empty),
        _ => false,
    }
}

fn same_scalar(wanted: &Value, live: &Value) -> bool {
    if wanted == live {
        return true;
    }
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (wanted, live) = (text(wanted), text(live));
    match (quantity::millis(&wanted), quantity::millis(&live)) {
        (Some(wanted), Some(live)) => wanted == live,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(wanted: Value, live: Value, expected: Option<&str>) {
        assert_eq!(find(&wanted, &live).as_deref(), expected);
    }

    #[test]
    fn defaults_status_and_other_owners_are_not_drift() {
        check(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"x": 1}}),
            json!({"metadata": {"name": "a", "uid": "u", "labels": {"x": "1", "other": "2"}},
                   "spec": {"containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always"}], "dnsPolicy": "ClusterFirst"}}),
            None,
        );
    }

    #[test]
    fn a_changed_field_is_named() {
        check(json!({"spec": {"replicas": 3}}), json!({"spec": {"replicas": 5}}), Some(".spec.replicas"));
        check(
            json!({"spec": {"c": [{"image": "a"}]}}),
            json!({"spec": {"c": [{"image": "b"}]}}),
            Some(".spec.c.0.image"),
        );
        check(json!({"metadata": {"labels": {"a": "b"}}}), json!({"metadata": {}}), Some("metadata.labels"));
        check(json!({"data": {"k": "v"}}), json!({"data": {"k": "w"}}), Some(".data.k"));
        check(json!({"data": {"k": "v"}}), json!({}), Some(".data"));
    }

    #[test]
    fn quantities_are_compared_by_value() {
        check(
            json!({"spec": {"cpu": "1000m", "memory": "1024Mi"}}),
            json!({"spec": {"cpu": "1", "memory": "1Gi"}}),
            None,
        );
        check(json!({"spec": {"cpu": "500m"}}), json!({"spec": {"cpu": "1"}}), Some(".spec.cpu"));
        check(json!({"spec": {"cpu": 2}}), json!({"spec": {"cpu": "2"}}), None);
    }

    #[test]
    fn injected_list_items_are_not_drift_but_lost_ones_are() {
        check(
            json!({"spec": {"c": [{"name": "a"}]}}),
            json!({"spec": {"c": [{"name": "sidecar"}, {"name": "a", "x": 1}]}}),
            None,
        );
        check(
            json!({"spec": {"c": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"c": [{"name": "a"}]}}),
            Some(".spec.c"),
        );
        check(json!({"spec": {"args": ["x"]}}), json!({"spec": {"args": ["x", "y"]}}), Some(".spec.args"));
    }

    #[test]
    fn empty_values_that_the_server_drops_are_not_drift() {
        check(
            json!({"spec": {"template": {"metadata": {"creationTimestamp": null}}, "x": {}, "y": []}}),
            json!({"spec": {}}),
            None,
        );
    }
}
