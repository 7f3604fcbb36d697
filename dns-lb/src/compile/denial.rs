//! What proves that something is not there: a chain of NSEC records through all names, signed when the zone is compiled.
//!
//! A flood of queries for random names costs no signature, and resolvers that use the chain themselves (RFC 8198) stop asking.

use super::Chain;
use super::encode::Records;
use crate::dnssec::{Made, RecordsOf, Signatures, Signing, type_bitmap};
use crate::wire::{Name, Type};
use crate::zone::Zone;

/// The chain of one zone, and the signatures of its SOA.
#[derive(Debug)]
pub struct Denial {
    /// Who proves what.
    pub chain: Chain,
    /// Of the SOA in an answer.
    pub soa: Records,
    /// Of the SOA that comes with a negative answer.
    pub negative: Records,
    pub(super) made: Made,
}

/// One NSEC record.
#[derive(Debug)]
pub struct Proof {
    /// The record, its owner written out.
    pub nsec: Records,
    /// Its signatures; their owner is where the record was written.
    pub signature: Records,
}

impl Denial {
    /// Of `chain`. `made` are the SOA's signatures that there were.
    pub(super) fn new(
        zone: &Zone,
        signing: &Signing,
        chain: Chain,
        made: Option<&Made>,
        signatures: &mut Signatures,
    ) -> Self {
        signatures.resume(made);
        let mut soa = |ttl| {
            let data = vec![Records::soa_data(zone)];
            let set = RecordsOf { owner: &zone.origin, kind: Type::SOA, ttl: zone.default_ttl, data };
            signed(zone, signing, set, ttl, signatures)
        };
        let (soa, negative) = (soa(zone.default_ttl), soa(zone.soa_negative_ttl()));
        Self { chain, soa, negative, made: signatures.take() }
    }

    /// Whether the SOA's signature is to be renewed at `now`.
    pub(super) fn due(&self, now: u32) -> bool {
        self.made.renewal.is_some_and(|renewal| renewal <= now)
    }
}

impl Proof {
    /// That `owner` has these types, and that there is nothing between it and `next`.
    pub(super) fn new(
        zone: &Zone,
        signing: &Signing,
        owner: &Name,
        mut types: Vec<Type>,
        next: &Name,
        signatures: &mut Signatures,
    ) -> Self {
        types.extend([Type::RRSIG, Type::NSEC]);
        types.sort_unstable();
        let data = [next.wire(), &type_bitmap(&types)].concat();
        // RFC 9077 section 3.
        let ttl = zone.soa_negative_ttl();
        let mut nsec = Records::default();
        nsec.push_owned(&zone.origin, owner, Type::NSEC, ttl, &data);
        let set = RecordsOf { owner, kind: Type::NSEC, ttl, data: vec![data] };
        Self { nsec, signature: signed(zone, signing, set, ttl, signatures) }
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
