//! The way from client-side to server-side apply: what `kubectl apply` wrote down as last applied is kubectl's to change.

use serde_json::{Map, Value};

use super::fieldset::FieldSet;
use super::ownership::{ApplyError, Conflicts, Manager, apply, apply_sparing};
use super::schema::ObjectType;

/// Where client-side apply keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The field manager of `kubectl apply --server-side`.
const KUBECTL: &str = "kubectl";

/// Applies a configuration as [`apply()`] does, with kubectl's ways: its server-side apply does not conflict with what its client-side apply
/// set, and keeps the annotation of what was last applied, if there is one, for those who go back: `said` is the configuration as it came.
///
/// Follows `lastAppliedManager` and `lastAppliedUpdater` of apimachinery's managed fields.
pub fn apply_after_kubectl(
    kind: ObjectType<'_>,
    live: Option<&Value>,
    configuration: &Value,
    said: &Value,
    manager: &Manager<'_>,
    conflicts: Conflicts,
) -> Result<Value, ApplyError> {
    let applied = apply(kind, live, configuration, manager, conflicts);
    let Some(live) = live.filter(|_| manager.name == KUBECTL) else { return applied };
    let mut applied = match applied {
        Err(ApplyError::Conflicts(_)) => {
            let spared = still_as_applied(kind, live, manager.api_version);
            apply_sparing(kind, Some(live), configuration, manager, conflicts, &spared)?
        }
        applied => applied?,
    };
    if applied != *live
        && let Some(Value::Object(annotations)) = applied.pointer_mut("/metadata/annotations")
        && annotations.get(LAST_APPLIED).and_then(Value::as_str).is_some_and(|text| !text.is_empty())
    {
        annotations.insert(LAST_APPLIED.to_owned(), format!("{}\n", without_annotation(said)).into());
    }
    Ok(applied)
}

/// The fields that client-side apply set and that nobody has changed since.
fn still_as_applied(kind: ObjectType<'_>, live: &Value, api_version: &str) -> FieldSet {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
    let Ok(last) = serde_json::from_str::<Value>(text) else { return FieldSet::default() };
    if last["apiVersion"] != api_version {
        return FieldSet::default();
    }
    let changed = kind.compare(&last, live);
    let set = kind.field_set(&last).difference(&changed.modified).difference(&changed.added);
    set.difference(&changed.removed)
}

fn without_annotation(configuration: &Value) -> Value {
    let mut configuration = configuration.clone();
    let annotations = configuration.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if annotations.map(|annotations| annotations.remove(LAST_APPLIED)).is_some()
        && configuration["metadata"]["annotations"].as_object().is_some_and(Map::is_empty)
        && let Some(metadata) = configuration["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    configuration
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apply::update;

    fn manager(name: &str) -> Manager<'_> {
        Manager { name, api_version: "v1", subresource: "", now: "2026-01-01T00:00:00Z", resets: None }
    }

    fn object(value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}})
    }

    /// What client-side apply leaves behind.
    fn applied_by_the_client() -> Value {
        let mut live = object("old");
        live["metadata"]["annotations"] = json!({LAST_APPLIED: object("old").to_string()});
        update(ObjectType::deduced(), None, live, &manager("kubectl-client-side-apply")).unwrap()
    }

    fn applied(live: &Value, name: &str) -> Result<Value, ApplyError> {
        apply_after_kubectl(
            ObjectType::deduced(),
            Some(live),
            &object("new"),
            &object("new"),
            &manager(name),
            Conflicts::Refuse,
        )
    }

    #[test]
    fn kubectl_takes_over_what_its_client_side_apply_set() {
        let found = applied(&applied_by_the_client(), "kubectl").unwrap();
        assert_eq!(found["data"]["k"], "new");
        let last = found["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(last).unwrap(), object("new"));
    }

    #[test]
    fn nobody_else_does_and_not_what_was_changed_since() {
        let live = applied_by_the_client();
        assert!(matches!(applied(&live, "other"), Err(ApplyError::Conflicts(_))));
        let mut changed = live.clone();
        changed["data"]["k"] = "by hand".into();
        let changed = update(ObjectType::deduced(), Some(&live), changed, &manager("hand")).unwrap();
        assert!(matches!(applied(&changed, "kubectl"), Err(ApplyError::Conflicts(_))));
    }

    #[test]
    fn no_annotation_is_made() {
        let live = update(ObjectType::deduced(), None, object("new"), &manager("hand")).unwrap();
        let found = applied(&live, "kubectl").unwrap();
        assert!(found["metadata"].get("annotations").is_none());
    }
}
