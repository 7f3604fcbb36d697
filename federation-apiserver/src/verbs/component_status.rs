//! ComponentStatuses: how the store and the two servers do that a kube-apiserver works with. They are looked at when somebody asks, and stored
//! nowhere. What a controller manager does in a cluster without nodes this server does itself; a scheduler tells of itself by its lease.

use std::sync::Arc;

use apimachinery::{ApiError, status::Reason};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Call;
use crate::{
    store::{Key, Meta, ResourceKey, Stored},
    validation::text,
};

/// Where the scheduler that is at work says so.
const SCHEDULER: (&str, &str) = ("kube-system", "kube-scheduler");
/// For how long a lease counts that does not say.
const LEASE_SECONDS: i64 = 15;

/// All components, if the request is about them.
pub(super) fn all(call: &Call) -> Option<Vec<Arc<Stored>>> {
    if !call.kind.is("", "componentstatuses") {
        return None;
    }
    let closed = (!call.shared.storage.is_open()).then(|| "the store is closed".to_owned());
    let store = closed.map_or(("True", String::new()), |why| ("False", why));
    let scheduler = if schedules(call) {
        ("True", String::new())
    } else {
        ("Unknown", format!("no scheduler holds the lease {}/{}", SCHEDULER.0, SCHEDULER.1))
    };
    let all = [("controller-manager", ("True", String::new())), ("etcd-0", store), ("scheduler", scheduler)];
    Some(all.into_iter().map(|(name, (status, error))| component(call, name, status, &error)).collect())
}

/// The component that the URL names, if the request is about them.
pub(super) fn find(call: &Call) -> Result<Option<Arc<Stored>>, ApiError> {
    let Some(all) = all(call) else { return Ok(None) };
    let found = all.into_iter().find(|component| component.key.name == call.name());
    let missing = || ApiError::new(500, Reason::Unknown, format!("Component not found: {}", call.name()));
    found.map(Some).ok_or_else(missing)
}

fn component(call: &Call, name: &str, status: &str, error: &str) -> Arc<Stored> {
    let mut condition = json!({"type": "Healthy", "status": status});
    if error.is_empty() {
        condition["message"] = "ok".into();
    } else {
        condition["error"] = error.into();
    }
    let object = json!({
        "kind": call.kind.kind, "apiVersion": call.kind.api_version(),
        "metadata": {"name": name}, "conditions": [condition],
    });
    let bytes = object.to_string().into_bytes().into();
    Arc::new(Stored { key: call.key(name), revision: 0, bytes, meta: Meta::default() })
}

fn schedules(call: &Call) -> bool {
    let leases = ResourceKey::new("coordination.k8s.io", "leases");
    let lease = call.shared.storage.get(&Key::new(leases, SCHEDULER.0, SCHEDULER.1));
    lease.and_then(|lease| lease.value().ok()).is_some_and(|lease| is_held(&lease["spec"], call.now))
}

fn is_held(spec: &Value, now: Timestamp) -> bool {
    let Ok(renewed) = text(spec, "renewTime").parse::<Timestamp>() else { return false };
    let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or(LEASE_SECONDS);
    !text(spec, "holderIdentity").is_empty()
        && now.duration_since(renewed) < SignedDuration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_held_as_long_as_it_says() {
        let now: Timestamp = "2026-01-01T00:00:30Z".parse().expect("it is a time");
        let spec = |holder: &str, renewed: &str| json!({"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15});
        assert!(is_held(&spec("a", "2026-01-01T00:00:16.000000Z"), now));
        assert!(!is_held(&spec("a", "2026-01-01T00:00:15.000000Z"), now));
        assert!(!is_held(&spec("", "2026-01-01T00:00:30.000000Z"), now));
        assert!(!is_held(&json!({}), now));
    }
}
