//! The client's prefix: from Client Subnet (RFC 7871) in the query, or else the source address.

use std::net::IpAddr;

use super::{ClientMap, Prefix, Region};
use crate::zone::{Asker, step};

/// Bits of an IPv4 client that sticky answers depend on.
const KEY_V4: u8 = 24;
/// Bits of an IPv6 client that sticky answers depend on.
const KEY_V6: u8 = 56;

/// The content of a query's Client Subnet option (RFC 7871 section 6), well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// 1: IPv4, 2: IPv6, 0: none, then `source` is 0.
    pub family: u16,
    /// SOURCE PREFIX-LENGTH. 0: the client does not want to be known.
    pub source: u8,
    /// Zero beyond `source`.
    pub address: IpAddr,
}

/// Where a client is, and what that depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What answers are chosen by.
    pub asker: Asker,
    /// The scope of an answer that depends on the region.
    pub region_scope: u8,
    /// The scope of an answer that depends on the key.
    pub key_scope: u8,
}

/// Bits of an address of the family.
fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl ClientMap {
    /// Where whoever asked from `from`, perhaps for `subnet`, is.
    #[inline]
    pub fn place(&self, subnet: Option<&Subnet>, from: IpAddr) -> Place {
        match subnet.filter(|subnet| subnet.source > 0) {
            None => Place { region_scope: 0, key_scope: 0, ..self.at(from, bits(from)) },
            Some(subnet) => {
                let place = self.at(subnet.address, subnet.source);
                if place.asker.region == Region::NONE
                    && let Some(block) = private(subnet.address)
                {
                    // RFC 7871 section 10: a private address says nothing to us, unless the table names it. The answer holds for
                    // all of the private block, or as much of it as no other answer is for.
                    let scope = block.max(place.region_scope);
                    return Place { region_scope: scope, key_scope: block, ..self.at(from, bits(from)) };
                }
                place
            }
        }
    }

    #[inline]
    fn at(&self, address: IpAddr, length: u8) -> Place {
        let located = self.locate(address, length);
        let key_scope = length.min(if address.is_ipv4() { KEY_V4 } else { KEY_V6 });
        let key = match Prefix::of(address, key_scope).address() {
            IpAddr::V4(v4) => step(u64::from(v4.to_bits())),
            // All that it depends on is in the upper half. Another start, lest ::/56 be 0.0.0.0/24.
            IpAddr::V6(v6) => step(!((v6.to_bits() >> 64) as u64)),
        };
        Place { asker: Asker { region: located.region, key }, region_scope: located.scope, key_scope }
    }
}

/// How many bits the special-purpose block has that `address` is in; none if it may be anybody's (RFC 6890).
#[inline]
fn private(address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [10 | 127, ..] => Some(8),
            [172, 16..=31, ..] => Some(12),
            [192, 168, ..] | [169, 254, ..] => Some(16),
            [100, 64..=127, ..] => Some(10),
            _ => None,
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0xfc00..=0xfdff, ..] => Some(7),
            [0xfe80..=0xfebf, ..] => Some(10),
            [0, 0, 0, 0, 0, 0, 0, 1] => Some(128),
            _ => None,
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map() -> ClientMap {
        let prefixes = [("10.9.0.0/16", 2), ("198.51.100.0/24", 1)];
        ClientMap::new(prefixes.map(|(text, region)| (text.parse().unwrap(), Region(region))).into())
    }

    fn place(subnet: Option<&str>, from: &str) -> Place {
        let subnet = subnet.map(|text| {
            let prefix: Prefix = text.parse().unwrap();
            let family = if prefix.address().is_ipv4() { 1 } else { 2 };
            Subnet { family, source: prefix.length(), address: prefix.address() }
        });
        map().place(subnet.as_ref(), from.parse().unwrap())
    }

    #[test]
    fn the_subnet_counts_and_else_the_resolver() {
        let own = place(None, "198.51.100.7");
        assert_eq!((own.asker.region, own.region_scope, own.key_scope), (Region(1), 0, 0));
        let told = place(Some("198.51.100.0/24"), "203.0.113.1");
        assert_eq!((told.asker.region, told.region_scope, told.key_scope), (Region(1), 24, 24));
        assert_eq!(told.asker, own.asker, "the same client, told or seen");
        let hidden = place(Some("0.0.0.0/0"), "198.51.100.7");
        assert_eq!(hidden, own);
    }

    #[test]
    fn private_addresses_are_the_resolvers_unless_the_table_names_them() {
        let named = place(Some("10.9.1.0/24"), "198.51.100.7");
        assert_eq!((named.asker.region, named.region_scope), (Region(2), 16));
        let unnamed = place(Some("172.20.0.0/24"), "198.51.100.7");
        assert_eq!((unnamed.asker.region, unnamed.region_scope), (Region(1), 12));
        // Not over the table's own part of the block.
        assert_eq!(place(Some("10.8.0.0/24"), "198.51.100.7").region_scope, 16);
        assert_eq!(place(Some("fd00::/56"), "198.51.100.7").region_scope, 7);
    }

    #[test]
    fn neighbours_stick_together() {
        let key = |from: &str| place(None, from).asker.key;
        assert_eq!(key("192.0.2.1"), key("192.0.2.250"));
        assert_ne!(key("192.0.2.1"), key("192.0.3.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8:0:ff::1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:100::1"));
        assert_eq!(place(Some("192.0.0.0/16"), "203.0.113.1").key_scope, 16);
    }
}
