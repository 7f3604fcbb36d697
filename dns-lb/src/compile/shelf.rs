//! Where the records of a name are held: in one piece of memory, each once.

use std::collections::HashMap;

use super::encode::{Encoder, Records};
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
    at: u32,
}

/// A node's octets under construction.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    octets: Vec<u8>,
    known: HashMap<Vec<u8>, Place>,
}

/// Octets of an ECDSA P-256 signature, at the end of its record (RFC 6605 section 4).
const SIGNATURE: usize = 64;
/// Where the data of a record starts, and where in an RRSIG's the times are (RFC 4034 section 3.1).
const DATA: usize = 12;
const TIMES: usize = 8;

impl Shelf {
    /// Puts records there, if they are not there yet. The regions of a name have most of their choices in common.
    pub(super) fn put(&mut self, records: &Encoder) -> Place {
        let packed = records.pack();
        if packed.is_empty() {
            return Place::NONE;
        }
        *self.known.entry(packed).or_insert_with_key(|packed| {
            let place = Place(self.octets.len() as u32);
            self.octets.extend_from_slice(packed);
            place
        })
    }

    /// The octets, and where in them these signatures are.
    pub(super) fn finish(self, made: Vec<Made>) -> (Box<[u8]>, Box<[Mark]>) {
        let mut made: HashMap<[u8; SIGNATURE], Digest> =
            made.into_iter().map(|made| (made.signature, made.name)).collect();
        let mut marks = Vec::with_capacity(made.len());
        for place in self.known.values() {
            let (records, from) = Records::at(self.octets.get(place.at()..).unwrap_or_default()).octets();
            let mut at = 0;
            while let Some(&[_, _, k0, k1, _, _, _, _, _, _, l0, l1]) =
                records.get(at..).and_then(<[u8]>::first_chunk)
            {
                if Type(u16::from_be_bytes([k0, k1])) != Type::RRSIG {
                    break;
                }
                at += DATA + u16::from_be_bytes([l0, l1]) as usize;
                let signature = records.get(..at).and_then(<[u8]>::last_chunk);
                if let Some(name) = signature.and_then(|signature: &[u8; SIGNATURE]| made.remove(signature)) {
                    marks.push(Mark { name, at: (place.at() + from + at - SIGNATURE) as u32 });
                }
            }
        }
        // In an order that does not depend on the process.
        marks.sort_unstable_by_key(|mark| mark.at);
        (self.octets.into(), marks.into())
    }
}

impl Mark {
    /// The signature itself, of an origin with a name of so many octets.
    pub(super) fn read(self, octets: &[u8], origin: usize) -> Option<Made> {
        let at = self.at as usize;
        let signature = *octets.get(at..)?.first_chunk()?;
        // Before it are the times, the key's tag and the signer's name.
        let times = octets.get(at.checked_sub(origin + 2 + TIMES)?..)?;
        let [expiration, inception, ..] = times.as_chunks::<4>().0 else { return None };
        let [expiration, inception] = [*expiration, *inception].map(u32::from_be_bytes);
        Some(Made { name: self.name, inception, expiration, signature })
    }
}
