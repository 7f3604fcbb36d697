//! Requests with large bodies take turns, apart from all others.
//!
//! To decode, complete and check a body of 3 MiB can take seconds, and nothing else runs on that thread meanwhile. If it was the one that
//! watches the sockets, and no other thread had a reason to wake, nobody at all is served. So the runtime is told to go on with another
//! thread, and no more threads than there are less one work on such requests at a time.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use tokio::{runtime::Handle, sync::Semaphore};

use crate::long_work;

/// From here on a body is large. What is smaller keeps a thread for a tenth of a second at most.
pub(super) const LARGE_BYTES: usize = 64 << 10;

/// The turns of large requests.
pub(super) struct LargeRequests(Semaphore);

impl LargeRequests {
    /// As many turns as the runtime has threads, but for one; at least one.
    pub(super) fn new() -> Self {
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Self(Semaphore::new(threads.saturating_sub(1).max(1)))
    }

    /// Does work whenever it is this request's turn. While the work waits for something else, others have the turn.
    pub(super) async fn work<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            // It is never closed.
            let turn = self.0.acquire().await;
            let polled =
                poll_fn(|context| Poll::Ready(long_work::apart(|| work.as_mut().poll(context)))).await;
            if let Poll::Ready(done) = polled {
                return done;
            }
            drop(turn);
            // Whatever wakes the work wakes this.
            let mut woken = false;
            poll_fn(|_| if std::mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending })
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
        time::Duration,
    };

    use tokio::{sync::oneshot, task::JoinSet};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_thread_is_left_for_others() {
        let turns = Arc::new(LargeRequests::new());
        let busy = Arc::new(AtomicUsize::new(0));
        let mut requests = JoinSet::new();
        for _ in 0..40 {
            let (turns, busy) = (Arc::clone(&turns), Arc::clone(&busy));
            requests.spawn(async move {
                let work = async {
                    let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
                    thread::sleep(Duration::from_millis(1));
                    busy.fetch_sub(1, Ordering::SeqCst);
                    now
                };
                turns.work(work).await
            });
        }
        let most = requests.join_all().await.into_iter().max();
        assert!(most.is_some_and(|most| most <= 3), "{most:?} at a time");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_are_served_while_one_is_worked_on() {
        let turns = LargeRequests::new();
        let (tell, told) = mpsc::channel();
        let large = tokio::spawn(async move { turns.work(async move { told.recv() }).await });
        let other = tokio::spawn(async move { tell.send(7) });
        assert!(other.await.is_ok_and(|sent| sent.is_ok()));
        assert!(large.await.is_ok_and(|received| received == Ok(7)));
    }

    #[tokio::test]
    async fn who_waits_for_something_else_keeps_nobody_waiting() {
        let turns = LargeRequests::new();
        let (tell, told) = oneshot::channel();
        let first = turns.work(async { told.await.unwrap_or_default() });
        let second = turns.work(async { tell.send(7) });
        let (first, second) = tokio::join!(first, second);
        assert_eq!((first, second), (7, Ok(())));
    }
}
