//! SVCB and HTTPS records (RFC 9460).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::text::escaped;
use super::{Name, NameError};

const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const ECH: u16 = 5;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;

/// Why a text is no SVCB record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvcbError {
    /// No priority and target in front.
    #[error("write priority, target and parameters, as in 1 . alpn=h2,h3")]
    Head,
    /// The target is no name.
    #[error(transparent)]
    Target(#[from] NameError),
    /// A parameter whose name is unknown.
    #[error(
        "{0:?} is no parameter: known are mandatory, alpn, no-default-alpn, port, ipv4hint, ech, ipv6hint, dohpath, ohttp and keyNNNNN"
    )]
    Key(String),
    /// A parameter whose value cannot be read.
    #[error("the value of {0} is malformed")]
    Value(String),
    /// The same parameter again.
    #[error("{0} is given twice")]
    Twice(String),
    /// Parameters with priority 0 (RFC 9460 section 2.4.2).
    #[error("priority 0 is an alias, which must not have parameters")]
    AliasWithParameters,
    /// A parameter that must be there is not (RFC 9460 section 8).
    #[error("mandatory lists {0}, which is missing")]
    Missing(String),
    /// RFC 9460 section 7.1.1.
    #[error("no-default-alpn requires alpn")]
    NoDefaultAlpn,
}

/// Reads presentation format to wire form.
pub(super) fn parse(text: &str) -> Result<Vec<u8>, SvcbError> {
    let mut words = words(text).into_iter();
    let priority: u16 = words.next().and_then(|word| word.parse().ok()).ok_or(SvcbError::Head)?;
    let target = Name::parse(&words.next().ok_or(SvcbError::Head)?)?;
    let mut parameters: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    for word in words {
        let (name, value) = word.split_once('=').map_or((word.as_str(), ""), |(name, value)| (name, value));
        let key = key(name).ok_or_else(|| SvcbError::Key(name.into()))?;
        let value = self::value(key, value).ok_or_else(|| SvcbError::Value(name.into()))?;
        if parameters.insert(key, value).is_some() {
            return Err(SvcbError::Twice(name.into()));
        }
    }
    if priority == 0 && !parameters.is_empty() {
        return Err(SvcbError::AliasWithParameters);
    }
    if parameters.contains_key(&NO_DEFAULT_ALPN) && !parameters.contains_key(&ALPN) {
        return Err(SvcbError::NoDefaultAlpn);
    }
    for pair in parameters.get(&MANDATORY).map_or(&[][..], |keys| keys.as_chunks::<2>().0) {
        let wanted = u16::from_be_bytes(*pair);
        if !parameters.contains_key(&wanted) {
            return Err(SvcbError::Missing(format!("key{wanted}")));
        }
    }
    let mut wire = priority.to_be_bytes().to_vec();
    wire.extend_from_slice(target.wire());
    // In order of the key (RFC 9460 section 2.2), as the map has them.
    for (key, value) in parameters {
        let length = u16::try_from(value.len()).map_err(|_| SvcbError::Value(format!("key{key}")))?;
        wire.extend_from_slice(&key.to_be_bytes());
        wire.extend_from_slice(&length.to_be_bytes());
        wire.extend_from_slice(&value);
    }
    Ok(wire)
}

/// Words, with the quotes around values taken off.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            '\\' => {
                word.push('\\');
                word.extend(characters.next());
                any = true;
            }
            space if space.is_ascii_whitespace() && !quoted => {
                if std::mem::take(&mut any) {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => {
                word.push(other);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

fn key(name: &str) -> Option<u16> {
    Some(match name {
        "mandatory" => MANDATORY,
        "alpn" => ALPN,
        "no-default-alpn" => NO_DEFAULT_ALPN,
        "port" => PORT,
        "ipv4hint" => IPV4_HINT,
        "ech" => ECH,
        "ipv6hint" => IPV6_HINT,
        "dohpath" => DOHPATH,
        "ohttp" => OHTTP,
        other => other.strip_prefix("key")?.parse().ok()?,
    })
}

fn value(key: u16, text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return matches!(key, NO_DEFAULT_ALPN | OHTTP | 9..).then(Vec::new);
    }
    match key {
        MANDATORY => {
            let mut keys: Vec<u16> = text.split(',').map(self::key).collect::<Option<_>>()?;
            keys.sort_unstable();
            let distinct = keys.windows(2).all(|pair| pair[0] != pair[1]) && !keys.contains(&MANDATORY);
            distinct.then(|| keys.iter().flat_map(|key| key.to_be_bytes()).collect())
        }
        ALPN => {
            let mut wire = Vec::new();
            for id in list(text)? {
                wire.push(u8::try_from(id.len()).ok().filter(|&length| length > 0)?);
                wire.extend_from_slice(&id);
            }
            Some(wire)
        }
        PORT => text.parse::<u16>().ok().map(|port| port.to_be_bytes().to_vec()),
        IPV4_HINT => {
            let addresses: Option<Vec<_>> = text
                .split(',')
                .map(|one| one.parse::<Ipv4Addr>().ok().map(|address| address.octets()))
                .collect();
            Some(addresses?.concat())
        }
        IPV6_HINT => {
            let addresses: Option<Vec<_>> = text
                .split(',')
                .map(|one| one.parse::<Ipv6Addr>().ok().map(|address| address.octets()))
                .collect();
            Some(addresses?.concat())
        }
        ECH => base64(text),
        NO_DEFAULT_ALPN | OHTTP => None,
        _ => octets(text),
    }
}

/// A value-list (RFC 9460 appendix A.1): commas separate, and `\\,` is a comma within.
fn list(text: &str) -> Option<Vec<Vec<u8>>> {
    let (mut items, mut item) = (Vec::new(), Vec::new());
    let mut bytes = octets(text)?.into_iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' => items.push(std::mem::take(&mut item)),
            b'\\' => item.push(bytes.next()?),
            other => item.push(other),
        }
    }
    items.push(item);
    Some(items)
}

fn octets(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        octets.push(if byte == b'\\' { escaped(&mut bytes)? } else { byte });
    }
    Some(octets)
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let (mut wire, mut bits, mut held) = (Vec::new(), 0, 0_u32);
    for byte in digits.bytes() {
        held = held << 6 | ALPHABET.iter().position(|&letter| letter == byte)? as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            wire.push((held >> bits) as u8);
        }
    }
    Some(wire)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The test vectors of RFC 9460 appendix D.
    #[test]
    fn the_test_vectors_of_the_standard_hold() {
        for (text, wire) in [
            ("0 foo.example.com.", &b"\x00\x00\x03foo\x07example\x03com\x00"[..]),
            ("1 .", b"\x00\x01\x00"),
            ("16 foo.example.com. port=53", b"\x00\x10\x03foo\x07example\x03com\x00\x00\x03\x00\x02\x00\x35"),
            ("1 foo.example.com. key667=hello", b"\x00\x01\x03foo\x07example\x03com\x00\x02\x9b\x00\x05hello"),
            (
                r#"1 foo.example.com. key667="hello\210qoo""#,
                b"\x00\x01\x03foo\x07example\x03com\x00\x02\x9b\x00\x09hello\xd2qoo",
            ),
            (
                "16 foo.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1",
                b"\x00\x10\x03foo\x07example\x03org\x00\x00\x00\x00\x04\x00\x01\x00\x04\x00\x01\x00\x09\x02h2\x05h3-19\
                  \x00\x04\x00\x04\xc0\x00\x02\x01",
            ),
            (
                r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#,
                b"\x00\x10\x03foo\x07example\x03org\x00\x00\x01\x00\x0c\x08f\\oo,bar\x02h2",
            ),
        ] {
            assert_eq!(parse(text).unwrap(), wire, "{text}");
        }
        for text in [
            "1 foo.example.com. key123=abc key123=def",
            "1 foo.example.com. mandatory",
            "1 foo.example.com. alpn",
            "1 foo.example.com. port",
            "1 foo.example.com. ipv4hint",
            "1 foo.example.com. ipv6hint",
            "1 foo.example.com. no-default-alpn=abc",
            "1 foo.example.com. mandatory=key123",
            "1 foo.example.com. mandatory=mandatory",
            "1 foo.example.com. mandatory=key123,key123 key123=abc",
            "1 foo.example.com. no-default-alpn",
            "0 foo.example.com. port=53",
            "1 foo.example.com. shape=round",
            "1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_client_hello_key_is_base64() {
        let wire = parse("1 . ech=AAECAw==").unwrap();
        assert_eq!(wire, b"\x00\x01\x00\x00\x05\x00\x04\x00\x01\x02\x03");
        assert!(parse("1 . ech=AAE").is_err());
    }
}
