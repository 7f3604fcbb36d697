//! A record set: tiers of choices, and which of them answer.

use std::sync::Arc;

use super::{Data, Ticket};
use crate::client::Region;
use crate::wire::Type;

/// The records of one name and type.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSet {
    /// Seconds.
    pub ttl: u32,
    /// How much of a tier is answered.
    pub selection: Selection,
    /// Best first.
    pub tiers: Vec<Vec<Choice>>,
    /// `namespace/name` of the Service whose users ask; none for static records.
    pub service: Option<Arc<str>>,
    /// What the clients of some regions are answered instead.
    pub variants: Vec<Variant>,
}

/// What the clients of some regions are answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// In order; in no other variant of the set.
    pub regions: Vec<Region>,
    /// As the set's.
    pub selection: Selection,
    /// As the set's.
    pub tiers: Vec<Vec<Choice>>,
}

/// How much of a tier is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every choice, rotated.
    All,
    /// So many distinct choices, by weight; at least 1.
    Weighted(u16),
    /// One choice, the same for the same client.
    Sticky,
}

/// What is answered, or not, as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// None: withdrawn.
    pub data: Vec<Data>,
    /// Share of the answers; 0 is never chosen by [`Selection::Weighted`], and not read by [`Selection::All`].
    pub weight: u32,
    /// For the counters; none for static records.
    pub cluster: Option<Arc<str>>,
    /// For [`Selection::Sticky`]: see [`super::seed`]; else 0.
    pub seed: u64,
}

/// What the server picks or rotates: the answering tier, flattened.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Never empty.
    pub data: Vec<Data>,
    /// Never 0.
    pub weight: u32,
    /// As the choice's.
    pub cluster: Option<Arc<str>>,
    /// As the choice's.
    pub seed: u64,
}

/// What the answering tier of a set comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Units {
    /// How many of them an answer has.
    pub how: How,
    /// What there is to answer; empty when all is withdrawn.
    pub units: Vec<Unit>,
}

impl Units {
    /// What each unit brings to a rendezvous.
    pub fn tickets(&self) -> Vec<Ticket> {
        self.units.iter().map(|unit| Ticket { seed: unit.seed, weight: unit.weight }).collect()
    }
}

/// How many units an answer has, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// All of them, rotated.
    All,
    /// So many, by weight; at least 1.
    Some(u16),
    /// The client's own.
    Sticky,
}

impl RecordSet {
    /// A set whose one tier always answers in full.
    pub fn fixed(ttl: u32, data: Vec<Data>) -> Self {
        let choice = Choice { data, weight: 1, cluster: None, seed: 0 };
        let tiers = vec![vec![choice]];
        Self { ttl, selection: Selection::All, tiers, service: None, variants: Vec::new() }
    }

    /// What clients in `region` are answered from.
    pub fn units(&self, kind: Type, region: Region) -> Units {
        match self.variants.iter().find(|variant| variant.regions.contains(&region)) {
            Some(variant) => units(kind, variant.selection, &variant.tiers),
            None => units(kind, self.selection, &self.tiers),
        }
    }
}

/// The first tier with a choice that is not withdrawn; nothing if all are.
///
/// An alias has one target at a time (RFC 2181 section 10.1), so that one CNAME is picked whatever the selection says.
pub fn units(kind: Type, selection: Selection, tiers: &[Vec<Choice>]) -> Units {
    let answers =
        |choice: &&Choice| !choice.data.is_empty() && (selection == Selection::All || choice.weight > 0);
    let tier = tiers.iter().find(|tier| tier.iter().any(|choice| answers(&choice)));
    let choices = tier.into_iter().flatten().filter(answers);
    let alias = kind == Type::CNAME;
    let how = match selection {
        Selection::All if alias => How::Some(1),
        Selection::All => How::All,
        Selection::Weighted(picks) => How::Some(if alias { 1 } else { picks.max(1) }),
        Selection::Sticky => How::Sticky,
    };
    let mut units: Vec<Unit> = Vec::new();
    match selection {
        Selection::Weighted(_) | Selection::Sticky => units.extend(choices.map(|choice| Unit {
            data: distinct(&choice.data),
            weight: choice.weight,
            cluster: choice.cluster.clone(),
            seed: choice.seed,
        })),
        Selection::All => {
            for choice in choices {
                for data in &choice.data {
                    // No two records of a set are equal (RFC 2181 section 5).
                    if units.iter().all(|unit| !unit.data.contains(data)) {
                        let cluster = choice.cluster.clone();
                        units.push(Unit { data: vec![data.clone()], weight: 1, cluster, seed: 0 });
                    }
                }
            }
        }
    }
    Units { how, units }
}

fn distinct(data: &[Data]) -> Vec<Data> {
    let mut seen: Vec<Data> = Vec::with_capacity(data.len());
    for one in data {
        if !seen.contains(one) {
            seen.push(one.clone());
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn choice(last: u8, weight: u32) -> Choice {
        Choice { data: vec![Data::A(Ipv4Addr::new(192, 0, 2, last))], weight, cluster: None, seed: 0 }
    }

    fn withdrawn() -> Choice {
        Choice { data: Vec::new(), weight: 5, cluster: None, seed: 0 }
    }

    fn addresses(set: &RecordSet) -> Vec<u8> {
        set.units(Type::A, Region::NONE)
            .units
            .iter()
            .flat_map(|unit| &unit.data)
            .map(|data| if let Data::A(address) = data { address.octets()[3] } else { 0 })
            .collect()
    }

    #[test]
    fn the_first_tier_that_is_not_withdrawn_answers() {
        let set =
            |tiers| RecordSet { selection: Selection::Weighted(1), tiers, ..RecordSet::fixed(5, Vec::new()) };
        assert_eq!(addresses(&set(vec![vec![choice(1, 1), withdrawn()], vec![choice(2, 1)]])), [1]);
        assert_eq!(addresses(&set(vec![vec![withdrawn()], vec![choice(2, 1), choice(3, 0)]])), [2]);
        assert_eq!(addresses(&set(vec![vec![choice(1, 0)], vec![choice(2, 9)]])), [2]);
        assert!(addresses(&set(vec![vec![withdrawn()]])).is_empty());
    }

    #[test]
    fn a_region_of_a_variant_is_answered_from_it_alone() {
        let variant =
            |region, tiers| Variant { regions: vec![Region(region)], selection: Selection::All, tiers };
        let set = RecordSet {
            ttl: 5,
            selection: Selection::All,
            tiers: vec![vec![choice(1, 1)]],
            service: None,
            variants: vec![variant(1, vec![vec![choice(2, 1)]]), variant(2, vec![vec![withdrawn()]])],
        };
        let count = |region| set.units(Type::A, Region(region)).units.len();
        assert_eq!(set.units(Type::A, Region(1)).units[0].data, choice(2, 1).data);
        assert_eq!((count(0), count(1), count(2), count(3)), (1, 1, 0, 1));
    }

    #[test]
    fn all_reads_no_weight_and_repeats_no_record() {
        let tiers = vec![vec![choice(1, 0), choice(2, 0), choice(1, 0)]];
        assert_eq!(addresses(&RecordSet { tiers, ..RecordSet::fixed(5, Vec::new()) }), [1, 2]);
    }
}
