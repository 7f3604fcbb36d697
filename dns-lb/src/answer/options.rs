//! The options of OPT records: read from queries, written to answers. Without allocation; both paths use it.

use std::net::{IpAddr, Ipv4Addr};

use super::parse::Edns;
use super::{Checked, Context, Cookie};
use crate::client::Subnet;
use crate::compile::Snapshot;
use crate::metrics::Transport;
use crate::wire::{Rcode, UDP_MAX};

/// EDNS option NSID (RFC 5001).
pub(super) const OPTION_NSID: u16 = 3;
/// EDNS option Client Subnet (RFC 7871).
pub(super) const OPTION_SUBNET: u16 = 8;
/// EDNS option COOKIE (RFC 7873).
pub(super) const OPTION_COOKIE: u16 = 10;
/// EDNS option edns-tcp-keepalive (RFC 7828).
pub(super) const OPTION_KEEPALIVE: u16 = 11;
/// EDNS option Padding (RFC 7830).
pub(super) const OPTION_PADDING: u16 = 12;
/// EDNS option extended error (RFC 8914).
pub(super) const OPTION_EDE: u16 = 15;
/// EDNS option ZONEVERSION (RFC 9660).
pub(super) const OPTION_ZONEVERSION: u16 = 19;
/// Extended error "Other" (RFC 8914 section 4.1), with [`SILENT`]: no code says that a service is down.
pub const EDE_OTHER: u16 = 0;
/// Extended error "Stale Answer" (RFC 8914 section 4.4).
pub const EDE_STALE: u16 = 3;
/// Extended error "Not Ready" (RFC 8914 section 4.15): there are no zones yet.
pub const EDE_NOT_READY: u16 = 14;
/// Extended error "Prohibited" (RFC 8914 section 4.19): the client may not have the zone.
pub const EDE_PROHIBITED: u16 = 18;
/// Extended error "Not Authoritative" (RFC 8914 section 4.21): the name is in none of our zones.
pub const EDE_NOT_AUTHORITATIVE: u16 = 20;
/// Extended error "Not Supported" (RFC 8914 section 4.22): nobody gets this here, or not by this transport.
pub const EDE_NOT_SUPPORTED: u16 = 21;
/// Extended error "Invalid Query Type" (RFC 9824 section 9): NXNAME is asked for.
pub const EDE_INVALID_TYPE: u16 = 30;
/// ZONEVERSION of the zone's SOA serial (RFC 9660 section 5.2.1).
pub const VERSION_SERIAL: u8 = 0;
/// ZONEVERSION of the epoch, 8 octets: for private use (RFC 9660 section 7.2), as no registry knows our epochs.
pub const VERSION_EPOCH: u8 = 246;

/// Octets that a padded answer's length is a multiple of (RFC 8467 section 4.1).
pub const PADDING_BLOCK: usize = 468;

/// What is said where a name has a set, and all of it is withdrawn.
pub const SILENT: &[u8] = b"no cluster serves this name now";

/// Octets that an OPT may have beyond what is reserved for it, if there is room.
pub(super) const MORE: usize = HEAD + 2 + SILENT.len();

/// Octets of an OPT record without options.
const OPT: usize = 11;
/// Octets of an option's code and length.
const HEAD: usize = 4;

/// The options of a query that change its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// This server's name is asked for.
    pub nsid: bool,
    /// The zone's version is asked for.
    pub zone_version: bool,
    /// The client pads, so that the answer must be padded too where it is encrypted (RFC 7830 section 4).
    pub padding: bool,
    /// The client's prefix.
    pub subnet: Option<Subnet>,
    /// The client's cookie.
    pub cookie: Option<Cookie>,
}

impl Options {
    /// Reads an OPT record's data; of an option that stands twice the first counts (RFC 7873 section 5.2). None: malformed.
    #[inline]
    pub fn read(mut data: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        while !data.is_empty() {
            let (head, rest) = data.split_first_chunk::<HEAD>()?;
            let (value, rest) = rest.split_at_checked(u16::from_be_bytes([head[2], head[3]]) as usize)?;
            match u16::from_be_bytes([head[0], head[1]]) {
                OPTION_NSID => options.nsid = true,
                OPTION_PADDING => options.padding = true,
                OPTION_ZONEVERSION => options.zone_version = true,
                OPTION_SUBNET if options.subnet.is_none() => options.subnet = Some(subnet(value)?),
                OPTION_COOKIE if options.cookie.is_none() => options.cookie = Some(Cookie::read(value)?),
                _ => {}
            }
            data = rest;
        }
        Some(options)
    }
}

/// Reads a Client Subnet option, strictly (RFC 7871 section 6: too few or too many octets, or bits beyond the prefix, are FORMERR; so is
/// a scope in a query).
#[inline]
fn subnet(value: &[u8]) -> Option<Subnet> {
    let (&[high, low, source, scope], octets) = value.split_first_chunk::<4>()?;
    let family = u16::from_be_bytes([high, low]);
    if scope != 0 || octets.len() != source.div_ceil(8) as usize {
        return None;
    }
    let address = match family {
        // `dig +subnet=0` sends this.
        0 if source == 0 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        1 if source <= 32 => {
            let whole =
                octets.iter().zip([24, 16, 8, 0]).fold(0, |all, (&octet, at)| all | u32::from(octet) << at);
            if whole.checked_shl(source.into()).is_some_and(|beyond| beyond != 0) {
                return None;
            }
            IpAddr::V4(whole.into())
        }
        2 if source <= 128 => {
            let mut whole = [0; 16];
            whole.get_mut(..octets.len())?.copy_from_slice(octets);
            let whole = u128::from_be_bytes(whole);
            if whole.checked_shl(source.into()).is_some_and(|beyond| beyond != 0) {
                return None;
            }
            IpAddr::V6(whole.into())
        }
        _ => return None,
    };
    Some(Subnet { family, source, address })
}

/// What options of an answer say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Index of the zone that the name is in.
    pub zone: Option<u32>,
    /// Why there is no answer, as an extended error.
    pub error: Option<u16>,
    /// There would be an answer, if it were not withdrawn.
    pub silent: bool,
    /// SCOPE PREFIX-LENGTH.
    pub scope: u8,
    /// The client's cookie was looked at.
    pub cookie: Option<Checked>,
}

/// The extended error about a name that is in none of our zones.
#[inline]
pub(super) fn outside(snapshot: &Snapshot) -> u16 {
    if snapshot.answers.is_empty() { EDE_NOT_READY } else { EDE_NOT_AUTHORITATIVE }
}

/// The extended error about a transfer that is not given. Those who may have it get it by a connection, elsewhere.
#[inline]
pub(super) fn transfer(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Https => EDE_NOT_SUPPORTED,
        Transport::Tcp | Transport::Tls | Transport::Quic => EDE_PROHIBITED,
    }
}

/// The most that the answer's OPT takes. What is written later is not longer.
#[inline]
pub(super) fn reserve(edns: &Edns, facts: &Facts, context: &Context<'_>) -> usize {
    let options = &edns.options;
    let mut length = OPT + HEAD + 2;
    if options.nsid {
        length += HEAD + context.instance.len();
    }
    if options.zone_version {
        length += HEAD + 2 + 4 + HEAD + 2 + 8;
    }
    if let Some(subnet) = &options.subnet {
        length += HEAD + 4 + subnet.source.div_ceil(8) as usize;
    }
    if facts.cookie.is_some() {
        length += HEAD + 24;
    }
    if options.padding && context.transport.is_encrypted() {
        length += HEAD + PADDING_BLOCK - 1;
    }
    length
}

/// A place to write to.
struct Out<'b> {
    buffer: &'b mut [u8],
    at: usize,
}

impl Out<'_> {
    // None: does not fit.
    #[inline]
    fn put(&mut self, octets: &[u8]) -> Option<()> {
        let end = self.at + octets.len();
        self.buffer.get_mut(self.at..end)?.copy_from_slice(octets);
        self.at = end;
        Some(())
    }

    #[inline]
    fn head(&mut self, code: u16, length: usize) -> Option<()> {
        let ([c1, c2], [l1, l2]) = (code.to_be_bytes(), (length as u16).to_be_bytes());
        self.put(&[c1, c2, l1, l2])
    }
}

/// Writes the answer's OPT at `at` and gives its end; what nobody needs only if it stays within `limit`. None: it does not fit.
#[inline]
pub(super) fn write(
    buffer: &mut [u8],
    at: usize,
    limit: usize,
    edns: &Edns,
    rcode: Rcode,
    facts: &Facts,
    context: &Context<'_>,
) -> Option<usize> {
    let [size_high, size_low] = UDP_MAX.to_be_bytes();
    let flags = u8::from(edns.dnssec_ok) << 7 | u8::from(edns.compact_ok) << 6;
    let mut out = Out { buffer, at };
    out.put(&[0, 0, 41, size_high, size_low, rcode.0 >> 4, 0, flags, 0, 0, 0])?;
    let options = &edns.options;
    if options.nsid {
        out.head(OPTION_NSID, context.instance.len())?;
        out.put(context.instance)?;
    }
    if let Some(subnet) = &options.subnet {
        let octets = subnet.source.div_ceil(8) as usize;
        let [high, low] = subnet.family.to_be_bytes();
        out.head(OPTION_SUBNET, 4 + octets)?;
        out.put(&[high, low, subnet.source, facts.scope])?;
        match subnet.address {
            IpAddr::V4(v4) => out.put(v4.octets().get(..octets)?)?,
            IpAddr::V6(v6) => out.put(v6.octets().get(..octets)?)?,
        }
    }
    if let (Some(cookie), Some(checked)) = (&options.cookie, &facts.cookie) {
        out.head(OPTION_COOKIE, 24)?;
        out.put(&cookie.client)?;
        out.put(&checked.server)?;
    }
    if options.zone_version {
        let zones = &context.snapshot.zones;
        if let Some(zone) = facts.zone.and_then(|zone| zones.zones.get(zone as usize)) {
            let labels = zone.origin.label_count() as u8;
            out.head(OPTION_ZONEVERSION, 2 + 4)?;
            out.put(&[labels, VERSION_SERIAL])?;
            out.put(&zone.serial.to_be_bytes())?;
            out.head(OPTION_ZONEVERSION, 2 + 8)?;
            out.put(&[labels, VERSION_EPOCH])?;
            out.put(&zones.epoch.to_be_bytes())?;
        }
    }
    // Of the two at most one: what is stale is an answer.
    let stale = (context.snapshot.stale && facts.zone.is_some()).then_some(EDE_STALE);
    if let Some(code) = stale.or(facts.error) {
        out.head(OPTION_EDE, 2)?;
        out.put(&code.to_be_bytes())?;
    }
    let padded = options.padding && context.transport.is_encrypted();
    let text = MORE + if padded { HEAD + PADDING_BLOCK } else { 0 };
    if facts.silent && out.at + text <= limit {
        out.head(OPTION_EDE, 2 + SILENT.len())?;
        out.put(&EDE_OTHER.to_be_bytes())?;
        out.put(SILENT)?;
    }
    if padded {
        // The last, for only now it is known how much is missing.
        let length = (PADDING_BLOCK - (out.at + HEAD) % PADDING_BLOCK) % PADDING_BLOCK;
        out.head(OPTION_PADDING, length)?;
        out.put(&[0; PADDING_BLOCK][..length])?;
    }
    let end = out.at;
    let length = (end - at - OPT) as u16;
    buffer.get_mut(at + OPT - 2..at + OPT)?.copy_from_slice(&length.to_be_bytes());
    Some(end)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read_strictly() {
        let read = |value: &[u8]| subnet(value).map(|subnet| (subnet.address.to_string(), subnet.source));
        assert_eq!(read(&[0, 1, 24, 0, 192, 0, 2]), Some(("192.0.2.0".into(), 24)));
        assert_eq!(read(&[0, 1, 20, 0, 192, 0, 0xf0]), Some(("192.0.240.0".into(), 20)));
        assert_eq!(read(&[0, 2, 32, 0, 0x20, 1, 0xd, 0xb8]), Some(("2001:db8::".into(), 32)));
        for nobody in [&[0, 0, 0, 0], &[0, 1, 0, 0], &[0, 2, 0, 0]] {
            assert_eq!(read(nobody).unwrap().1, 0);
        }
        for (wrong, why) in [
            (&[0, 1, 24][..], "cut"),
            (&[0, 1, 24, 0, 192, 0], "an octet is missing"),
            (&[0, 1, 24, 0, 192, 0, 2, 0], "an octet too many"),
            (&[0, 1, 20, 0, 192, 0, 0xf8], "a bit beyond the prefix"),
            (&[0, 1, 33, 0, 192, 0, 2, 0, 0], "no IPv4 prefix"),
            (&[0, 1, 24, 1, 192, 0, 2], "a scope in a query"),
            (&[0, 3, 8, 0, 192], "an unknown family"),
            (&[0, 0, 8, 0, 192], "an address of no family"),
            (&[], "nothing"),
        ] {
            assert_eq!(read(wrong), None, "{why}");
        }
    }

    #[test]
    fn of_two_the_first_counts_and_malformed_ones_do_not_pass() {
        let data = |cookie: &[u8]| {
            let length = cookie.len() as u8;
            [&[0, 8, 0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0, 19, 0, 0, 0, 10, 0, length], cookie].concat()
        };
        let options = Options::read(&[data(&[7; 8]), data(&[8; 9])].concat()).unwrap();
        assert!(options.nsid && options.zone_version && options.subnet.is_some());
        assert_eq!(options.cookie, Some(Cookie { client: [7; 8], server: None }));
        assert_eq!(Options::read(&data(&[8; 9])), None);
        assert_eq!(Options::read(&data(&[8; 8])[..22]), None);
        assert_eq!(Options::read(&[0, 3, 0]), None);
    }
}
