//! Durations as Go writes them (`time.ParseDuration`), and as flags take them.

use std::time::Duration;

use crate::rfc3339::quote;

/// One more than the largest `i64`: Go's limit while it adds up, since the smallest `i64` has this magnitude.
const LIMIT: u64 = 1 << 63;

/// Reads a Go duration such as `1h30m`, `-1.5s` or `0`, in nanoseconds. `None` if it is malformed, or longer than an `i64` holds.
pub fn parse(text: &str) -> Option<i64> {
    read(text).ok()
}

/// As [`parse`].
///
/// # Errors
/// Go's message.
pub fn parse_or_explain(text: &str) -> Result<i64, String> {
    read(text).map_err(|error| {
        let text = quote(text);
        match error {
            Error::Malformed => format!("time: invalid duration {text}"),
            Error::NoUnit => format!("time: missing unit in duration {text}"),
            Error::Unit(unit) => format!("time: unknown unit {} in duration {text}", quote(unit)),
        }
    })
}

/// Why a text is no duration.
enum Error<'a> {
    /// It is none at all, or too long.
    Malformed,
    /// A number has no unit.
    NoUnit,
    /// A unit that there is not.
    Unit(&'a str),
}

fn read(text: &str) -> Result<i64, Error<'_>> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(Error::Malformed);
    }
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let (part, behind) = part(rest)?;
        sum = sum.checked_add(part).filter(|sum| *sum <= LIMIT).ok_or(Error::Malformed)?;
        rest = behind;
    }
    let signed = if negative { 0_i64.checked_sub_unsigned(sum) } else { i64::try_from(sum).ok() };
    signed.ok_or(Error::Malformed)
}

/// The first number with its unit, in nanoseconds, and what follows.
fn part(text: &str) -> Result<(u64, &str), Error<'_>> {
    let (digits, behind) = split(text, |letter| letter.is_ascii_digit());
    let (fraction, behind) = match behind.strip_prefix('.') {
        Some(behind) => split(behind, |letter| letter.is_ascii_digit()),
        None => ("", behind),
    };
    if digits.is_empty() && fraction.is_empty() {
        return Err(Error::Malformed);
    }
    let whole: u64 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| Error::Malformed)? };
    let (unit, behind) = split(behind, |letter| !letter.is_ascii_digit() && letter != '.');
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(Error::NoUnit),
        other => return Err(Error::Unit(other)),
    };
    let mut nanoseconds = whole.checked_mul(unit).ok_or(Error::Malformed)?;
    let (fraction, scale) = of_fraction(fraction);
    if fraction > 0 {
        // In floating point, as in Go.
        let more = (fraction as f64 * (unit as f64 / scale)) as u64;
        nanoseconds = nanoseconds.checked_add(more).ok_or(Error::Malformed)?;
    }
    if nanoseconds <= LIMIT { Ok((nanoseconds, behind)) } else { Err(Error::Malformed) }
}

/// The digits behind the point, and the power of ten by which to divide them. Digits that no `i64` has room for are left out.
fn of_fraction(digits: &str) -> (u64, f64) {
    let (mut value, mut scale) = (0_u64, 1.0);
    for digit in digits.bytes() {
        if value > (LIMIT - 1) / 10 {
            break;
        }
        let next = value * 10 + u64::from(digit - b'0');
        if next > LIMIT {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value, scale)
}

/// Splits before the first character that does not belong.
fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|letter| !belongs(letter)).unwrap_or(text.len()))
}

/// Nanoseconds as Go prints them (`time.Duration.String`): `1h30m0s`, `1.5ms`.
pub fn text(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let (unit, name) = match all {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, rest) = (all / unit, fraction(all % unit, unit));
    if name != "s" {
        return format!("{sign}{whole}{rest}{name}");
    }
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}{rest}s"),
    }
}

fn fraction(rest: u64, unit: u64) -> String {
    if rest == 0 {
        return String::new();
    }
    let width = unit.ilog10() as usize;
    format!(".{rest:0width$}").trim_end_matches('0').to_owned()
}

/// Reads a flag: a Go duration that is not negative.
///
/// # Errors
/// When it is none. The message says how to write one.
pub fn flag(text: &str) -> Result<Duration, String> {
    let nanoseconds =
        parse(text).ok_or_else(|| format!("{text:?} is not a duration: write 300s, 5m, 1h30m or 500ms"))?;
    let nanoseconds = u64::try_from(nanoseconds).map_err(|_| "it must not be negative".to_owned())?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// Reads a flag. A number alone is of seconds.
///
/// # Errors
/// As [`flag`].
pub fn seconds(text: &str) -> Result<Duration, String> {
    number(text).map_or_else(|| flag(text), |number| Ok(Duration::from_secs(number)))
}

/// Reads a flag. A number alone is of milliseconds.
///
/// # Errors
/// As [`flag`].
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    number(text).map_or_else(|| flag(text), |number| Ok(Duration::from_millis(number)))
}

/// Reads a flag. A number alone is of hours.
///
/// # Errors
/// As [`flag`].
pub fn hours(text: &str) -> Result<Duration, String> {
    let hours = number(text).and_then(|number| number.checked_mul(3600)).map(Duration::from_secs);
    hours.map_or_else(|| flag(text), Ok)
}

/// Reads a flag of whole seconds, where a 32-bit number of them is meant. A number alone is of seconds.
///
/// # Errors
/// As [`flag`], and when it is not whole, or too large.
pub fn whole_seconds(text: &str) -> Result<u32, String> {
    let read = seconds(text)?;
    if read.subsec_nanos() != 0 {
        return Err(format!("{text:?}: it must be of whole seconds"));
    }
    u32::try_from(read.as_secs()).map_err(|_| format!("{text:?} is too long a duration"))
}

/// A number, if it is nothing but digits.
fn number(text: &str) -> Option<u64> {
    // `parse` takes a sign, too.
    if text.bytes().all(|octet| octet.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar_is_that_of_go() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-5s", -5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1m1.001s", 61_001_000_000),
            ("10us5µs5μs", 20_000),
            ("1ns1ms", 1_000_001),
            ("0.9223372036854775807h", 3_320_413_933_267),
            ("0.100000000000000000000h", 360_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-9223372036s854ms775us808ns", i64::MIN),
        ] {
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
        }
        for wrong in [
            "",
            "+",
            "-",
            ".",
            "s",
            ".s",
            "-.s",
            "3",
            "1h30",
            "1 s",
            " 1s",
            "1d",
            "1S",
            "--1s",
            "1-s",
            "1..2s",
            "1,5s",
            "é",
            "9223372036854775808ns",
            "9223372036854775.808us",
            "9223372036854ms775us808ns",
            "-9223372036854775809ns",
            "99999999999999999999s",
            "3000000h",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_does() {
        for (nanoseconds, shown) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (-1_500_000_000, "-1.5s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(text(nanoseconds), shown);
        }
    }

    #[test]
    fn a_flag_takes_a_duration_and_a_number_in_its_own_unit() {
        for text in ["300s", "5m", "300000ms", "0h5m"] {
            for read in [flag, seconds, milliseconds, hours] {
                assert_eq!(read(text), Ok(Duration::from_secs(300)), "{text}");
            }
        }
        assert_eq!(seconds("300"), Ok(Duration::from_secs(300)));
        assert_eq!(milliseconds("300"), Ok(Duration::from_millis(300)));
        assert_eq!(hours("24"), Ok(Duration::from_secs(86_400)));
        assert_eq!(whole_seconds("5m"), Ok(300));
        assert_eq!(whole_seconds("30"), Ok(30));
    }

    #[test]
    fn a_flag_says_how_to_write_a_duration() {
        for read in [flag, seconds, milliseconds, hours] {
            for wrong in ["", "s", "5 m", "1d", "1h30", "99999999999999999999"] {
                assert!(read(wrong).is_err_and(|why| why.contains("write 300s")), "{wrong}");
            }
            assert!(read("-1s").is_err_and(|why| why.contains("negative")));
        }
        assert!(flag("30").is_err());
        assert!(hours("9999999999999999999").is_err());
        assert!(whole_seconds("1s500ms").is_err_and(|why| why.contains("whole seconds")));
        assert!(whole_seconds("2000000h").is_err_and(|why| why.contains("too long")));
    }

    #[test]
    fn what_is_wrong_is_told_in_words_of_go() {
        for (text, why) in [
            ("abc", r#"invalid duration "abc""#),
            ("3000000h", r#"invalid duration "3000000h""#),
            ("5", r#"missing unit in duration "5""#),
            ("1..2s", r#"missing unit in duration "1..2s""#),
            ("1 minute", r#"unknown unit " minute" in duration "1 minute""#),
            ("1m5é", r#"unknown unit "\xc3\xa9" in duration "1m5\xc3\xa9""#),
        ] {
            assert_eq!(parse_or_explain(text), Err(format!("time: {why}")));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(nanoseconds: i64) {
            prop_assert_eq!(parse(&text(nanoseconds)), Some(nanoseconds));
        }

        #[test]
        fn no_text_is_too_much(text in "[-+0-9.hmsnuµ]{0,40}|\\PC{0,20}") {
            let _read = parse(&text);
        }
    }
}
