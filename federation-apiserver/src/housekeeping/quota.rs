//! The status of ResourceQuotas: what their namespaces use.

use serde_json::json;

use super::{Action, Edit};
use crate::{
    admission::Quotas,
    store::{ResourceKey, Snapshot},
};

/// Brings the status of each quota up to date.
pub(super) fn statuses(snapshot: &Snapshot, quotas: &Quotas) -> Vec<Action> {
    let resource = ResourceKey::new("", "resourcequotas");
    let all = snapshot.range(&resource, None, None).filter(|quota| !quota.meta.deleting);
    all.filter_map(|stored| {
        let quota = stored.value().ok()?;
        let status = quotas.status(snapshot, &stored.key.namespace, &quota)?;
        Some(Action::Edit {
            key: stored.key.clone(),
            uid: stored.meta.uid.clone(),
            edit: Edit::Parts(json!({"status": status})),
        })
    })
    .collect()
}
