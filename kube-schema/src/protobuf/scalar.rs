//! Go's text forms of times and durations.

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

/// Nanoseconds as Go's `time.Duration.String()`.
pub(super) fn duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let abs = nanos.unsigned_abs();
    if abs < 1_000_000_000 {
        let (unit, name) = match abs {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{}{name}", abs / unit, fraction(abs % unit, unit));
    }
    let seconds = abs / 1_000_000_000;
    let rest = fraction(abs % 1_000_000_000, 1_000_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = sign.to_owned();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if hours > 0 || minutes > 0 {
        text.push_str(&format!("{minutes}m"));
    }
    text.push_str(&format!("{}{rest}s", seconds % 60));
    text
}

fn fraction(rest: u64, unit: u64) -> String {
    if rest == 0 {
        return String::new();
    }
    let width = unit.ilog10() as usize;
    format!(".{rest:0width$}").trim_end_matches('0').to_owned()
}

/// Parses Go's duration text (`1h2m3.5s`); `None` when malformed or out of range.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.len() > 15 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
        let part_value: i128 = if part.is_empty() { 0 } else { part.parse::<i64>().ok()?.into() };
        total += whole * scale + part_value * scale / 10_i128.pow(part.len() as u32);
        if total > i128::from(i64::MAX) {
            return None;
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}
