//! The workers of the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use federation_runtime::errors::Chain;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;

use super::queue::Priority;
use super::reconcile::{Error, Reconciler};
use crate::act::write::{self, WRITES};

/// Workers: as many as there may be writes in flight.
pub(crate) const WORKERS: usize = WRITES;
/// After a failure that is not a conflict.
const AGAIN: Duration = Duration::from_millis(500);
/// After a conflict: the watch tells of the newer object within this time, and asks anew by itself.
const AFTER_CONFLICT: Duration = Duration::from_millis(20);

/// Starts the workers. When the queue has once been empty after the views were whole, everything that is wanted was given to the sessions.
pub(crate) fn start(reconciler: Reconciler, workers: usize, shutdown: &Shutdown) {
    let busy = Arc::new(AtomicUsize::new(0));
    for _ in 0..workers {
        tasks::spawn(work(reconciler.clone(), busy.clone(), shutdown.clone()));
    }
    tasks::spawn(complete(reconciler, busy, shutdown.clone()));
}

async fn work(reconciler: Reconciler, busy: Arc<AtomicUsize>, shutdown: Shutdown) {
    loop {
        let key = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            key = reconciler.queue.take() => key,
        };
        busy.fetch_add(1, Ordering::SeqCst);
        reconciler.metrics.queue_depth.set(reconciler.queue.depth() as i64);
        if let Err(error) = reconciler.reconcile(&key).await {
            match &error {
                Error::Write(write::Error::Conflict(_)) => {
                    reconciler.queue.add_after(key.clone(), Priority::Normal, AFTER_CONFLICT);
                }
                Error::Write(write::Error::Gone(_)) => {}
                _ => {
                    tracing::warn!(%key, error = %Chain(&error), "an object could not be worked on: again soon");
                    reconciler.queue.add_after(key.clone(), Priority::Background, AGAIN);
                }
            }
        }
        reconciler.queue.done(&key);
        busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Tells the sessions once that everything that is wanted was given: before that, nothing that an agent holds is called a stray.
async fn complete(reconciler: Reconciler, busy: Arc<AtomicUsize>, shutdown: Shutdown) {
    let mut quiet = 0;
    while quiet < 3 {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tasks::sleep(Duration::from_millis(50)) => {}
        }
        let idle =
            reconciler.world.is_synced() && reconciler.queue.depth() == 0 && busy.load(Ordering::SeqCst) == 0;
        quiet = if idle { quiet + 1 } else { 0 };
    }
    reconciler.sessions.complete();
    tracing::info!("everything that is wanted was given to the sessions");
}
