//! The life of CustomResourceDefinitions after the write that brought them: names that come free, and the end.

use serde_json::Value;

use super::{Action, Edit, action::Condition};
use crate::{
    crd::{
        self, Definition,
        status::{self, TakenNames},
    },
    deletion,
    store::{Key, ResourceKey, Snapshot, Stored},
    validation::holds,
};

/// Whether something about definitions may be left to do after a change of this object.
pub(super) fn concerns(key: &Key) -> bool {
    key.resource.resource.as_ref() == crd::PLURAL && key.resource.group.as_ref() == crd::GROUP
}

/// Removes the instances of definitions that are being deleted, and then the definitions; accepts names that came free.
pub(super) fn actions(snapshot: &Snapshot) -> Vec<Action> {
    let resource = ResourceKey::new(crd::GROUP, crd::PLURAL);
    let stored: Vec<_> = snapshot.range(&resource, None, None).collect();
    let definitions: Vec<_> =
        stored.iter().filter_map(|stored| Definition::read(stored).ok().map(|read| (stored, read))).collect();
    let mut actions = Vec::new();
    for (stored, definition) in &definitions {
        let (key, uid) = (stored.key.clone(), stored.meta.uid.clone());
        let edit = |edit| Action::Edit { key: key.clone(), uid: uid.clone(), edit };
        if !stored.meta.deleting {
            actions.extend(accepted(stored, definition, &definitions).map(edit));
            continue;
        }
        if !stored.meta.finalizers.iter().any(|finalizer| finalizer == crd::CLEANUP) {
            continue;
        }
        let instances = ResourceKey::new(definition.group.as_str(), definition.plural.as_str());
        let mut left = snapshot.range(&instances, None, None).peekable();
        if left.peek().is_none() {
            actions.push(edit(Edit::DropFinalizer(crd::CLEANUP)));
            continue;
        }
        actions.extend(left.filter(|instance| !instance.meta.deleting).map(|instance| Action::Delete {
            key: instance.key.clone(),
            uid: instance.meta.uid.clone(),
            propagation: None,
            revision: None,
        }));
        actions.push(edit(Edit::Conditions(vec![Condition {
            kind: "Terminating",
            holds: true,
            reason: "InstanceDeletionInProgress",
            message: "CustomResource deletion is in progress".to_owned(),
        }])));
    }
    actions
}

/// The names that other definitions of a definition's group hold.
pub(super) fn taken(snapshot: &Snapshot, stored: &Stored) -> TakenNames {
    let Ok(definition) = Definition::read(stored) else { return TakenNames::default() };
    let all: Vec<_> = snapshot
        .range(&ResourceKey::new(crd::GROUP, crd::PLURAL), None, None)
        .filter_map(|stored| Definition::read(&stored).ok())
        .collect();
    TakenNames::new(all.iter(), &definition.group, &definition.name)
}

/// The status that a definition should have, if it has another.
fn accepted(
    stored: &Stored,
    definition: &Definition,
    all: &[(&std::sync::Arc<Stored>, Definition)],
) -> Option<Edit> {
    let object = stored.value().ok()?;
    if holds(&object, "NamesAccepted") && holds(&object, "Established") {
        return None;
    }
    let others = all.iter().map(|(_, other)| other);
    let taken = TakenNames::new(others, &definition.group, &definition.name);
    let mut settled = object.clone();
    status::settle(&mut settled, &taken, &deletion::seconds(jiff::Timestamp::UNIX_EPOCH));
    let conditions = |object: &Value| -> Vec<(Value, Value, Value)> {
        let list = object["status"]["conditions"].as_array().into_iter().flatten();
        list.map(|one| (one["type"].clone(), one["status"].clone(), one["message"].clone())).collect()
    };
    (conditions(&settled) != conditions(&object)).then_some(Edit::Accept(taken))
}
