//! The API server's metrics, under Kubernetes' own names.

use std::time::Duration;

use federation_runtime::endpoints::Metrics as Registry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) code: u16,
}

/// The verb of a latency series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

/// Counters of the HTTP side.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    seconds: Family<VerbLabels, Histogram>,
    watches: Gauge,
}

/// Counts a watch for as long as it lives.
pub(crate) struct Watching(Gauge);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new([
                    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
                ])
            }),
            watches: Gauge::default(),
        };
        registry.register(|registry| {
            registry.register(
                "apiserver_request",
                "Requests by verb, resource and code",
                metrics.requests.clone(),
            );
            registry.register(
                "apiserver_request_duration_seconds",
                "Time from the request's head to the answer's, watches apart",
                metrics.seconds.clone(),
            );
            registry.register("apiserver_registered_watchers", "Open watches", metrics.watches.clone());
        });
        metrics
    }

    pub(crate) fn answered(&self, labels: Labels, took: Duration) {
        if labels.verb != "watch" {
            self.seconds.get_or_create(&VerbLabels { verb: labels.verb }).observe(took.as_secs_f64());
        }
        self.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn watch_started(&self) -> Watching {
        self.watches.inc();
        Watching(self.watches.clone())
    }
}
