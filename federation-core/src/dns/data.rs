//! A record's data: read from presentation format, written to the wire.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::svcb::{self, SvcbError};
use super::text::strings;
use super::{Name, NameError, Type};

/// The data of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// RFC 1035 section 3.4.1.
    A(Ipv4Addr),
    /// RFC 3596 section 2.2.
    Aaaa(Ipv6Addr),
    /// RFC 1035 section 3.3.1.
    Cname(Name),
    /// RFC 1035 section 3.3.11.
    Ns(Name),
    /// RFC 1035 section 3.3.12.
    Ptr(Name),
    /// RFC 1035 section 3.3.9.
    Mx {
        /// Lowest first.
        preference: u16,
        /// The host.
        exchange: Name,
    },
    /// Character strings of at most 255 octets, at least one (RFC 1035 section 3.3.14).
    Txt(Vec<Vec<u8>>),
    /// RFC 2782.
    Srv {
        /// Lowest first.
        priority: u16,
        /// Among equal priorities.
        weight: u16,
        /// Of the service.
        port: u16,
        /// The host.
        target: Name,
    },
    /// Any other type: the octets as they go to the wire, in canonical form (RFC 3597, RFC 4034 section 6.2).
    Other(Type, Box<[u8]>),
}

/// Why a text is not the data of a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Not an IPv4 address.
    #[error("{0:?} is not an IPv4 address")]
    V4(String),
    /// Not an IPv6 address.
    #[error("{0:?} is not an IPv6 address")]
    V6(String),
    /// A name in the data is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not a TXT record.
    #[error("{0:?} is not text: write \"…\" strings of at most 255 octets, with \\\" and \\DDD as escapes")]
    Text(String),
    /// Not an SRV record.
    #[error("{0:?} is not an SRV record: write priority, weight, port and target")]
    Srv(String),
    /// Not an MX record.
    #[error("{0:?} is not an MX record: write preference and host")]
    Mx(String),
    /// Not a CAA record.
    #[error("{0:?} is not a CAA record: write flags, tag and \"value\", as in 0 issue \"ca.example.net\"")]
    Caa(String),
    /// Not a DS record.
    #[error("{0:?} is not a DS record: write key tag, algorithm, digest type and the digest in hexadecimal")]
    Ds(String),
    /// Not an SVCB or HTTPS record.
    #[error("{text:?}: {source}")]
    Svcb {
        /// The whole text.
        text: String,
        /// What is wrong with it.
        source: SvcbError,
    },
    /// A type without a presentation format of its own here.
    #[error("{0:?}: write \\#, the number of octets, and the octets in hexadecimal (RFC 3597)")]
    Generic(String),
}

impl Data {
    /// Reads presentation format (RFC 1035 section 5.1), or the generic format of RFC 3597 section 5, which any type has.
    pub fn parse(kind: Type, text: &str) -> Result<Self, DataError> {
        if let Some(generic) = text.trim_start().strip_prefix("\\#") {
            let octets = generic_octets(generic).ok_or_else(|| DataError::Generic(text.into()))?;
            return Self::of_wire(kind, &octets).ok_or_else(|| DataError::Generic(text.into()));
        }
        match kind {
            Type::A => text.parse().map(Self::A).map_err(|_| DataError::V4(text.into())),
            Type::AAAA => text.parse().map(Self::Aaaa).map_err(|_| DataError::V6(text.into())),
            Type::CNAME => Ok(Self::Cname(Name::parse(text)?)),
            Type::NS => Ok(Self::Ns(Name::parse(text)?)),
            Type::PTR => Ok(Self::Ptr(Name::parse(text)?)),
            Type::MX => mx(text),
            Type::TXT => strings(text).map(Self::Txt).ok_or_else(|| DataError::Text(text.into())),
            Type::SRV => srv(text),
            Type::CAA => caa(text).ok_or_else(|| DataError::Caa(text.into())),
            Type::DS => ds(text).ok_or_else(|| DataError::Ds(text.into())),
            Type::SVCB | Type::HTTPS => match svcb::parse(text) {
                Ok(octets) => Ok(Self::Other(kind, octets.into())),
                Err(source) => Err(DataError::Svcb { text: text.into(), source }),
            },
            _ => Err(DataError::Generic(text.into())),
        }
    }

    /// Reads wire form without compression; none if it is not of this type.
    pub fn of_wire(kind: Type, octets: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]));
        Some(match kind {
            Type::A => Self::A(<[u8; 4]>::try_from(octets).ok()?.into()),
            Type::AAAA => Self::Aaaa(<[u8; 16]>::try_from(octets).ok()?.into()),
            Type::CNAME => Self::Cname(Name::from_wire(octets)?),
            Type::NS => Self::Ns(Name::from_wire(octets)?),
            Type::PTR => Self::Ptr(Name::from_wire(octets)?),
            Type::MX => Self::Mx { preference: number(0)?, exchange: Name::from_wire(octets.get(2..)?)? },
            Type::TXT => Self::Txt(wire_strings(octets)?),
            Type::SRV => Self::Srv {
                priority: number(0)?,
                weight: number(2)?,
                port: number(4)?,
                target: Name::from_wire(octets.get(6..)?)?,
            },
            other => Self::Other(other, octets.into()),
        })
    }

    /// The record's type.
    pub fn kind(&self) -> Type {
        match self {
            Self::A(_) => Type::A,
            Self::Aaaa(_) => Type::AAAA,
            Self::Cname(_) => Type::CNAME,
            Self::Ns(_) => Type::NS,
            Self::Ptr(_) => Type::PTR,
            Self::Mx { .. } => Type::MX,
            Self::Txt(_) => Type::TXT,
            Self::Srv { .. } => Type::SRV,
            Self::Other(kind, _) => *kind,
        }
    }

    /// Appends wire form without compression, names in lower case: the canonical form that is signed (RFC 4034 section 6.2).
    pub fn wire(&self, to: &mut Vec<u8>) {
        match self {
            Self::A(address) => to.extend_from_slice(&address.octets()),
            Self::Aaaa(address) => to.extend_from_slice(&address.octets()),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => to.extend_from_slice(name.wire()),
            Self::Mx { preference, exchange } => {
                to.extend_from_slice(&preference.to_be_bytes());
                to.extend_from_slice(exchange.wire());
            }
            Self::Txt(strings) => {
                for string in strings {
                    to.push(string.len() as u8);
                    to.extend_from_slice(string);
                }
            }
            Self::Srv { priority, weight, port, target } => {
                for number in [priority, weight, port] {
                    to.extend_from_slice(&number.to_be_bytes());
                }
                to.extend_from_slice(target.wire());
            }
            Self::Other(_, octets) => to.extend_from_slice(octets),
        }
    }
}

fn srv(text: &str) -> Result<Data, DataError> {
    let wrong = || DataError::Srv(text.into());
    let mut words = text.split_ascii_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<u16>().ok()).ok_or_else(wrong);
    let (priority, weight, port) = (number()?, number()?, number()?);
    let target = Name::parse(words.next().ok_or_else(wrong)?)?;
    match words.next() {
        None => Ok(Data::Srv { priority, weight, port, target }),
        Some(_) => Err(wrong()),
    }
}

fn mx(text: &str) -> Result<Data, DataError> {
    let wrong = || DataError::Mx(text.into());
    let (preference, exchange) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
    let preference = preference.parse().map_err(|_| wrong())?;
    Ok(Data::Mx { preference, exchange: Name::parse(exchange.trim_start())? })
}

/// RFC 8659 section 4.1: tags are letters and digits.
fn caa(text: &str) -> Option<Data> {
    let (flags, rest) = text.trim().split_once(char::is_whitespace)?;
    let (tag, value) = rest.trim_start().split_once(char::is_whitespace)?;
    if !(1..=15).contains(&tag.len()) || !tag.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let [value] = <[Vec<u8>; 1]>::try_from(strings(value)?).ok()?;
    let head = [flags.parse::<u8>().ok()?, tag.len() as u8];
    Some(Data::Other(Type::CAA, [&head, tag.to_ascii_lowercase().as_bytes(), &value].concat().into()))
}

/// RFC 4034 section 5.3. Digests of types that are known must have their length.
fn ds(text: &str) -> Option<Data> {
    let mut words = text.split_ascii_whitespace();
    let tag: u16 = words.next()?.parse().ok()?;
    let (algorithm, digest_type): (u8, u8) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let digest = octets(&words.collect::<String>())?;
    let length = match digest_type {
        1 => Some(20),
        2 => Some(32),
        4 => Some(48),
        _ => None,
    };
    if digest.is_empty() || length.is_some_and(|length| length != digest.len()) {
        return None;
    }
    let [high, low] = tag.to_be_bytes();
    Some(Data::Other(Type::DS, [&[high, low, algorithm, digest_type], &digest[..]].concat().into()))
}

fn generic_octets(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_ascii_whitespace();
    let length: u16 = words.next()?.parse().ok()?;
    octets(&words.collect::<String>()).filter(|octets| octets.len() == length as usize)
}

fn octets(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let (pairs, []) = digits.as_deref()?.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn wire_strings(mut octets: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    while let Some((&length, rest)) = octets.split_first() {
        let (string, rest) = rest.split_at_checked(length as usize)?;
        strings.push(string.to_vec());
        octets = rest;
    }
    (!strings.is_empty()).then_some(strings)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wire(kind: Type, text: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        Data::parse(kind, text).unwrap().wire(&mut wire);
        wire
    }

    #[test]
    fn wrong_data_is_refused_with_the_reason() {
        assert!(matches!(Data::parse(Type::A, "10.0.0.256"), Err(DataError::V4(_))));
        assert!(matches!(Data::parse(Type::AAAA, "10.0.0.1"), Err(DataError::V6(_))));
        assert!(matches!(Data::parse(Type::CNAME, "web"), Err(DataError::Name(_))));
        assert!(matches!(Data::parse(Type::SRV, "1 2 70000 a."), Err(DataError::Srv(_))));
        assert!(matches!(Data::parse(Type::SRV, "1 2 3 a. b."), Err(DataError::Srv(_))));
        assert!(matches!(Data::parse(Type::MX, "mail.test."), Err(DataError::Mx(_))));
        assert!(matches!(Data::parse(Type::MX, "1 mail"), Err(DataError::Name(_))));
        for text in ["0 issue", "256 issue \"a\"", "0 is-sue \"a\"", "0 issue \"a\" \"b\""] {
            assert!(matches!(Data::parse(Type::CAA, text), Err(DataError::Caa(_))), "{text}");
        }
        for text in ["1 13 2 00", "1 13 2", "x 13 2 00", "1 13 9 0"] {
            assert!(matches!(Data::parse(Type::DS, text), Err(DataError::Ds(_))), "{text}");
        }
        for text in ["something", r"\# 2 00", r"\# 1 0g", r"\# 1 0"] {
            assert!(matches!(Data::parse(Type(999), text), Err(DataError::Generic(_))), "{text}");
        }
        assert!(matches!(Data::parse(Type::A, r"\# 3 c00002"), Err(DataError::Generic(_))));
    }

    #[test]
    fn data_goes_to_the_wire_in_canonical_form() {
        assert_eq!(wire(Type::MX, "10 Mail.TEST."), b"\x00\x0a\x04mail\x04test\x00");
        assert_eq!(wire(Type::PTR, "a."), b"\x01a\x00");
        assert_eq!(wire(Type::CAA, "128 Issue \"ca.test; a=b\""), b"\x80\x05issueca.test; a=b");
        assert_eq!(wire(Type::DS, &format!("258 13 2 {}", "Ab ".repeat(32)))[..5], [1, 2, 13, 2, 0xab]);
        assert_eq!(wire(Type(65280), r"\# 3 0a0B ff"), [10, 11, 255]);
        assert!(wire(Type(65280), r"\# 0").is_empty());
    }

    #[test]
    fn the_generic_format_of_a_known_type_is_that_type() {
        assert_eq!(Data::parse(Type::A, r"\# 4 c0000201").unwrap(), Data::A(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(Data::parse(Type::TXT, r"\# 3 026162").unwrap(), Data::Txt(vec![b"ab".to_vec()]));
    }
}
