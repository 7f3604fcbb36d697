//! When each watch was last heard: the gate permits no removal on a stale view.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use federation_runtime::clock::Instant;
use parking_lot::Mutex;

/// The ages of all watches. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Freshness(Arc<Inner>);

struct Inner {
    started: Instant,
    watches: Mutex<Vec<Arc<AtomicU64>>>,
}

/// Notes the words of one watch.
#[derive(Clone)]
pub(crate) struct Heard {
    started: Instant,
    // Milliseconds after `started`.
    at: Arc<AtomicU64>,
}

impl Default for Freshness {
    fn default() -> Self {
        Self(Arc::new(Inner { started: Instant::now(), watches: Mutex::default() }))
    }
}

impl Freshness {
    /// One more watch, heard of just now.
    pub(crate) fn watch(&self) -> Heard {
        let heard = Heard { started: self.0.started, at: Arc::default() };
        heard.now();
        self.0.watches.lock().push(heard.at.clone());
        heard
    }

    /// Milliseconds since the word of the watch that has been silent the longest.
    pub(crate) fn age_ms(&self) -> i64 {
        let now = self.0.started.elapsed().as_millis() as u64;
        let oldest = self.0.watches.lock().iter().map(|at| at.load(Ordering::Relaxed)).min().unwrap_or(now);
        now.saturating_sub(oldest) as i64
    }
}

impl Heard {
    /// The watch said something.
    pub(crate) fn now(&self) {
        self.at.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_that_is_silent_the_longest_tells_the_age() {
        let freshness = Freshness::default();
        let (silent, talks) = (freshness.watch(), freshness.watch());
        while freshness.age_ms() < 5 {
            talks.now();
        }
        assert!(freshness.age_ms() >= 5);
        silent.now();
        talks.now();
        assert!(freshness.age_ms() < 5);
    }
}
