//! The workers of the queue.

use std::sync::Arc;
use std::time::Duration;

use federation_runtime::endpoints::Health as Readiness;
use federation_runtime::errors::Chain;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use parking_lot::Mutex;

use super::initial_sync::InitialSync;
use super::queue::Priority;
use super::reconcile::{Error, Looked, Reconciler};
use crate::act::write::{self, WRITES};
use crate::observe::Key;

/// Workers: as many as there may be writes in flight.
pub(crate) const WORKERS: usize = WRITES;
/// After a failure that is not a conflict.
const AGAIN: Duration = Duration::from_millis(500);
/// After a conflict: the watch tells of the newer object within this time, and asks anew by itself.
const AFTER_CONFLICT: Duration = Duration::from_millis(20);

/// How often it is looked whether the initial sync is over.
const LOOK: Duration = Duration::from_millis(50);

type Initial = Arc<Mutex<Option<InitialSync<Key>>>>;

/// Starts the workers. When everything that there was when the views became whole has been worked on, everything that is wanted was given to
/// the sessions.
pub(crate) fn start(reconciler: Reconciler, workers: usize, readiness: &Readiness, shutdown: &Shutdown) {
    let initial: Initial = Arc::new(Mutex::new(Some(InitialSync::default())));
    for _ in 0..workers {
        let (reconciler, initial, ending) = (reconciler.clone(), initial.clone(), shutdown.clone());
        let begin = move || work(reconciler.clone(), initial.clone(), ending.clone());
        tasks::spawn(tasks::supervise("reconcile", readiness.clone(), shutdown.clone(), begin));
    }
    let ending = shutdown.clone();
    let begin = move || complete(reconciler.clone(), initial.clone(), ending.clone());
    tasks::spawn(tasks::finish("initial-sync", readiness.clone(), shutdown.clone(), begin));
}

async fn work(reconciler: Reconciler, initial: Initial, shutdown: Shutdown) {
    let (reconciler, initial) = (&reconciler, &initial);
    let look = |key: Key| async move {
        reconciler.metrics.queue_depth.set(reconciler.queue.depth() as i64);
        // One that panics each time must not keep the initial sync from ending.
        let worked = tasks::caught("reconcile", reconciler.reconcile(&key)).await;
        let worked = worked.map_err(Error::Panicked).flatten();
        if let Some(initial) = initial.lock().as_mut() {
            match &worked {
                Ok(Looked::Done) | Err(Error::Write(write::Error::Gone(_))) => initial.worked(&key),
                // It comes back by itself.
                Ok(Looked::Waits) | Err(Error::Write(write::Error::Conflict(_))) => {}
                Err(_) => initial.failed(&key),
            }
        }
        match worked {
            Ok(_) | Err(Error::Write(write::Error::Gone(_))) => {}
            Err(Error::Write(write::Error::Conflict(_))) => {
                reconciler.queue.add_after(key, Priority::Normal, AFTER_CONFLICT);
            }
            Err(error) => {
                tracing::warn!(%key, error = %Chain(&error), "an object could not be worked on: again soon");
                reconciler.queue.add_after(key, Priority::Background, AGAIN);
            }
        }
    };
    reconciler.queue.work("reconcile", &shutdown, look).await;
}

/// Tells the sessions once that everything that is wanted was given: before that, nothing that an agent holds is called a stray.
async fn complete(reconciler: Reconciler, initial: Initial, shutdown: Shutdown) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tasks::sleep(LOOK) => {}
        }
        if !reconciler.world.is_synced() {
            continue;
        }
        let left = match initial.lock().as_mut() {
            Some(initial) if !initial.has_begun() => {
                let all = reconciler.world.keys().into_iter().chain(reconciler.world.decided_keys());
                initial.begin(all, reconciler.queue.keys())
            }
            Some(initial) if !initial.is_over() => continue,
            _ => break,
        };
        // What waits for its moment, after a failure, is looked at now.
        for key in left {
            reconciler.queue.add(key, Priority::Background);
        }
    }
    *initial.lock() = None;
    reconciler.sessions.complete();
    tracing::info!("everything that is wanted was given to the sessions");
}
