//! Where the records of a name are held: in one piece of memory, each once, and only so far as it is not as another.

use std::collections::HashMap;

use super::encode::{
    DATA, Encoder, HEAD, INCEPTION_SIZE, SHORT, SHORT_DATA, SHORT_SIGNATURE, SIGNATURE, TIMES, TIMES_SIZE,
};
use crate::dnssec::{Digest, Made};
use crate::wire::Type;

/// Records in [`super::Node::records`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(u32);

impl Place {
    /// No records.
    pub const NONE: Self = Self(u32::MAX);

    #[inline]
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }
}

/// Where a signature stands among a node's octets; with [`SHORT_FORM`] if it is that of a record in the short form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark(u32);

const SHORT_FORM: u32 = 1 << 31;

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
            Some(split) => match self.firsts.get(&split.common).map(|first| u16::try_from(first.0)) {
                Some(Ok(first)) => {
                    self.octets.extend_from_slice(&split.form.to_be_bytes());
                    self.octets.extend_from_slice(&first.to_be_bytes());
                    self.octets.extend_from_slice(&split.own);
                    short = true;
                }
                // Too far away for the short form.
                Some(Err(_)) => self.octets.extend_from_slice(&packed),
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

    /// The octets, and which of these signatures are where in them.
    pub(super) fn finish(self, made: Vec<Made>) -> (Box<[u8]>, Vec<(Digest, Mark)>) {
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
                        (held.place.at() + SHORT + INCEPTION_SIZE) as u32 | SHORT_FORM
                    } else {
                        (held.place.at() + at - SIGNATURE) as u32
                    };
                    marks.push((name, Mark(at)));
                }
            }
        }
        // In an order that does not depend on the process.
        marks.sort_unstable_by_key(|(_, mark)| mark.0 & !SHORT_FORM);
        (self.octets.into(), marks)
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
    let (times, rest) = rest.split_first_chunk::<TIMES_SIZE>()?;
    let (signer, signature) = rest.split_last_chunk::<SIGNATURE>()?;
    let [expiration, inception] = numbers(*times);
    let counts = expiration.wrapping_sub(inception).to_be_bytes();
    let common = [before, &counts, signer].concat();
    Some(Split { form: SHORT_SIGNATURE, common, own: [&inception.to_be_bytes(), &signature[..]].concat() })
}

/// Expiration and inception.
fn numbers(times: [u8; TIMES_SIZE]) -> [u32; 2] {
    let [e0, e1, e2, e3, i0, i1, i2, i3] = times;
    [[e0, e1, e2, e3], [i0, i1, i2, i3]].map(u32::from_be_bytes)
}

impl Mark {
    /// The signature itself, called `name`, of an origin with a name of so many octets.
    pub(super) fn read(self, name: Digest, octets: &[u8], origin: usize) -> Option<Made> {
        let at = (self.0 & !SHORT_FORM) as usize;
        let signature = *octets.get(at..)?.first_chunk()?;
        let [expiration, inception] = if self.0 & SHORT_FORM == 0 {
            // Before it are the times, with the key's tag and the signer's name between.
            numbers(*octets.get(at.checked_sub(origin + 2 + TIMES_SIZE)?..)?.first_chunk()?)
        } else {
            // Before it are where the record is that this one is as, and when it begins.
            let own = octets.get(at.checked_sub(INCEPTION_SIZE + 2)?..)?;
            let &[f0, f1, i0, i1, i2, i3] = own.first_chunk()?;
            let first = usize::from(u16::from_be_bytes([f0, f1])) + HEAD + TIMES;
            let [expiration, inception] = numbers(*octets.get(first..)?.first_chunk()?);
            let own = u32::from_be_bytes([i0, i1, i2, i3]);
            [own.wrapping_add(expiration.wrapping_sub(inception)), own]
        };
        Some(Made { name, inception, expiration, signature })
    }
}
