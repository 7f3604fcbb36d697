//! What proves that something is not there: a chain of NSEC records through all names, signed when the zone is compiled.
//!
//! A flood of queries for random names costs no signature, and resolvers that use the chain themselves (RFC 8198) stop asking.

use super::encode::Records;
use crate::dnssec::{NextNames, RecordsOf, Signatures, Signing, type_bitmap};
use crate::wire::{Name, Type};
use crate::zone::Zone;

/// The chain of one zone, and the signatures of its SOA.
#[derive(Debug)]
pub struct Denial {
    names: NextNames,
    entries: Box<[Proof]>,
    /// Of the SOA in an answer.
    pub soa: Records,
    /// Of the SOA that comes with a negative answer.
    pub negative: Records,
}

/// One NSEC record.
#[derive(Debug)]
pub struct Proof {
    /// The record, its owner written out.
    pub nsec: Records,
    /// Its signatures; their owner is where the record was written.
    pub signature: Records,
}

/// A name of the chain with its types, in order.
pub(super) type Link<'z> = (&'z Name, Vec<Type>);

impl Denial {
    /// Of the names that the zone answers with authority for, and delegations, in canonical order; the first is the origin.
    pub(super) fn new(
        zone: &Zone,
        signing: &Signing,
        chain: &[Link<'_>],
        signatures: &mut Signatures,
    ) -> Self {
        let entries: Vec<Proof> = (0..chain.len())
            .filter_map(|at| Proof::new(zone, signing, chain, at, None, signatures))
            .collect();
        let mut soa = |ttl| {
            let data = vec![Records::soa_data(zone)];
            let set = RecordsOf { owner: &zone.origin, kind: Type::SOA, ttl: zone.default_ttl, data };
            signed(zone, signing, set, ttl, signatures)
        };
        let (soa, negative) = (soa(zone.default_ttl), soa(zone.soa_negative_ttl()));
        Self {
            names: NextNames::new(chain.iter().map(|(name, _)| *name)),
            entries: entries.into(),
            soa,
            negative,
        }
    }

    /// Index of the entry that shows what is, and is not, at the lower-case wire name `name`, whose labels start at `starts`: its own, or
    /// the one whose gap it falls into.
    #[inline]
    pub fn find(&self, name: &[u8], starts: &[u8]) -> u32 {
        self.names.find(name, starts)
    }

    /// The entry at `index`.
    #[inline]
    pub fn proof(&self, index: u32) -> Option<&Proof> {
        self.entries.get(index as usize)
    }
}

impl Proof {
    fn new(
        zone: &Zone,
        signing: &Signing,
        chain: &[Link<'_>],
        entry: usize,
        without: Option<Type>,
        signatures: &mut Signatures,
    ) -> Option<Self> {
        let (owner, types) = chain.get(entry)?;
        // The last name leads back to the first (RFC 4034 section 4.1.1).
        let next = chain.get(entry + 1).map_or(&zone.origin, |(next, _)| next);
        let mut types: Vec<Type> = types.iter().copied().filter(|kind| Some(*kind) != without).collect();
        types.extend([Type::RRSIG, Type::NSEC]);
        types.sort_unstable();
        let data = [next.wire(), &type_bitmap(&types)].concat();
        // RFC 9077 section 3.
        let ttl = zone.soa_negative_ttl();
        let mut nsec = Records::default();
        nsec.push_owned(&zone.origin, owner, Type::NSEC, ttl, &data);
        let set = RecordsOf { owner, kind: Type::NSEC, ttl, data: vec![data] };
        Some(Self { nsec, signature: signed(zone, signing, set, ttl, signatures) })
    }

    /// The entry of the chain as those see it who get no answer of type `kind` at its name, though others do.
    pub(super) fn without(
        zone: &Zone,
        signing: &Signing,
        chain: &[Link<'_>],
        entry: usize,
        kind: Type,
        signatures: &mut Signatures,
    ) -> Option<Self> {
        Self::new(zone, signing, chain, entry, Some(kind), signatures)
    }
}

/// The RRSIG records of `set`, to be sent with `ttl`.
pub(super) fn signed(
    zone: &Zone,
    signing: &Signing,
    set: RecordsOf<'_>,
    ttl: u32,
    signatures: &mut Signatures,
) -> Records {
    let mut records = Records::default();
    for data in signatures.sign(signing, &zone.origin, set) {
        records.push_wire(Type::RRSIG, ttl, &data);
    }
    records
}
