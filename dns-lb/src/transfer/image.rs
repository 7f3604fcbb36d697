//! A zone as a list of records, for secondaries.

use crate::client::Region;
use crate::compile::{Encoder, every};
use crate::dnssec::{RecordsOf, Signatures, type_bitmap};
use crate::wire::{Class, HEADER, Name, Type};
use crate::zone::{Data, RecordSet, Zone};

/// Octets after which a message is full. Offsets beyond 16 KiB cannot be pointed to, and a secondary works while the next is made.
const FULL: usize = 16 * 1024;
/// A pointer to the question's name, which is the origin.
const ORIGIN: [u8; 2] = [0xc0, HEADER as u8];

/// A zone's records.
#[derive(Debug)]
pub struct Image {
    /// The zone.
    pub origin: Name,
    /// Of the SOA.
    pub serial: u32,
    soa: Vec<u8>,
    records: Vec<Vec<u8>>,
}

impl Image {
    /// Of `zone`, signed if it is signed. Signatures are those of the answers, octet for octet.
    pub fn new(zone: &Zone, signatures: &mut Signatures) -> Self {
        let mut writer = Writer { zone, signatures, records: Vec::new() };
        let soa_data = Encoder::soa_data(zone);
        let soa = writer.record(&zone.origin, Type::SOA, zone.default_ttl, &soa_data);
        writer.sign(&zone.origin, Type::SOA, zone.default_ttl, vec![soa_data]);
        let mut chain: Vec<(&Name, Vec<Type>)> = Vec::with_capacity(zone.names.len());
        let mut cut: Option<&Name> = None;
        for (name, sets) in &zone.names {
            let apex = *name == zone.origin;
            cut = cut.filter(|cut| name.is_within(cut));
            let below = cut.is_some();
            let at_cut = !below && !apex && sets.has(Type::NS);
            let mut present = if apex { vec![Type::SOA] } else { Vec::new() };
            for (kind, set) in sets.iter() {
                if below || at_cut {
                    // Delegations and glue are not signed, DS is (RFC 4035 section 2.2).
                    let glue = matches!(kind, Type::A | Type::AAAA);
                    if glue || at_cut && matches!(kind, Type::NS | Type::DS) {
                        let data: Vec<Data> = every(Some(&set)).into_iter().map(|(data, _)| data).collect();
                        if writer.set(name, kind, set.ttl, &data, kind == Type::DS) && !glue {
                            present.push(kind);
                        }
                    }
                } else if writer.set(name, kind, set.ttl, &everywhere(kind, &set), true) {
                    present.push(kind);
                }
            }
            if at_cut {
                cut = Some(name);
            }
            if !below && !present.is_empty() {
                chain.push((name, present));
            }
        }
        if zone.signing.is_some() {
            for (at, (owner, present)) in chain.iter().enumerate() {
                let next = chain.get(at + 1).map_or(&zone.origin, |(next, _)| *next);
                let mut types = present.clone();
                types.extend([Type::RRSIG, Type::NSEC]);
                types.sort_unstable();
                let data = [next.wire(), &type_bitmap(&types)].concat();
                let ttl = zone.soa_negative_ttl();
                writer.records.push(writer.record(owner, Type::NSEC, ttl, &data));
                writer.sign(owner, Type::NSEC, ttl, vec![data]);
            }
        }
        let records = writer.records;
        Self { origin: zone.origin.clone(), serial: zone.serial, soa, records }
    }

    /// The next of the messages that carry it, from record `at` on, without a signature of its own; none: that was all. It begins with
    /// `head`, a header and the question, in which the answer count is filled in. The first message begins with the SOA, the last ends
    /// with it (RFC 5936 section 2.2). `unchanged`: the SOA alone, for who has this serial already (RFC 1995 section 2).
    pub fn message(&self, head: &[u8], at: &mut usize, unchanged: bool) -> Option<Vec<u8>> {
        let last = if unchanged { 0 } else { self.records.len() + 1 };
        let mut message = head.to_vec();
        let mut count = 0_u16;
        while *at <= last {
            let record = at.checked_sub(1).and_then(|at| self.records.get(at)).unwrap_or(&self.soa);
            if count > 0 && message.len() + record.len() > FULL {
                break;
            }
            message.extend_from_slice(record);
            count += 1;
            *at += 1;
        }
        message.get_mut(6..8)?.copy_from_slice(&count.to_be_bytes());
        (count > 0).then_some(message)
    }
}

/// What clients that are nowhere are answered, all of them together.
fn everywhere(kind: Type, set: &RecordSet) -> Vec<Data> {
    let units = set.units(kind, Region::NONE).units;
    if kind == Type::CNAME {
        let heaviest = units.iter().map(|unit| unit.weight).max();
        let unit = units.into_iter().find(|unit| Some(unit.weight) == heaviest);
        return unit.map(|unit| unit.data).unwrap_or_default();
    }
    let mut all: Vec<Data> = Vec::new();
    for data in units.into_iter().flat_map(|unit| unit.data) {
        // No two records of a set are equal (RFC 2181 section 5).
        if !all.contains(&data) {
            all.push(data);
        }
    }
    all
}

struct Writer<'z> {
    zone: &'z Zone,
    signatures: &'z mut Signatures,
    records: Vec<Vec<u8>>,
}

impl Writer<'_> {
    /// Adds a set. False: it is empty.
    fn set(&mut self, owner: &Name, kind: Type, ttl: u32, data: &[Data], signed: bool) -> bool {
        let mut wires = Vec::with_capacity(data.len());
        for data in data {
            let mut wire = Vec::new();
            data.wire(&mut wire);
            self.records.push(self.record(owner, kind, ttl, &wire));
            wires.push(wire);
        }
        if signed && !wires.is_empty() {
            self.sign(owner, kind, ttl, wires);
        }
        !data.is_empty()
    }

    fn sign(&mut self, owner: &Name, kind: Type, ttl: u32, data: Vec<Vec<u8>>) {
        let Some(signing) = self.zone.signing.as_deref() else { return };
        let set = RecordsOf { owner, kind, ttl, data };
        for signature in self.signatures.sign(signing, &self.zone.origin, set) {
            self.records.push(self.record(owner, Type::RRSIG, ttl, &signature));
        }
    }

    fn record(&self, owner: &Name, kind: Type, ttl: u32, data: &[u8]) -> Vec<u8> {
        let origin = self.zone.origin.wire().len();
        let own = owner.wire().len().saturating_sub(origin);
        let mut record = Vec::with_capacity(own + 12 + data.len());
        record.extend_from_slice(owner.wire().get(..own).unwrap_or_default());
        record.extend_from_slice(&ORIGIN);
        record.extend_from_slice(&kind.0.to_be_bytes());
        record.extend_from_slice(&Class::IN.0.to_be_bytes());
        record.extend_from_slice(&ttl.to_be_bytes());
        record.extend_from_slice(&(data.len() as u16).to_be_bytes());
        record.extend_from_slice(data);
        record
    }
}
