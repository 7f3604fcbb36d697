//! Times as Go reads and writes them.

use jiff::Timestamp;

use crate::protobuf::scalar;

/// Times that leases and events tell.
pub(crate) const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

/// A time as `metav1.MicroTime` writes it, in UTC with six digits; none if it is no time, or written so.
pub(crate) fn to_micro(text: &str) -> Option<String> {
    if text.ends_with('Z') && micro_time_fault(text).is_none() {
        return None;
    }
    let (seconds, nanos) = scalar::parse_time(text)?;
    scalar::micro_time(seconds, nanos)
}

/// What Go says of a text that is no time in the format of RFC 3339; none if it is one.
pub fn describe_time_fault(text: &str) -> Option<String> {
    text.parse::<Timestamp>().is_err().then(|| {
        let (rest, layout) = time_fault(text);
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {rest:?} as {layout}")
    })
}

/// What Go's parser cannot read of a `metav1.MicroTime`, and which part of its layout that should be; none if it reads all.
pub(crate) fn micro_time_fault(text: &str) -> Option<(&str, &'static str)> {
    /// The length of a time to the second, without its zone.
    const SECONDS: usize = 19;
    let (rest, layout) = time_fault(text);
    if layout != "\"Z07:00\"" {
        return Some((rest, layout));
    }
    let rest = text.get(SECONDS..).unwrap_or_default();
    let digits = rest.strip_prefix('.').and_then(|rest| rest.get(..6));
    if !digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit())) {
        return Some((rest, "\".000000\""));
    }
    let zone = rest.get(7..).unwrap_or_default();
    let digit = |at: usize| zone.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let offset = zone.len() == 6
        && zone.starts_with(['+', '-'])
        && zone.as_bytes().get(3) == Some(&b':')
        && [1, 2, 4, 5].into_iter().all(digit);
    if zone != "Z" && !offset {
        return Some((zone, layout));
    }
    text.parse::<Timestamp>().is_err().then_some((text, layout))
}

/// The same of an RFC 3339 time, whose fault is in its zone if it is in no other part.
pub(crate) fn time_fault(text: &str) -> (&str, &'static str) {
    const PARTS: [(usize, &str); 11] = [
        (4, "\"2006\""),
        (1, "\"-\""),
        (2, "\"01\""),
        (1, "\"-\""),
        (2, "\"02\""),
        (1, "\"T\""),
        (2, "\"15\""),
        (1, "\":\""),
        (2, "\"04\""),
        (1, "\":\""),
        (2, "\"05\""),
    ];
    let mut rest = text;
    for (length, pattern) in PARTS {
        let wanted = pattern.trim_matches('"');
        let fits = rest.get(..length).is_some_and(|part| {
            if length == 1 { part == wanted } else { part.bytes().all(|byte| byte.is_ascii_digit()) }
        });
        if !fits {
            return (rest, pattern);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    (rest, "\"Z07:00\"")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use crate::{Empties, Schemas};

    #[test]
    fn times_to_the_microsecond_have_six_digits() {
        let lease = |time: &str| {
            let object = json!({"spec": {"renewTime": time}});
            let report = Schemas::builtin().validate("coordination.k8s.io", "v1", "Lease", &object).unwrap();
            report.mismatches.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for good in ["2020-01-01T00:00:00.000000Z", "2020-01-01T00:00:00.123456+01:00"] {
            assert_eq!(lease(good), Vec::<String>::new());
        }
        let layout = "2006-01-02T15:04:05.000000Z07:00";
        for (bad, rest, part) in [
            ("2020-01-01T00:00:00Z", "Z", ".000000"),
            ("2020-01-01T00:00:00.1+01:00", ".1+01:00", ".000000"),
            ("2020-01-01T00:00:00.123456789Z", "789Z", "Z07:00"),
            ("x", "x", "2006"),
        ] {
            let expect = format!("parsing time {bad:?} as {layout:?}: cannot parse {rest:?} as {part:?}");
            assert_eq!(lease(bad), [expect]);
        }
    }

    #[test]
    fn times_to_the_microsecond_are_kept_as_go_writes_them() {
        let mut lease = json!({"spec": {"renewTime": "2026-01-01T00:00:00Z", "acquireTime": "x"}});
        let canonicalise = |lease: &mut _| {
            Schemas::builtin().canonicalise("coordination.k8s.io", "v1", "Lease", lease, Empties::Omitted);
        };
        canonicalise(&mut lease);
        assert_eq!(lease["spec"], json!({"renewTime": "2026-01-01T00:00:00.000000Z", "acquireTime": "x"}));
        for (written, kept) in [
            ("2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.123456Z"),
            ("2026-01-01T01:00:00.123456+01:00", "2026-01-01T00:00:00.123456Z"),
            ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123456Z"),
            ("1969-12-31T23:59:59.9Z", "1969-12-31T23:59:59.900000Z"),
        ] {
            lease["spec"]["renewTime"] = written.into();
            canonicalise(&mut lease);
            assert_eq!(lease["spec"]["renewTime"], kept);
        }
    }
}
