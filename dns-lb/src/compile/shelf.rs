//! Where the records of a name are held: in one piece of memory, each once, and only so far as it is not as another.

use std::collections::HashMap;

use super::encode::{DATA, Encoder, HEAD, SHORT, SHORT_DATA, SHORT_SIGNATURE, SIGNATURE, TIMES, TIMES_SIZE};
use crate::dnssec::{Digest, Made};
use crate::wire::Type;

/// Records in [`super::Node::records`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// No records.
    pub const NONE: Self = Self(u32::MAX);

    #[inline]
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }
}

/// Which signature stands where among a node's octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    name: Digest,
    // With [`NEAR`] if the times are right before it.
    at: u32,
}

const NEAR: u32 = 1 << 31;

/// A node's octets under construction.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    octets: Vec<u8>,
    known: HashMap<Vec<u8>, Held>,
    // By what they have in common with others.
    firsts: HashMap<Vec<u8>, Place>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    place: Place,
    short: bool,
}

impl Shelf {
    /// Puts records there, if they are not there yet. The regions of a name have most of their choices in common.
    pub(super) fn put(&mut self, records: &Encoder) -> Place {
        let packed = records.pack();
        if packed.is_empty() {
            return Place::NONE;
        }
        if let Some(held) = self.known.get(&packed) {
            return held.place;
        }
        let place = Place(self.octets.len() as u32);
        let mut short = false;
        match split(&packed) {
            Some(split) => match self.firsts.get(&split.common) {
                Some(first) => {
                    self.octets.extend_from_slice(&split.form.to_be_bytes());
                    self.octets.extend_from_slice(&first.0.to_be_bytes());
                    self.octets.extend_from_slice(&split.own);
                    short = true;
                }
                None => {
                    self.octets.extend_from_slice(&packed);
                    self.firsts.insert(split.common, place);
                }
            },
            None => self.octets.extend_from_slice(&packed),
        }
        self.known.insert(packed, Held { place, short });
        place
    }

    /// The octets, and where in them these signatures are.
    pub(super) fn finish(self, made: Vec<Made>) -> (Box<[u8]>, Box<[Mark]>) {
        let mut made: HashMap<[u8; SIGNATURE], Digest> =
            made.into_iter().map(|made| (made.signature, made.name)).collect();
        let mut marks = Vec::with_capacity(made.len());
        for (packed, held) in &self.known {
            let mut at = HEAD;
            while let Some(&[_, _, k0, k1, _, _, _, _, _, _, l0, l1]) =
                packed.get(at..).and_then(<[u8]>::first_chunk)
            {
                if Type(u16::from_be_bytes([k0, k1])) != Type::RRSIG {
                    break;
                }
                at += DATA + u16::from_be_bytes([l0, l1]) as usize;
                let signature = packed.get(..at).and_then(<[u8]>::last_chunk);
                if let Some(name) = signature.and_then(|signature: &[u8; SIGNATURE]| made.remove(signature)) {
                    let at = if held.short {
                        (held.place.at() + SHORT + TIMES_SIZE) as u32 | NEAR
                    } else {
                        (held.place.at() + at - SIGNATURE) as u32
                    };
                    marks.push(Mark { name, at });
                }
            }
        }
        // In an order that does not depend on the process.
        marks.sort_unstable_by_key(|mark| mark.at & !NEAR);
        (self.octets.into(), marks.into())
    }
}

/// What a single record may have in common with others, and what is its own.
struct Split {
    form: u16,
    common: Vec<u8>,
    own: Vec<u8>,
}

/// None: it is not single, or has places to patch besides its owner.
fn split(packed: &[u8]) -> Option<Split> {
    let &[_, _, 0, 1, _, _, 0, 0, _, _, k0, k1] = packed.first_chunk()? else { return None };
    if Type(u16::from_be_bytes([k0, k1])) != Type::RRSIG {
        let (common, own) = packed.split_at_checked(HEAD + DATA)?;
        return Some(Split { form: SHORT_DATA, common: common.into(), own: own.into() });
    }
    let (before, rest) = packed.split_at_checked(HEAD + TIMES)?;
    let (times, rest) = rest.split_at_checked(TIMES_SIZE)?;
    let (signer, signature) = rest.split_last_chunk::<SIGNATURE>()?;
    let (common, own) = ([before, signer].concat(), [times, signature].concat());
    Some(Split { form: SHORT_SIGNATURE, common, own })
}

impl Mark {
    /// The signature itself, of an origin with a name of so many octets.
    pub(super) fn read(self, octets: &[u8], origin: usize) -> Option<Made> {
        let at = (self.at & !NEAR) as usize;
        let signature = *octets.get(at..)?.first_chunk()?;
        // Before it are the times, and in the long form the key's tag and the signer's name between.
        let between = if self.at & NEAR == 0 { origin + 2 } else { 0 };
        let times = octets.get(at.checked_sub(between + TIMES_SIZE)?..)?;
        let [expiration, inception, ..] = times.as_chunks::<4>().0 else { return None };
        let [expiration, inception] = [*expiration, *inception].map(u32::from_be_bytes);
        Some(Made { name: self.name, inception, expiration, signature })
    }
}
