//! Prefixes of client addresses.

use std::fmt;
use std::net::IpAddr;

/// An IPv4 or IPv6 prefix; no bit is set beyond its length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// The part before the slash, or all of it.
    #[error("{0:?} is not a prefix: write 192.0.2.0/24 or 2001:db8::/32")]
    Form(String),
    /// The part behind the slash.
    #[error("{0:?}: a prefix has at most {1} bits")]
    Length(String, u8),
    /// Bits beyond the length.
    #[error("{0:?} has bits beyond its length: write {1}")]
    Bits(String, Prefix),
    /// `::ffff:192.0.2.0/120`, of which it is not clear which family is meant.
    #[error("{0:?} is an IPv4 prefix in IPv6 form: write it as IPv4")]
    Mapped(String),
}

/// Bits of an address of the family.
pub(super) fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl Prefix {
    /// The first `length` bits of `address`; all of them if it has no more.
    pub fn new(address: IpAddr, length: u8) -> Self {
        let length = length.min(bits(address));
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Self { address, length }
    }

    /// Reads `ADDRESS/LENGTH`, or an address alone, which is a prefix of all its bits.
    ///
    /// # Errors
    /// When it is neither, or has bits beyond its length.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let form = || PrefixError::Form(text.into());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(PrefixError::Mapped(text.into()));
        }
        let all = bits(address);
        let length = match length {
            Some(length) => length.parse::<u8>().map_err(|_| form())?,
            None => all,
        };
        if length > all {
            return Err(PrefixError::Length(text.into(), all));
        }
        let prefix = Self::new(address, length);
        if prefix.address != address {
            return Err(PrefixError::Bits(text.into(), prefix));
        }
        Ok(prefix)
    }

    /// Its first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits it has.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether `address` lies in it.
    pub fn holds(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::new(address, self.length) == self
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_and_written() {
        for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.1/32", "::/0", "2001:db8::/33"] {
            assert_eq!(Prefix::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Prefix::parse("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
    }

    #[test]
    fn what_is_no_prefix_is_refused_with_the_reason() {
        assert!(matches!(Prefix::parse("taiwan"), Err(PrefixError::Form(_))));
        assert!(matches!(Prefix::parse("192.0.2.0/x"), Err(PrefixError::Form(_))));
        assert!(matches!(Prefix::parse("192.0.2.0/33"), Err(PrefixError::Length(_, 32))));
        assert!(matches!(Prefix::parse("::ffff:192.0.2.0/120"), Err(PrefixError::Mapped(_))));
        let error = Prefix::parse("192.0.2.1/24").unwrap_err();
        assert!(error.to_string().ends_with("write 192.0.2.0/24"), "{error}");
    }

    #[test]
    fn a_prefix_holds_the_addresses_that_begin_with_it() {
        let prefix = Prefix::parse("192.0.2.128/25").unwrap();
        assert!(prefix.holds("192.0.2.200".parse().unwrap()));
        assert!(!prefix.holds("192.0.2.1".parse().unwrap()));
        assert!(!prefix.holds("2001:db8::".parse().unwrap()));
        assert!(Prefix::parse("::/0").unwrap().holds("2001:db8::".parse().unwrap()));
    }
}
