//! Publishes a new snapshot to the answering threads, and tells when the last of them uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::compile::Snapshot;

/// A reader that waits for packets: it will look before it answers.
const IDLE: u64 = u64::MAX;
/// How often [`Published::settled`] looks. A batch takes some 0.1 ms.
const POLL: Duration = Duration::from_millis(1);

/// The newest snapshot.
#[derive(Debug)]
pub struct Published {
    // Rises with each publication, be its epoch new or not.
    generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
    // Generation that each reader's current batch is answered from, or IDLE.
    readers: Mutex<Vec<Arc<AtomicU64>>>,
}

/// One thread's view.
#[derive(Debug)]
pub struct Reader {
    published: Arc<Published>,
    snapshot: Arc<Snapshot>,
    generation: u64,
    state: Arc<AtomicU64>,
}

impl Published {
    /// Starts with `snapshot`.
    pub fn new(snapshot: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            generation: AtomicU64::new(0),
            snapshot: ArcSwap::from_pointee(snapshot),
            readers: Mutex::default(),
        })
    }

    /// Replaces the snapshot. Readers take it with their next batch.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        // After the snapshot, so that whoever sees the new generation finds the new snapshot.
        self.generation.fetch_add(1, SeqCst);
    }

    /// The newest snapshot, for readers that are not threads.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Waits until no reader is in the midst of a batch from an older snapshot than the newest at the time of the call.
    pub async fn settled(&self) {
        let generation = self.generation.load(SeqCst);
        loop {
            // IDLE is greater than every generation.
            let behind = self.readers.lock().iter().any(|state| state.load(SeqCst) < generation);
            if !behind {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// One more thread.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let state = Arc::new(AtomicU64::new(IDLE));
        self.readers.lock().push(state.clone());
        Reader { published: self.clone(), snapshot: self.snapshot(), generation: 0, state }
    }
}

impl Reader {
    /// The snapshot for one batch: one atomic load when nothing has changed.
    ///
    /// The state is announced before the generation is read, and the publisher writes the generation before it reads states
    /// (both in one total order): either we see the new generation here, or the publisher sees us busy with the old one.
    #[inline]
    pub fn enter(&mut self) -> &Snapshot {
        self.state.store(self.generation, SeqCst);
        let newest = self.published.generation.load(SeqCst);
        if newest != self.generation {
            self.snapshot = self.published.snapshot();
            self.generation = newest;
            self.state.store(newest, SeqCst);
        }
        &self.snapshot
    }

    /// The batch is answered.
    #[inline]
    pub fn leave(&mut self) {
        self.state.store(IDLE, SeqCst);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.leave();
        self.published.readers.lock().retain(|state| !Arc::ptr_eq(state, &self.state));
    }
}
