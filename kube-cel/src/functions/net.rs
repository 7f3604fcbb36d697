//! URLs, IP addresses and CIDRs.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::Outcome;
use crate::{Key, Value, error::EvalError, value::Url};

pub(super) fn call(name: &str, _: bool, values: &[Value]) -> Option<Outcome> {
    use Value::{Bool, Cidr, Int, Ip, String};
    Some(match (name, values) {
        ("url", [String(text)]) => parse_url(text).map(|url| Value::Url(Arc::new(url))).ok_or_else(|| {
            EvalError::failed(format!("URL parse error during conversion from string: {text:?}"))
        }),
        ("isURL", [String(text)]) => Ok(Bool(parse_url(text).is_some())),
        ("getScheme", [Value::Url(url)]) => Ok(url.scheme.as_str().into()),
        ("getHost", [Value::Url(url)]) => Ok(url.host.as_str().into()),
        ("getHostname", [Value::Url(url)]) => Ok(host_and_port(&url.host).0.into()),
        ("getPort", [Value::Url(url)]) => Ok(host_and_port(&url.host).1.into()),
        ("getEscapedPath", [Value::Url(url)]) => Ok(url.path.as_str().into()),
        ("getQuery", [Value::Url(url)]) => {
            let mut query: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
            for (name, value) in &url.query {
                query.entry(Key::String(name.as_str().into())).or_default().push(value.as_str().into());
            }
            let lists = query.into_iter().map(|(key, values)| (key, Value::list(values)));
            Ok(Value::Map(Arc::new(lists.collect())))
        }
        ("ip", [String(text)]) => parse_ip(text).map(Ip).map_err(EvalError::failed),
        ("isIP", [String(text)]) => Ok(Bool(parse_ip(text).is_ok())),
        ("ip.isCanonical", [String(text)]) => {
            parse_ip(text).map(|address| Bool(address.to_string() == **text)).map_err(EvalError::failed)
        }
        ("family", [Ip(address)]) => Ok(Int(if address.is_ipv4() { 4 } else { 6 })),
        ("isUnspecified", [Ip(address)]) => Ok(Bool(address.is_unspecified())),
        ("isLoopback", [Ip(address)]) => Ok(Bool(address.is_loopback())),
        ("isLinkLocalUnicast", [Ip(address)]) => Ok(Bool(is_link_local(*address))),
        ("isLinkLocalMulticast", [Ip(address)]) => Ok(Bool(match address {
            IpAddr::V4(address) => address.octets().starts_with(&[224, 0, 0]),
            IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
        })),
        ("isGlobalUnicast", [Ip(address)]) => Ok(Bool(
            !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && !is_link_local(*address)
                && !matches!(address, IpAddr::V4(address) if address.is_broadcast()),
        )),
        ("cidr", [String(text)]) => {
            parse_cidr(text).map(|(address, length)| Cidr(address, length)).map_err(EvalError::failed)
        }
        ("isCIDR", [String(text)]) => Ok(Bool(parse_cidr(text).is_ok())),
        ("containsIP", [Cidr(network, length), Ip(address)]) => Ok(Bool(holds(*network, *length, *address))),
        ("containsIP", [Cidr(network, length), String(text)]) => {
            parse_ip(text).map(|address| Bool(holds(*network, *length, address))).map_err(EvalError::failed)
        }
        ("containsCIDR", [Cidr(network, length), Cidr(inner, inner_length)]) => {
            Ok(Bool(inner_length >= length && holds(*network, *length, *inner)))
        }
        ("containsCIDR", [Cidr(network, length), String(text)]) => parse_cidr(text)
            .map(|(inner, inner_length)| Bool(inner_length >= *length && holds(*network, *length, inner)))
            .map_err(EvalError::failed),
        ("ip", [Cidr(address, _)]) => Ok(Ip(*address)),
        ("masked", [Cidr(address, length)]) => Ok(Cidr(masked(*address, *length), *length)),
        ("prefixLength", [Cidr(_, length)]) => Ok(Int(i64::from(*length))),
        _ => return None,
    })
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| {
        format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?})")
    })?;
    match address {
        IpAddr::V6(inner) if inner.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        address => Ok(address),
    }
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let invalid =
        || format!("network address parse error during conversion from string: network address {text:?}");
    let (address, length) = text.split_once('/').ok_or_else(invalid)?;
    let address = parse_ip(address)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse::<u8>().ok().filter(|length| plain && *length <= most).ok_or_else(invalid)?;
    Ok((address, length))
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

fn holds(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let ((network, family), (address, other)) = (bits(network), bits(address));
    family == other && network & mask(length) == address & mask(length)
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    let (all, family) = bits(address);
    let kept = all & mask(length);
    if family == 32 { IpAddr::V4(((kept >> 96) as u32).into()) } else { IpAddr::V6(kept.into()) }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// Go's `ParseRequestURI`: an absolute URL, or an absolute path.
pub(crate) fn parse_url(text: &str) -> Option<Url> {
    if text.is_empty() || text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return None;
    }
    let (scheme, rest) = if text.starts_with('/') {
        ("", text)
    } else {
        let (scheme, rest) = text.split_once(':')?;
        let valid = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'));
        if !valid || !rest.starts_with('/') {
            return None;
        }
        (scheme, rest)
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() => {
            let end = rest.find('/').unwrap_or(rest.len());
            rest.split_at(end)
        }
        _ => ("", rest),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let port = host_and_port(host).1;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    });
    Some(Url {
        scheme: scheme.to_ascii_lowercase(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.collect(),
        text: text.to_owned(),
    })
}

fn host_and_port(host: &str) -> (&str, &str) {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (address, rest.strip_prefix(':').unwrap_or_default());
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}
