//! Numbers that are told by their check digits, and amounts of time.

use std::sync::LazyLock;

use regex::Regex;

fn is_match(regex: &LazyLock<Option<Regex>>, text: &str) -> bool {
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

fn digits(text: &str) -> impl DoubleEndedIterator<Item = u32> {
    text.chars().filter_map(|letter| letter.to_digit(10))
}

/// A number of one of the large issuers, whatever stands between its digits, with its check digit (ISO/IEC 7812).
pub(super) fn is_credit_card(text: &str) -> bool {
    static ISSUED: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let pattern = "^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$";
        Regex::new(pattern).ok()
    });
    let number: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |(at, digit): (usize, u32)| match (at % 2, digit * 2) {
        (0, _) => digit,
        (_, double) => double / 10 + double % 10,
    };
    is_match(&ISSUED, &number)
        && digits(&number).rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

/// A book's number without what separates its parts.
fn of_book(text: &str) -> String {
    text.chars().filter(|letter| !matches!(letter, ' ' | '\t' | '\n' | '\x0c' | '\r' | '-')).collect()
}

/// A book's number of ten digits, the last of which may be ten (`X`).
pub(super) fn is_isbn10(text: &str) -> bool {
    let number = of_book(text);
    let Some((body, check)) = number.split_at_checked(9) else { return false };
    let check = if check == "X" { Some(10) } else { check.parse::<u32>().ok().filter(|_| check.len() == 1) };
    let Some(check) = check.filter(|_| body.bytes().all(|byte| byte.is_ascii_digit())) else { return false };
    let sum: u32 = (1..).zip(digits(body)).map(|(place, digit)| place * digit).sum();
    (sum + 10 * check).is_multiple_of(11)
}

/// A book's number of thirteen digits.
pub(super) fn is_isbn13(text: &str) -> bool {
    let number = of_book(text);
    let weighed = |(at, digit): (usize, u32)| if at % 2 == 0 { digit } else { 3 * digit };
    number.len() == 13
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && digits(&number).enumerate().map(weighed).sum::<u32>().is_multiple_of(10)
}

/// The nanoseconds of what Go reads as a duration, or of a text with numbers and units in words: `10 minutes`, `2 weeks 3 days`.
pub(in crate::structural) fn duration(text: &str) -> Option<i64> {
    static WORDS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("([0-9]+)[\t\n\x0c\r ]*([A-Za-zµ]+)").ok());
    if let Some(nanos) = apimachinery::go_duration::parse(text) {
        return Some(nanos);
    }
    let mut total = None;
    for parts in WORDS.as_ref()?.captures_iter(text) {
        let (_, [number, unit]) = parts.extract();
        // A number without room makes the whole text none.
        let number: i64 = number.parse().ok()?;
        if let Some(length) = length_of(&unit.to_lowercase()) {
            // Go does not look for overflows.
            total = Some(total.unwrap_or(0_i64).wrapping_add(number.wrapping_mul(length)));
        }
    }
    total
}

/// The nanoseconds of a unit: by a short name, or by one that begins with the last of its names.
fn length_of(unit: &str) -> Option<i64> {
    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3600 * SECOND;
    const UNITS: [(&[&str], &str, i64); 8] = [
        (&["ns"], "nano", 1),
        (&["us", "µs"], "micro", 1_000),
        (&["ms"], "milli", 1_000_000),
        (&["s"], "sec", SECOND),
        (&["m"], "min", 60 * SECOND),
        (&["h", "hr"], "hour", HOUR),
        (&["d"], "day", 24 * HOUR),
        (&["w", "wk"], "week", 7 * 24 * HOUR),
    ];
    let found = UNITS.iter().find(|(short, long, _)| short.contains(&unit) || unit.starts_with(long));
    found.map(|(_, _, length)| *length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(is(text), "{text}");
        }
        for text in bad {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn check_digits_must_fit() {
        let cards = ["4111111111111111", "4111 1111 1111 1111", "378282246310005"];
        check(is_credit_card, &cards, &["4111111111111112", "x", ""]);
        check(
            is_isbn10,
            &["0306406152", "0-306-40615-2", "097522980X"],
            &["0306406153", "097522980x", "x", "030640615é"],
        );
        check(is_isbn13, &["9780306406157", "978-0-306-40615-7"], &["9780306406158", "0306406152", "x"]);
    }

    #[test]
    fn durations_may_be_in_words() {
        const SECOND: i64 = 1_000_000_000;
        for (text, seconds) in [
            ("1s", 1),
            ("10 minutes", 600),
            ("1 s", 1),
            ("PT1S", 1),
            ("1d", 86_400),
            ("1h30m", 5400),
            ("2 weeks 3 days", 17 * 86_400),
            ("-1s", -1),
            ("0", 0),
            (" 1s ", 1),
            ("1 s 2 x", 1),
            ("3 Hours", 10_800),
            ("1 hr", 3600),
        ] {
            assert_eq!(duration(text), Some(seconds * SECOND), "{text}");
        }
        assert_eq!(
            duration("300000 weeks"),
            Some(300_000_i64.wrapping_mul(7 * 86_400 * SECOND)),
            "as Go counts"
        );
        for bad in ["x", "", "5", "1 fortnight", "99999999999999999999 s", "1x", "1sx", "1hrs"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
