//! From the model to the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::denial::{Denial, Link, Proof, signed};
use super::encode::Records;
use super::picks::Picks;
use super::referral::Referral;
use super::snapshot::{Choices, Node, Pick, Set, Snapshot, Target, ZoneAnswers};
use super::table::Table;
use crate::answer::Secrets;
use crate::client::ClientMap;
use crate::dnssec::{RecordsOf, Signatures};
use crate::metrics::ClusterSlots;
use crate::wire::{Name, Type};
use crate::zone::{AliasTable, Data, How, RecordSet, Unit, Units, Zone, Zones, units};

impl Snapshot {
    /// Encodes every answer of `zones`, and signs those of signed zones. No client is anywhere yet: see [`Snapshot::with_clients`].
    pub fn compile(
        zones: Arc<Zones>,
        stale: bool,
        clusters: &ClusterSlots,
        signatures: &mut Signatures,
    ) -> Self {
        let mut names: Vec<&Name> = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        let mut sets: Vec<Set> = Vec::new();
        let mut referrals: Vec<Referral> = Vec::new();
        let mut answers = Vec::with_capacity(zones.zones.len());
        // Empty non-terminals exist (RFC 4592 section 2.2.2) and have no sets.
        let ancestors: Vec<BTreeSet<Name>> =
            zones.zones.iter().map(|zone| empty_non_terminals(zone)).collect();
        let nothing = BTreeMap::new();
        let (mut layouts, regions) = (Layouts::default(), zones.regions.names.count());
        for (index, (zone, empty)) in zones.zones.iter().zip(&ancestors).enumerate() {
            let mut ordered: Vec<(&Name, &BTreeMap<Type, RecordSet>)> = zone.names.iter().collect();
            ordered.extend(empty.iter().map(|name| (name, &nothing)));
            ordered.sort_by_key(|(name, _)| *name);
            let mut chain: Vec<Link<'_>> = Vec::with_capacity(zone.names.len());
            let mut cut: Option<&Name> = None;
            // Entry of the chain, set, and type of what only some regions are answered.
            let mut silent: Vec<(usize, usize, Type)> = Vec::new();
            for (name, by_type) in ordered {
                let apex = *name == zone.origin;
                cut = cut.filter(|cut| name.is_within(cut));
                let below = cut.is_some();
                let at_cut = !below && !apex && by_type.contains_key(&Type::NS);
                let mut types = Vec::with_capacity(by_type.len());
                let mut alias = None;
                let mut present = if apex { vec![Type::SOA] } else { Vec::new() };
                for (&kind, set) in by_type.iter().filter(|_| !below) {
                    if at_cut && kind != Type::DS {
                        continue;
                    }
                    let place = sets.len() as u32;
                    let tiers = (set.selection, &set.tiers);
                    let variants = set.variants.iter().map(|variant| (variant.selection, &variant.tiers));
                    let mut encoded: Vec<Set> = std::iter::once(tiers)
                        .chain(variants)
                        .map(|(selection, tiers)| {
                            let answering = units(kind, selection, tiers);
                            encode(zone, name, kind, set.ttl, &answering, clusters, signatures)
                        })
                        .collect();
                    encoded[0].by_region = layouts.of(set, regions);
                    if encoded.iter().any(|set| !set.choices.is_empty()) {
                        present.push(kind);
                        // Some regions are answered and others not: these need a proof of their own.
                        let empty = encoded.iter().enumerate().filter(|(_, set)| set.choices.is_empty());
                        silent.extend(empty.map(|(at, _)| (chain.len(), place as usize + at, kind)));
                    }
                    if kind == Type::CNAME {
                        alias = Some(place);
                    }
                    types.push((kind, place));
                    sets.extend(encoded);
                }
                if at_cut {
                    present.push(Type::NS);
                }
                if !below && !by_type.is_empty() {
                    chain.push((name, present));
                }
                let proof = chain.len().saturating_sub(1) as u32;
                if at_cut {
                    cut = Some(name);
                    referrals.push(Referral::new(zone, name, proof, signatures));
                }
                let referral = cut.map(|_| referrals.len() as u32 - 1);
                let zone = index as u32;
                nodes.push(Node { zone, apex, types: types.into(), alias, wildcard: None, referral, proof });
                names.push(name);
            }
            let denial =
                zone.signing.as_deref().map(|signing| Denial::new(zone, signing, &chain, signatures));
            if let Some(signing) = zone.signing.as_deref() {
                for (entry, set, kind) in silent {
                    let proof = Proof::without(zone, signing, &chain, entry, kind, signatures);
                    sets[set].nothing = proof.map(Box::new);
                }
            }
            answers.push(ZoneAnswers {
                origin_length: zone.origin.wire().len() as u16,
                soa: Records::soa(zone, zone.default_ttl),
                negative: Records::soa(zone, zone.soa_negative_ttl()),
                hinfo: Records::hinfo(zone.default_ttl),
                denial: denial.map(Box::new),
            });
        }
        let places: BTreeMap<&Name, u32> =
            names.iter().zip(0_u32..).map(|(&name, node)| (name, node)).collect();
        for (&name, &node) in &places {
            let Some(parent) = name.is_wildcard().then(|| name.parent()).flatten() else { continue };
            if let Some(parent) = places.get(&parent).and_then(|&at| nodes.get_mut(at as usize)) {
                parent.wildcard = Some(node);
            }
        }
        let table = Table::new(&names);
        let mut snapshot = Self {
            zones: zones.clone(),
            stale,
            clients: Arc::default(),
            secrets: Secrets(zones.cookie_secrets.clone()),
            table,
            nodes: nodes.into(),
            sets: sets.into(),
            layouts: layouts.finish(),
            answers: answers.into(),
            referrals: referrals.into(),
        };
        snapshot.link();
        snapshot
    }

    /// The same, for clients that are where `clients` says.
    #[must_use]
    pub fn with_clients(self, clients: Arc<ClientMap>) -> Self {
        Self { clients, ..self }
    }

    /// Finds where each alias leads, now that every name has its place.
    fn link(&mut self) {
        let mut links = Vec::new();
        for node in &self.nodes {
            let (Some(alias), Some(zone)) = (node.alias, self.zones.zones.get(node.zone as usize)) else {
                continue;
            };
            let variants = self.variants(alias);
            for at in alias as usize..=alias as usize + variants {
                let Some(set) = self.sets.get(at) else { continue };
                for (choice, choices) in set.choices.iter().enumerate() {
                    let Some(target) = choices.alias_target.as_ref() else { continue };
                    if target.is_within(&zone.origin) {
                        links.push((at, choice, self.target(target)));
                    }
                }
            }
        }
        for (set, choice, target) in links {
            self.sets[set].choices[choice].target = target;
        }
    }
}

fn empty_non_terminals(zone: &Zone) -> BTreeSet<Name> {
    let mut empty = BTreeSet::new();
    for name in zone.names.keys() {
        let mut ancestor = name.parent();
        while let Some(name) = ancestor.filter(|name| name.is_within(&zone.origin)) {
            ancestor = name.parent();
            if zone.names.contains_key(&name) || !empty.insert(name) {
                break;
            }
        }
    }
    empty
}

fn encode(
    zone: &Zone,
    owner: &Name,
    kind: Type,
    ttl: u32,
    answering: &Units,
    clusters: &ClusterSlots,
    signatures: &mut Signatures,
) -> Set {
    let units = &answering.units;
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
            let alias_target = match unit.data.as_slice() {
                [Data::Cname(target)] => Some(target.clone()),
                _ => None,
            };
            let cluster = clusters.slot(unit.cluster.as_deref());
            let signature = if alone { sign(&[unit]) } else { Records::default() };
            Choices { records, signature, cluster, target: Target::End, alias_target }
        })
        .collect();
    Set { pick, choices, by_region: 0, signature, picks: picks.map(Box::new), nothing: None }
}

/// Which variant answers each region, for all sets that are alike in this.
#[derive(Default)]
struct Layouts(BTreeMap<Box<[u8]>, u32>);

impl Layouts {
    /// Of a set. 0: everybody is answered from the set itself.
    fn of(&mut self, set: &RecordSet, regions: usize) -> u32 {
        if set.variants.is_empty() {
            return 0;
        }
        let mut layout = vec![0; regions];
        for (variant, number) in set.variants.iter().zip(1_u8..) {
            for region in &variant.regions {
                if let Some(place) = layout.get_mut(region.0 as usize) {
                    *place = number;
                }
            }
        }
        let next = self.0.len() as u32 + 1;
        *self.0.entry(layout.into()).or_insert(next)
    }

    fn finish(self) -> Box<[Box<[u8]>]> {
        let mut layouts = vec![Box::default(); self.0.len() + 1];
        for (layout, at) in self.0 {
            layouts[at as usize] = layout;
        }
        layouts.into()
    }
}
