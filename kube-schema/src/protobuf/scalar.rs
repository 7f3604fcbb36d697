//! Go's text forms of times.

use apimachinery::rfc3339::{Fraction, UnixTime};
use jiff::Timestamp;

/// Seconds as RFC 3339 in UTC (`metav1.Time`).
pub(super) fn time(seconds: i64) -> Option<String> {
    UnixTime { seconds, nanos: 0 }.text(0)
}

/// RFC 3339 with six digits (`metav1.MicroTime`).
pub(crate) fn micro_time(seconds: i64, nanos: i32) -> Option<String> {
    const SECOND: i32 = 1_000_000_000;
    let seconds = seconds.checked_add(nanos.div_euclid(SECOND).into())?;
    UnixTime { seconds, nanos: nanos.rem_euclid(SECOND) }.text(6)
}

/// Parses RFC 3339, and what earlier versions of this server took for it and stored.
pub(crate) fn parse_time(text: &str) -> Option<UnixTime> {
    UnixTime::parse(text, Fraction::Any).ok().or_else(|| {
        let time: Timestamp = text.parse().ok()?;
        let nanos = time.subsec_nanosecond();
        let before = i64::from(nanos < 0);
        Some(UnixTime {
            seconds: time.as_second() - before,
            nanos: if nanos < 0 { nanos + 1_000_000_000 } else { nanos },
        })
    })
}
