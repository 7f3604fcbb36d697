//! The gate's driver: gathers the circumstances, asks, and counts the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use federation_core::gate::{
    self, Budget, Cause, Circumstances, Permit, Refusal, Removal, Replacement, Source, Subject,
};
use parking_lot::Mutex;

use crate::metrics::Metrics;
use crate::observe::Key;

/// A watch says something at least this often: the API server ends it after 280 s, and a new one is a word too. Older is none.
const MAX_SOURCE_AGE_MS: i64 = 300_000;
/// Removals that nobody asked for by name, because a policy was edited: so many in one [`WINDOW`]. Far above what is edited by hand at
/// once, and a policy that was mistaken about 10,000 objects leaves ten minutes to notice. Deletes and unjoins name what shall go.
const BUDGET: u64 = 1000;
const WINDOW: Duration = Duration::from_secs(60);

/// One question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) key: &'a Key,
    pub(crate) cluster: &'a str,
    pub(crate) cause: Cause,
    pub(crate) replacement: Replacement,
    /// The removal's epoch.
    pub(crate) epoch: u64,
    /// Epoch of the newest decision for the object.
    pub(crate) decided: u64,
}

/// Asks for permits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    sequence: AtomicU64,
    // When the window began, and the permits in it that count.
    window: Mutex<(Instant, u64)>,
    metrics: Metrics,
}

impl Gate {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            sequence: AtomicU64::new(0),
            window: Mutex::new((Instant::now(), 0)),
            metrics,
        }))
    }

    /// Asks for a copy's removal.
    pub(crate) fn ask(
        &self,
        asked: &Asked<'_>,
        source: Source,
        frozen: Option<String>,
    ) -> Result<Permit, Refusal> {
        let key = asked.key;
        let removal = Removal {
            subject: if key.kind.is_namespace() { Subject::Namespace } else { Subject::Copy },
            cluster: asked.cluster.to_owned(),
            object: format!("{} {}/{}", key.kind.kind, key.namespace, key.name),
            cause: asked.cause,
            epoch: asked.epoch,
        };
        let by_name = matches!(asked.cause, Cause::Deleted | Cause::Unjoined);
        let mut window = self.0.window.lock();
        if window.0.elapsed() >= WINDOW {
            *window = (Instant::now(), 0);
        }
        let circumstances = Circumstances {
            frozen,
            epoch: asked.decided,
            source,
            max_source_age_ms: MAX_SOURCE_AGE_MS,
            replacement: asked.replacement,
            budget: Budget { used: window.1, limit: (!by_name).then_some(BUDGET) },
            sequence: self.0.sequence.fetch_add(1, Ordering::Relaxed),
        };
        let answer = gate::permit(&removal, &circumstances);
        match &answer {
            Ok(_) => {
                window.1 += u64::from(!by_name);
                Metrics::count(&self.0.metrics.permits, "permitted");
            }
            Err(refusal) => Metrics::count(&self.0.metrics.permits, &refusal.rule.to_string()),
        }
        answer
    }
}
