//! Answers read straight from the model, without compiling: what the cold path sends, and what the compiled answers are checked
//! against in tests.

use std::ops::Bound;

use super::{AliasTable, Data, RecordSet, Units, Zone, Zones, scale, step};
use crate::wire::{Name, Rcode, Type};

/// Links of a chain of aliases that are followed; a longer chain, or a circle, is cut there, and resolvers go on from its end.
pub const CHAIN_MAX: usize = 8;

/// One record of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A record that a zone holds.
    Record {
        /// The owner.
        name: Name,
        /// Seconds.
        ttl: u32,
        /// The data.
        data: Data,
    },
    /// The zone's SOA.
    Soa,
    /// The minimal answer to ANY (RFC 8482).
    Hinfo,
}

/// What a question comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution<'z> {
    /// NOERROR, NXDOMAIN or REFUSED.
    pub rcode: Rcode,
    /// The zone that answers with authority.
    pub zone: Option<&'z Zone>,
    /// In the order they are sent.
    pub answers: Vec<Answer>,
    /// Whether the SOA stands in the authority section (RFC 2308).
    pub negative: bool,
}

enum Found<'z> {
    Sets(&'z std::collections::BTreeMap<Type, RecordSet>),
    Empty,
    Missing,
}

fn exists(zone: &Zone, name: &Name) -> bool {
    zone.names.contains_key(name)
        || zone
            .names
            .range((Bound::Excluded(name), Bound::Unbounded))
            .next()
            .is_some_and(|(next, _)| next.is_within(name))
}

fn find<'z>(zone: &'z Zone, name: &Name) -> Found<'z> {
    if let Some(sets) = zone.names.get(name) {
        return Found::Sets(sets);
    }
    if exists(zone, name) {
        return Found::Empty;
    }
    // RFC 4592 section 3.3.1: only the closest encloser's wildcard counts.
    let mut encloser = name.parent();
    while let Some(name) = encloser {
        if exists(zone, &name) {
            return match name.wildcard().and_then(|wildcard| zone.names.get(&wildcard)) {
                Some(sets) => Found::Sets(sets),
                None => Found::Missing,
            };
        }
        encloser = name.parent();
    }
    Found::Missing
}

/// The answer to (`name`, `kind`) in class IN, chosen by `dice`.
pub fn resolve<'z>(zones: &'z Zones, name: &Name, kind: Type, dice: u64) -> Resolution<'z> {
    let refused = Resolution { rcode: Rcode::REFUSED, zone: None, answers: Vec::new(), negative: false };
    if kind == Type::AXFR || kind == Type::IXFR {
        return refused;
    }
    let Some(zone) = zones.zone_of(name) else { return refused };
    let mut resolution =
        Resolution { rcode: Rcode::NOERROR, zone: Some(zone), answers: Vec::new(), negative: false };
    let mut owner = name.clone();
    let mut dice = dice;
    for _ in 0..=CHAIN_MAX {
        let sets = match find(zone, &owner) {
            Found::Sets(sets) => sets,
            Found::Empty => {
                resolution.negative = true;
                return resolution;
            }
            Found::Missing => {
                resolution.negative = true;
                resolution.rcode = Rcode::NXDOMAIN;
                return resolution;
            }
        };
        if kind == Type::SOA && owner == zone.origin {
            resolution.answers.push(Answer::Soa);
            return resolution;
        }
        if kind == Type::ANY {
            resolution.answers.push(Answer::Hinfo);
            return resolution;
        }
        if let Some(set) = sets.get(&kind) {
            let chosen = choose(set, kind, dice);
            resolution.negative = chosen.is_empty();
            resolution.answers.extend(chosen.into_iter().map(|data| Answer::Record {
                name: owner.clone(),
                ttl: set.ttl,
                data,
            }));
            return resolution;
        }
        let alias = sets.get(&Type::CNAME).map(|set| (set, choose(set, Type::CNAME, dice)));
        let Some((set, Some(Data::Cname(target)))) = alias.map(|(set, mut data)| (set, data.pop())) else {
            resolution.negative = true;
            return resolution;
        };
        if resolution.answers.len() == CHAIN_MAX {
            return resolution;
        }
        let data = Data::Cname(target.clone());
        resolution.answers.push(Answer::Record { name: owner, ttl: set.ttl, data });
        if !target.is_within(&zone.origin) {
            return resolution;
        }
        owner = target;
        dice = step(dice);
    }
    resolution
}

fn choose(set: &RecordSet, kind: Type, dice: u64) -> Vec<Data> {
    match set.units(kind) {
        Units::One(units) => {
            let weights: Vec<u32> = units.iter().map(|unit| unit.weight).collect();
            let picked = AliasTable::new(&weights).and_then(|table| units.into_iter().nth(table.pick(dice)));
            picked.map(|unit| unit.data).unwrap_or_default()
        }
        Units::All(mut units) => {
            let first = scale(dice, units.len());
            units.rotate_left(first);
            units.into_iter().flat_map(|unit| unit.data).collect()
        }
    }
}
