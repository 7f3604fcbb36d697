//! Where a part of the zone is delegated to other servers.

use super::RecordsRef;
use super::denial::signed;
use super::encode::{Encoder, Stored};
use super::records::RecordArena;
use crate::dnssec::{RecordsOf, Signatures};
use crate::wire::{Name, Type};
use crate::zone::{Data, RecordSet, Zone};

/// The answer to every question at or below a zone cut (RFC 1034 section 4.3.2), but for that of its DS.
#[derive(Debug)]
pub struct Referral {
    /// The delegation.
    pub ns: Stored,
    /// Which keys the delegated zone is signed with; none: it is not.
    pub ds: Stored,
    /// Of `ds`.
    pub ds_signature: RecordsRef,
    /// Addresses of the servers, as far as this zone knows them.
    pub glue: Box<[Stored]>,
}

impl Referral {
    /// Of the cut at `name`.
    pub(super) fn new(
        zone: &Zone,
        name: &Name,
        arena: &mut RecordArena,
        signatures: &mut Signatures,
    ) -> Self {
        let set = |kind| zone.names.get(name).and_then(|sets| sets.get(kind));
        let (mut ns, mut ds) = (Encoder::default(), Encoder::default());
        let mut glue = Vec::new();
        for (data, ttl) in every(set(Type::NS).as_ref()) {
            ns.push(&zone.origin, ttl, &data);
            let Data::Ns(server) = &data else { continue };
            for kind in [Type::A, Type::AAAA] {
                for (address, ttl) in every(zone.names.get(server).and_then(|sets| sets.get(kind)).as_ref()) {
                    let (mut records, mut wire) = (Encoder::default(), Vec::new());
                    address.wire(&mut wire);
                    records.push_owned(&zone.origin, server, kind, ttl, &wire);
                    glue.push(records.store());
                }
            }
        }
        let mut digests = Vec::new();
        let mut ttl = zone.default_ttl;
        for (data, of_set) in every(set(Type::DS).as_ref()) {
            ds.push(&zone.origin, of_set, &data);
            let mut wire = Vec::new();
            data.wire(&mut wire);
            digests.push(wire);
            ttl = of_set;
        }
        let ds_signature = match &zone.signing {
            Some(signing) if !digests.is_empty() => {
                let set = RecordsOf { owner: name, kind: Type::DS, ttl, data: digests };
                signed(zone, signing, set, ttl, signatures)
            }
            _ => Encoder::default(),
        };
        let ds_signature = arena.put(&ds_signature);
        Self { ns: ns.store(), ds: ds.store(), ds_signature, glue: glue.into() }
    }
}

/// All records that a set may answer with: a delegation does not depend on who asks.
pub(crate) fn every(set: Option<&RecordSet>) -> Vec<(Data, u32)> {
    let Some(set) = set else { return Vec::new() };
    let mut records: Vec<(Data, u32)> = Vec::new();
    for data in set.tiers.iter().flatten().flat_map(|choice| &choice.data) {
        if records.iter().all(|(known, _)| known != data) {
            records.push((data.clone(), set.ttl));
        }
    }
    records
}
