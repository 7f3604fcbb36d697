//! FlowSchemas and PriorityLevelConfigurations: those that must exist, and whether schemas lead somewhere.

use serde_json::json;

use super::{Action, Edit, action::Condition};
use crate::{
    flow,
    store::{Key, ResourceKey, Snapshot},
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Makes what is not there.
pub(super) fn required(snapshot: &Snapshot) -> Vec<Action> {
    let levels = flow::levels()
        .map(|(name, spec)| ("prioritylevelconfigurations", "PriorityLevelConfiguration", name, spec));
    let schemas = flow::schemas().map(|(name, spec)| ("flowschemas", "FlowSchema", name, spec));
    let all = levels.into_iter().chain(schemas);
    all.filter_map(|(resource, kind, name, spec)| {
        let key = Key::new(ResourceKey::new(GROUP, resource), "", name);
        let object = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": kind,
            "metadata": {
                "name": name, "generation": 1, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"},
            },
            "spec": spec, "status": {},
        });
        snapshot.get(&key).is_none().then_some(Action::Create { key, object })
    })
    .collect()
}

/// Whether a change of this object may leave schemas without a level, or take away what must exist.
pub(super) fn concerns(key: &Key) -> bool {
    &*key.resource.group == GROUP
}

/// The condition `Dangling` of each schema: whether its level is missing (KEP-1040).
pub(super) fn conditions(snapshot: &Snapshot) -> Vec<Action> {
    let levels = ResourceKey::new(GROUP, "prioritylevelconfigurations");
    let schemas = snapshot.range(&ResourceKey::new(GROUP, "flowschemas"), None, None);
    schemas
        .filter_map(|stored| {
            let object = stored.value().ok()?;
            let level = object["spec"]["priorityLevelConfiguration"]["name"].as_str()?;
            let missing = snapshot.get(&Key::new(levels.clone(), "", level)).is_none();
            let (reason, end) = if missing {
                ("NotFound", "but there is no such object")
            } else {
                ("Found", "and it exists")
            };
            let message = format!(
                "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}"
            );
            let condition = Condition { kind: "Dangling", holds: missing, reason, message };
            Some(Action::Edit {
                key: stored.key.clone(),
                uid: stored.meta.uid.clone(),
                edit: Edit::Conditions(vec![condition]),
            })
        })
        .collect()
}
