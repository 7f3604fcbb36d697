//! Addresses, networks, ports and protocols.

use std::net::IpAddr;

use apimachinery::{
    FieldError, FieldPath,
    addresses::{self, Network},
    names,
};
use serde_json::Value;

pub(crate) use apimachinery::addresses::{cidr_warnings, ip_warning};

use crate::registry::ErrorList;

pub(crate) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
pub(crate) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// An address in its text form, if it is told as it should be.
pub(crate) fn ip(text: &str, path: &FieldPath, errors: &mut ErrorList) -> Option<IpAddr> {
    let told = addresses::ip(text);
    match told.fault {
        Some(error) => {
            errors.push(FieldError::invalid(path, text, error));
            None
        }
        None => told.value,
    }
}

/// What is wrong with an address that leads to this machine or to its link, rather than away (`validation.ValidateNonSpecialIP`).
pub(crate) fn special(address: IpAddr) -> Vec<String> {
    let (link, multicast) = match address {
        IpAddr::V4(address) => (address.is_link_local(), address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => (address.is_unicast_link_local(), address.segments()[0] & 0xff0f == 0xff02),
    };
    let known = [
        (address.is_unspecified(), format!("may not be unspecified ({address})")),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ];
    known.into_iter().filter(|(found, _)| *found).map(|(_, message)| message).collect()
}

/// Finds what is wrong with an address that must lead away from this machine.
pub(crate) fn not_special(text: &str, path: &FieldPath, errors: &mut ErrorList) {
    let wrong = ip(text, path, errors).map(special).unwrap_or_default();
    errors.extend(wrong.iter().map(|message| FieldError::invalid(path, text, message)));
}

/// A network in CIDR notation, however it is told.
pub(crate) fn cidr(text: &str, path: &FieldPath, errors: &mut ErrorList) -> Option<Network> {
    let told = addresses::cidr(text);
    errors.extend(told.fault.map(|error| FieldError::invalid(path, text, error)));
    told.value
}

/// The name of a host with its domain: `validation.IsFullyQualifiedDomainName`.
pub(crate) fn host_name(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let found = names::dns1123_subdomain(name);
    if !found.is_empty() {
        errors.push(FieldError::invalid(path, name, &found.join(",")));
    } else if !name.contains('.') {
        let message = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, name, message));
    } else {
        for label in name.split('.') {
            let found = names::dns1123_label(label);
            if !found.is_empty() {
                errors.push(FieldError::invalid(path, label, &found.join(",")));
            }
        }
    }
}

/// Whether the inner network lies in the outer one and is smaller.
pub(crate) fn strictly_within(inner: Network, outer: Network) -> bool {
    inner.address.is_ipv4() == outer.address.is_ipv4()
        && inner.bits > outer.bits
        && Network { address: inner.address, ..outer }.first() == outer.first()
}

/// A port number.
pub(crate) fn port(number: i64, path: &FieldPath, errors: &mut ErrorList) {
    if !(1..=65535).contains(&number) {
        errors.push(FieldError::invalid(path, number, PORT_RANGE));
    }
}

/// `validation.IsValidPortName`.
pub(crate) fn port_name(name: &str) -> Vec<&'static str> {
    let mut errors = Vec::new();
    if name.is_empty() || name.len() > 15 {
        errors.push(if name.is_empty() { "must not be empty" } else { "must be no more than 15 characters" });
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen");
    }
    errors
}

/// A port by number or by name.
pub(crate) fn port_or_name(value: &Value, path: &FieldPath, errors: &mut ErrorList) {
    match value {
        Value::String(name) => {
            errors
                .extend(port_name(name).iter().map(|error| FieldError::invalid(path, name.as_str(), error)));
        }
        value => port(value.as_i64().unwrap_or_default(), path, errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_within_a_larger_one_only() {
        let net = |text: &str| cidr(text, &FieldPath::default(), &mut ErrorList::new());
        let within = |inner, outer| net(inner).zip(net(outer)).is_some_and(|(i, o)| strictly_within(i, o));
        assert!(within("10.1.2.0/24", "10.1.0.0/16"));
        assert!(!within("10.2.2.0/24", "10.1.0.0/16"));
        assert!(!within("10.1.0.0/16", "10.1.0.0/16"));
        assert!(within("10.1.0.0/16", "0.0.0.0/0"));
        assert!(!within("10.1.2.0/24", "::/0"));
    }

    #[test]
    fn port_names_have_a_letter_and_no_double_hyphen() {
        assert!(port_name("http-1").is_empty());
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_name("a--b"), ["must not contain consecutive hyphens"]);
    }
}
