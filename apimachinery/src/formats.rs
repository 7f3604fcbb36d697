//! Formats of texts that schemas and expressions know, as kube-apiserver's library checks them (`strfmt`). They are laxer than what Go's own
//! readers take.

use jiff::civil::Date;

/// Base64 with padding. Bits behind the last byte may be anything; no text is not base64.
pub fn is_base64(text: &str) -> bool {
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// A day: `2026-01-02`.
pub fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<Date>().is_ok()
}

/// A day and a time: letters may be small, anything may stand before the fraction, and zones have no bounds.
pub fn is_date_time(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut parts = text.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    is_date(date) && is_time(time)
}

fn is_time(text: &str) -> bool {
    let Some((clock, rest)) = text.split_at_checked(8) else { return false };
    let zone = |at: usize| {
        let (before, zone) = rest.split_at_checked(at)?;
        (zone.starts_with(['+', '-']) && zone.get(1..).is_some_and(|zone| number(zone, "99:99")))
            .then_some(before)
    };
    let fraction = rest.strip_suffix('z').or_else(|| zone(rest.len().checked_sub(6)?));
    let Some(fraction) = fraction else { return false };
    let mut digits = fraction.chars();
    let is_fraction = match digits.next() {
        None => true,
        Some(point) => {
            point != '\n' && !digits.as_str().is_empty() && digits.all(|digit| digit.is_ascii_digit())
        }
    };
    is_fraction && number(clock, "23:59:59")
}

/// Whether a text has digits where the largest that may stand there has some, each pair of them not larger, and its other characters.
fn number(text: &str, most: &str) -> bool {
    text.len() == most.len()
        && text.matches(':').count() == most.matches(':').count()
        && text.split(':').zip(most.split(':')).all(|(found, most)| {
            found.len() == most.len() && found.bytes().all(|byte| byte.is_ascii_digit()) && found <= most
        })
}

/// A UUID, whose hyphens may each be left out. Of a version, if one is given: its digit, and those of which the variant is one, if it is bound
/// to some.
pub fn is_uuid(text: &str, version: Option<(char, &str)>) -> bool {
    let mut rest = text;
    let mut digits = String::with_capacity(32);
    for length in [8, 4, 4, 4, 12] {
        if !digits.is_empty() {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some((part, behind)) = rest.split_at_checked(length) else { return false };
        digits.push_str(part);
        rest = behind;
    }
    let at = |place: usize| digits.chars().nth(place).unwrap_or_default().to_ascii_lowercase();
    rest.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && version.is_none_or(|(version, variants)| {
            at(12) == version && (variants.is_empty() || variants.contains(at(16)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is: impl Fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(is(text), "{text:?}");
        }
        for text in bad {
            assert!(!is(text), "{text:?}");
        }
    }

    #[test]
    fn base64_has_its_padding_and_is_something() {
        check(
            is_base64,
            &["YQ==", "YR==", "YWJj", "YWI="],
            &["", "YQ", "YQ=\n=", "Y Q=", "Y===", "====", "YQ=a"],
        );
    }

    #[test]
    fn a_date_time_is_laxer_than_a_time_of_go() {
        check(is_date, &["2026-01-02"], &["2026-1-2", "2026-02-30", "20260102", "x", "2026-01-02Z"]);
        let good = [
            "2026-01-02T03:04:05Z",
            "2026-01-02t03:04:05z",
            "2026-01-02T03:04:05x5Z",
            "2026-01-02T03:04:05+99:99",
            "2026-01-02T03:04:05ZTx",
            "2026-01-02T03:04:05.123456789123Z",
            "2026-01-02T03:04:05.5-01:00",
        ];
        let bad = [
            "2026-01-02T3:04:05Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:04:60Z",
            "",
            "20260102T030405Z",
            "2026-01-02 03:04:05Z",
            "2026-02-30T00:00:00Z",
            "2026-01-02T03:04Z",
            "x",
            "2026-01-02T03:04:05+0100",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:055Z",
            "2026-01-02T03:04:05Ttrailing",
        ];
        check(is_date_time, &good, &bad);
    }

    #[test]
    fn a_version_of_uuids_has_its_own_digits() {
        const THREE: &str = "00000000-0000-3000-0000-000000000000";
        const FOUR: &str = "00000000-0000-4000-8000-000000000000";
        const FIVE: &str = "00000000-0000-5000-B000-000000000000";
        let loose = ["00000000000040008000000000000000", THREE, FOUR, FIVE];
        let bad = ["x", "{00000000-0000-4000-8000-000000000000}", "00000000-0000-4000-8000-0000000000000"];
        check(|text| is_uuid(text, None), &loose, &bad);
        check(|text| is_uuid(text, Some(('3', ""))), &[THREE], &[FOUR, FIVE]);
        let wrong = [THREE, FIVE, "00000000-0000-4000-0000-000000000000"];
        check(|text| is_uuid(text, Some(('4', "89ab"))), &[FOUR], &wrong);
        check(|text| is_uuid(text, Some(('5', "89ab"))), &[FIVE], &[THREE, FOUR]);
    }
}
