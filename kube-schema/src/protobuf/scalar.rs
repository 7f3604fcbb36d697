//! Go's text forms of times.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Seconds as RFC 3339 in UTC (`metav1.Time`).
pub(super) fn time(seconds: i64) -> Option<String> {
    let timestamp = Timestamp::new(seconds, 0).ok()?;
    Some(DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&timestamp))
}

/// RFC 3339 with six digits (`metav1.MicroTime`).
pub(crate) fn micro_time(seconds: i64, nanos: i32) -> Option<String> {
    let timestamp = Timestamp::new(seconds, nanos / 1000 * 1000).ok()?;
    Some(DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&timestamp))
}

/// Parses RFC 3339; seconds and nanoseconds since the epoch, the latter never negative (as Go's `time.Time`).
pub(crate) fn parse_time(text: &str) -> Option<(i64, i32)> {
    let timestamp: Timestamp = text.parse().ok()?;
    let (seconds, nanos) = (timestamp.as_second(), timestamp.subsec_nanosecond());
    if nanos < 0 { Some((seconds - 1, nanos + 1_000_000_000)) } else { Some((seconds, nanos)) }
}
