//! Answers read straight from the model, without compiling: what the cold path sends, and what the compiled answers are checked
//! against in tests.

use std::ops::Bound;

use super::{AliasTable, Data, How, RecordSet, Sets, Units, Zone, Zones, draw, scale, step, sticky};
use crate::client::Region;
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

/// Who asks, as far as answers depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// Where the client is.
    pub region: Region,
    /// Hash of the client's address, cut as for sticky answers.
    pub key: u64,
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
    /// Whether there would be an answer, if it were not withdrawn.
    pub silent: bool,
    /// The zone cut at which others are to be asked; then nothing is answered with authority.
    pub referral: Option<Name>,
    /// Whether the client's region had a say.
    pub by_region: bool,
    /// Whether the client's key had a say.
    pub by_key: bool,
}

impl<'z> Resolution<'z> {
    fn empty(rcode: Rcode, zone: Option<&'z Zone>) -> Self {
        let (by_region, by_key) = (false, false);
        let (negative, silent) = (false, false);
        Self { rcode, zone, answers: Vec::new(), negative, silent, referral: None, by_region, by_key }
    }

    fn depends_on(&mut self, set: &RecordSet, kind: Type, asker: &Asker) {
        self.by_region |= !set.variants.is_empty();
        self.by_key |= set.units(kind, asker.region).how == How::Sticky;
    }
}

enum Found {
    Sets(Sets),
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

fn find(zone: &Zone, name: &Name) -> Found {
    if let Some(sets) = zone.names.get(name) {
        return Found::Sets(sets.clone());
    }
    if exists(zone, name) {
        return Found::Empty;
    }
    // RFC 4592 section 3.3.1: only the closest encloser's wildcard counts.
    let mut encloser = name.parent();
    while let Some(name) = encloser {
        if exists(zone, &name) {
            return match name.wildcard().and_then(|wildcard| zone.names.get(&wildcard)) {
                Some(sets) => Found::Sets(sets.clone()),
                None => Found::Missing,
            };
        }
        encloser = name.parent();
    }
    Found::Missing
}

/// The answer to (`name`, `kind`) in class IN for `asker`, chosen by `random`.
pub fn resolve<'z>(zones: &'z Zones, name: &Name, kind: Type, asker: &Asker, random: u64) -> Resolution<'z> {
    let refused = Resolution::empty(Rcode::REFUSED, None);
    if kind == Type::AXFR || kind == Type::IXFR {
        return refused;
    }
    let Some(zone) = zones.zone_of(name) else { return refused };
    let mut resolution = Resolution::empty(Rcode::NOERROR, Some(zone));
    resolution.referral = zone.cut(name).filter(|cut| kind != Type::DS || cut != name);
    if resolution.referral.is_some() {
        return resolution;
    }
    let mut owner = name.clone();
    let mut random = random;
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
        // RFC 8482 section 4.2: an alias is answered as it is.
        let kind = match kind {
            Type::ANY if sets.has(Type::CNAME) => Type::CNAME,
            Type::ANY => {
                resolution.answers.push(Answer::Hinfo);
                return resolution;
            }
            kind => kind,
        };
        if let Some(set) = sets.get(kind) {
            resolution.depends_on(&set, kind, asker);
            let chosen = choose(&set, kind, asker, random);
            resolution.negative = chosen.is_empty();
            resolution.silent = chosen.is_empty();
            resolution.answers.extend(chosen.into_iter().map(|data| Answer::Record {
                name: owner.clone(),
                ttl: set.ttl,
                data,
            }));
            return resolution;
        }
        let alias = sets.get(Type::CNAME);
        if let Some(set) = &alias {
            resolution.depends_on(set, Type::CNAME, asker);
        }
        let is_alias = alias.is_some();
        let alias = alias.map(|set| (choose(&set, Type::CNAME, asker, random), set));
        let Some((set, Some(Data::Cname(target)))) = alias.map(|(mut data, set)| (set, data.pop())) else {
            resolution.negative = true;
            resolution.silent = is_alias;
            return resolution;
        };
        if resolution.answers.len() == CHAIN_MAX {
            return resolution;
        }
        let data = Data::Cname(target.clone());
        resolution.answers.push(Answer::Record { name: owner, ttl: set.ttl, data });
        if !target.is_within(&zone.origin) || zone.cut(&target).is_some() {
            return resolution;
        }
        owner = target;
        random = step(random);
    }
    resolution
}

fn choose(set: &RecordSet, kind: Type, asker: &Asker, random: u64) -> Vec<Data> {
    let answering = set.units(kind, asker.region);
    let tickets = answering.tickets();
    let Units { how, mut units } = answering;
    let weights: Vec<u32> = units.iter().map(|unit| unit.weight).collect();
    let mut chosen = Vec::new();
    match how {
        How::All => {
            let first = scale(random, units.len());
            units.rotate_left(first);
            chosen.extend(units.into_iter().flat_map(|unit| unit.data));
        }
        How::Some(picks) => {
            let Some(table) = AliasTable::new(&weights) else { return chosen };
            let take = |index: usize| {
                chosen.extend(units.get(index).into_iter().flat_map(|unit| unit.data.clone()));
                Ok::<(), std::convert::Infallible>(())
            };
            let Ok(()) = draw(&table, units.len(), picks as usize, random, take);
        }
        How::Sticky => {
            let unit = sticky(&tickets, asker.key).and_then(|index| units.into_iter().nth(index));
            chosen = unit.map(|unit| unit.data).unwrap_or_default();
        }
    }
    chosen
}
