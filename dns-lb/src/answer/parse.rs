//! Reading a query by hand: bounded, without allocation, one pass.
//!
//! Only the usual form is read: one question, and nothing after it but at most one OPT. What is well formed but unusual is left to
//! the cold path, and what is malformed is said to be so.

use super::options::Options;
use crate::wire::{Class, HEADER, LABELS_MAX, NAME_MAX, Opcode, Type};

/// Where a question's name is put together, reused from query to query.
pub struct Scratch {
    name: [u8; NAME_MAX],
    starts: [u8; LABELS_MAX],
}

impl Default for Scratch {
    fn default() -> Self {
        Self { name: [0; NAME_MAX], starts: [0; LABELS_MAX] }
    }
}

/// A query, read.
#[derive(Debug)]
pub struct Question<'s> {
    /// Lower-case wire form, with the final zero.
    pub name: &'s [u8],
    /// Where its labels start, leftmost first.
    pub starts: &'s [u8],
    /// What is asked for.
    pub kind: Type,
    /// In which class.
    pub class: Class,
    /// Where the question ends in the message.
    pub end: usize,
    /// The client's OPT.
    pub edns: Option<Edns>,
}

/// A client's OPT record (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// What the client takes over UDP, octets.
    pub payload: u16,
    /// Only 0 exists.
    pub version: u8,
    /// DNSSEC OK, which is echoed (RFC 3225).
    pub dnssec_ok: bool,
    /// COMPACT ANSWERS OK (RFC 9824 section 5.1), which is echoed: with it, a name that does not exist is NXDOMAIN in a compact answer too.
    pub compact_ok: bool,
    /// What else the client says or asks; nothing if it cannot be read.
    pub options: Options,
    /// It cannot: the query is malformed, but its client speaks EDNS.
    pub malformed: bool,
}

/// Why a message is not answered from the zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not answered: no whole header, or an answer itself (answering answers makes loops).
    Drop,
    /// Not a query.
    NotImplemented,
    /// Malformed.
    FormErr,
}

/// What a message is.
#[derive(Debug)]
pub enum Parsed<'s> {
    /// A query in the usual form.
    Question(Question<'s>),
    /// To be answered without looking at any zone.
    Refused(Refusal),
    /// Well formed as far as it was read, but not of the usual form.
    Cold,
}

/// Reads `message`.
#[inline]
pub fn parse<'s>(message: &[u8], scratch: &'s mut Scratch) -> Parsed<'s> {
    read(message, scratch).unwrap_or(Parsed::Refused(Refusal::FormErr))
}

// None: malformed.
#[inline]
fn read<'s>(message: &[u8], scratch: &'s mut Scratch) -> Option<Parsed<'s>> {
    let Some((header, body)) = message.split_first_chunk::<HEADER>() else {
        return Some(Parsed::Refused(Refusal::Drop));
    };
    if header[2] & 0x80 != 0 {
        return Some(Parsed::Refused(Refusal::Drop));
    }
    if Opcode(header[2] >> 3 & 0x0f) != Opcode::QUERY {
        return Some(Parsed::Refused(Refusal::NotImplemented));
    }
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if count(4) != 1 {
        // A client may ask for a cookie alone (RFC 7873 section 5.4), and hardly ever does.
        return (count(4) == 0).then_some(Parsed::Cold);
    }
    let length = name(body, scratch)?;
    let (fixed, rest) = body.get(length.octets..)?.split_first_chunk::<4>()?;
    let class = Class(u16::from_be_bytes([fixed[2], fixed[3]]));
    if count(6) != 0 || count(8) != 0 || class != Class::IN {
        return Some(Parsed::Cold);
    }
    let edns = match count(10) {
        0 if rest.is_empty() => None,
        0 => return None,
        // The root and the type OPT.
        1 if rest.starts_with(&[0, 0, 41]) => Some(edns(rest.get(3..)?)?),
        _ => return Some(Parsed::Cold),
    };
    Some(Parsed::Question(Question {
        name: scratch.name.get(..length.octets)?,
        starts: scratch.starts.get(..length.labels)?,
        kind: Type(u16::from_be_bytes([fixed[0], fixed[1]])),
        class,
        end: HEADER + length.octets + 4,
        edns,
    }))
}

struct Length {
    octets: usize,
    labels: usize,
}

/// Copies the name at the front of `body` to `scratch`, in lower case. A question's name cannot be compressed: there is
/// nothing before it that a pointer could point to.
#[inline]
fn name(body: &[u8], scratch: &mut Scratch) -> Option<Length> {
    let (mut at, mut labels) = (0, 0);
    loop {
        let length = *body.get(at)?;
        match length {
            0 => break,
            1..=63 => {}
            _ => return None,
        }
        *scratch.starts.get_mut(labels)? = at as u8;
        labels += 1;
        at += 1 + length as usize;
        // One more for the final zero.
        if at >= NAME_MAX {
            return None;
        }
    }
    let octets = at + 1;
    let name = scratch.name.get_mut(..octets)?;
    name.copy_from_slice(body.get(..octets)?);
    // Length octets are below 64, so below 'A'.
    name.make_ascii_lowercase();
    Some(Length { octets, labels })
}

/// Reads an OPT from its class on; nothing may follow.
#[inline]
fn edns(opt: &[u8]) -> Option<Edns> {
    let (fixed, options) = opt.split_first_chunk::<8>()?;
    if options.len() != u16::from_be_bytes([fixed[6], fixed[7]]) as usize {
        return None;
    }
    let options = Options::read(options);
    Some(Edns {
        payload: u16::from_be_bytes([fixed[0], fixed[1]]),
        version: fixed[3],
        dnssec_ok: fixed[4] & 0x80 != 0,
        compact_ok: fixed[4] & 0x40 != 0,
        options: options.unwrap_or_default(),
        malformed: options.is_none(),
    })
}
