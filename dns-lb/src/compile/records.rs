//! Storage of a name's records: one piece of memory with each record once, and apart from it what is shared with other names.

use std::collections::HashMap;

use super::encode::{DATA, Encoder, HEAD, SIGNATURE, TIMES, TIMES_SIZE};
use crate::dnssec::{Digest, Made};
use crate::wire::Type;

/// Records in [`super::Node::records`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordsRef {
    /// Among the node's octets.
    pub(super) at: u32,
    /// Of the short form: where among its shape's octets what is not its own is; else [`LONG`].
    pub(super) common: u32,
}

/// In place of where the rest is: there is no more.
pub(super) const LONG: u32 = u32::MAX;

impl RecordsRef {
    /// No records.
    pub const NONE: Self = Self { at: u32::MAX, common: LONG };
}

/// A node's octets under construction.
#[derive(Debug, Default)]
pub(super) struct RecordArena {
    octets: Vec<u8>,
    known: HashMap<Vec<u8>, RecordsRef>,
    commons: Vec<u8>,
    known_commons: HashMap<Vec<u8>, u32>,
}

/// What comes of it.
pub(super) struct StoredRecords {
    /// The node's: its records, and behind them the names of its signatures.
    pub(super) octets: Box<[u8]>,
    /// Where those begin.
    pub(super) digests: u32,
    /// Its shape's.
    pub(super) commons: Box<[u8]>,
    /// Where its signatures are, in the order of their names, but for those of its own proof, which are last.
    pub(super) marks: Box<[RecordsRef]>,
}

impl RecordArena {
    /// Puts records there, if they are not there yet. The regions of a name have most of their choices in common.
    pub(super) fn put(&mut self, records: &Encoder) -> RecordsRef {
        let packed = records.pack();
        if packed.is_empty() {
            return RecordsRef::NONE;
        }
        if let Some(place) = self.known.get(&packed) {
            return *place;
        }
        let at = self.octets.len() as u32;
        let common = match split(&packed) {
            Some((common, own)) => {
                self.octets.extend_from_slice(&own);
                let Self { commons, known_commons, .. } = self;
                *known_commons.entry(common).or_insert_with_key(|common| {
                    let at = commons.len() as u32;
                    commons.extend_from_slice(common);
                    at
                })
            }
            None => {
                self.octets.extend_from_slice(&packed);
                LONG
            }
        };
        let place = RecordsRef { at, common };
        self.known.insert(packed, place);
        place
    }

    /// Ends it: with the names of `made`, the signatures that are there. Those at `proof` are told last.
    pub(super) fn finish(mut self, made: Vec<Made>, proof: Option<RecordsRef>) -> StoredRecords {
        let mut names: HashMap<[u8; SIGNATURE], Digest> =
            made.into_iter().map(|made| (made.signature, made.name)).collect();
        let mut known: Vec<(Vec<u8>, RecordsRef)> = self.known.into_iter().collect();
        // In an order that does not depend on the process.
        known.sort_unstable_by_key(|(_, place)| (proof == Some(*place), place.at));
        let (digests, mut marks) = (self.octets.len() as u32, Vec::new());
        for (packed, place) in known {
            let signatures = signatures_of(&packed);
            for (_, signature) in &signatures {
                // One without a name is called as none will be, and made again.
                let name = names.remove(signature).unwrap_or_default();
                self.octets.extend_from_slice(&name);
            }
            if !signatures.is_empty() && proof != Some(place) {
                marks.push(place);
            }
        }
        StoredRecords {
            octets: self.octets.into(),
            digests,
            commons: self.commons.into(),
            marks: marks.into(),
        }
    }
}

/// What records have in common with those of other names, as it stands without what is their own, and that: see [`super::Records`]. None: there is no
/// such form of them.
fn split(packed: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (&[_, _, c0, c1, _, _, 0, 0], mut rest) = packed.split_first_chunk::<HEAD>()? else { return None };
    if kind_of(rest)? != Type::RRSIG {
        let (common, own) = packed.split_at_checked(HEAD + DATA).filter(|_| [c0, c1] == [0, 1])?;
        return Some((common.into(), own.into()));
    }
    let (mut common, mut own) = (packed.get(..HEAD)?.to_vec(), Vec::new());
    while !rest.is_empty() {
        let (record, behind) = record(rest).filter(|_| kind_of(rest) == Some(Type::RRSIG))?;
        let (before, of_times) = record.split_at_checked(TIMES)?;
        let (times, of_signer) = of_times.split_first_chunk::<TIMES_SIZE>()?;
        let (signer, signature) = of_signer.split_last_chunk::<SIGNATURE>()?;
        let [expiration, inception] = numbers(*times);
        common.extend_from_slice(before);
        common.extend_from_slice(&expiration.wrapping_sub(inception).to_be_bytes());
        common.extend_from_slice(&[0; TIMES_SIZE / 2]);
        common.extend_from_slice(signer);
        own.extend_from_slice(&inception.to_be_bytes());
        own.extend_from_slice(signature);
        rest = behind;
    }
    Some((common, own))
}

/// The first of records that are owned by what a pointer leads to, and the rest.
fn record(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = records.get(DATA - 2..)?.first_chunk()?;
    records.split_at_checked(DATA + usize::from(u16::from_be_bytes(*length)))
}

fn kind_of(record: &[u8]) -> Option<Type> {
    record.get(2..)?.first_chunk().map(|kind| Type(u16::from_be_bytes(*kind)))
}

/// Two numbers: the expiration and the inception of an RRSIG.
#[inline]
pub(super) fn numbers(times: [u8; TIMES_SIZE]) -> [u32; 2] {
    let [e0, e1, e2, e3, i0, i1, i2, i3] = times;
    [[e0, e1, e2, e3], [i0, i1, i2, i3]].map(u32::from_be_bytes)
}

/// The RRSIGs of records in the long form: their times, and the signatures themselves.
fn signatures_of(packed: &[u8]) -> Vec<([u32; 2], [u8; SIGNATURE])> {
    let mut signatures = Vec::new();
    let Some((&[l0, l1, _, _, _, _, o0, o1], rest)) = packed.split_first_chunk::<HEAD>() else {
        return signatures;
    };
    let mut rest = match [o0, o1] {
        [0, 0] => rest.get(..usize::from(u16::from_be_bytes([l0, l1]))).unwrap_or_default(),
        // What is not owned so, or has names in its data, is no RRSIG.
        _ => return signatures,
    };
    while let Some((record, behind)) = record(rest) {
        let times = record.get(TIMES..).and_then(<[u8]>::first_chunk);
        if let (Some(Type::RRSIG), Some(times), Some(signature)) = (kind_of(rest), times, record.last_chunk())
        {
            signatures.push((numbers(*times), *signature));
        }
        rest = behind;
    }
    signatures
}

/// The signatures at `places` among a node's `octets` and its shape's `commons`, called as `digests` says, in order.
pub(super) fn signatures(
    octets: &[u8],
    commons: &[u8],
    digests: &[u8],
    places: impl Iterator<Item = RecordsRef>,
) -> impl Iterator<Item = Made> {
    let names = digests.as_chunks().0;
    let read = move |place: RecordsRef| {
        let own = octets.get(place.at as usize..).unwrap_or_default();
        if place.common == LONG {
            return signatures_of(own);
        }
        let mut common = commons.get(place.common as usize + HEAD..).unwrap_or_default();
        let (mut own, mut signatures) = (own, Vec::with_capacity(1));
        let mut next = || {
            let length = u16::from_be_bytes(*common.get(DATA - 2..)?.first_chunk()?);
            let [counts, _] = numbers(*common.get(TIMES..)?.first_chunk()?);
            let (inception, rest) = own.split_first_chunk()?;
            let (signature, rest) = rest.split_first_chunk()?;
            common = common.get((DATA + usize::from(length)).checked_sub(SIGNATURE)?..)?;
            own = rest;
            let inception = u32::from_be_bytes(*inception);
            Some(([inception.wrapping_add(counts), inception], *signature))
        };
        let head = commons.get(place.common as usize..).and_then(<[u8]>::first_chunk::<4>);
        let count = head.map_or(0, |&[_, _, c0, c1]| u16::from_be_bytes([c0, c1]));
        signatures.extend((0..count).map_while(|_| next()));
        signatures
    };
    places.flat_map(read).zip(names).map(|(([expiration, inception], signature), name)| Made {
        name: *name,
        inception,
        expiration,
        signature,
    })
}
