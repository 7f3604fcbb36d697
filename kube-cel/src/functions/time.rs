//! Timestamps and durations.

use apimachinery::{
    go_duration,
    rfc3339::{Fraction, UnixTime},
};
use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::Outcome;
use crate::{Value, error::EvalError};

const SECOND: i64 = 1_000_000_000;

pub(super) fn call(name: &str, _: bool, values: &[Value]) -> Option<Outcome> {
    use Value::{Duration, Int, String, Timestamp as Time};
    Some(match (name, values) {
        ("timestamp", [String(text)]) => {
            UnixTime::parse(text, Fraction::Any).map_err(EvalError::failed).and_then(timestamp).map(Time)
        }
        ("timestamp", [Int(seconds)]) => timestamp(UnixTime { seconds: *seconds, nanos: 0 }).map(Time),
        ("timestamp", [value @ Time(_)]) | ("duration", [value @ Duration(_)]) => Ok(value.clone()),
        ("duration", [String(text)]) => go_duration::parse(text)
            .map(Duration)
            .ok_or_else(|| EvalError::failed(format!("time: invalid duration {text:?}"))),
        ("getHours", [Duration(nanos)]) => Ok(Int(nanos / SECOND / 3600)),
        ("getMinutes", [Duration(nanos)]) => Ok(Int(nanos / SECOND / 60)),
        ("getSeconds", [Duration(nanos)]) => Ok(Int(nanos / SECOND)),
        ("getMilliseconds", [Duration(nanos)]) => Ok(Int(nanos / 1_000_000)),
        (part, [Time(time), rest @ ..]) if part.starts_with("get") => {
            let zone = match rest {
                [String(zone)] => match zone_of(zone) {
                    Some(zone) => zone,
                    None => {
                        return Some(Err(EvalError::failed(format!("unknown time zone {zone}"))));
                    }
                },
                _ => TimeZone::UTC,
            };
            field(part, &time.to_zoned(zone))
        }
        _ => return None,
    })
}

pub(super) fn overflow() -> EvalError {
    EvalError::failed("timestamp overflow")
}

/// A time of the years that expressions know, from 1 to 9999. The last hours of the last day stand for each other.
fn timestamp(time: UnixTime) -> Result<Timestamp, EvalError> {
    let known = time.seconds >= UnixTime::GO_ZERO.seconds && time.text(0).is_some();
    match Timestamp::new(time.seconds, time.nanos) {
        _ if !known => Err(overflow()),
        Ok(time) => Ok(time),
        // Only later ones than the last are known and refused.
        Err(_) => Ok(Timestamp::MAX),
    }
}

/// A time as expressions see a text with the format `date-time`; none if Go cannot read it, or it is of no year that they know.
pub fn parse_timestamp(text: &str) -> Option<Value> {
    let time = UnixTime::parse(text, Fraction::Any).ok()?;
    timestamp(time).ok().map(Value::Timestamp)
}

/// A time zone by name, or an offset such as `-08:00`. Names need the machine's database.
fn zone_of(text: &str) -> Option<TimeZone> {
    if matches!(text, "UTC" | "Z" | "") {
        return Some(TimeZone::UTC);
    }
    if let Some((hours, minutes)) = text.split_once(':') {
        let (whole, part): (i8, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let sign = if hours.starts_with('-') { -1 } else { 1 };
        let seconds = i64::from(whole) * 3600 + sign * i64::from(part) * 60;
        return jiff::tz::Offset::from_seconds(seconds.try_into().ok()?).ok().map(TimeZone::fixed);
    }
    TimeZone::get(text).ok()
}

fn field(part: &str, time: &Zoned) -> Outcome {
    let number = match part {
        "getFullYear" => i64::from(time.year()),
        "getMonth" => i64::from(time.month()) - 1,
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDate" => i64::from(time.day()),
        "getDayOfWeek" => i64::from(time.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(time.hour()),
        "getMinutes" => i64::from(time.minute()),
        "getSeconds" => i64::from(time.second()),
        "getMilliseconds" => i64::from(time.millisecond()),
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(Value::Int(number))
}

/// As Go prints it in CEL: seconds.
pub(super) fn duration_text(nanos: i64) -> String {
    let seconds = nanos as f64 / SECOND as f64;
    format!("{seconds}s")
}
