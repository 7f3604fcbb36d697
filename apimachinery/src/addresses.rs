//! Addresses and networks in the forms that Kubernetes takes (KEP-4858): what other programs may read otherwise is refused in what is new.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What no address in any form is refused with.
pub const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// What no network in any form is refused with.
pub const BAD_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address or a network, and what is wrong with the form in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<T> {
    /// What it is, however it is told; none if it is none at all.
    pub value: Option<T>,
    /// What it is refused with.
    pub fault: Option<&'static str>,
}

/// A network: an address in it, and how many bits all of it share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address, as it is told.
    pub address: IpAddr,
    /// The length of the prefix.
    pub bits: u8,
}

impl Network {
    /// The address in it whose other bits are all zero.
    pub fn first(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or_default();
                Ipv4Addr::from(u32::from(address) & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or_default();
                Ipv6Addr::from(u128::from(address) & mask).into()
            }
        }
    }

    fn width(self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// The form in which it is to be told.
    fn canonical(self) -> String {
        match self.first().to_canonical() {
            // Of IPv4 within IPv6, 96 bits are those that say so.
            IpAddr::V4(address) => format!("{address}/{}", self.bits.saturating_sub(self.width() - 32)),
            IpAddr::V6(address) => format!("{address}/{}", self.bits),
        }
    }
}

/// Reads an address as Go did once: with zeros in front of its numbers, and IPv4 within IPv6 for IPv4.
pub fn sloppy_ip(text: &str) -> Option<IpAddr> {
    sloppy(text).map(|address| address.to_canonical())
}

fn sloppy(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let mut plain = String::with_capacity(text.len());
        for part in text.split_inclusive(['.', ':']) {
            let number = part.trim_end_matches(['.', ':']);
            let short = number.trim_start_matches('0');
            plain.push_str(if short.is_empty() && !number.is_empty() { "0" } else { short });
            plain.push_str(&part[number.len()..]);
        }
        plain.parse().ok()
    })
}

/// An address in any form that means one to everybody: `validation.IsValidIPForLegacyField`.
pub fn ip(text: &str) -> Told<IpAddr> {
    let fault = match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Some("must not be an IPv4-mapped IPv6 address")
        }
        Ok(_) => None,
        Err(_) if sloppy(text).is_some() => Some("must not have leading 0s"),
        Err(_) => Some(BAD_IP),
    };
    Told { value: sloppy_ip(text), fault }
}

/// What an address is refused with where it is told in one form only: `validation.IsValidIP`.
pub fn canonical_ip(text: &str) -> Option<String> {
    let Told { value, fault } = ip(text);
    let canonical = value.map(|address| address.to_string()).unwrap_or_default();
    match fault {
        Some(fault) => Some(fault.to_owned()),
        None => (canonical != text).then(|| format!("must be in canonical form ({canonical:?})")),
    }
}

/// A network in any form that means one to everybody: `validation.IsValidCIDRForLegacyField`.
pub fn cidr(text: &str) -> Told<Network> {
    let parts = text.split_once('/');
    let parsed = parts.and_then(|(address, bits)| {
        let address = sloppy(address)?;
        // Rust takes a sign as well.
        let bits = bits.parse().ok().filter(|_| bits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let network = Network { address, bits };
        (bits <= network.width()).then_some(network)
    });
    let (Some((address, bits)), Some(network)) = (parts, parsed) else {
        return Told { value: None, fault: Some(BAD_CIDR) };
    };
    let zeros = address.parse::<IpAddr>().is_err() || bits.len() > 1 && bits.starts_with('0');
    let fault = if zeros {
        Some("must not have leading 0s in IP or prefix length")
    } else if network.address.is_ipv6() && network.address.to_canonical().is_ipv4() {
        Some("must not have an IPv4-mapped IPv6 address")
    } else if network.address != network.first() {
        Some("must not have bits set beyond the prefix length")
    } else {
        None
    };
    Told { value: Some(network), fault }
}

/// What a network is refused with where it is told in one form only: `validation.IsValidCIDR`.
pub fn canonical_cidr(text: &str) -> Option<String> {
    let Told { value, fault } = cidr(text);
    let canonical = value.map(Network::canonical).unwrap_or_default();
    match fault {
        Some(fault) => Some(fault.to_owned()),
        None => (canonical != text).then(|| format!("must be in canonical form ({canonical:?})")),
    }
}

/// What the address of an interface, with the length of its network's prefix, is refused with: `validation.IsValidInterfaceAddress`.
pub fn interface(text: &str) -> Option<String> {
    let Some(network) = cidr(text).value else {
        return Some("must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned());
    };
    let address = network.address.to_canonical();
    let mapped = address.is_ipv4() && network.address.is_ipv6();
    let bits = if mapped { network.bits.saturating_sub(96) } else { network.bits };
    let canonical = format!("{address}/{bits}");
    (canonical != text).then(|| format!("must be in canonical form ({canonical:?})"))
}

/// What the writer of an address at a place is warned of: `validation.GetWarningsForIP`.
pub fn ip_warning(text: &str, place: &str) -> Option<String> {
    let Told { value, fault } = ip(text);
    let address = value?;
    if fault.is_some() {
        return Some(format!(
            "{place}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \"{address}\""
        ));
    }
    (address.is_ipv6() && address.to_string() != text).then(|| {
        format!("{place}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")")
    })
}

/// What the writer of a network at a place is warned of: `validation.GetWarningsForCIDR`.
pub fn cidr_warnings(text: &str, place: &str) -> Vec<String> {
    let Told { value, fault } = cidr(text);
    let (Some(network), mut warnings) = (value, Vec::new()) else { return Vec::new() };
    let canonical = network.canonical();
    if network.first() != network.address {
        let address = network.address.to_canonical();
        let single = format!("{address}/{}", network.width());
        warnings.push(format!(
            "{place}: CIDR value {text:?} is ambiguous in this context (should be {canonical:?} or {single:?}?)"
        ));
    }
    if fault.is_some_and(|fault| !fault.contains("beyond")) {
        warnings.push(format!(
            "{place}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use {canonical:?}"
        ));
    }
    if warnings.is_empty() && network.address.is_ipv6() && canonical != text {
        warnings.push(format!(
            "{place}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_the_same_to_everybody() {
        for text in ["10.9.8.7", "::1", "2001:DB8::0:1", "::1.2.3.4"] {
            assert_eq!(ip(text).fault, None, "{text}");
        }
        for text in [
            "",
            "a",
            "10.9.8",
            "10.9.8.256",
            "fe80::1%eth0",
            "1.2.3.4/8",
            "0x1.2.3.4",
            "1..2.3",
            "+1.2.3.4",
            " 1.2.3.4",
            "é.0.0.1",
        ] {
            assert_eq!(ip(text), Told { value: None, fault: Some(BAD_IP) }, "{text}");
        }
        for text in ["010.009.8.7", "1.2.3.004", "::00001", "::ffff:01.2.3.4"] {
            assert_eq!(ip(text).fault, Some("must not have leading 0s"), "{text}");
        }
        assert_eq!(ip("010.009.8.7").value, "10.9.8.7".parse().ok());
        let mapped = ip("::ffff:1.2.3.4");
        assert_eq!(mapped.fault, Some("must not be an IPv4-mapped IPv6 address"));
        assert_eq!(mapped.value, "1.2.3.4".parse().ok());
    }

    #[test]
    fn a_network_means_the_same_to_everybody() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:DB8::/64", "10.9.8.7/32"] {
            assert_eq!(cidr(text).fault, None, "{text}");
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "a/8",
            "::/129",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(cidr(text), Told { value: None, fault: Some(BAD_CIDR) }, "{text}");
        }
        for text in ["010.0.0.0/8", "10.0.0.0/08"] {
            assert_eq!(cidr(text).fault, Some("must not have leading 0s in IP or prefix length"), "{text}");
        }
        let fault = cidr("::ffff:1.2.3.0/120").fault;
        assert_eq!(fault, Some("must not have an IPv4-mapped IPv6 address"));
        assert_eq!(cidr("10.0.0.5/8").fault, Some("must not have bits set beyond the prefix length"));
    }

    #[test]
    fn some_are_told_in_one_form_only() {
        assert_eq!(canonical_ip("fe80::42:1dff:fe84:f9e2"), None);
        assert_eq!(canonical_ip("FE80::1").as_deref(), Some(r#"must be in canonical form ("fe80::1")"#));
        assert_eq!(canonical_ip("a").as_deref(), Some(BAD_IP));
        assert_eq!(canonical_cidr("10.0.0.0/8"), None);
        assert_eq!(
            canonical_cidr("2001:db8:0::/64").as_deref(),
            Some(r#"must be in canonical form ("2001:db8::/64")"#)
        );
    }

    #[test]
    fn odd_forms_are_warned_of() {
        assert_eq!(ip_warning("10.9.8.7", "p"), None);
        assert_eq!(ip_warning("none", "p"), None);
        assert_eq!(
            ip_warning("2001:DB8::0:1", "p").as_deref(),
            Some(r#"p: IPv6 address "2001:DB8::0:1" should be in RFC 5952 canonical format ("2001:db8::1")"#)
        );
        assert_eq!(
            ip_warning("::ffff:1.2.3.4", "p").as_deref(),
            Some(
                r#"p: non-standard IP address "::ffff:1.2.3.4" will be considered invalid in a future Kubernetes release: use "1.2.3.4""#
            )
        );
        assert_eq!(
            cidr_warnings("10.0.0.5/8", "p"),
            [
                r#"p: CIDR value "10.0.0.5/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.5/32"?)"#
            ]
        );
        assert_eq!(
            cidr_warnings("10.0.0.0/08", "p"),
            [
                r#"p: non-standard CIDR value "10.0.0.0/08" will be considered invalid in a future Kubernetes release: use "10.0.0.0/8""#
            ]
        );
        assert_eq!(
            cidr_warnings("::ffff:1.2.3.0/120", "p"),
            [
                r#"p: non-standard CIDR value "::ffff:1.2.3.0/120" will be considered invalid in a future Kubernetes release: use "1.2.3.0/24""#
            ]
        );
        assert_eq!(
            cidr_warnings("2001:DB8::/64", "p"),
            [
                r#"p: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format ("2001:db8::/64")"#
            ]
        );
    }
}
