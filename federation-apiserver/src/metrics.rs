//! The API server's metrics, under the names and labels that Kubernetes' dashboards and tests know.

use std::time::Duration;

use federation_runtime::endpoints::Metrics as Registry;
use http::Method;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use crate::{
    http::{
        info::{ResourcePath, Target},
        negotiate::APPLY,
    },
    registry::{Kind, Served},
    store::Storage,
};

/// `apiserver_request_duration_seconds` of kube-apiserver.
const BUCKETS_SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
const COMPONENT: &str = "apiserver";

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    verb: &'static str,
    dry_run: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

impl Labels {
    /// Those of a request. Only what is served becomes a label's value, so that a scanner cannot fill the memory with series.
    pub(crate) fn of(
        served: &Served,
        target: &Target,
        verb: &'static str,
        content_type: Option<&str>,
        is_dry: bool,
    ) -> Self {
        let path = match target {
            Target::Resource(path) => Some(path),
            Target::Path(_) => None,
        };
        let kind = path.and_then(|path| served.find(&path.group, &path.version, &path.resource));
        let part = path.and_then(|path| path.subresource.as_deref());
        let part = kind.as_ref().zip(part).and_then(|(kind, part)| kind.subresource(part));
        Self {
            verb: shown(verb, content_type),
            dry_run: if is_dry { "All" } else { "" },
            group: kind.as_ref().map_or("", |kind| kind.group),
            version: kind.as_ref().map_or("", |kind| kind.version),
            resource: kind.as_ref().map_or("", |kind| kind.plural),
            subresource: part.map_or("", |part| part.name),
            scope: path.map_or("", |path| scope(path, verb)),
            component: COMPONENT,
        }
    }
}

/// A verb as it is told (`metrics.cleanVerb`).
fn shown(verb: &str, content_type: Option<&str>) -> &'static str {
    match verb {
        "get" | "head" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if content_type == Some(APPLY) => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

/// `metrics.CleanScope`.
fn scope(path: &ResourcePath, verb: &str) -> &'static str {
    if path.name.is_some() || verb == "create" {
        "resource"
    } else if path.namespace.is_some() {
        "namespace"
    } else {
        "cluster"
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    #[prometheus(flatten)]
    request: Labels,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LongRunning {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resource {
    group: &'static str,
    version: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stored {
    operation: &'static str,
    group: String,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtWork {
    request_kind: &'static str,
}

/// Counters of the HTTP side.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    seconds: Family<Labels, Histogram>,
    at_work: Family<AtWork, Gauge>,
    long_running: Family<LongRunning, Gauge>,
    events: Family<Resource, Counter>,
    watches: Gauge,
}

/// Counts something for as long as it lasts.
pub(crate) struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts a watch for as long as it lives, and the events that it sends.
pub(crate) struct WatchGuard {
    events: Counter,
    _counted: [GaugeGuard; 2],
}

impl WatchGuard {
    /// Counts an event.
    pub(crate) fn event_sent(&self) {
        self.events.inc();
    }
}

impl Metrics {
    pub(crate) fn new(registry: &Registry, storage: Storage) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS_SECONDS)),
            at_work: Family::default(),
            long_running: Family::default(),
            events: Family::default(),
            watches: Gauge::default(),
        };
        // By the name that Kubernetes' store has in all clusters.
        let writes: Family<Stored, Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS_SECONDS));
        let timed = writes.clone();
        storage.time_writes(Box::new(move |resource, operation, took| {
            let (group, resource) = (resource.group.to_string(), resource.resource.to_string());
            timed.get_or_create(&Stored { operation, group, resource }).observe(took.as_secs_f64());
        }));
        registry.register(|registry| {
            registry.register(
                "apiserver_request",
                "Requests by what they ask and how they ended",
                metrics.requests.clone(),
            );
            registry.register(
                "apiserver_request_duration_seconds",
                "Time from the request's head to the answer's, watches apart",
                metrics.seconds.clone(),
            );
            registry.register(
                "apiserver_current_inflight_requests",
                "Requests at work, watches apart",
                metrics.at_work.clone(),
            );
            registry.register(
                "apiserver_longrunning_requests",
                "Open watches by resource",
                metrics.long_running.clone(),
            );
            registry.register("apiserver_watch_events", "Events told to watchers", metrics.events.clone());
            registry.register("apiserver_registered_watchers", "Open watches", metrics.watches.clone());
            registry.register(
                "etcd_request_duration_seconds",
                "Time until a write is durable, by what it is; reads are answered from memory",
                writes.clone(),
            );
            registry.register_collector(Box::new(Objects(storage)));
        });
        metrics
    }

    /// Counts a request while it is at work.
    pub(crate) fn begun(&self, method: &Method) -> GaugeGuard {
        let request_kind = if method.is_safe() { "readOnly" } else { "mutating" };
        GaugeGuard::new(self.at_work.get_or_create_owned(&AtWork { request_kind }))
    }

    pub(crate) fn answered(&self, labels: Labels, code: u16, took: Duration) {
        if labels.verb != "WATCH" {
            self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&Answered { request: labels, code }).inc();
    }

    pub(crate) fn watch_started(&self, kind: &Kind, path: &ResourcePath) -> WatchGuard {
        let long_running = LongRunning {
            verb: "WATCH",
            group: kind.group,
            version: kind.version,
            resource: kind.plural,
            subresource: "",
            scope: scope(path, "watch"),
            component: COMPONENT,
        };
        let resource = Resource { group: kind.group, version: kind.version, resource: kind.plural };
        WatchGuard {
            events: self.events.get_or_create_owned(&resource),
            _counted: [
                GaugeGuard::new(self.watches.clone()),
                GaugeGuard::new(self.long_running.get_or_create_owned(&long_running)),
            ],
        }
    }
}

/// `apiserver_storage_objects`, and what it is called since 1.34: read from the store when somebody asks.
struct Objects(Storage);

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Objects")
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshot = self.0.snapshot();
        let counts: Vec<_> = snapshot
            .resources()
            .map(|resource| (resource, i64::try_from(snapshot.count(resource, None)).unwrap_or(i64::MAX)))
            .collect();
        let help = "Objects in the store";
        let mut metric =
            encoder.encode_descriptor("apiserver_storage_objects", help, None, MetricType::Gauge)?;
        for (resource, count) in &counts {
            metric.encode_family(&[("resource", resource.to_string())])?.encode_gauge(count)?;
        }
        let mut metric =
            encoder.encode_descriptor("apiserver_resource_objects", help, None, MetricType::Gauge)?;
        for (resource, count) in &counts {
            let labels = [("group", &*resource.group), ("resource", &*resource.resource)];
            metric.encode_family(&labels)?.encode_gauge(count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_scopes_are_told_as_kubernetes_tells_them() {
        let of = |path: &str, verb| {
            let Target::Resource(path) = Target::parse(path) else { return "" };
            scope(&path, verb)
        };
        assert_eq!(of("/api/v1/namespaces/a/pods/b", "get"), "resource");
        assert_eq!(of("/api/v1/namespaces/a/pods", "create"), "resource");
        assert_eq!(of("/api/v1/namespaces/a/pods", "list"), "namespace");
        assert_eq!(of("/api/v1/pods", "watch"), "cluster");
        assert_eq!((shown("patch", Some(APPLY)), shown("patch", None)), ("APPLY", "PATCH"));
        assert_eq!((shown("deletecollection", None), shown("", None)), ("DELETECOLLECTION", "other"));
    }
}
