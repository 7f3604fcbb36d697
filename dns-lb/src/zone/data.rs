//! A record's data: read from presentation format, written to the wire.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{Name, NameError, Type};

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
    /// A type that zones do not hold.
    #[error("records of type {0} cannot be held")]
    Type(Type),
}

impl Data {
    /// Reads presentation format (RFC 1035 section 5.1).
    pub fn parse(kind: Type, text: &str) -> Result<Self, DataError> {
        match kind {
            Type::A => text.parse().map(Self::A).map_err(|_| DataError::V4(text.into())),
            Type::AAAA => text.parse().map(Self::Aaaa).map_err(|_| DataError::V6(text.into())),
            Type::CNAME => Ok(Self::Cname(Name::parse(text)?)),
            Type::NS => Ok(Self::Ns(Name::parse(text)?)),
            Type::TXT => strings(text).map(Self::Txt).ok_or_else(|| DataError::Text(text.into())),
            Type::SRV => srv(text),
            other => Err(DataError::Type(other)),
        }
    }

    /// The record's type.
    pub fn kind(&self) -> Type {
        match self {
            Self::A(_) => Type::A,
            Self::Aaaa(_) => Type::AAAA,
            Self::Cname(_) => Type::CNAME,
            Self::Ns(_) => Type::NS,
            Self::Txt(_) => Type::TXT,
            Self::Srv { .. } => Type::SRV,
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

/// Character strings, quoted or bare; none if there is no string or one is not well formed.
fn strings(text: &str) -> Option<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    let mut bytes = text.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(&first) = bytes.peek() else { break };
        let quoted = first == b'"';
        if quoted {
            bytes.next();
        }
        let mut string = Vec::new();
        loop {
            match bytes.next() {
                None if quoted => return None,
                None => break,
                Some(b'"') if quoted => break,
                Some(b'"') => return None,
                Some(byte) if !quoted && byte.is_ascii_whitespace() => break,
                Some(b'\\') => string.push(escaped(&mut bytes)?),
                Some(byte) => string.push(byte),
            }
        }
        if string.len() > 255 {
            return None;
        }
        strings.push(string);
    }
    (!strings.is_empty()).then_some(strings)
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_into_strings() {
        assert_eq!(strings(r#""a b" c "\"\065""#).unwrap(), [&b"a b"[..], b"c", b"\"A"]);
        assert_eq!(strings(r#""""#).unwrap(), [b""]);
        for wrong in ["", "  ", r#""open"#, r"\2", r"\999", &"a".repeat(256)] {
            assert_eq!(strings(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wrong_data_is_refused_with_the_reason() {
        assert!(matches!(Data::parse(Type::A, "10.0.0.256"), Err(DataError::V4(_))));
        assert!(matches!(Data::parse(Type::AAAA, "10.0.0.1"), Err(DataError::V6(_))));
        assert!(matches!(Data::parse(Type::CNAME, "web"), Err(DataError::Name(_))));
        assert!(matches!(Data::parse(Type::SRV, "1 2 70000 a."), Err(DataError::Srv(_))));
        assert!(matches!(Data::parse(Type::SRV, "1 2 3 a. b."), Err(DataError::Srv(_))));
        assert!(matches!(Data::parse(Type::SOA, ""), Err(DataError::Type(_))));
    }
}
