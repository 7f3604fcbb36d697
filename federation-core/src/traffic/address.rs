//! Addresses of Services: IP addresses, or host names of load balancers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dns::Name;

use super::zone::inside;

/// An address of a Service in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Address {
    /// A literal one.
    Ip(IpAddr),
    /// The name of a load balancer whose addresses are its provider's to change: lower case, with the final dot.
    Host(String),
}

/// A text is neither an IP address nor a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither an IP address nor a host name")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let name = format!("{}.", text.trim_end_matches('.').to_ascii_lowercase());
        // A name of one label means something else to each who asks.
        match Name::parse(&name) {
            Ok(parsed) if parsed.label_count() > 1 && !parsed.is_wildcard() && !ends_in_number(&parsed) => {
                Ok(Self::Host(name))
            }
            _ => Err(AddressError),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Host(name) => f.write_str(name.trim_end_matches('.')),
        }
    }
}

/// As a mistyped IPv4 address does, and no name of a host (RFC 1123 section 2.1).
fn ends_in_number(name: &Name) -> bool {
    name.labels_from_root().first().is_some_and(|last| last.iter().all(u8::is_ascii_digit))
}

/// Where users connect to, of what is told of a cluster: the literal addresses, and where there are none one name, whose addresses are its
/// owner's to say. A name in one of the zones `own`, which are answered here, would be an alias to itself, and is none.
pub fn reached(told: &[String], own: &[String]) -> Vec<Address> {
    let mut addresses: Vec<Address> = told.iter().filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.iter().any(|address| matches!(address, Address::Ip(_))) {
        addresses.retain(|address| matches!(address, Address::Ip(_)));
    }
    let ours = |name: &str| own.iter().any(|origin| inside(name, origin));
    addresses.retain(|address| !matches!(address, Address::Host(name) if ours(name)));
    if matches!(addresses.first(), Some(Address::Host(_))) {
        addresses.truncate(1);
    }
    addresses
}

/// The literal ones.
pub(super) fn ips(addresses: &[Address]) -> Vec<IpAddr> {
    let ip = |address: &Address| if let Address::Ip(ip) = address { Some(*ip) } else { None };
    addresses.iter().filter_map(ip).collect()
}

/// The name, where there are no literal ones.
pub(super) fn host(addresses: &[Address]) -> Option<&str> {
    match addresses {
        [Address::Host(name), ..] => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_an_address_a_name_or_neither() {
        let read = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(read("192.0.2.1"), Ok("192.0.2.1".into()));
        assert_eq!(read("2001:DB8::1"), Ok("2001:db8::1".into()));
        assert_eq!(read("LB-1.elb.example.net."), Ok("lb-1.elb.example.net".into()));
        for neither in
            ["", ".", "localhost", "*.example.net", "a b.example.net", "a..b", "x:1", "192.0.2.300"]
        {
            assert_eq!(read(neither), Err(AddressError), "{neither:?}");
        }
    }

    #[test]
    fn what_was_kept_before_there_were_names_is_read() {
        let kept: Vec<Address> =
            serde_json::from_str(r#"["192.0.2.1", "2001:db8::1", "lb.example.net."]"#).expect("texts");
        assert_eq!(ips(&kept).len(), 2);
        assert_eq!(kept.last(), Some(&Address::Host("lb.example.net.".into())));
        assert_eq!(
            serde_json::to_string(&kept).ok().as_deref(),
            Some(r#"["192.0.2.1","2001:db8::1","lb.example.net."]"#)
        );
    }
}
