//! Durations as operators write them in flags.

use std::time::Duration;

/// Reads `300s`, `5m`, `1h30m` or `500ms`; a number alone is of seconds.
///
/// # Errors
/// When it is none of these, or longer than can be counted. The message says how to write one.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write 300s, 5m, 1h30m or 500ms");
    let too_long = || format!("{text:?} is too long a duration");
    if let Some(seconds) = number(text) {
        return seconds.map(Duration::from_secs).map_err(|_| too_long());
    }
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
        let (count, behind) = rest.split_at(digits);
        let count = number(count).ok_or_else(wrong)?.map_err(|_| too_long())?;
        let letters = behind.find(|character: char| character.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(letters);
        let part = match unit {
            "ms" => Some(Duration::from_millis(count)),
            "s" => Some(Duration::from_secs(count)),
            "m" => count.checked_mul(60).map(Duration::from_secs),
            "h" => count.checked_mul(3600).map(Duration::from_secs),
            _ => return Err(wrong()),
        };
        sum = part.and_then(|part| sum.checked_add(part)).ok_or_else(too_long)?;
        rest = next;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(sum) }
}

/// The same, but not nothing.
///
/// # Errors
/// As [`parse`], and when it is zero.
pub fn positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(format!("{text:?}: it must be longer than nothing")),
        duration => Ok(duration),
    }
}

/// A number, if it is nothing but digits; an error if it is too large.
fn number(text: &str) -> Option<Result<u64, std::num::ParseIntError>> {
    let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| text.parse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_may_be_sums() {
        for (text, millis) in [
            ("0", 0),
            ("300", 300_000),
            ("300s", 300_000),
            ("5m", 300_000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1m1s500ms", 61_500),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_and_it_is_said_how_to_write_one() {
        for wrong in ["", "s", "h", "m", "5 m", "-1", "1d", "2d", "1h30", "1.5h"] {
            assert!(parse(wrong).is_err_and(|why| why.contains("write 300s")), "{wrong}");
        }
        for long in ["99999999999999999999", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse(long).is_err_and(|why| why.contains("too long")), "{long}");
        }
        assert!(positive("0s").is_err() && positive("0").is_err() && positive("1ms").is_ok());
    }
}
