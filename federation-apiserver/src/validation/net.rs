//! Addresses, networks, ports and protocols.

use std::net::IpAddr;

use apimachinery::{FieldError, FieldPath, names};
use serde_json::Value;

use crate::registry::Faults;

pub(crate) const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
pub(crate) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
pub(crate) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// An address as Go's `net.ParseIP` once read it, with zeros before its numbers (`netutils.ParseIPSloppy`).
fn sloppy_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| without_leading_zeros(text).parse().ok())
}

fn without_leading_zeros(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for piece in text.split_inclusive(['.', ':']) {
        let digits = piece.trim_end_matches(['.', ':']).len();
        let zeros = piece.bytes().take_while(|byte| *byte == b'0').count();
        plain.push_str(&piece[zeros.min(digits.saturating_sub(1))..]);
    }
    plain
}

/// Some read an IPv4 address that is written as one of IPv6 as the former, and others as the latter.
fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// An address in its text form, which no two programs read differently (`validation.IsValidIPForLegacyField`, KEP-4858).
pub(crate) fn ip(text: &str, path: &FieldPath, faults: &mut Faults) -> Option<IpAddr> {
    let wrong = match (text.parse(), sloppy_ip(text)) {
        (Ok(address), _) if is_mapped(address) => "must not be an IPv4-mapped IPv6 address",
        (Ok(address), _) => return Some(address),
        (Err(_), Some(_)) => "must not have leading 0s",
        (Err(_), None) => BAD_IP,
    };
    faults.push(FieldError::invalid(path, text, wrong));
    None
}

/// What a writer is told of an address that others write in another way (`validation.GetWarningsForIP`).
pub(crate) fn ip_warning(text: &str, path: &str) -> Option<String> {
    let address = sloppy_ip(text)?;
    let parsed: Option<IpAddr> = text.parse().ok();
    if parsed.is_none_or(is_mapped) {
        let better = address.to_canonical();
        return Some(format!(
            "{path}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \"{better}\""
        ));
    }
    (address.is_ipv6() && address.to_string() != text).then(|| {
        format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")")
    })
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
pub(crate) fn not_special(text: &str, path: &FieldPath, faults: &mut Faults) {
    let wrong = ip(text, path, faults).map(special).unwrap_or_default();
    faults.extend(wrong.iter().map(|message| FieldError::invalid(path, text, message)));
}

/// A network as Go's `net.ParseCIDR` once read it, with zeros before its numbers (`netutils.ParseCIDRSloppy`): address and bits.
fn sloppy_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address = sloppy_ip(address)?;
    if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bits = without_leading_zeros(bits).parse().ok()?;
    (bits <= width(address)).then_some((address, bits))
}

/// Bits of an address of this family.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address without what lies beyond the first so many bits.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let beyond = u32::from(width(address).saturating_sub(bits));
    match address {
        IpAddr::V4(address) => {
            IpAddr::V4((u32::from(address) & u32::MAX.checked_shl(beyond).unwrap_or_default()).into())
        }
        IpAddr::V6(address) => {
            IpAddr::V6((u128::from(address) & u128::MAX.checked_shl(beyond).unwrap_or_default()).into())
        }
    }
}

/// A network in CIDR notation, which no two programs read differently (`validation.IsValidCIDRForLegacyField`, KEP-4858).
pub(crate) fn cidr(text: &str, path: &FieldPath, faults: &mut Faults) -> Option<(IpAddr, u8)> {
    let wrong = match sloppy_cidr(text) {
        None => "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        Some(_) if !is_plain_cidr(text) => "must not have leading 0s in IP or prefix length",
        Some((address, _)) if is_mapped(address) => "must not have an IPv4-mapped IPv6 address",
        Some((address, bits)) if masked(address, bits) != address => {
            "must not have bits set beyond the prefix length"
        }
        network => return network,
    };
    faults.push(FieldError::invalid(path, text, wrong));
    None
}

/// Whether neither the address nor its bits begin with zeros that say nothing.
fn is_plain_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        address.parse::<IpAddr>().is_ok() && (bits.len() == 1 || !bits.starts_with('0'))
    })
}

/// What a writer is told of a network that others write in another way (`validation.GetWarningsForCIDR`).
pub(crate) fn cidr_warnings(text: &str, path: &str) -> Vec<String> {
    let Some((address, bits)) = sloppy_cidr(text) else { return Vec::new() };
    let mut warnings = Vec::new();
    let first = masked(address, bits);
    let network = if is_mapped(first) {
        format!("{}/{}", first.to_canonical(), bits.saturating_sub(96))
    } else {
        format!("{first}/{bits}")
    };
    if first != address {
        let single = format!("{}/{}", address.to_canonical(), width(address));
        warnings.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be {network:?} or {single:?}?)"
        ));
    }
    if !is_plain_cidr(text) || is_mapped(address) {
        warnings.push(format!(
            "{path}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use {network:?}"
        ));
    }
    if warnings.is_empty() && address.is_ipv6() && network != text {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({network:?})"
        ));
    }
    warnings
}

/// The name of a host with its domain: `validation.IsFullyQualifiedDomainName`.
pub(crate) fn host_name(name: &str, path: &FieldPath, faults: &mut Faults) {
    if name.is_empty() {
        faults.push(FieldError::required(path, ""));
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let found = names::dns1123_subdomain(name);
    if !found.is_empty() {
        faults.push(FieldError::invalid(path, name, &found.join(",")));
    } else if !name.contains('.') {
        let message = "should be a domain with at least two segments separated by dots";
        faults.push(FieldError::invalid(path, name, message));
    } else {
        for label in name.split('.') {
            let found = names::dns1123_label(label);
            if !found.is_empty() {
                faults.push(FieldError::invalid(path, label, &found.join(",")));
            }
        }
    }
}

/// The bits of an address, leftmost first.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Whether the inner network lies in the outer one and is smaller.
pub(crate) fn strictly_within(inner: (IpAddr, u8), outer: (IpAddr, u8)) -> bool {
    let mask = if outer.1 == 0 { 0 } else { u128::MAX << (128 - u32::from(outer.1)) };
    inner.0.is_ipv4() == outer.0.is_ipv4()
        && inner.1 > outer.1
        && bits(inner.0) & mask == bits(outer.0) & mask
}

/// A port number.
pub(crate) fn port(number: i64, path: &FieldPath, faults: &mut Faults) {
    if !(1..=65535).contains(&number) {
        faults.push(FieldError::invalid(path, number, PORT_RANGE));
    }
}

/// `validation.IsValidPortName`.
pub(crate) fn port_name(name: &str) -> Vec<&'static str> {
    let mut faults = Vec::new();
    if name.is_empty() || name.len() > 15 {
        faults.push(if name.is_empty() { "must not be empty" } else { "must be no more than 15 characters" });
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        faults.push("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        faults.push("must not begin or end with a hyphen");
    }
    faults
}

/// A port by number or by name.
pub(crate) fn port_or_name(value: &Value, path: &FieldPath, faults: &mut Faults) {
    match value {
        Value::String(name) => {
            faults
                .extend(port_name(name).iter().map(|fault| FieldError::invalid(path, name.as_str(), fault)));
        }
        value => port(value.as_i64().unwrap_or_default(), path, faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_within_a_larger_one_only() {
        let net = |text: &str| cidr(text, &FieldPath::default(), &mut Faults::new());
        let within = |inner, outer| net(inner).zip(net(outer)).is_some_and(|(i, o)| strictly_within(i, o));
        assert!(within("10.1.2.0/24", "10.1.0.0/16"));
        assert!(!within("10.2.2.0/24", "10.1.0.0/16"));
        assert!(!within("10.1.0.0/16", "10.1.0.0/16"));
        assert!(within("10.1.0.0/16", "0.0.0.0/0"));
        assert!(!within("10.1.2.0/24", "::/0"));
    }

    fn told<T>(check: impl Fn(&str, &FieldPath, &mut Faults) -> T, text: &str) -> Option<String> {
        let mut faults = Faults::new();
        check(text, &FieldPath::default(), &mut faults);
        faults.iter().map(|fault| fault.message.clone()).next()
    }

    fn said(text: &str, end: &str) -> Option<String> {
        Some(format!("Invalid value: {text:?}: {end}"))
    }

    #[test]
    fn an_address_that_programs_read_differently_is_refused() {
        let ip = |text: &str| told(ip, text);
        for good in ["10.0.0.1", "0.0.0.0", "2001:db8::1", "2001:DB8:0:0::1", "::", "::1.2.3.4"] {
            assert_eq!(ip(good), None, "{good}");
        }
        for sloppy in ["010.0.0.1", "1.2.3.004", "::ffff:1.2.3.04", "2001:00db8::1"] {
            assert_eq!(ip(sloppy), said(sloppy, "must not have leading 0s"));
        }
        let mapped = "::ffff:1.2.3.4";
        assert_eq!(ip(mapped), said(mapped, "must not be an IPv4-mapped IPv6 address"));
        for bad in
            ["", ".", "10.0.0", "10.0.0.256", "0x10.0.0.1", "fe80::1%eth0", "+1.2.3.4", " 1.2.3.4", "é.0.0.1"]
        {
            assert_eq!(ip(bad), said(bad, BAD_IP));
        }
    }

    #[test]
    fn a_network_that_programs_read_differently_is_refused() {
        let cidr = |text: &str| told(cidr, text);
        for good in ["10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32", "2001:db8::/64", "::/0", "2001:DB8:0::/64"] {
            assert_eq!(cidr(good), None, "{good}");
        }
        for (text, end) in [
            ("10.0.0.5/8", "must not have bits set beyond the prefix length"),
            ("2001:db8::1/64", "must not have bits set beyond the prefix length"),
            ("::ffff:1.2.3.0/120", "must not have an IPv4-mapped IPv6 address"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("010.0.0.0/8", "must not have leading 0s in IP or prefix length"),
        ] {
            assert_eq!(cidr(text), said(text, end));
        }
        for bad in [
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "::/129",
            "a/8",
            "1.2.3.4/8/8",
        ] {
            assert_eq!(
                cidr(bad),
                said(bad, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
            );
        }
    }

    #[test]
    fn who_writes_addresses_in_another_way_is_told_the_usual_one() {
        assert_eq!(ip_warning("10.0.0.1", "a"), None);
        assert_eq!(ip_warning("2001:db8::1", "a"), None);
        let told =
            "a: IPv6 address \"2001:DB8::0:1\" should be in RFC 5952 canonical format (\"2001:db8::1\")";
        assert_eq!(ip_warning("2001:DB8::0:1", "a").as_deref(), Some(told));
        for (text, better) in [("010.0.0.1", "10.0.0.1"), ("::ffff:1.2.3.4", "1.2.3.4")] {
            let told = format!(
                "a: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use {better:?}"
            );
            assert_eq!(ip_warning(text, "a"), Some(told));
        }
        assert_eq!(cidr_warnings("10.0.0.0/8", "a"), Vec::<String>::new());
        let ambiguous = "a: CIDR value \"10.0.0.5/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.5/32\"?)";
        assert_eq!(cidr_warnings("10.0.0.5/8", "a"), [ambiguous]);
        let strange = "a: non-standard CIDR value \"::ffff:1.2.3.0/120\" will be considered invalid in a future Kubernetes release: use \"1.2.3.0/24\"";
        assert_eq!(cidr_warnings("::ffff:1.2.3.0/120", "a"), [strange]);
        let capitals =
            "a: IPv6 CIDR value \"2001:DB8::/64\" should be in RFC 5952 canonical format (\"2001:db8::/64\")";
        assert_eq!(cidr_warnings("2001:DB8::/64", "a"), [capitals]);
    }

    #[test]
    fn port_names_have_a_letter_and_no_double_hyphen() {
        assert!(port_name("http-1").is_empty());
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_name("a--b"), ["must not contain consecutive hyphens"]);
    }
}
