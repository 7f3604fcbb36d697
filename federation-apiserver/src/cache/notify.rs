//! Wakes the watchers of a resource when it changes.
//!
//! A thousand watchers hear of each write, so what one of them costs counts a thousandfold: each has a place of its own for its waker, which
//! it sets without a look at the others, and whoever notifies holds no lock that a watcher needs to wait again.

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
pub(super) struct Notifier {
    newest: AtomicU64,
    subscriptions: RwLock<Subscriptions>,
}

/// In the order in which they came.
#[derive(Default)]
struct Subscriptions {
    next: u64,
    all: BTreeMap<u64, Arc<AtomicWaker>>,
}

impl Notifier {
    /// The highest number that was told.
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::SeqCst)
    }

    /// Tells a number, and wakes all who wait if it is the highest so far.
    pub(super) fn notify(&self, number: u64) {
        if self.newest.fetch_max(number, Ordering::SeqCst) < number {
            // What is woken may be the last to hold somebody who listened, and who wants the lock when he goes.
            let subscriptions: Vec<_> = self.subscriptions.read().all.values().cloned().collect();
            for subscription in &subscriptions {
                subscription.wake();
            }
        }
    }

    pub(super) fn subscribe(&self) -> Subscription {
        let waker = Arc::new(AtomicWaker::new());
        let mut subscriptions = self.subscriptions.write();
        let id = subscriptions.next;
        subscriptions.next += 1;
        subscriptions.all.insert(id, Arc::clone(&waker));
        Subscription { id, waker }
    }

    /// Forgets one who listened.
    pub(super) fn unsubscribe(&self, subscription: &Subscription) {
        self.subscriptions.write().all.remove(&subscription.id);
    }
}

/// One who listens.
pub(super) struct Subscription {
    id: u64,
    waker: Arc<AtomicWaker>,
}

impl Subscription {
    /// Has the next notification wake `waker`. What was told before this returned may not: look at [`Notifier::newest`] afterwards.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
