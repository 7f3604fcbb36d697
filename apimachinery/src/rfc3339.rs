//! Times in the format of RFC 3339, as Go's `time.Parse` reads them.

use jiff::{
    SignedDuration,
    civil::{Date, DateTime},
};

/// Digits of the fraction of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fraction {
    /// Any number of them, or no fraction: `time.RFC3339`.
    Any,
    /// Six of them: `metav1.RFC3339Micro`.
    Micros,
}

impl Fraction {
    const fn layout(self) -> &'static str {
        match self {
            Self::Any => "2006-01-02T15:04:05Z07:00",
            Self::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

/// Seconds and nanoseconds since the start of 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixTime {
    /// Whole seconds, below zero for earlier times.
    pub seconds: i64,
    /// Nanoseconds after that second, never below zero.
    pub nanos: i32,
}

impl UnixTime {
    /// The first second of the year 1, which is Go's zero time.
    pub const GO_ZERO: Self = Self { seconds: -62_135_596_800, nanos: 0 };

    /// Reads a time. The error is Go's message.
    pub fn parse(text: &str, fraction: Fraction) -> Result<Self, String> {
        read(text, fraction).map_err(|error| {
            let text = quote(text);
            match error {
                Error::Part { rest, part } => {
                    let layout = fraction.layout();
                    format!("parsing time {text} as \"{layout}\": cannot parse {} as \"{part}\"", quote(rest))
                }
                Error::Range(what) => format!("parsing time {text}: {what} out of range"),
                Error::Extra(rest) => format!("parsing time {text}: extra text: {}", quote(rest)),
            }
        })
    }

    /// The time in UTC with as many digits after the second as asked for, at most nine; none if its year does not have four digits.
    pub fn text(self, digits: usize) -> Option<String> {
        let seconds = SignedDuration::from_secs(self.seconds);
        let time = epoch().checked_add(seconds).ok().filter(|time| time.year() >= 0)?;
        let mut text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            time.year(),
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        );
        if digits > 0 {
            let nanos = format!("{:09}", self.nanos);
            text.push('.');
            text.push_str(nanos.get(..digits).unwrap_or(&nanos));
        }
        text.push('Z');
        Some(text)
    }
}

const fn epoch() -> DateTime {
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
}

/// Why a text is no time.
enum Error<'a> {
    /// The text goes on with something else than a part of the layout.
    Part { rest: &'a str, part: &'static str },
    /// A part has a number that is too large or too small.
    Range(&'static str),
    /// There is more behind the time.
    Extra(&'a str),
}

/// A text, and what has not been read of it.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn error<T>(&self, part: &'static str) -> Result<T, Error<'a>> {
        Err(Error::Part { rest: self.rest, part })
    }

    fn is_digit(&self, at: usize) -> bool {
        self.rest.as_bytes().get(at).is_some_and(u8::is_ascii_digit)
    }

    /// Takes the first bytes, of which the caller knows that they are ASCII.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn number(&mut self, digits: usize, part: &'static str) -> Result<i32, Error<'a>> {
        if !(0..digits).all(|at| self.is_digit(at)) {
            return self.error(part);
        }
        let digits = self.take(digits);
        digits.parse().or_else(|_| self.error(part))
    }

    fn sign(&mut self, sign: &'static str) -> Result<(), Error<'a>> {
        match self.rest.strip_prefix(sign) {
            Some(rest) => self.rest = rest,
            None => return self.error(sign),
        }
        Ok(())
    }

    /// A number in its range, which ends before `end`.
    fn within(
        &mut self,
        digits: usize,
        part: &'static str,
        end: i32,
        name: &'static str,
    ) -> Result<i8, Error<'a>> {
        let number = self.number(digits, part)?;
        if number >= end {
            return Err(Error::Range(name));
        }
        i8::try_from(number).map_err(|_| Error::Range(name))
    }

    fn begins_fraction(&self) -> bool {
        self.rest.starts_with(['.', ',']) && self.is_digit(1)
    }

    fn fraction(&mut self, fraction: Fraction) -> Result<i32, Error<'a>> {
        let length = match fraction {
            Fraction::Any if !self.begins_fraction() => return Ok(0),
            Fraction::Any => (1..=self.rest.len()).find(|at| !self.is_digit(*at)).unwrap_or_default(),
            Fraction::Micros => 7,
        };
        if !self.begins_fraction() || !(1..length).all(|at| self.is_digit(at)) {
            return self.error(".000000");
        }
        let digits = self.take(length).get(1..).unwrap_or_default().chars().chain("000000000".chars());
        let digits: String = digits.take(9).collect();
        Ok(digits.parse().unwrap_or_default())
    }

    /// The seconds by which local time is ahead of UTC.
    fn zone(&mut self) -> Result<i64, Error<'a>> {
        const PART: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let signed = self.rest.starts_with(['+', '-']) && self.rest.as_bytes().get(3) == Some(&b':');
        if !signed || ![1, 2, 4, 5].into_iter().all(|at| self.is_digit(at)) {
            return self.error(PART);
        }
        let sign = if self.take(1) == "-" { -1 } else { 1 };
        let hours = self.number(2, PART)?;
        self.take(1);
        let minutes = self.number(2, PART)?;
        // Go takes 24 hours and 60 minutes.
        if hours > 24 {
            return Err(Error::Range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(Error::Range("time zone offset minute"));
        }
        Ok(sign * i64::from(hours * 60 + minutes) * 60)
    }
}

fn read(text: &str, fraction: Fraction) -> Result<UnixTime, Error<'_>> {
    let mut reader = Reader { rest: text };
    let year = reader.number(4, "2006")?;
    reader.sign("-")?;
    let month = reader.within(2, "01", 13, "month")?;
    if month == 0 {
        return Err(Error::Range("month"));
    }
    reader.sign("-")?;
    let day = reader.within(2, "02", 100, "day")?;
    reader.sign("T")?;
    // Go takes an hour of one digit.
    let digits = if reader.is_digit(0) && !reader.is_digit(1) { 1 } else { 2 };
    let hour = reader.within(digits, "15", 24, "hour")?;
    reader.sign(":")?;
    let minute = reader.within(2, "04", 60, "minute")?;
    reader.sign(":")?;
    let second = reader.within(2, "05", 60, "second")?;
    let nanos = reader.fraction(fraction)?;
    let ahead = reader.zone()?;
    if !reader.rest.is_empty() {
        return Err(Error::Extra(reader.rest));
    }
    let year = i16::try_from(year).unwrap_or_default();
    let date = Date::new(year, month, day).map_err(|_| Error::Range("day"))?;
    let local = date.at(hour, minute, second, 0).duration_since(epoch()).as_secs();
    Ok(UnixTime { seconds: local - ahead, nanos })
}

/// A text in quotes, as the package `time` shows it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            ' '..='\x7f' => quoted.push(letter),
            _ => {
                let mut buffer = [0; 4];
                let bytes = letter.encode_utf8(&mut buffer).bytes();
                quoted.extend(bytes.map(|byte| format!("\\x{byte:02x}")));
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let found = UnixTime::parse(text, Fraction::Any).map(|time| time.text(9).unwrap_or_default());
        assert_eq!(found.as_deref(), Ok(expect), "{text}");
    }

    #[test]
    fn times_are_read_as_go_reads_them() {
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000000Z");
        check("2026-01-02T03:04:05.5+01:30", "2026-01-02T01:34:05.500000000Z");
        check("2026-01-02T03:04:05,25-01:00", "2026-01-02T04:04:05.250000000Z");
        check("2026-01-02T03:04:05.123456789123Z", "2026-01-02T03:04:05.123456789Z");
        check("2026-01-02T3:04:05Z", "2026-01-02T03:04:05.000000000Z");
        check("2026-01-02T03:04:05+24:60", "2026-01-01T02:04:05.000000000Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z");
        check("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000000Z");
        check("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000000Z");
    }

    #[track_caller]
    fn refused(text: &str, expect: &str) {
        assert_eq!(UnixTime::parse(text, Fraction::Any), Err(format!("parsing time {expect}")));
    }

    #[test]
    fn what_is_no_time_is_refused_in_words_of_go() {
        for (text, rest, part) in [
            ("", "", "2006"),
            ("+002026-01-02T03:04:05Z", "+002026-01-02T03:04:05Z", "2006"),
            ("20260102T030405Z", "0102T030405Z", "-"),
            ("2026-1-02T03:04:05Z", "1-02T03:04:05Z", "01"),
            ("2026-01-02 03:04:05Z", " 03:04:05Z", "T"),
            ("2026-01-02t03:04:05Z", "t03:04:05Z", "T"),
            ("2026-01-02T03:04Z", "Z", ":"),
            ("2026-01-02T03:04:05z", "z", "Z07:00"),
            ("2026-01-02T03:04:05.Z", ".Z", "Z07:00"),
            ("2026-01-02T03:04:05+0100", "+0100", "Z07:00"),
        ] {
            let told =
                format!("\"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{rest}\" as \"{part}\"");
            refused(text, &told);
        }
        for (text, what) in [
            ("2026-00-02T00:00:00Z", "month"),
            ("2026-13-02T00:00:00Z", "month"),
            ("2026-02-30T00:00:00Z", "day"),
            ("2026-02-00T00:00:00Z", "day"),
            ("2026-01-02T24:00:00Z", "hour"),
            ("2026-01-02T03:60:00Z", "minute"),
            ("2026-01-02T03:04:60Z", "second"),
            ("2026-01-02T03:04:05+25:00", "time zone offset hour"),
        ] {
            refused(text, &format!("\"{text}\": {what} out of range"));
        }
        refused("2026-01-02T03:04:05Z[UTC]", "\"2026-01-02T03:04:05Z[UTC]\": extra text: \"[UTC]\"");
        let layout = "2006-01-02T15:04:05Z07:00";
        let told = format!(r#""\"é" as "{layout}": cannot parse "\"é" as "2006""#).replace('é', r"\xc3\xa9");
        refused("\"é", &told);
    }

    #[test]
    fn a_year_of_more_than_four_digits_cannot_be_written() {
        let after = UnixTime::parse("9999-12-31T23:59:59-01:00", Fraction::Any).map(|time| time.text(0));
        let before = UnixTime::parse("0000-01-01T00:00:00+01:00", Fraction::Any).map(|time| time.text(0));
        assert_eq!((after, before), (Ok(None), Ok(None)));
    }
}
