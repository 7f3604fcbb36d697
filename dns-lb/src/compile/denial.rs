//! What proves that something is not there: a chain of NSEC records through all names, signed when the zone is compiled.
//!
//! A flood of queries for random names costs no signature, and resolvers that use the chain themselves (RFC 8198) stop asking. A zone may
//! want [`Compact`] denial instead, which signs when one asks; the chain is there all the same, for what exists and for floods.

use super::encode::{Encoder, Stored};
use super::{Chain, Compact, RecordsRef};
use crate::dnssec::{Made, RecordsOf, Signatures, Signing, type_bitmap};
use crate::wire::{Name, Type};
use crate::zone::Zone;

/// The chain of one zone, and the signatures of its SOA.
#[derive(Debug)]
pub struct Denial {
    /// Who proves what.
    pub chain: Chain,
    /// Of the SOA in an answer.
    pub soa: Stored,
    /// Of the SOA that comes with a negative answer.
    pub negative: Stored,
    /// What signs when one asks, if the zone wants that.
    pub compact: Option<Compact>,
    made: Vec<Made>,
    /// When the SOA's signature is to be renewed, seconds since 1970.
    pub(super) renewal: Option<u32>,
}

/// One NSEC record, in the node that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proof {
    /// The record, its owner written out.
    pub nsec: RecordsRef,
    /// Its signatures; their owner is where the record was written.
    pub signature: RecordsRef,
}

impl Denial {
    /// Of `chain`. `old` is what there was.
    pub(super) fn new(
        zone: &Zone,
        signing: &Signing,
        chain: Chain,
        old: Option<&Self>,
        signatures: &mut Signatures,
    ) -> Self {
        signatures.resume(old.into_iter().flat_map(|old| old.made.iter().copied()));
        let mut soa = |ttl| {
            let data = vec![Encoder::soa_data(zone)];
            let set = RecordsOf { owner: &zone.origin, kind: Type::SOA, ttl: zone.default_ttl, data };
            signed(zone, signing, set, ttl, signatures).store()
        };
        let (soa, negative) = (soa(zone.default_ttl), soa(zone.soa_negative_ttl()));
        let (made, renewal) = signatures.take();
        Self { chain, soa, negative, compact: Compact::new(zone, old), made, renewal }
    }

    /// Whether the SOA's signature is to be renewed at `now`.
    pub(super) fn due(&self, now: u32) -> bool {
        self.renewal.is_some_and(|renewal| renewal <= now)
    }
}

/// The NSEC record that says that `owner` has these types, and that there is nothing between it and `next`; and its signatures.
pub(super) fn nsec(
    zone: &Zone,
    signing: &Signing,
    owner: &Name,
    mut types: Vec<Type>,
    next: &Name,
    signatures: &mut Signatures,
) -> (Encoder, Encoder) {
    types.extend([Type::RRSIG, Type::NSEC]);
    types.sort_unstable();
    let data = [next.wire(), &type_bitmap(&types)].concat();
    // RFC 9077 section 3.
    let ttl = zone.soa_negative_ttl();
    let mut nsec = Encoder::default();
    nsec.push_owned(&zone.origin, owner, Type::NSEC, ttl, &data);
    let set = RecordsOf { owner, kind: Type::NSEC, ttl, data: vec![data] };
    (nsec, signed(zone, signing, set, ttl, signatures))
}

/// The RRSIG records of `set`, to be sent with `ttl`.
pub(super) fn signed(
    zone: &Zone,
    signing: &Signing,
    set: RecordsOf<'_>,
    ttl: u32,
    signatures: &mut Signatures,
) -> Encoder {
    let mut records = Encoder::default();
    for data in signatures.sign(signing, &zone.origin, set) {
        records.push_wire(Type::RRSIG, ttl, &data);
    }
    records
}
