//! ServiceCIDRs: networks beside that of the flag which addresses come from (KEP-1880).

use serde_json::Value;

use super::Network;
use crate::{
    store::{ResourceKey, Snapshot, Stored},
    validation::{condition, items},
};

/// The resource of ServiceCIDRs.
pub(crate) fn resource() -> ResourceKey {
    ResourceKey::new("networking.k8s.io", "servicecidrs")
}

/// The networks of a ServiceCIDR that addresses can come from: those of IPv6 and very small or large ones cannot be given out here.
pub(crate) fn of(object: &Value) -> Vec<Network> {
    items(&object["spec"], "cidrs").filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
}

/// Those of all that are ready, which is so until somebody says otherwise, and are not being deleted.
pub(super) fn ready(snapshot: &Snapshot) -> Vec<Network> {
    let is_ready = |stored: &Stored| {
        let object = stored.value().ok().filter(|_| !stored.meta.deleting)?;
        let ready = condition(&object, "Ready").is_none_or(|condition| condition["status"] == "True");
        ready.then(|| of(&object))
    };
    snapshot.range(&resource(), None, None).filter_map(|stored| is_ready(&stored)).flatten().collect()
}
