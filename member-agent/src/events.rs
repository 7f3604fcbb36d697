//! Events about federated objects, in both directions.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use hub_protocol::Key;
use jiff::Timestamp;
use proto::v1;
use serde_json::{Value, json};

use crate::world::World;

/// Label on Events that came from the federation: they do not go back.
const DELIVERED: &str = "federation.rs/delivered";
/// Events whose counts are remembered, and objects whose talk is. An Event lives an hour; beyond this many the memory starts anew, and a count
/// may be told twice.
const REMEMBERED: usize = 8192;
/// Like Kubernetes' own event spam filter: this many at once for one object, then one each [`REFILL_SECONDS`].
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 10.0;

/// Turns the member's Events into reports.
#[derive(Debug)]
pub(crate) struct Filter {
    // The newest of what there was at the start, by the members' own clocks; ours may be minutes off.
    before: Timestamp,
    counts: HashMap<String, u64>,
    buckets: HashMap<Key, (f64, Instant)>,
}

impl Filter {
    pub(crate) fn new() -> Self {
        Self { before: Timestamp::MIN, counts: HashMap::new(), buckets: HashMap::new() }
    }

    /// An Event that was there at the start: the agent before this one told it.
    pub(crate) fn pass(&mut self, event: &Value) {
        if let Some(last) = last(event) {
            self.before = self.before.max(last);
        }
        self.count(event);
    }

    /// How often it happened so far, and how often it had when last looked at.
    fn count(&mut self, event: &Value) -> (u64, Option<u64>) {
        let total = ["/count", "/series/count"]
            .iter()
            .find_map(|pointer| event.pointer(pointer)?.as_u64())
            .unwrap_or(1)
            .max(1);
        if self.counts.len() >= REMEMBERED {
            self.counts.clear();
        }
        let uid = event.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        (total, self.counts.insert(uid.to_owned(), total))
    }

    /// A report for an Event, if it is about a federated object, tells something new, and its object has not said too much lately.
    pub(crate) fn take(&mut self, world: &World, event: &Value, now: Instant) -> Option<v1::MemberEvent> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if event.pointer("/metadata/labels").and_then(|labels| labels.get(DELIVERED)).is_some() {
            return None;
        }
        let (kind, namespace, name) =
            (text("/involvedObject/kind"), text("/involvedObject/namespace"), text("/involvedObject/name"));
        let wanted = owners(kind, name).find_map(|(kind, name)| world.find(kind, namespace, name))?;
        let last = last(event)?;
        let first =
            time(event, &["/firstTimestamp", "/eventTime", "/metadata/creationTimestamp"]).unwrap_or(last);
        let (total, told) = self.count(event);
        let fresh = match told {
            Some(told) => total.saturating_sub(told),
            // Listed anew, and forgotten meanwhile.
            None if last < self.before => 0,
            None if first < self.before => 1,
            None => total,
        };
        if fresh == 0 || !self.allows(&wanted.entry.key, now) {
            return None;
        }
        let component = [text("/source/component"), text("/reportingComponent")]
            .into_iter()
            .find(|text| !text.is_empty());
        // Whom it is about, where that is not the federated object itself.
        let about = if wanted.entry.key.name == name { String::new() } else { format!("{kind} {name}: ") };
        Some(v1::MemberEvent {
            key: Some((&wanted.entry.key).into()),
            uid: wanted.entry.uid.clone(),
            r#type: text("/type").into(),
            reason: text("/reason").into(),
            message: format!("{about}{}", text("/message")),
            component: component.unwrap_or_default().into(),
            count: fresh.min(u64::from(u32::MAX)) as u32,
            first_ms: first.as_millisecond(),
            last_ms: last.as_millisecond(),
        })
    }

    fn allows(&mut self, key: &Key, now: Instant) -> bool {
        if self.buckets.len() >= REMEMBERED {
            self.buckets.clear();
        }
        let (tokens, at) = self.buckets.entry(key.clone()).or_insert((BURST, now));
        *tokens = (*tokens + now.duration_since(*at).as_secs_f64() / REFILL_SECONDS).min(BURST);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

fn last(event: &Value) -> Option<Timestamp> {
    time(event, &["/lastTimestamp", "/series/lastObservedTime", "/eventTime", "/metadata/creationTimestamp"])
}

/// The object itself, and for Pods and ReplicaSets the objects whose controllers name theirs so.
fn owners<'a>(kind: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let parent = |name: &'a str| name.rsplit_once('-').map(|(parent, _)| parent);
    let one = parent(name);
    let two = one.and_then(parent);
    let by: Vec<(&str, Option<&str>)> = match kind {
        "Pod" => vec![
            ("ReplicaSet", one),
            ("StatefulSet", one),
            ("DaemonSet", one),
            ("Job", one),
            ("Deployment", two),
            ("CronJob", two),
        ],
        "ReplicaSet" => vec![("Deployment", one)],
        "Job" => vec![("CronJob", one)],
        _ => Vec::new(),
    };
    std::iter::once((kind, name)).chain(by.into_iter().filter_map(|(kind, name)| Some((kind, name?))))
}

fn time(event: &Value, pointers: &[&str]) -> Option<Timestamp> {
    pointers.iter().find_map(|pointer| event.pointer(pointer)?.as_str()?.parse().ok())
}

/// The Event to post in the member for one that was posted to the federation: named after the delivery, so that a second
/// delivery finds it there. Collection path and object; `None` if it is not an Event.
pub(crate) fn to_post(id: &str, regarding: &Key, event: &Bytes) -> Option<(String, Value)> {
    let mut event: Value = serde_json::from_slice(event).ok()?;
    let namespace = if regarding.namespace.is_empty() { "default" } else { &regarding.namespace };
    let name: String = id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(200)
        .collect();
    let fields = event.as_object_mut()?;
    fields.insert("apiVersion".into(), "v1".into());
    fields.insert("kind".into(), "Event".into());
    fields.insert(
        "metadata".into(),
        json!({"name": format!("federation-{}", name.trim_matches('-')), "namespace": namespace, "labels": {DELIVERED: "true"}}),
    );
    fields.insert(
        "involvedObject".into(),
        json!({"apiVersion": regarding.api_version(), "kind": regarding.kind, "namespace": regarding.namespace, "name": regarding.name}),
    );
    Some((format!("/api/v1/namespaces/{namespace}/events"), event))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use hub_protocol::agent::Entry;
    use tokio::sync::mpsc;

    use super::*;
    use crate::manifest::Wanted;
    use crate::testing::held;

    fn world() -> World {
        let world = World::new(mpsc::channel(1).0);
        let web = Key {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            resource: "deployments".into(),
            namespace: "shop".into(),
            name: "web".into(),
        };
        world.put(Arc::new(Wanted::new(Entry { uid: "u".into(), ..held(web, "{}") })));
        world
    }

    fn event(kind: &str, name: &str, count: u64) -> Value {
        json!({"metadata": {"uid": format!("{kind}-{name}")}, "involvedObject": {"kind": kind, "namespace": "shop", "name": name},
            "type": "Warning", "reason": "BackOff", "message": "no", "count": count, "source": {"component": "kubelet"},
            "firstTimestamp": "2026-01-01T00:00:10Z", "lastTimestamp": "2026-01-01T00:00:20Z"})
    }

    #[test]
    fn what_was_there_at_the_start_is_not_told_and_what_happens_afterwards_is_whatever_our_clock_says() {
        let (world, mut filter, now) = (world(), Filter::new(), Instant::now());
        filter.pass(&event("Deployment", "web", 1));
        assert!(filter.take(&world, &event("Deployment", "web", 1), now).is_none());
        assert_eq!(filter.take(&world, &event("Deployment", "web", 3), now).unwrap().count, 2);
        // Of the same second, and another one.
        assert_eq!(filter.take(&world, &event("Pod", "web-5d4f8-x2x", 1), now).unwrap().count, 1);
        let mut older = event("Pod", "web-5d4f8-y3y", 1);
        older["lastTimestamp"] = "2026-01-01T00:00:19Z".into();
        assert!(filter.take(&world, &older, now).is_none());
    }

    #[test]
    fn a_pods_event_is_told_of_its_deployment_and_counted() {
        let (world, mut filter, now) = (world(), Filter::new(), Instant::now());
        let told = filter.take(&world, &event("Pod", "web-5d4f8-x2x", 3), now).unwrap();
        assert_eq!((told.count, told.message.as_str()), (3, "Pod web-5d4f8-x2x: no"));
        assert_eq!(filter.take(&world, &event("Pod", "web-5d4f8-x2x", 5), now).unwrap().count, 2);
        assert!(filter.take(&world, &event("Pod", "web-5d4f8-x2x", 5), now).is_none());
        assert!(filter.take(&world, &event("Pod", "other-5d4f8-x2x", 1), now).is_none());
    }

    #[test]
    fn what_we_delivered_is_not_told() {
        let world = world();
        let (_, mut posted) = to_post(
            "id/1",
            &Key { namespace: "shop".into(), name: "web".into(), ..Key::default() },
            &Bytes::from(event("Deployment", "web", 1).to_string()),
        )
        .unwrap();
        posted["involvedObject"]["kind"] = "Deployment".into();
        assert_eq!(posted["metadata"]["name"], "federation-id-1");
        assert!(Filter::new().take(&world, &posted, Instant::now()).is_none());
    }

    #[test]
    fn an_object_that_says_too_much_is_cut_short() {
        let (world, mut filter, now) = (world(), Filter::new(), Instant::now());
        let told = (0..100)
            .filter(|n| filter.take(&world, &event("Pod", &format!("web-{n}-x"), 1), now).is_some())
            .count();
        assert_eq!(told, 25);
    }
}
