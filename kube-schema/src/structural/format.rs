//! The formats of strings and numbers that kube-apiserver checks; all others are only documentation.

mod email;
pub(super) mod numbers;

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::LazyLock,
};

use apimachinery::{FieldError, FieldReason, formats, names};
use regex::Regex;
use serde_json::Value;

use super::{Structural, Type, check, composite};

/// The fault of a value that does not have the schema's format.
pub(super) fn fault(schema: &Structural, value: &Value, path: &str) -> Option<FieldError> {
    let format = schema.checks.format.as_deref()?;
    let good = match value {
        Value::String(text) => text_has(format, text),
        _ => true,
    };
    if good {
        return None;
    }
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let detail = format!("{path} in body must be of type {format}: {shown:?}");
    Some(check::fault(FieldReason::TypeInvalid, path, value.clone(), &detail))
}

/// The fault of a number that the type and the format of its schema have no room for. `what` says which number: the value, or one that the
/// schema itself names, which needs room whatever the value is (`validate.IsValueValidAgainstRange`).
pub(super) fn range(schema: &Structural, number: &Value, what: &str, path: &str) -> Option<FieldError> {
    let format = schema.checks.format.as_deref()?;
    let float = number.as_f64()?;
    // Go writes the number down and reads it as what it shall be.
    let whole = || {
        let exact = float.fract() == 0.0 && (-LARGEST..LARGEST).contains(&float);
        number.as_i64().or_else(|| exact.then_some(float as i64))
    };
    let fits = match (schema.kind?, format) {
        (Type::Integer, "int32") => whole().is_some_and(|whole| i32::try_from(whole).is_ok()),
        (Type::Integer, "int64") => whole().is_some(),
        (Type::Number, "float") => (float as f32).is_finite(),
        _ => true,
    };
    let kind = schema.kind?.as_str();
    let told =
        || composite::about(format!("{what} value must be of type {kind} with format {format} in {path}"));
    (!fits).then(told)
}

/// The first number that is too large for 64 bits with a sign.
const LARGEST: f64 = 9_223_372_036_854_775_808.0;

/// Formats of texts that kube-apiserver knows, without their hyphens, which it passes over (`supportedVersionedFormats`).
const KNOWN: [&str; 27] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "quantity",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// Whether kube-apiserver knows a format of values of a type, or of values whose type is left open.
pub fn is_known(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => KNOWN.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// The format of a schema, if kube-apiserver checks it: it leaves all others out, among them one that it knows.
pub(super) fn of(schema: &Structural) -> Option<&str> {
    let format = schema.checks.format.as_deref().filter(|format| *format != "quantity")?;
    is_known(schema.kind.map_or("", Type::as_str), format).then_some(format)
}

/// Whether texts may have a format.
pub(super) fn is_of_text(format: &str) -> bool {
    is_known("string", format)
}

fn text_has(format: &str, text: &str) -> bool {
    static RGB: LazyLock<Option<Regex>> = LazyLock::new(|| {
        const PART: &str = "[\t\n\x0c\r ]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[\t\n\x0c\r ]*";
        Regex::new(&format!(r"^rgb\({PART},{PART},{PART}\)$")).ok()
    });
    static SOCIAL: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("^[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}$").ok());
    let matches = |regex: &LazyLock<Option<Regex>>| regex.as_ref().is_some_and(|regex| regex.is_match(text));
    let is_hex = || text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match &*format.replace('-', "") {
        "bsonobjectid" => text.len() == 24 && is_hex(),
        "byte" => formats::is_base64(text),
        "cidr" => is_cidr(text),
        "creditcard" => numbers::is_credit_card(text),
        "date" => formats::is_date(text),
        "datetime" => formats::is_date_time(text),
        "duration" => numbers::duration(text).is_some(),
        "email" => email::is_address(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        "hostname" => is_hostname(text),
        "isbn" => numbers::is_isbn10(text) || numbers::is_isbn13(text),
        "isbn10" => numbers::is_isbn10(text),
        "isbn13" => numbers::is_isbn13(text),
        "k8slongname" => names::dns1123_subdomain(text).is_empty(),
        "k8sshortname" => names::dns1123_label(text).is_empty(),
        "ipv4" => text.contains('.') && address(text).is_some(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "mac" => is_mac(text),
        "rgbcolor" => matches(&RGB),
        "ssn" => matches(&SOCIAL),
        // Go's ParseRequestURI: absolute, or a path.
        "uri" => {
            text.starts_with('/')
                || text.split_once(':').is_some_and(|(scheme, rest)| {
                    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
                        && !rest.contains(char::is_whitespace)
                })
        }
        "uuid" => formats::is_uuid(text, None),
        "uuid3" => formats::is_uuid(text, Some(('3', ""))),
        "uuid4" => formats::is_uuid(text, Some(('4', "89ab"))),
        "uuid5" => formats::is_uuid(text, Some(('5', "89ab"))),
        _ => true,
    }
}

/// A label alone, which may have one hyphen behind its first letter; or labels, the last of which has two or more letters and nothing else.
fn is_hostname(text: &str) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[a-zA-Z0-9\p{S}\p{L}]$").ok());
    static PLAIN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[a-zA-Z\p{L}]+$").ok());
    let is_letter = |letter: char| {
        let mut buffer = [0; 4];
        LETTER.as_ref().is_some_and(|regex| regex.is_match(letter.encode_utf8(&mut buffer)))
    };
    // Each label has at most 63 bytes, and the whole name 255.
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    let is_label = |label: &str| {
        label.chars().all(|letter| letter == '-' || is_letter(letter))
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match text.rsplit_once('.') {
        Some((labels, last)) => {
            labels.split('.').all(is_label)
                && last.chars().count() >= 2
                && PLAIN.as_ref().is_some_and(|regex| regex.is_match(last))
        }
        None => {
            let mut letters = text.chars();
            let first = letters.next();
            let rest = letters.as_str();
            first.is_some_and(is_letter) && rest.strip_prefix('-').unwrap_or(rest).chars().all(is_letter)
        }
    }
}

/// Six, eight or twenty bytes: each in two digits between colons or between hyphens, or two of them in four digits between points.
fn is_mac(text: &str) -> bool {
    let of = |separator: char, length: usize, counts: [usize; 3]| {
        let parts = || text.split(separator);
        let good = |part: &str| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        counts.contains(&parts().count()) && parts().all(good)
    };
    of(':', 2, [6, 8, 20]) || of('-', 2, [6, 8, 20]) || of('.', 4, [3, 4, 10])
}

/// An IP address; numbers of IPv4 may begin with zeros.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let parts = text.split('.').map(|part| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0",
        digits => digits,
    });
    parts.collect::<Vec<_>>().join(".").parse().ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((network, length)) = text.split_once('/') else { return false };
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let most = match address(network) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    plain && length.parse::<u8>().is_ok_and(|length| length <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text_has(format, text), "{format}: {text}");
        }
        for text in bad {
            assert!(!text_has(format, text), "{format}: {text}");
        }
    }

    #[test]
    fn texts_have_their_formats_as_in_kubernetes() {
        check("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f1f77bcf86cd79943901", "x", ""]);
        check("byte", &["YQ==", "YR=="], &["", "YQ"]);
        check("date-time", &["2026-01-02t03:04:05z"], &["20260102T030405Z"]);
        check("uuid4", &["00000000-0000-4000-8000-000000000000"], &["00000000-0000-5000-8000-000000000000"]);
        check("cidr", &["1.2.3.4/8", "01.2.3.4/8", "::/0", "::ffff:1.2.3.4/120"], &["1.2.3.4", "1.2.3.4/33"]);
        check("ipv4", &["1.2.3.4", "01.0.00.4", "::ffff:1.2.3.4"], &["1.2.3", "::1", "1..2.3", "1.2.3.4%a"]);
        check("ipv6", &["::1", "::ffff:1.2.3.4"], &["1.2.3.4", "fe80::1%eth0"]);
        check(
            "rgbcolor",
            &["rgb(1,2,3)", "rgb( 1 , 2 , 255 )"],
            &["rgb(256,0,0)", "rgb(01,0,0)", "rgb (1,2,3)"],
        );
        check("ssn", &["123-45-6789", "123-45 6789"], &["123456789", "12345-67890"]);
        let mac = ["01:23:45:67:89:ab", "01-23-45-67-89-ab", "0123.4567.89ab", "0123.4567.89ab.cdef"];
        check("mac", &mac, &["01:23-45:67:89:ab", "01:23:45:67:89", "0123456789ab", "01:23:45:67:89:ag"]);
    }

    #[test]
    fn the_last_label_of_a_hostname_has_letters_only() {
        let (long, longer) = ("a".repeat(63), "a".repeat(64));
        let good = [
            "a",
            "a.bc",
            "a-b",
            "a-",
            "A.BC",
            "é",
            "é.com",
            "x.éé",
            "☃.com",
            "a.b.c.de",
            "a-b.c--d.ef",
            &long,
        ];
        let bad = [
            "1.2.3.4",
            "2026-01-02",
            "a.b",
            "a--b",
            "-a",
            "a_b",
            "ab-cd",
            "a.b-c",
            "a.bc-",
            "a..bc",
            "x.é",
            "a.",
            "",
            "ab-.cd",
            &longer,
        ];
        check("hostname", &good, &bad);
    }
}
