//! A connection that wakes itself.
//!
//! hyper hands a request's body from the one half of a connection to the other, which has the task wake itself in the midst of each request that
//! has one. To the scheduler that is a task that yields: it goes to the end of the queue, and another worker is woken to help,
//! whose core the client may be running on. So a connection that was woken while it was polled is polled again at once.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::task::{ArcWake, AtomicWaker, waker};

/// Nobody has woken it since the future was last polled.
const QUIET: u8 = 0;
/// It is being polled.
const POLLING: u8 = 1;
/// Somebody has woken it: it is polled again.
const WOKEN: u8 = 2;

/// Polls in a row. A connection that still wakes itself then lets other tasks run.
const POLLS_MAX: usize = 4;

/// Polls a future, and again where it woke itself.
pub(super) struct SelfWake {
    inner: Arc<InnerWaker>,
    waker: Waker,
}

#[derive(Default)]
struct InnerWaker {
    state: AtomicU8,
    task: AtomicWaker,
}

impl ArcWake for InnerWaker {
    fn wake_by_ref(this: &Arc<Self>) {
        // A poll that is under way sees it at its end, and who was woken already is not woken again.
        if this.state.swap(WOKEN, Ordering::AcqRel) == QUIET {
            this.task.wake();
        }
    }
}

impl SelfWake {
    pub(super) fn new() -> Self {
        let inner = Arc::new(InnerWaker::default());
        Self { waker: waker(Arc::clone(&inner)), inner }
    }

    pub(super) fn poll<F: Future>(&self, mut future: Pin<&mut F>, context: &Context<'_>) -> Poll<F::Output> {
        self.inner.task.register(context.waker());
        let mut own = Context::from_waker(&self.waker);
        for _ in 0..POLLS_MAX {
            // This poll sees whatever it was woken for until here.
            self.inner.state.swap(POLLING, Ordering::AcqRel);
            if let Poll::Ready(output) = future.as_mut().poll(&mut own) {
                return Poll::Ready(output);
            }
            let quiet =
                self.inner.state.compare_exchange(POLLING, QUIET, Ordering::AcqRel, Ordering::Acquire);
            if quiet.is_ok() {
                return Poll::Pending;
            }
        }
        // A task that wakes itself as it is runs on dozens of times before the sockets are looked at. This wakes it after they were.
        let after = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(context.waker()));
        if after.is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicBool, AtomicUsize},
    };

    use tokio::{io::AsyncReadExt as _, net::UnixStream};

    use super::*;

    /// How often the task was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(this: &Arc<Self>) {
            this.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once, as a task does, what wakes itself in each of its first `wakes` polls and is done in the one after `until`: the outcome, how often
    /// it was polled, and how often the task was woken.
    fn polled(wakes: usize, until: usize) -> (Poll<()>, usize, usize) {
        let (own, woken) = (SelfWake::new(), Arc::new(Woken::default()));
        let mut polls = 0;
        let future = pin!(poll_fn(|context| {
            polls += 1;
            if polls <= wakes {
                context.waker().wake_by_ref();
            }
            if polls > until { Poll::Ready(()) } else { Poll::Pending }
        }));
        let outcome = own.poll(future, &Context::from_waker(&waker(Arc::clone(&woken))));
        (outcome, polls, woken.0.load(Ordering::SeqCst))
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_the_scheduler_hears_nothing_of_it() {
        assert_eq!(polled(1, 1), (Poll::Ready(()), 2, 0));
        assert_eq!(polled(2, 9), (Poll::Pending, 3, 0));
        assert_eq!(polled(0, 9), (Poll::Pending, 1, 0));
    }

    #[test]
    fn what_wakes_itself_without_an_end_gives_way_and_is_polled_later() {
        assert_eq!(polled(usize::MAX, usize::MAX), (Poll::Pending, POLLS_MAX, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn sockets_are_looked_at_while_it_wakes_itself() {
        /// Far fewer polls than a task gets that wakes itself without looking at them.
        const SOON: usize = 12 * POLLS_MAX;
        let (mut here, there) = UnixStream::pair().expect("two sockets");
        there.writable().await.expect("there is room");
        let heard = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&heard);
        let other = tokio::spawn(async move {
            let read = here.read_u8().await;
            told.store(true, Ordering::SeqCst);
            read
        });
        let restless = tokio::spawn(async move {
            let (own, mut polls) = (SelfWake::new(), 0);
            let mut future = pin!(poll_fn(|context| {
                if polls == 0 {
                    assert_eq!(there.try_write(&[7]).expect("there is room"), 1);
                }
                polls += 1;
                context.waker().wake_by_ref();
                if polls == SOON || heard.load(Ordering::SeqCst) { Poll::Ready(polls) } else { Poll::Pending }
            }));
            poll_fn(|context| own.poll(future.as_mut(), context)).await
        });
        assert!(restless.await.expect("it ends") < SOON);
        assert!(other.await.is_ok_and(|read| read.is_ok_and(|byte| byte == 7)));
    }

    #[test]
    fn who_wakes_it_twice_between_two_polls_wakes_the_task_once() {
        let (own, woken) = (SelfWake::new(), Arc::new(Woken::default()));
        let task = waker(Arc::clone(&woken));
        let mut kept = None;
        let mut future = pin!(poll_fn(|context| {
            kept = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        assert!(own.poll(future.as_mut(), &Context::from_waker(&task)).is_pending());
        let caller = own.waker.clone();
        caller.wake_by_ref();
        caller.wake_by_ref();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(own.poll(future.as_mut(), &Context::from_waker(&task)).is_pending());
        caller.wake_by_ref();
        assert_eq!(woken.0.load(Ordering::SeqCst), 2, "what was looked at was forgotten");
    }
}
