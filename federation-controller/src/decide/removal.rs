//! The gate's driver: gathers the circumstances, asks, and counts the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use federation_core::gate::{
    self, Budget, Cause, Circumstances, Permit, Refusal, Removal, Replacement, Source, Subject,
};

use crate::metrics::Metrics;
use crate::observe::Key;

/// Older knowledge than a watch's own time-out is none.
const MAX_SOURCE_AGE_MS: i64 = 300_000;

/// Asks for permits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate {
    sequence: Arc<AtomicU64>,
    metrics: Metrics,
}

impl Gate {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { sequence: Arc::default(), metrics }
    }

    /// Asks for a copy's removal. `epochs` are the removal's and that of the newest decision for the object.
    #[expect(clippy::too_many_arguments, reason = "each is one question of the gate")]
    pub(crate) fn ask(
        &self,
        key: &Key,
        cluster: &str,
        cause: Cause,
        replacement: Replacement,
        (epoch, newest): (u64, u64),
        synced: bool,
        frozen: Option<String>,
    ) -> Result<Permit, Refusal> {
        let removal = Removal {
            subject: if key.kind.is_namespace() { Subject::Namespace } else { Subject::Copy },
            cluster: cluster.to_owned(),
            object: format!("{} {}/{}", key.kind.kind, key.namespace, key.name),
            cause,
            epoch,
        };
        let circumstances = Circumstances {
            frozen,
            epoch: newest,
            // Every watch runs, or the view counts as not synced.
            source: if synced { Source::Synced { age_ms: 0 } } else { Source::Unsynced },
            max_source_age_ms: MAX_SOURCE_AGE_MS,
            replacement,
            budget: Budget { used: 0, limit: None },
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
        };
        let answer = gate::permit(&removal, &circumstances);
        match &answer {
            Ok(_) => Metrics::count(&self.metrics.permits, "permitted"),
            Err(refusal) => Metrics::count(&self.metrics.permits, &refusal.rule.to_string()),
        }
        answer
    }
}
