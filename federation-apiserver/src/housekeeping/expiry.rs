//! Expiry of Events.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::Action;
use crate::store::{ResourceKey, Snapshot, Stored};

/// Deletes the Events that were neither written nor seen for `ttl`. kube-apiserver leases them to etcd for an hour.
pub(super) fn expired(snapshot: &Snapshot, now: Timestamp, ttl: Duration) -> Vec<Action> {
    let Ok(ttl) = jiff::SignedDuration::try_from(ttl) else { return Vec::new() };
    let Ok(limit) = now.checked_sub(ttl) else { return Vec::new() };
    let mut actions = Vec::new();
    for group in ["", "events.k8s.io"] {
        for event in snapshot.range(&ResourceKey::new(group, "events"), None, None) {
            if is_older(&event, limit) {
                actions.push(Action::Delete {
                    key: event.key.clone(),
                    uid: event.meta.uid.clone(),
                    propagation: None,
                    revision: Some(event.revision),
                });
            }
        }
    }
    actions
}

fn is_older(event: &Stored, limit: Timestamp) -> bool {
    // Most are young, and are not parsed for that.
    if event.meta.created.is_none_or(|created| created > limit) {
        return false;
    }
    // Repeated Events are updated in place.
    let Ok(object) = event.value() else { return false };
    let times = [
        &object["lastTimestamp"],
        &object["deprecatedLastTimestamp"],
        &object["series"]["lastObservedTime"],
        &object["eventTime"],
    ];
    let last =
        times.into_iter().filter_map(Value::as_str).filter_map(|time| time.parse::<Timestamp>().ok()).max();
    last.is_none_or(|last| last <= limit)
}
