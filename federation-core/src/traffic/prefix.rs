//! Address prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// An address prefix without bits beyond its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// No address before the slash.
    #[error("{0:?} is not an address prefix: write an IP address and a length, such as 203.0.113.0/24")]
    Form(String),
    /// An IPv4 prefix in IPv6's form, of which it is not clear which clients are meant.
    #[error("{0:?} is an IPv4 prefix in IPv6 form: write it as IPv4")]
    Mapped(String),
    /// The length does not fit the address.
    #[error("{0:?} is not an address prefix: the length is at most {1}")]
    Length(String, u8),
    /// Bits are set that the length leaves out.
    #[error("{0:?} has bits set beyond its length: write {1}")]
    Bits(String, Prefix),
}

impl Prefix {
    /// The prefix of that length which holds the address; a longer length than the address has is its own.
    #[inline]
    pub fn of(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let length = length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Self { address: Ipv4Addr::from(u32::from(address) & mask).into(), length }
            }
            IpAddr::V6(address) => {
                let length = length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Self { address: Ipv6Addr::from(u128::from(address) & mask).into(), length }
            }
        }
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// In bits.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether the address lies within it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::of(address, self.length) == *self
    }

    /// Whether all of `other` lies within it.
    pub fn holds(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let form = || PrefixError::Form(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(PrefixError::Mapped(text.to_owned()));
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length: u8 = length.map_or(Ok(most), |length| length.parse().map_err(|_| form()))?;
        if length > most {
            return Err(PrefixError::Length(text.to_owned(), most));
        }
        let prefix = Self::of(address, length);
        if prefix.address == address { Ok(prefix) } else { Err(PrefixError::Bits(text.to_owned(), prefix)) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Prefix, PrefixError> {
        text.parse()
    }

    #[test]
    fn prefixes_are_read_and_written() {
        for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.1/32", "::/0", "2001:db8::/33"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
    }

    #[test]
    fn what_is_no_prefix_is_refused_with_the_reason() {
        assert!(matches!(read("taiwan"), Err(PrefixError::Form(_))));
        assert!(matches!(read("192.0.2.0/x"), Err(PrefixError::Form(_))));
        assert!(matches!(read("192.0.2.0/33"), Err(PrefixError::Length(_, 32))));
        assert!(matches!(read("::ffff:192.0.2.0/120"), Err(PrefixError::Mapped(_))));
        let error = read("192.0.2.1/24").unwrap_err();
        assert!(error.to_string().ends_with("write 192.0.2.0/24"), "{error}");
    }

    #[test]
    fn a_prefix_contains_the_addresses_that_begin_with_it() {
        let prefix = read("192.0.2.128/25").unwrap();
        assert!(prefix.contains("192.0.2.200".parse().unwrap()));
        assert!(!prefix.contains("192.0.2.1".parse().unwrap()));
        assert!(!prefix.contains("2001:db8::".parse().unwrap()));
        assert!(read("::/0").unwrap().contains("2001:db8::".parse().unwrap()));
    }
}
