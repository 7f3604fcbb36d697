//! What is put right in the metadata of a write, with a warning: owners that are named twice, and ownership that admission has spoilt.

use std::collections::HashSet;

use apimachinery::apply;
use serde_json::{Value, json};

use super::Call;
use crate::registry::Kind;

/// When something is put right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// As the client sent it.
    Sent,
    /// After the webhooks.
    Admitted,
}

/// Leaves out owners that are named again: garbage is collected by each once.
pub(super) fn dedup_owners(call: &Call, object: &mut Value, stage: Stage) {
    let again = dedup(object);
    if again.is_empty() {
        return;
    }
    let when = if stage == Stage::Admitted { " after mutating admission happens" } else { "" };
    call.shared_warnings.lock().push(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        again.join(", ")
    ));
}

/// The uids of the owners that were left out.
fn dedup(object: &mut Value) -> Vec<String> {
    let owners = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
    let Some(owners) = owners.filter(|owners| owners.len() > 1) else { return Vec::new() };
    let (mut seen, mut told, mut again) = (HashSet::new(), HashSet::new(), Vec::new());
    owners.retain(|owner| {
        let new = seen.insert(owner.to_string());
        let uid = owner["uid"].as_str().unwrap_or_default();
        if !new && told.insert(uid.to_owned()) {
            again.push(uid.to_owned());
        }
        new
    });
    again
}

/// Keeps the wish to forget all ownership through all that takes empty lists off an object: a list of one empty entry says the same. The
/// metadata of custom objects is read in a way that an empty list does not come through: it says nothing there.
pub(super) fn keep_reset(kind: &Kind, object: &mut Value) {
    if kind.custom.is_some() {
        return;
    }
    if let Some(managed) = object.pointer_mut("/metadata/managedFields")
        && managed.as_array().is_some_and(Vec::is_empty)
    {
        *managed = json!([{}]);
    }
}

/// Puts the ownership of fields back that webhooks have made unreadable.
pub(super) fn restore_ownership(call: &Call, object: &mut Value, before: &Value) {
    let Err(why) = apply::managed_fields(object) else { return };
    object["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
    call.shared_warnings.lock().push(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {why}"
    ));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_owner_that_is_named_again_is_left_out() {
        let owner = |uid: &str, kind: &str| json!({"uid": uid, "kind": kind});
        let owners =
            json!([owner("1", "A"), owner("2", "A"), owner("1", "A"), owner("2", "B"), owner("1", "A")]);
        let mut object = json!({"metadata": {"ownerReferences": owners}});
        assert_eq!(dedup(&mut object), ["1"]);
        let expect = json!([owner("1", "A"), owner("2", "A"), owner("2", "B")]);
        assert_eq!(object["metadata"]["ownerReferences"], expect);
    }

    #[test]
    fn many_owners_that_are_named_again_take_little_to_leave_out() {
        let owners: Vec<Value> = (0..100_000).map(|at| json!({"uid": (at % 50_000).to_string()})).collect();
        let mut object = json!({"metadata": {"ownerReferences": owners}});
        assert_eq!(dedup(&mut object).len(), 50_000);
        assert_eq!(object["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(50_000));
    }
}
