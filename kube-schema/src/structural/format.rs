//! The formats of strings that kube-apiserver checks; all others, those of numbers too, are only documentation.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use apimachinery::{FieldError, FieldReason, names};
use base64::Engine as _;
use regex::Regex;
use serde_json::Value;

use super::{Structural, check};

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

/// Whether values of a format are checked.
pub fn is_known(format: &str) -> bool {
    matches!(
        format,
        "byte"
            | "cidr"
            | "date"
            | "date-time"
            | "datetime"
            | "duration"
            | "email"
            | "hexcolor"
            | "hostname"
            | "ipv4"
            | "ipv6"
            | "mac"
            | "uri"
            | "uuid"
            | "uuid3"
            | "uuid4"
            | "uuid5"
    )
}

fn text_has(format: &str, text: &str) -> bool {
    static UUID: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").ok()
    });
    static DURATION: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^[-+]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w)\s*)+$").ok());
    let matches = |regex: &LazyLock<Option<Regex>>| regex.as_ref().is_some_and(|regex| regex.is_match(text));
    match format {
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "cidr" => is_cidr(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "duration" => matches(&DURATION),
        "email" => text.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace) && !host.contains('@')
        }),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        "hostname" => names::dns1123_subdomain(&text.to_ascii_lowercase()).is_empty(),
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
