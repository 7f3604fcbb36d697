//! From the model to the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::encode::Records;
use super::snapshot::{Choices, Node, Pick, Set, Snapshot, Target, ZoneAnswers};
use super::table::Table;
use crate::metrics::ClusterSlots;
use crate::wire::{Name, Type};
use crate::zone::{AliasTable, Data, How, RecordSet, Units, Zone, Zones, units};

impl Snapshot {
    /// Encodes every answer of `zones`.
    pub fn compile(zones: Arc<Zones>, stale: bool, clusters: &ClusterSlots) -> Self {
        let mut names: Vec<&Name> = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        let mut sets: Vec<Set> = Vec::new();
        // Empty non-terminals exist (RFC 4592 section 2.2.2) and have no sets.
        let ancestors: Vec<BTreeSet<Name>> =
            zones.zones.iter().map(|zone| empty_non_terminals(zone)).collect();
        let nothing = BTreeMap::new();
        let (mut layouts, regions) = (Layouts::default(), zones.regions.names.count());
        for (index, (zone, empty)) in zones.zones.iter().zip(&ancestors).enumerate() {
            let with_sets = zone.names.iter();
            for (name, by_type) in with_sets.chain(empty.iter().map(|name| (name, &nothing))) {
                let mut types = Vec::with_capacity(by_type.len());
                let mut alias = None;
                for (&kind, set) in by_type {
                    let place = sets.len() as u32;
                    if kind == Type::CNAME {
                        alias = Some(place);
                    }
                    types.push((kind, place));
                    let own = units(kind, set.selection, &set.tiers);
                    let own = encode(zone, set.ttl, &own, clusters);
                    sets.push(Set { by_region: layouts.of(set, regions), ..own });
                    for variant in &set.variants {
                        let answering = units(kind, variant.selection, &variant.tiers);
                        sets.push(encode(zone, set.ttl, &answering, clusters));
                    }
                }
                let (zone, apex) = (index as u32, *name == zone.origin);
                nodes.push(Node { zone, apex, types: types.into(), alias, wildcard: None });
                names.push(name);
            }
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
        let answers = zones
            .zones
            .iter()
            .map(|zone| ZoneAnswers {
                origin_length: zone.origin.wire().len() as u16,
                soa: Records::soa(zone, zone.default_ttl),
                negative: Records::soa(zone, zone.soa_negative_ttl()),
                hinfo: Records::hinfo(zone.default_ttl),
            })
            .collect();
        let (nodes, sets, layouts) = (nodes.into(), sets.into(), layouts.finish());
        let mut snapshot = Self { zones: zones.clone(), stale, table, nodes, sets, layouts, answers };
        snapshot.link();
        snapshot
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
                        let target = self.place(target).map_or(Target::Missing, Target::Node);
                        links.push((at, choice, target));
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

fn encode(zone: &Zone, ttl: u32, answering: &Units, clusters: &ClusterSlots) -> Set {
    let weights: Vec<u32> = answering.units.iter().map(|unit| unit.weight).collect();
    let pick = match (AliasTable::new(&weights), answering.how) {
        (None, _) => Pick::None,
        (Some(_), How::All) => Pick::All,
        (Some(table), How::Some(1)) => Pick::One(table),
        (Some(table), How::Some(picks)) => Pick::Some(table, picks),
        (Some(_), How::Sticky) => Pick::Sticky(answering.tickets().into()),
    };
    let choices = answering
        .units
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
            Choices { records, cluster, target: Target::End, alias_target }
        })
        .collect();
    Set { pick, choices, by_region: 0 }
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
