//! Signatures of record sets, made once and kept.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::{Key, Signing, Window};
use crate::wire::{Class, Name, Type};

/// A record set to be signed.
#[derive(Clone, Debug)]
pub struct RecordsOf<'a> {
    /// The owner; a wildcard as such.
    pub owner: &'a Name,
    /// The type.
    pub kind: Type,
    /// Seconds.
    pub ttl: u32,
    /// Each record's data in canonical form (RFC 4034 section 6.2), in any order.
    pub data: Vec<Vec<u8>>,
}

/// Keeps signatures from one compilation to the next.
///
/// What a compilation does not ask for is forgotten at its end: the map is never larger than the zones of two compilations.
#[derive(Debug, Default)]
pub struct Signatures {
    now: u32,
    kept: HashMap<Digest, Cached>,
    generation: u32,
    renewal: Option<u32>,
    made: u64,
}

/// A signature that was made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Of what is signed, and by which key.
    pub name: Digest,
    /// When it begins to count.
    pub inception: u32,
    /// When it no longer does.
    pub expiration: u32,
    /// The signature.
    pub signature: [u8; 64],
}

/// The first octets of a SHA-256. A wrong hit would be a signature that does not validate. It is looked for among the signatures that one name had,
/// some tens, and the times, which follow from other octets of the same hash, would have to be the same second, too: with 1 in 10^13 for each
/// signature that is made it is not to be expected.
pub type Digest = [u8; 4];

#[derive(Clone, Copy, Debug)]
struct Cached {
    made: Made,
    generation: u32,
}

impl Signatures {
    /// Begins a compilation at `now`, seconds since 1970.
    pub fn begin(&mut self, now: u32) {
        self.now = now;
        self.generation = self.generation.wrapping_add(1);
        self.renewal = None;
    }

    /// Ends it: forgets what it did not ask for.
    pub fn finish(&mut self) {
        let generation = self.generation;
        self.kept.retain(|_, kept| kept.generation == generation);
    }

    /// Begins a part of a compilation, that had these signatures when it was last made, at the time of [`Signatures::begin`].
    pub(crate) fn resume(&mut self, made: impl Iterator<Item = Made>) {
        self.generation = self.generation.wrapping_add(1);
        self.renewal = None;
        self.kept.clear();
        // Of an earlier generation: only what is asked for is kept.
        let generation = self.generation.wrapping_sub(1);
        self.kept.extend(made.map(|made| (made.name, Cached { made, generation })));
    }

    /// Ends the part: what it asked for, and when the first of it is to be renewed.
    pub(crate) fn take(&mut self) -> (Vec<Made>, Option<u32>) {
        self.finish();
        (self.kept.drain().map(|(_, kept)| kept.made).collect(), self.renewal)
    }

    /// The time of [`Signatures::begin`].
    pub(crate) fn now(&self) -> u32 {
        self.now
    }

    /// When the first signature of the last compilation is to be renewed, seconds since 1970. None: nothing is signed.
    pub fn renewal(&self) -> Option<u32> {
        self.renewal
    }

    /// How many signatures were made so far, not counting those that were kept.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Counts what was made elsewhere for this compilation.
    pub(crate) fn count(&mut self, made: u64) {
        self.made += made;
    }

    /// Data of the RRSIG records of `set`, one for each key that signs, in the zone `origin`.
    pub fn sign(&mut self, signing: &Signing, origin: &Name, mut set: RecordsOf<'_>) -> Vec<Vec<u8>> {
        // RFC 4034 section 6.3.
        set.data.sort_unstable();
        set.data.dedup();
        let mut records = Vec::new();
        for data in &set.data {
            records.extend_from_slice(set.owner.wire());
            records.extend_from_slice(&set.kind.0.to_be_bytes());
            records.extend_from_slice(&Class::IN.0.to_be_bytes());
            records.extend_from_slice(&set.ttl.to_be_bytes());
            records.extend_from_slice(&(data.len() as u16).to_be_bytes());
            records.extend_from_slice(data);
        }
        let signers = signing.keys.iter().filter(|key| key.signs());
        signers.filter_map(|key| self.one(key, signing.validity, origin, &set, &records)).collect()
    }

    fn one(
        &mut self,
        key: &Key,
        validity: u32,
        origin: &Name,
        set: &RecordsOf<'_>,
        records: &[u8],
    ) -> Option<Vec<u8>> {
        let head = |window: Window| {
            // A wildcard's own label does not count (RFC 4034 section 3.1.3).
            let labels = set.owner.label_count() - usize::from(set.owner.is_wildcard());
            let mut head = Vec::with_capacity(18 + origin.wire().len() + 64);
            head.extend_from_slice(&set.kind.0.to_be_bytes());
            head.extend_from_slice(&[federation_core::dnssec::ALGORITHM, labels as u8]);
            for number in [set.ttl, window.expiration, window.inception] {
                head.extend_from_slice(&number.to_be_bytes());
            }
            head.extend_from_slice(&key.public().tag().to_be_bytes());
            head.extend_from_slice(origin.wire());
            head
        };
        let digest = Sha256::new()
            .chain_update(key.public().0)
            .chain_update(validity.to_be_bytes())
            .chain_update(origin.wire())
            .chain_update(records)
            .finalize();
        let name: Digest = *digest.first_chunk()?;
        let seed = u64::from_le_bytes(*digest.get(16..)?.first_chunk()?);
        let window = Window::at(self.now, validity, seed);
        self.renewal = Some(self.renewal.map_or(window.renewal, |soonest| soonest.min(window.renewal)));
        let (inception, expiration) = (window.inception, window.expiration);
        let same = |made: &Made| made.inception == inception && made.expiration == expiration;
        let kept = self.kept.get(&name).map(|kept| kept.made).filter(same).map(|made| made.signature);
        let mut data = head(window);
        let signature = match kept {
            Some(signature) => signature,
            None => {
                self.made += 1;
                key.sign(&[&data, records].concat())?
            }
        };
        let made = Made { name, inception, expiration, signature };
        self.kept.insert(name, Cached { made, generation: self.generation });
        data.extend_from_slice(&signature);
        Some(data)
    }
}
