//! Roles: those that must exist at the start, and those that are made of others.

use apimachinery::labels::Selector;
use serde_json::{Value, json};

use super::{Action, Edit};
use crate::{
    auth::bootstrap_policy::{self, GROUP},
    store::{Key, ResourceKey, Snapshot, Stored},
};

/// Whether a change of this object may change aggregated roles.
pub(super) fn concerns(key: &Key) -> bool {
    &*key.resource.group == GROUP && &*key.resource.resource == "clusterroles"
}

/// Brings the default roles and bindings about: what `rbac/bootstrap-roles` does at each start of kube-apiserver.
pub(super) fn bootstrap(snapshot: &Snapshot) -> Vec<Action> {
    let mut actions = Vec::new();
    for bootstrap_policy::BootstrapObject { key, object } in bootstrap_policy::all() {
        let Some(found) = snapshot.get(&key) else {
            actions.push(Action::Create { key, object });
            continue;
        };
        let Ok(value) = found.value() else { continue };
        let uid = found.meta.uid.clone();
        let moved = object["roleRef"].is_object() && object["roleRef"] != value["roleRef"];
        let Some(next) = bootstrap_policy::reconciled(&object, &value) else { continue };
        if moved {
            // A binding's role cannot be changed: it is made anew.
            actions.push(Action::Delete { key, uid, propagation: None, revision: Some(found.revision) });
        } else {
            actions.push(Action::Edit { key, uid, edit: Edit::Parts(parts(&next)) });
        }
    }
    actions
}

fn parts(object: &Value) -> Value {
    let mut parts = json!({});
    for name in ["rules", "aggregationRule", "subjects"] {
        if let Some(value) = object.get(name) {
            parts[name] = value.clone();
        }
    }
    let metadata = &object["metadata"];
    parts["metadata"] = json!({"labels": metadata["labels"], "annotations": metadata["annotations"]});
    parts
}

/// Gives each aggregated ClusterRole the rules of the roles that it selects.
pub(super) fn aggregate(snapshot: &Snapshot) -> Vec<Action> {
    let resource = ResourceKey::new(GROUP, "clusterroles");
    let roles: Vec<_> = snapshot
        .range(&resource, None, None)
        .filter_map(|stored| stored.value().ok().map(|value| (stored, value)))
        .collect();
    roles.iter().filter_map(|(stored, value)| one(stored, value, &roles)).collect()
}

fn one(stored: &Stored, value: &Value, roles: &[(std::sync::Arc<Stored>, Value)]) -> Option<Action> {
    let selectors = value["aggregationRule"]["clusterRoleSelectors"].as_array()?;
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let Ok(selector) = Selector::from_label_selector(Some(selector)) else { continue };
        let chosen = roles
            .iter()
            .filter(|(other, _)| other.key.name != stored.key.name && selector.matches(&other.meta.labels));
        for rule in chosen.flat_map(|(_, role)| role["rules"].as_array().into_iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    let same = value["rules"].as_array().map_or(&[][..], Vec::as_slice) == rules.as_slice();
    (!same).then(|| Action::Edit {
        key: stored.key.clone(),
        uid: stored.meta.uid.clone(),
        edit: Edit::Parts(json!({"rules": rules})),
    })
}
