//! The formats of strings and numbers that kube-apiserver checks; all others are only documentation.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use apimachinery::{FieldError, FieldReason, names};
use base64::Engine as _;
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
    Some(check::fault(FieldReason::Invalid, path, value.clone(), &detail))
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

fn text_has(format: &str, text: &str) -> bool {
    static UUID: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").ok()
    });
    static DURATION: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^[-+]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w)\s*)+$").ok());
    let matches = |regex: &LazyLock<Option<Regex>>| regex.as_ref().is_some_and(|regex| regex.is_match(text));
    match &*format.replace('-', "") {
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "cidr" => is_cidr(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "duration" => matches(&DURATION),
        "email" => text.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace) && !host.contains('@')
        }),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        "hostname" => names::dns1123_subdomain(&text.to_ascii_lowercase()).is_empty(),
        "k8slongname" => names::dns1123_subdomain(text).is_empty(),
        "k8sshortname" => names::dns1123_label(text).is_empty(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "mac" => {
            let parts: Vec<_> = text.split([':', '-']).collect();
            matches!(parts.len(), 6 | 8 | 20)
                && parts
                    .iter()
                    .all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        }
        // Go's ParseRequestURI: absolute, or a path.
        "uri" => {
            text.starts_with('/')
                || text.split_once(':').is_some_and(|(scheme, rest)| {
                    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
                        && !rest.contains(char::is_whitespace)
                })
        }
        "uuid" | "uuid3" | "uuid4" | "uuid5" => matches(&UUID),
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let most = if address.parse::<Ipv4Addr>().is_ok() {
        32
    } else if address.parse::<Ipv6Addr>().is_ok() {
        128
    } else {
        return false;
    };
    plain && length.parse::<u8>().is_ok_and(|length| length <= most)
}
