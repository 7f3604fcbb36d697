//! Wakes the watchers of a resource when it changes.
//!
//! A thousand watchers hear of each write, so what one of them costs counts a thousandfold: each has a place of its own for his waker, which
//! he sets without a look at the others, and whoever rings holds no lock that a watcher needs to wait again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use futures::task::AtomicWaker;
use parking_lot::RwLock;

/// Told of rising numbers.
#[derive(Default)]
pub(super) struct Bell {
    newest: AtomicU64,
    ears: RwLock<Ears>,
}

/// In the order in which they came.
#[derive(Default)]
struct Ears {
    next: u64,
    all: BTreeMap<u64, Arc<AtomicWaker>>,
}

impl Bell {
    /// The highest number that was told.
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// Tells a number, and wakes all who wait if it is the highest so far.
    pub(super) fn ring(&self, number: u64) {
        if self.newest.fetch_max(number, Ordering::SeqCst) < number {
            // What is woken may be the last to hold somebody who listened, and who wants the lock when he goes.
            let ears: Vec<_> = self.ears.read().all.values().cloned().collect();
            for ear in &ears {
                ear.wake();
            }
        }
    }

    pub(super) fn listen(&self) -> Ear {
        let waker = Arc::new(AtomicWaker::new());
        let mut ears = self.ears.write();
        let id = ears.next;
        ears.next += 1;
        ears.all.insert(id, Arc::clone(&waker));
        Ear { id, waker }
    }

    /// Forgets one who listened.
    pub(super) fn forget(&self, ear: &Ear) {
        self.ears.write().all.remove(&ear.id);
    }
}

/// One who listens.
pub(super) struct Ear {
    id: u64,
    waker: Arc<AtomicWaker>,
}

impl Ear {
    /// Has the next ring wake `waker`. What was told before this returned may not: look at [`Bell::newest`] afterwards.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
