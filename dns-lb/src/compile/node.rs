//! One name made ready to answer, from the model alone: whatever else changes, the same model makes the same node.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::denial::{Proof, signed};
use super::encode::Records;
use super::picks::Picks;
use super::referral::Referral;
use super::snapshot::{Alias, Choices, Node, Pick, Set};
use crate::dnssec::{Made, RecordsOf, Signatures};
use crate::metrics::ClusterSlots;
use crate::wire::{Name, SuffixHash, Type};
use crate::zone::{AliasTable, Data, How, RecordSet, Unit, Units, Zone, units};

/// What nodes are made with.
pub(super) struct Workshop<'w> {
    pub(super) clusters: &'w ClusterSlots,
    pub(super) signatures: &'w mut Signatures,
    /// How many regions there are.
    pub(super) regions: usize,
    /// Layouts that sets have in common.
    pub(super) layouts: BTreeMap<Box<[u8]>, Arc<[u8]>>,
}

impl Node {
    /// A name without records.
    pub(super) fn empty(name: Name, zone: u32) -> Self {
        Self {
            hash: SuffixHash::of(&name),
            zone,
            apex: false,
            wildcard: false,
            cut: 0,
            types: Box::default(),
            sets: Box::default(),
            alias: None,
            referral: None,
            proof: None,
            made: None,
            name,
        }
    }

    /// Of `name` in `zone`, which has the index `index`; `old` is the node that it had, whose signatures are used again as far as they
    /// are of the same records. None: the name does not exist.
    pub(super) fn new(
        zone: &Zone,
        index: u32,
        name: &Name,
        old: Option<&Self>,
        workshop: &mut Workshop<'_>,
    ) -> Option<Self> {
        let by_type = zone.names.get(name);
        // Empty non-terminals exist (RFC 4592 section 2.2.2) and have no sets.
        if by_type.is_none() && !zone.has_below(name) {
            return None;
        }
        if zone.signing.is_some() {
            workshop.signatures.resume(old.and_then(|old| old.made.as_deref()));
        }
        let cut = zone.cut(name);
        let mut node = Self {
            apex: *name == zone.origin,
            wildcard: name.wildcard().is_some_and(|wildcard| zone.exists(&wildcard)),
            cut: cut.as_ref().map_or(0, |cut| cut.wire().len() as u16),
            ..Self::empty(name.clone(), index)
        };
        let below = cut.as_ref().is_some_and(|cut| cut != name);
        if let Some(by_type) = by_type.filter(|_| !below) {
            node.fill(zone, by_type, cut.is_some(), workshop);
        }
        if zone.signing.is_some() {
            node.made = Some(Box::new(workshop.signatures.take())).filter(|made| made.renewal.is_some());
        }
        Some(node)
    }

    fn fill(
        &mut self,
        zone: &Zone,
        by_type: &BTreeMap<Type, RecordSet>,
        at_cut: bool,
        workshop: &mut Workshop<'_>,
    ) {
        let mut present = if self.apex { vec![Type::SOA] } else { Vec::new() };
        let (mut types, mut sets) = (Vec::with_capacity(by_type.len()), Vec::with_capacity(by_type.len()));
        // Set and type of what only some regions are answered.
        let mut silent: Vec<(usize, Type)> = Vec::new();
        for (&kind, set) in by_type {
            if at_cut && kind != Type::DS {
                continue;
            }
            let place = sets.len();
            let tiers = (set.selection, &set.tiers);
            let variants = set.variants.iter().map(|variant| (variant.selection, &variant.tiers));
            let mut encoded: Vec<Set> = std::iter::once(tiers)
                .chain(variants)
                .map(|(selection, tiers)| {
                    let answering = units(kind, selection, tiers);
                    encode(zone, &self.name, kind, set.ttl, &answering, workshop)
                })
                .collect();
            if let Some(own) = encoded.first_mut() {
                own.layout = layout(set, workshop);
            }
            if encoded.iter().any(|set| !set.choices.is_empty()) {
                present.push(kind);
                // Some regions are answered and others not: these need a proof of their own.
                let empty = encoded.iter().enumerate().filter(|(_, set)| set.choices.is_empty());
                silent.extend(empty.map(|(at, _)| (place + at, kind)));
            }
            if kind == Type::CNAME {
                self.alias = Some(place as u32);
            }
            types.push((kind, place as u32));
            sets.extend(encoded);
        }
        if at_cut {
            present.push(Type::NS);
            self.referral = Some(Box::new(Referral::new(zone, &self.name, workshop.signatures)));
        }
        if let Some(signing) = zone.signing.as_deref() {
            let next = zone.next_in_chain(&self.name);
            let mut proof = |without| {
                let types: Vec<Type> =
                    present.iter().copied().filter(|kind| Some(*kind) != without).collect();
                Proof::new(zone, signing, &self.name, types, next, workshop.signatures)
            };
            for (set, kind) in silent {
                if let Some(set) = sets.get_mut(set) {
                    set.nothing = Some(Box::new(proof(Some(kind))));
                }
            }
            self.proof = Some(proof(None));
        }
        (self.types, self.sets) = (types.into(), sets.into());
    }

    /// When the first of its signatures is to be renewed, seconds since 1970.
    pub(super) fn renewal(&self) -> Option<u32> {
        self.made.as_deref().and_then(|made: &Made| made.renewal)
    }
}

fn encode(
    zone: &Zone,
    owner: &Name,
    kind: Type,
    ttl: u32,
    answering: &Units,
    workshop: &mut Workshop<'_>,
) -> Set {
    let units = &answering.units;
    let signatures = &mut *workshop.signatures;
    let mut sign = |units: &[&Unit]| match &zone.signing {
        Some(signing) => {
            let data = units.iter().flat_map(|unit| &unit.data).map(|data| {
                let mut wire = Vec::new();
                data.wire(&mut wire);
                wire
            });
            let records = RecordsOf { owner, kind, ttl, data: data.collect() };
            signed(zone, signing, records, ttl, signatures)
        }
        None => Records::default(),
    };
    let weights: Vec<u32> = units.iter().map(|unit| unit.weight).collect();
    let pick = match (AliasTable::new(&weights), answering.how) {
        (None, _) => Pick::None,
        (Some(_), How::All) => Pick::All,
        (Some(table), How::Some(1)) => Pick::One(table),
        (Some(table), How::Some(picks)) => Pick::Some(table, picks),
        (Some(_), How::Sticky) => Pick::Sticky(answering.tickets().into()),
    };
    // What is answered together is signed together.
    let (signature, picks) = match pick {
        Pick::All => (sign(&units.iter().collect::<Vec<_>>()), None),
        Pick::Some(_, picks) if zone.signing.is_some() => {
            (Records::default(), Picks::new(units, picks as usize, &mut sign))
        }
        _ => (Records::default(), None),
    };
    let alone = matches!(pick, Pick::One(_) | Pick::Sticky(_));
    let choices = units
        .iter()
        .map(|unit| {
            let mut records = Records::default();
            for data in &unit.data {
                records.push(&zone.origin, ttl, data);
            }
            let alias = match unit.data.as_slice() {
                [Data::Cname(target)] if target.is_within(&zone.origin) => Some(Box::new(Alias::to(target))),
                _ => None,
            };
            let cluster = workshop.clusters.slot(unit.cluster.as_deref());
            let signature = if alone { sign(&[unit]) } else { Records::default() };
            Choices { records, signature, cluster, alias }
        })
        .collect();
    Set { pick, choices, layout: None, signature, picks: picks.map(Box::new), nothing: None }
}

/// Which variant answers each region. None: everybody is answered from the set itself.
fn layout(set: &RecordSet, workshop: &mut Workshop<'_>) -> Option<Arc<[u8]>> {
    if set.variants.is_empty() {
        return None;
    }
    let mut layout = vec![0; workshop.regions];
    for (variant, number) in set.variants.iter().zip(1_u8..) {
        for region in &variant.regions {
            if let Some(place) = layout.get_mut(region.0 as usize) {
                *place = number;
            }
        }
    }
    let layout: Box<[u8]> = layout.into();
    Some(workshop.layouts.entry(layout.clone()).or_insert_with(|| layout.into()).clone())
}
