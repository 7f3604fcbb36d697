//! Times as Go reads and writes them.

use apimachinery::rfc3339::{Fraction, UnixTime};
use serde_json::Value;

use crate::protobuf::scalar;

/// Times of objects' metadata, conditions and the like.
pub(crate) const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
/// Times that leases and events tell.
pub(crate) const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

/// A time as `metav1.Time` writes it: in UTC, without a fraction of a second, and `null` if it is Go's zero time. None if it is no time, or
/// written so already.
pub(crate) fn to_seconds(text: &str) -> Option<Value> {
    canonical(UnixTime { nanos: 0, ..scalar::parse_time(text)? }, 0, text)
}

/// A time as `metav1.MicroTime` writes it: in UTC with six digits, and `null` if it is Go's zero time. None if it is no time, or written so.
pub(crate) fn to_micro(text: &str) -> Option<Value> {
    canonical(scalar::parse_time(text)?, 6, text)
}

fn canonical(time: UnixTime, digits: usize, text: &str) -> Option<Value> {
    if time == UnixTime::GO_ZERO {
        return Some(Value::Null);
    }
    time.text(digits).filter(|canonical| canonical != text).map(Value::from)
}

/// What Go says of a text that is no time in the format of RFC 3339; none if it is one.
pub fn describe_time_fault(text: &str) -> Option<String> {
    UnixTime::parse(text, Fraction::Any).err()
}

/// The same of a text that is no `metav1.MicroTime`: its layout has six digits, and takes neither more nor fewer.
pub(crate) fn describe_micro_time_fault(text: &str) -> Option<String> {
    UnixTime::parse(text, Fraction::Micros).err()
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

    #[test]
    fn times_are_kept_as_go_writes_them() {
        let mut map = json!({"metadata": {"managedFields": [{"manager": "a"}]}});
        for (written, kept) in [
            ("2026-01-02T03:04:05Z", json!("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:05.5+01:00", json!("2026-01-02T02:04:05Z")),
            ("1969-12-31T23:59:59.9Z", json!("1969-12-31T23:59:59Z")),
            ("9999-12-31T23:59:59Z", json!("9999-12-31T23:59:59Z")),
            ("0001-01-01T00:00:00.5Z", json!(null)),
            // As they were stored once.
            ("20260102T030405Z", json!("2026-01-02T03:04:05Z")),
            ("2026-01-02 03:04:05z", json!("2026-01-02T03:04:05Z")),
            ("x", json!("x")),
        ] {
            map["metadata"]["managedFields"][0]["time"] = written.into();
            Schemas::builtin().canonicalise("", "v1", "ConfigMap", &mut map, Empties::Omitted);
            assert_eq!(map["metadata"]["managedFields"][0]["time"], kept, "{written}");
        }
    }

    #[test]
    fn what_go_cannot_read_as_a_time_is_none() {
        let told = |time: &str| {
            let map = json!({"metadata": {"managedFields": [{"time": time}]}});
            let report = Schemas::builtin().validate("", "v1", "ConfigMap", &map).unwrap();
            report.mismatches.first().map(ToString::to_string)
        };
        for good in ["2026-01-02T03:04:05Z", "2026-01-02T3:04:05,123456789123+24:00", "9999-12-31T23:59:59Z"]
        {
            assert_eq!(told(good), None);
        }
        for bad in [
            "20260102T030405Z",
            "2026-01-02 03:04:05Z",
            "2026-01-02t03:04:05z",
            "2026-01-02T03:04:05+0100",
            "2026-01-02T03:04Z",
            "2026-01-02T03:04:05Z[UTC]",
            "+002026-01-02T03:04:05Z",
        ] {
            assert!(told(bad).is_some_and(|told| told.starts_with("parsing time")), "{bad}");
        }
        assert_eq!(
            told("2026-01-02T03:04:60Z").as_deref(),
            Some(r#"parsing time "2026-01-02T03:04:60Z": second out of range"#)
        );
    }
}
