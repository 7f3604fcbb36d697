//! Tasks and timers for code that also runs in the simulation.
//!
//! Within a tokio runtime they are tokio's. Without one, as in the simulation, tasks stay on the thread that started them and run only when it
//! calls [`turn`]; timers follow [`clock`](crate::clock). The same tasks then run in the same order each time, provided that their
//! `tokio::select!`s are `biased`.
//!
//! A task that panics disappears silently. Work that runs as long as its part is therefore [`supervise`]d, work that is done once is [`finish`]ed,
//! and in a loop over many things each of them is [`caught`].

mod supervise;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::Instant;

pub(crate) use supervise::Failures;
pub use supervise::{Ended, Panicked, caught, caught_here, finish, supervise};

/// Maximum number of rounds of one [`turn`]: tasks that wake each other more often than this loop for ever.
const ROUNDS: u32 = 10_000;

#[derive(Default)]
struct Here {
    tasks: Vec<Task>,
    // Pauses, by their ends; the number tells those of one moment apart.
    pauses: BTreeMap<(Instant, u64), Waker>,
    paused: u64,
}

struct Task {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    static HERE: RefCell<Here> = RefCell::default();
}

/// Spawns a task. If it panics, nobody is told: see [`supervise`].
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(work)),
        Err(_) => HERE.with_borrow_mut(|here| {
            here.tasks.push(Task { work: Box::pin(work), woken: Arc::new(Woken(AtomicBool::new(true))) });
        }),
    }
}

/// Runs blocking work on a separate thread, if there is a runtime.
///
/// # Panics
/// If `work` does.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Ok(runtime) = Handle::try_current() else { return work() };
    match runtime.spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends, and this with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Sleeps.
pub async fn sleep(time: Duration) {
    if Handle::try_current().is_ok() {
        tokio::time::sleep(time).await;
    } else {
        Pause { end: Instant::now() + time, number: None }.await;
    }
}

struct Pause {
    end: Instant,
    number: Option<u64>,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.end {
            return Poll::Ready(());
        }
        let end = self.end;
        HERE.with_borrow_mut(|here| {
            let number = *self.number.get_or_insert_with(|| {
                here.paused += 1;
                here.paused
            });
            here.pauses.insert((end, number), context.waker().clone());
        });
        Poll::Pending
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        let (end, Some(number)) = (self.end, self.number) else { return };
        // Not there any more if all of this thread's are being dropped.
        let _ =
            HERE.try_with(|here| here.try_borrow_mut().map(|mut here| here.pauses.remove(&(end, number))));
    }
}

/// Runs the tasks of this thread until each is waiting, in the order in which they were started. Returns false if they keep waking each other
/// without end.
pub fn turn() -> bool {
    let now = Instant::now();
    HERE.with_borrow_mut(|here| {
        while let Some(pause) = here.pauses.first_entry().filter(|pause| pause.key().0 <= now) {
            pause.remove().wake();
        }
    });
    for _ in 0..ROUNDS {
        // Tasks start tasks, and end pauses.
        let mut tasks = HERE.with_borrow_mut(|here| std::mem::take(&mut here.tasks));
        let mut idle = true;
        tasks.retain_mut(|task| {
            if !task.woken.0.swap(false, Ordering::Relaxed) {
                return true;
            }
            idle = false;
            let waker = Waker::from(task.woken.clone());
            task.work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        });
        HERE.with_borrow_mut(|here| {
            tasks.append(&mut here.tasks);
            here.tasks = tasks;
        });
        if idle {
            return true;
        }
    }
    false
}

/// When the next timer of this thread expires, after which [`turn`] has something to do.
pub fn next() -> Option<Instant> {
    HERE.with_borrow(|here| here.pauses.first_key_value().map(|((end, _), _)| *end))
}

/// Drops every task of this thread, as if the process had been killed.
pub fn clear() {
    let tasks = HERE.with_borrow_mut(|here| std::mem::take(&mut here.tasks));
    drop(tasks);
    HERE.with_borrow_mut(|here| here.pauses.clear());
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;
    use crate::clock::{Time, set};

    fn at(millis: u64) {
        set(Some(Time { running: Duration::from_millis(millis), unix_ms: 0 }));
        assert!(turn());
    }

    #[test]
    fn without_a_runtime_a_task_goes_on_when_its_thread_is_turned_and_its_time_has_come() {
        let count = Arc::new(AtomicU32::new(0));
        at(0);
        for wait in [5, 9] {
            let count = count.clone();
            spawn(async move {
                sleep(Duration::from_millis(wait)).await;
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        for (millis, done) in [(0, 0), (4, 0), (5, 1), (8, 1), (9, 2), (99, 2)] {
            at(millis);
            assert_eq!(count.load(Ordering::Relaxed), done, "at {millis}");
        }
        assert_eq!(next(), None);
        set(None);
    }

    #[test]
    fn tasks_wake_each_other_within_one_turn_and_end_where_they_are() {
        let (turn, count) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
        at(0);
        let (own, counted) = (turn.clone(), count.clone());
        spawn(async move {
            loop {
                own.notified().await;
                counted.fetch_add(1, Ordering::Relaxed);
                let next_turn = own.clone();
                spawn(async move {
                    sleep(Duration::from_millis(3)).await;
                    next_turn.notify_one();
                });
            }
        });
        turn.notify_one();
        at(1);
        assert!(next().is_some_and(|next| next.saturating_duration_since(Instant::now()).as_millis() == 3));
        at(4);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        clear();
        at(9);
        assert_eq!((count.load(Ordering::Relaxed), next()), (2, None));
        set(None);
    }
}
