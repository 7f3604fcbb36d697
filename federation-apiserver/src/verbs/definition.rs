//! What becomes of a new CustomResourceDefinition: as in kube-apiserver it is stored with a status that says nothing yet, and a second write
//! accepts its names and establishes it. Watchers see both. The request is answered with the first, and after the second, so that whoever
//! made the definition may use its kind at once.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::MutexGuard;

use super::{Call, commit, object, own_status};
use crate::{
    crd, deletion,
    store::{Stored, Write, WriteError},
};

/// Rounds of the second write against other writers.
const ROUNDS: usize = 64;

/// The status of a new definition (`PrepareForCreate` of apiextensions-apiserver).
pub(super) fn begin(call: &Call, object: &mut Value) {
    if crd::is_definition(&call.kind) {
        crd::status::begin(object);
    }
}

/// Accepts the names of a definition that is about to be replaced, for others may have taken them since it was looked at. Until it is written
/// they are free for others, so nobody else does the same while the guard is held.
pub(super) async fn settle<'a>(
    call: &'a Call,
    object: &mut Value,
    old: &Value,
) -> Option<MutexGuard<'a, ()>> {
    if !crd::is_definition(&call.kind) || call.path.subresource.is_some() {
        return None;
    }
    let alone = call.shared.naming.lock().await;
    // What was accepted when it was looked at counts for nothing.
    object["status"] = old["status"].clone();
    call.settle_definition(object);
    Some(alone)
}

/// Accepts the names of the definition that was just created, and establishes it. Housekeeping does the same where
/// it is faster, or where this fails.
pub(super) async fn establish(call: &Call, created: &Arc<Stored>) {
    if !crd::is_definition(&call.kind) {
        return;
    }
    // Until its names are written they are free for others.
    let _alone = call.shared.naming.lock().await;
    let mut current = Arc::clone(created);
    for _ in 0..ROUNDS {
        let Ok(old) = call.old_value(&current).await else { return };
        let mut settled = old.clone();
        call.settle_definition(&mut settled);
        if object::same(&old, &settled) {
            return;
        }
        let settled = own_status(&call.shared, &call.kind, &old, settled, &deletion::seconds(call.now));
        let Ok(object) = commit::encode(call, settled, current.bytes.len()).await else { return };
        let write = Write::Update { key: current.key.clone(), expect: Some(current.revision), object };
        match call.shared.storage.write(write).await {
            Err(WriteError::Conflict { .. }) => match call.shared.storage.get(&current.key) {
                Some(newer) if !newer.meta.deleting => current = newer,
                _ => return,
            },
            _ => return,
        }
    }
}
