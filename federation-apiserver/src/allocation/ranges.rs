//! The ranges that addresses and ports come from.

use std::{fmt, net::Ipv4Addr, ops::RangeInclusive, str::FromStr};

/// An IPv4 network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u32,
    bits: u8,
}

/// Why a text is no range.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is no network.
    #[error("must be an IPv4 network of at least four addresses in CIDR notation, such as 10.96.0.0/12")]
    Network,
    /// It is no range of ports.
    #[error("must be a range of ports, such as 30000-32767")]
    Ports,
}

impl Network {
    /// A network; bits of the address beyond the prefix are cut off.
    pub const fn new(address: Ipv4Addr, bits: u8) -> Self {
        let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
        Self { base: u32::from_be_bytes(address.octets()) & mask, bits }
    }

    /// How many addresses it has.
    fn size(self) -> u64 {
        1 << (32 - self.bits)
    }

    /// The first address, which is the API server's own by convention.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Whether an address is one of its own.
    pub(crate) fn spans(self, address: Ipv4Addr) -> bool {
        u64::from(u32::from(address).wrapping_sub(self.base)) < self.size()
    }

    /// Whether an address can be given out: neither the network's own nor its broadcast address.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u64::from(u32::from(address).wrapping_sub(self.base));
        (1..self.size() - 1).contains(&offset)
    }

    /// Addresses to try, those of the dynamic band first (KEP-3070): the lower band is for those who choose by hand. The
    /// first address of all is the API server's own by convention.
    pub(super) fn candidates(self, random: u64) -> impl Iterator<Item = Ipv4Addr> {
        let usable = self.size() - 2;
        let band = match usable / 16 {
            0 => 0,
            sixteenth => sixteenth.clamp(16, 256).min(usable / 2),
        };
        let dynamic = usable - band;
        let start = random % dynamic.max(1);
        let upper = (0..dynamic).map(move |step| 1 + band + (start + step) % dynamic.max(1));
        let lower = 2..=band;
        upper
            .chain(lower)
            .filter(|offset| *offset > 1)
            .map(move |offset| Ipv4Addr::from(self.base + offset as u32))
    }
}

impl FromStr for Network {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (address, bits) = text.split_once('/').ok_or(ParseError::Network)?;
        let address = address.parse().map_err(|_| ParseError::Network)?;
        let bits = bits.parse().map_err(|_| ParseError::Network)?;
        if !(8..=30).contains(&bits) {
            return Err(ParseError::Network);
        }
        Ok(Self::new(address, bits))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Ipv4Addr::from(self.base), self.bits)
    }
}

/// A range of ports, both ends in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (start, end) = text.split_once('-').ok_or(ParseError::Ports)?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(ParseError::Ports);
        let (start, end) = (port(start)?, port(end)?);
        if start > end { Err(ParseError::Ports) } else { Ok(Self(start..=end)) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.0.start(), self.0.end())
    }
}

/// Where Services' addresses and ports come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Cluster IPs.
    pub cluster_ips: Network,
    /// Node ports; none where there are no nodes that could forward them.
    pub node_ports: Option<PortRange>,
}

impl Ranges {
    /// kubeadm's range.
    pub const CLUSTER_IPS: Network = Network::new(Ipv4Addr::new(10, 96, 0, 0), 12);
    /// kube-apiserver's range.
    pub const NODE_PORTS: PortRange = PortRange(30000..=32767);
}

impl Default for Ranges {
    fn default() -> Self {
        Self { cluster_ips: Self::CLUSTER_IPS, node_ports: Some(Self::NODE_PORTS) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_address_but_three_is_tried_once() {
        let network: Network = "10.0.0.0/24".parse().unwrap();
        let mut all: Vec<_> = network.candidates(7).collect();
        assert_eq!(all.len(), 253);
        assert!(u32::from(all[0]) & 255 > 16, "the lower band comes last: {}", all[0]);
        all.sort();
        all.dedup();
        assert_eq!((all.len(), all[0]), (253, "10.0.0.2".parse().unwrap()));
        assert!(
            !network.contains("10.0.0.0".parse().unwrap()) && !network.contains("10.0.1.1".parse().unwrap())
        );
    }

    #[test]
    fn a_network_of_four_addresses_has_one_to_give() {
        let network: Network = "10.0.0.0/30".parse().unwrap();
        assert_eq!(network.candidates(0).collect::<Vec<_>>(), ["10.0.0.2".parse::<Ipv4Addr>().unwrap()]);
        assert!("10.0.0.0/31".parse::<Network>().is_err() && "30000".parse::<PortRange>().is_err());
    }
}
