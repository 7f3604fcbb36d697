//! When a schedule in Cron format says that a drill is due. Times are UTC.

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::civil::{Date, Weekday};
use k8s_openapi::jiff::tz::TimeZone;
use thiserror::Error;

/// Days that are looked through for the next time: leap days come within eight years, whatever the century.
const DAYS_MAX: usize = 366 * 8 + 1;
/// A schedule that is later than this is not caught up with: a drill in the middle of a working day instead of at night would be a surprise.
pub const LATE_MAX_MS: i64 = 60_000;

/// A schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    // As cron has it: if both say something, one of them is enough.
    either: bool,
}

/// What is wrong with a schedule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// Not five fields.
    #[error("expected 5 fields (minute hour day-of-month month day-of-week), found {0}")]
    Fields(usize),
    /// A field that cannot be read.
    #[error("{field} {text:?}: {message}")]
    Field {
        /// Its name.
        field: &'static str,
        /// As written.
        text: String,
        /// What is wrong.
        message: String,
    },
    /// It is valid, but matches no date.
    #[error("it matches no date")]
    Never,
}

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
const DAY: Field = Field { name: "day of month", least: 1, most: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 7 is Sunday too, as in every cron since the first.
const WEEKDAY: Field = Field {
    name: "day of week",
    least: 0,
    most: 7,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl std::str::FromStr for Calendar {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(Fault::Fields(fields.len()));
        };
        let weekdays = bits(weekday, &WEEKDAY)?;
        let calendar = Self {
            minutes: bits(minute, &MINUTE)?,
            hours: bits(hour, &HOUR)?,
            days: bits(day, &DAY)?,
            months: bits(month, &MONTH)?,
            weekdays: weekdays | (weekdays >> 7 & 1),
            either: !any(day) && !any(weekday),
        };
        calendar.next_ms(0).map(|_| calendar).ok_or(Fault::Never)
    }
}

impl Calendar {
    /// The first time after `after_ms`, both Unix milliseconds. None in years that calendars do not have.
    pub fn next_ms(&self, after_ms: i64) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_ms).ok()?.to_zoned(TimeZone::UTC).datetime();
        let mut date = after.date();
        // Minutes of the first day that are over already; -1 on the days after it.
        let mut passed = i32::from(after.hour()) * 60 + i32::from(after.minute());
        for _ in 0..DAYS_MAX {
            if self.has_day(date)
                && let Some(minute) = (0..24 * 60).find(|minute| *minute > passed && self.has_minute(*minute))
            {
                let time = date.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
                return Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
            }
            date = date.tomorrow().ok()?;
            passed = -1;
        }
        None
    }

    /// The time that is due now, if there is one since `last_ms` that is not later than [`LATE_MAX_MS`]. Several missed ones are one.
    pub fn due_ms(&self, last_ms: i64, now_ms: i64) -> Option<i64> {
        let from = last_ms.max(now_ms.saturating_sub(LATE_MAX_MS));
        self.next_ms(from).filter(|at_ms| *at_ms <= now_ms)
    }

    fn has_day(&self, date: Date) -> bool {
        if self.months >> date.month() & 1 == 0 {
            return false;
        }
        let weekday = match date.weekday() {
            Weekday::Sunday => 0,
            other => other.to_monday_one_offset(),
        };
        let (day, weekday) = (self.days >> date.day() & 1 == 1, self.weekdays >> weekday & 1 == 1);
        if self.either { day || weekday } else { day && weekday }
    }

    fn has_minute(&self, minute: i32) -> bool {
        self.hours >> (minute / 60) & 1 == 1 && self.minutes >> (minute % 60) & 1 == 1
    }
}

fn any(text: &str) -> bool {
    text.starts_with(['*', '?'])
}

/// The values of a field, a bit for each.
fn bits(text: &str, field: &Field) -> Result<u64, Fault> {
    let mut bits = 0;
    for part in text.split(',') {
        let fault = |message: String| Fault::Field { field: field.name, text: text.to_owned(), message };
        let (range, step) = match part.split_once('/') {
            None => (part, 1),
            Some((range, step)) => {
                (range, step.parse::<u32>().map_err(|_| fault(format!("{step:?} is no step")))?)
            }
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (field.least, field.most),
            Some((first, last)) => (value(first, field).map_err(fault)?, value(last, field).map_err(fault)?),
            None => {
                let first = value(range, field).map_err(fault)?;
                (first, if part.contains('/') { field.most } else { first })
            }
        };
        if step == 0 || first > last {
            return Err(fault(format!("{part:?} holds nothing")));
        }
        (first..=last).step_by(step as usize).for_each(|value| bits |= 1 << value);
    }
    Ok(bits)
}

fn value(text: &str, field: &Field) -> Result<u32, String> {
    let named = field.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = named.map(|at| at as u32 + field.least).or_else(|| text.parse().ok());
    number
        .filter(|number| (field.least..=field.most).contains(number))
        .ok_or_else(|| format!("{text:?} is not between {} and {}", field.least, field.most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    #[track_caller]
    fn check(schedule: &str, after: &str, expect: &str) {
        let calendar: Calendar = schedule.parse().expect("a schedule");
        let next = calendar.next_ms(ms(after)).expect("it comes");
        assert_eq!(Timestamp::from_millisecond(next).expect("a time").to_string(), expect, "{schedule}");
    }

    #[test]
    fn the_next_time_is_strictly_later() {
        check("0 4 * * 1", "2026-11-29T03:00:00Z", "2026-11-30T04:00:00Z");
        check("0 4 * * 1", "2026-11-30T04:00:00Z", "2026-12-07T04:00:00Z");
        check("*/15 8-9 * * mon-fri", "2026-11-27T09:45:00Z", "2026-11-30T08:00:00Z");
        check("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z");
        check("30 6 1,15 * 7", "2026-11-29T07:00:00Z", "2026-12-01T06:30:00Z");
        check("0 0 13 * fri", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z");
        check("@monthly", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z");
        check("5/20 * * * *", "2026-11-29T03:05:00Z", "2026-11-29T03:25:00Z");
    }

    #[test]
    fn a_fault_names_its_field() {
        let fault = |text: &str| text.parse::<Calendar>().expect_err("it is none").to_string();
        assert_eq!(
            fault("* * * *"),
            "expected 5 fields (minute hour day-of-month month day-of-week), found 4"
        );
        assert_eq!(fault("60 * * * *"), "minute \"60\": \"60\" is not between 0 and 59");
        assert_eq!(fault("* * * foo *"), "month \"foo\": \"foo\" is not between 1 and 12");
        assert_eq!(fault("* */0 * * *"), "hour \"*/0\": \"*/0\" holds nothing");
        assert_eq!(fault("* 5-1 * * *"), "hour \"5-1\": \"5-1\" holds nothing");
        assert_eq!(fault("0 0 31 2 *"), "it matches no date");
    }

    #[test]
    fn what_was_missed_long_ago_is_not_caught_up_with() {
        let hourly: Calendar = "@hourly".parse().expect("a schedule");
        let hour = 3_600_000;
        assert_eq!(hourly.due_ms(0, hour - 1), None);
        assert_eq!(hourly.due_ms(0, hour), Some(hour));
        assert_eq!(hourly.due_ms(0, hour + LATE_MAX_MS - 1), Some(hour));
        assert_eq!(hourly.due_ms(0, hour + LATE_MAX_MS), None);
        assert_eq!(hourly.due_ms(hour, hour + 5), None);
    }
}
