//! Waiting for conditions instead of fixed times.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(50);

/// Polls `condition` until it holds, and returns how long that took. `what` is a sentence that is true then.
///
/// # Panics
/// When it does not hold within `limit`; with the last error, if there was one.
#[track_caller]
#[allow(clippy::panic)]
pub fn eventually(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> Duration {
    let start = Instant::now();
    loop {
        let last = condition();
        if matches!(last, Ok(true)) {
            let taken = start.elapsed();
            eprintln!("  {what} (after {:.2} s)", taken.as_secs_f64());
            return taken;
        }
        if start.elapsed() > limit {
            let why = last.err().map(|error| format!(": {error:#}")).unwrap_or_default();
            panic!("waited {:.1} s in vain for: {what}{why}", limit.as_secs_f64());
        }
        thread::sleep(PERIOD);
    }
}

/// Checks `condition` throughout `time`: for what must not happen.
///
/// # Panics
/// When it once does not hold.
#[track_caller]
#[allow(clippy::panic)]
pub fn holds(what: &str, time: Duration, mut condition: impl FnMut() -> anyhow::Result<bool>) {
    let start = Instant::now();
    while start.elapsed() < time {
        match condition() {
            Ok(true) => thread::sleep(PERIOD),
            Ok(false) => panic!("after {:.1} s no longer so: {what}", start.elapsed().as_secs_f64()),
            Err(error) => {
                panic!("after {:.1} s cannot say: {what}: {error:#}", start.elapsed().as_secs_f64())
            }
        }
    }
}
