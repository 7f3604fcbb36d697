//! The time. Code that also runs in the simulation reads the time only here: the simulation sets it for its own thread.
//!
//! There are two clocks: [`Instant`] is monotonic and counts from an arbitrary moment; [`unix_ms`] is the wall clock, which may be set forward
//! or back.

use std::cell::Cell;
use std::ops::Add;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    static SET: Cell<Option<Time>> = const { Cell::new(None) };
}

/// The reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// The monotonic clock: time since an arbitrary moment.
    pub running: Duration,
    /// The wall clock: Unix milliseconds.
    pub unix_ms: i64,
}

/// Sets the time for this thread; `None` returns to the machine's clocks.
pub fn set(time: Option<Time>) {
    SET.set(time);
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_ms() -> i64 {
    match SET.get() {
        Some(time) => time.unix_ms,
        None => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        }
    }
}

/// A moment, as [`std::time::Instant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// Now.
    pub fn now() -> Self {
        static START: OnceLock<std::time::Instant> = OnceLock::new();
        match SET.get() {
            Some(time) => Self(time.running),
            None => Self(START.get_or_init(std::time::Instant::now).elapsed()),
        }
    }

    /// The time since then.
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    /// The time since `earlier`, or none at all if that is later.
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time since `earlier`; `None` if that is later.
    pub fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_have_a_time_of_its_own() {
        let before = Instant::now();
        let time = |seconds| Time { running: Duration::from_secs(seconds), unix_ms: -7 };
        set(Some(time(5)));
        let then = Instant::now();
        set(Some(time(8)));
        assert_eq!((then.elapsed(), unix_ms()), (Duration::from_secs(3), -7));
        assert_eq!(then.checked_duration_since(Instant::now()), None);
        assert!(std::thread::spawn(unix_ms).join().is_ok_and(|real| real > 0), "only this thread");
        set(None);
        assert!(Instant::now() >= before && unix_ms() > 0);
    }
}
