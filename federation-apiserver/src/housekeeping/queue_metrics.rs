//! What is counted of housekeeping's work, under the names that the queues of Kubernetes' controllers have.

use std::{fmt, time::Duration};

use federation_runtime::endpoints::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    name: &'static str,
}

const QUEUE: Queue = Queue { name: "housekeeping" };

/// The counters. Clones share them.
#[derive(Clone)]
pub struct QueueMetrics {
    added: Family<Queue, Counter>,
    depth: Family<Queue, Gauge>,
    retried: Family<Queue, Counter>,
    waited: Family<Queue, Histogram, fn() -> Histogram>,
    worked: Family<Queue, Histogram, fn() -> Histogram>,
}

impl fmt::Debug for QueueMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Work")
    }
}

/// From ten nanoseconds to a thousand seconds, as in Kubernetes.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(1e-8, 10.0, 12))
}

impl Default for QueueMetrics {
    fn default() -> Self {
        Self {
            added: Family::default(),
            depth: Family::default(),
            retried: Family::default(),
            waited: Family::new_with_constructor(histogram),
            worked: Family::new_with_constructor(histogram),
        }
    }
}

impl QueueMetrics {
    /// Counters that somebody can read.
    pub fn register(metrics: &Metrics) -> Self {
        let work = Self::default();
        metrics.register(|registry| {
            registry.register(
                "workqueue_adds",
                "Actions of housekeeping that were decided",
                work.added.clone(),
            );
            registry.register("workqueue_depth", "Actions that are not done yet", work.depth.clone());
            registry.register(
                "workqueue_retries",
                "Actions that failed, and are decided anew",
                work.retried.clone(),
            );
            registry.register(
                "workqueue_queue_duration_seconds",
                "Time from an action's decision to its begin",
                work.waited.clone(),
            );
            registry.register(
                "workqueue_work_duration_seconds",
                "Time that an action took",
                work.worked.clone(),
            );
        });
        work
    }

    pub(super) fn add(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.added.get_or_create(&QUEUE).inc_by(count);
        self.depth.get_or_create(&QUEUE).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn begun(&self, waited: Duration) {
        self.waited.get_or_create(&QUEUE).observe(waited.as_secs_f64());
    }

    pub(super) fn done(&self, took: Duration, well: bool) {
        self.depth.get_or_create(&QUEUE).dec();
        self.worked.get_or_create(&QUEUE).observe(took.as_secs_f64());
        if !well {
            self.retried.get_or_create(&QUEUE).inc();
        }
    }
}
