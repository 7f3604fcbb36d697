//! Tasks whose end is seen: a panic, or an end before the shutdown, is logged, counted, and survived.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tokio::runtime::Handle;

use super::sleep;
use crate::endpoints::Health;
use crate::shutdown::Shutdown;

/// How long what failed is left alone before it is started anew, and how long it must then run to count as well: what fails at once
/// each time stays unready, and takes little of the machine.
const ANEW: Duration = Duration::from_secs(1);
/// What fails again and again before it counts as well is left alone twice as long each time, and at most so long.
const ANEW_AT_MOST: Duration = Duration::from_secs(30);

/// How often each part of this process has failed. Parts are as many as there are names in the code.
static FAILURES: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// What the end of supervised work means, unless the shutdown has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was to go on.
    TooSoon,
    /// It is done.
    Done,
}

impl From<()> for Ended {
    fn from((): ()) -> Self {
        Self::TooSoon
    }
}

/// Runs what `start` makes as long as its part runs, or until it is [`Ended::Done`]. If it panics, or ends before `shutdown` has started, that
/// is logged and counted, the check `part` of `health` fails meanwhile, and `start` is called again after a second, or later if it fails again
/// at once. Several of one name share the check, which fails while one of them does. Without a runtime, as in a simulation, a panic is everybody's.
pub async fn supervise<W: Future<Output: Into<Ended>>>(
    part: &'static str,
    health: Health,
    shutdown: Shutdown,
    mut start: impl FnMut() -> W,
) {
    if Handle::try_current().is_err() {
        start().await;
        return;
    }
    // Who looks at the metric sees that there is none yet.
    FAILURES.lock().entry(part).or_default();
    let check = health.share(part);
    let mut pause = ANEW;
    let mut down = false;
    loop {
        let mut work = pin!(caught(part, start()));
        let early = if down {
            tokio::select! {
                biased;
                ended = &mut work => Some(ended),
                () = sleep(ANEW) => None,
            }
        } else {
            None
        };
        let ended = match early {
            Some(ended) => ended,
            None => {
                if down {
                    tracing::info!(part, "what had failed runs again");
                    check.ready();
                    (down, pause) = (false, ANEW);
                }
                work.await
            }
        };
        let why = match ended.map(Into::into) {
            Ok(Ended::TooSoon) if !shutdown.started() => {
                count(part);
                "it ended by itself".to_owned()
            }
            Ok(Ended::TooSoon | Ended::Done) => {
                if down {
                    check.ready();
                }
                return;
            }
            Err(panicked) => panicked.to_string(),
        };
        tracing::error!(part, why, "a part failed: it is started anew");
        check.wait_for(format!("it is started anew: {why}"));
        down = true;
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(ANEW_AT_MOST);
    }
}

/// The same for what is to end once by itself.
pub async fn finish<W: Future<Output = ()>>(
    part: &'static str,
    health: Health,
    shutdown: Shutdown,
    mut start: impl FnMut() -> W,
) {
    let once = || {
        let work = start();
        async move {
            work.await;
            Ended::Done
        }
    };
    supervise(part, health, shutdown, once).await;
}

/// Something panicked, and is counted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("it panicked: {0}")]
pub struct Panicked(String);

/// One piece of a part's work, whose panic is no end of the others. Whoever gets that says it, and what becomes of the piece. Without a runtime a
/// panic is everybody's.
///
/// # Errors
/// If it panics: it is dropped, and what it has locked is free.
pub async fn caught<T>(part: &'static str, work: impl Future<Output = T>) -> Result<T, Panicked> {
    if Handle::try_current().is_err() {
        return Ok(work.await);
    }
    let mut work = pin!(work);
    // What panicked is never polled again.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panicked(part, &*panic))),
    })
    .await
}

/// The same on a thread of its own.
///
/// # Errors
/// If it panics.
pub fn caught_here<T>(part: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(part, &*panic))
}

fn panicked(part: &'static str, panic: &(dyn Any + Send)) -> Panicked {
    count(part);
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    Panicked(
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it said nothing".into()),
    )
}

fn count(part: &'static str) {
    *FAILURES.lock().entry(part).or_default() += 1;
}

/// The collector of what has failed in this process.
#[derive(Debug)]
pub(crate) struct Failures;

impl Collector for Failures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = "federation_task_failures";
        let help = "Panics, and ends before the shutdown, of what runs for long, by task";
        let failures = FAILURES.lock().clone();
        if failures.is_empty() {
            return Ok(());
        }
        let mut all = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (part, count) in failures {
            ConstCounter::new(count).encode(all.encode_family(&[("task", part)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::endpoints::Metrics;

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The line of a task in `/metrics`.
    fn failures(task: &str) -> Option<String> {
        let name = format!("federation_task_failures_total{{task=\"{task}\"}} ");
        Metrics::new().encode().lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned))
    }

    #[tokio::test(start_paused = true)]
    async fn what_panics_is_unready_and_started_anew_until_it_runs() {
        let (health, shutdown, runs) = (Health::new(), Shutdown::new(), Arc::new(AtomicU32::new(0)));
        let (counted, end) = (runs.clone(), shutdown.clone());
        let start = move || {
            let (run, end) = (counted.fetch_add(1, Ordering::Relaxed), end.clone());
            async move {
                tokio::task::yield_now().await;
                assert!(run > 1, "run {run} fails");
                end.wait().await;
            }
        };
        let supervised = tokio::spawn(supervise("keeper", health.clone(), shutdown.clone(), start));
        until(|| !health.is_ready()).await;
        let told = health.checks().into_iter().find_map(|(part, why)| why.filter(|_| part == "keeper"));
        assert!(told.is_some_and(|why| why.starts_with("it is started anew: it panicked: run ")));
        until(|| health.is_ready()).await;
        assert_eq!(runs.load(Ordering::Relaxed), 3, "it is not ready in between");
        assert_eq!(failures("keeper").as_deref(), Some("2"));
        shutdown.start();
        supervised.await.expect("it ends with the shutdown");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_dropped_while_it_fails_fails_no_more() {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let mut run = 0;
        let start = move || {
            run += 1;
            async move { assert!(run == 0, "run {run} fails") }
        };
        let supervised = tokio::spawn(supervise("dropped", health.clone(), shutdown, start));
        until(|| !health.is_ready()).await;
        supervised.abort();
        until(|| health.is_ready()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_a_name_that_runs_again_says_nothing_of_another_that_does_not() {
        let (health, shutdown) = (Health::new(), Shutdown::new());
        let fails = |bad: u32| {
            let (end, mut run) = (shutdown.clone(), 0);
            move || {
                run += 1;
                let (end, run) = (end.clone(), run);
                async move {
                    assert!(run > bad, "run {run} fails");
                    end.wait().await;
                }
            }
        };
        let start = |bad| tokio::spawn(supervise("twin", health.clone(), shutdown.clone(), fails(bad)));
        let (once, always) = (start(1), start(u32::MAX));
        until(|| failures("twin").as_deref() == Some("2") && !health.is_ready()).await;
        // The one has run for long enough to count as well before the other fails for the third time.
        until(|| {
            assert!(!health.is_ready());
            failures("twin").as_deref() == Some("4")
        })
        .await;
        shutdown.start();
        for ended in [once, always] {
            ended.await.expect("it ends with the shutdown");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_before_the_shutdown_is_started_anew_as_if_it_had_panicked() {
        let (health, shutdown, runs) = (Health::new(), Shutdown::new(), Arc::new(AtomicU32::new(0)));
        let (counted, end) = (runs.clone(), shutdown.clone());
        let start = move || {
            let (run, end) = (counted.fetch_add(1, Ordering::Relaxed), end.clone());
            async move {
                if run > 0 {
                    end.wait().await;
                }
            }
        };
        let supervised = tokio::spawn(supervise("quitter", health.clone(), shutdown.clone(), start));
        until(|| !health.is_ready()).await;
        until(|| health.is_ready()).await;
        assert_eq!((runs.load(Ordering::Relaxed), failures("quitter").as_deref()), (2, Some("1")));
        shutdown.start();
        supervised.await.expect("it ends with the shutdown");
        assert_eq!(failures("quitter").as_deref(), Some("1"), "an end in time is none");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_to_be_done_once_is_tried_until_it_is_and_nothing_is_started_anew_at_the_end() {
        let (health, shutdown, runs) = (Health::new(), Shutdown::new(), Arc::new(AtomicU32::new(0)));
        let fails_at = |bad: u32| {
            let runs = runs.clone();
            move || {
                let run = runs.fetch_add(1, Ordering::Relaxed);
                async move { assert!(run != bad, "run {run} fails") }
            }
        };
        finish("errand", health.clone(), shutdown.clone(), fails_at(0)).await;
        assert_eq!((runs.load(Ordering::Relaxed), health.is_ready()), (2, true));
        shutdown.start();
        finish("errand", health.clone(), shutdown.clone(), fails_at(2)).await;
        supervise("errand", health.clone(), shutdown, fails_at(3)).await;
        // What has ended fails no more.
        assert_eq!((runs.load(Ordering::Relaxed), health.is_ready()), (4, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_panics_says_why_is_counted_and_holds_no_lock() {
        let kept = tokio::sync::Mutex::new(1);
        let work = async {
            let _kept = kept.lock().await;
            tokio::task::yield_now().await;
            assert!(kept.try_lock().is_ok(), "a piece fails");
        };
        let panicked = caught("piece", work).await.expect_err("it panics");
        assert_eq!(panicked.to_string(), "it panicked: a piece fails");
        assert_eq!(caught("piece", async { *kept.lock().await }).await.ok(), Some(1));
        assert!(caught_here("piece", || assert!(kept.try_lock().is_err())).is_err());
        assert_eq!(failures("piece").as_deref(), Some("2"));
    }
}
