//! A record set: tiers of choices, and which of them answer.

use std::sync::Arc;

use super::Data;
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
}

/// How much of a tier is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every choice, rotated.
    All,
    /// One choice, by weight.
    Weighted,
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
}

/// What the answering tier of a set comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Units {
    /// Each answer has all of them.
    All(Vec<Unit>),
    /// Each answer has one of them.
    One(Vec<Unit>),
}

impl RecordSet {
    /// A set whose one tier always answers in full.
    pub fn fixed(ttl: u32, data: Vec<Data>) -> Self {
        let choice = Choice { data, weight: 1, cluster: None };
        Self { ttl, selection: Selection::All, tiers: vec![vec![choice]] }
    }

    /// The first tier with a choice that is not withdrawn; nothing if all are.
    ///
    /// An alias has one target at a time (RFC 2181 section 10.1), so that one CNAME is picked whatever the selection says.
    pub fn units(&self, kind: Type) -> Units {
        let answers = |choice: &&Choice| {
            !choice.data.is_empty() && (self.selection == Selection::All || choice.weight > 0)
        };
        let tier = self.tiers.iter().find(|tier| tier.iter().any(|choice| answers(&choice)));
        let choices = tier.into_iter().flatten().filter(answers);
        match self.selection {
            Selection::Weighted => Units::One(
                choices
                    .map(|choice| Unit {
                        data: distinct(&choice.data),
                        weight: choice.weight,
                        cluster: choice.cluster.clone(),
                    })
                    .collect(),
            ),
            Selection::All => {
                let mut units: Vec<Unit> = Vec::new();
                for choice in choices {
                    for data in &choice.data {
                        // No two records of a set are equal (RFC 2181 section 5).
                        if units.iter().all(|unit| !unit.data.contains(data)) {
                            let cluster = choice.cluster.clone();
                            units.push(Unit { data: vec![data.clone()], weight: 1, cluster });
                        }
                    }
                }
                if kind == Type::CNAME { Units::One(units) } else { Units::All(units) }
            }
        }
    }
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
        Choice { data: vec![Data::A(Ipv4Addr::new(192, 0, 2, last))], weight, cluster: None }
    }

    fn withdrawn() -> Choice {
        Choice { data: Vec::new(), weight: 5, cluster: None }
    }

    fn addresses(set: &RecordSet) -> Vec<u8> {
        let (Units::All(units) | Units::One(units)) = set.units(Type::A);
        units
            .iter()
            .flat_map(|unit| &unit.data)
            .map(|data| if let Data::A(address) = data { address.octets()[3] } else { 0 })
            .collect()
    }

    #[test]
    fn the_first_tier_that_is_not_withdrawn_answers() {
        let set = |tiers| RecordSet { ttl: 5, selection: Selection::Weighted, tiers };
        assert_eq!(addresses(&set(vec![vec![choice(1, 1), withdrawn()], vec![choice(2, 1)]])), [1]);
        assert_eq!(addresses(&set(vec![vec![withdrawn()], vec![choice(2, 1), choice(3, 0)]])), [2]);
        assert_eq!(addresses(&set(vec![vec![choice(1, 0)], vec![choice(2, 9)]])), [2]);
        assert!(addresses(&set(vec![vec![withdrawn()]])).is_empty());
    }

    #[test]
    fn all_reads_no_weight_and_repeats_no_record() {
        let tiers = vec![vec![choice(1, 0), choice(2, 0), choice(1, 0)]];
        assert_eq!(addresses(&RecordSet { ttl: 5, selection: Selection::All, tiers }), [1, 2]);
    }
}
