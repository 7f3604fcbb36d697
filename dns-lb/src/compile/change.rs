//! Which nodes a change of the model touches: a pure decision.
//!
//! A node follows from its own sets, from whether something is below it, from the zone cut that it is at or below, from the next name of
//! the chain, and, at a cut, from the addresses of the servers. So a change of a name touches the name, and perhaps its ancestors, what
//! is below it, the name before it, and delegations to it.

use std::collections::BTreeSet;
use std::ops::Bound;

use im::ordmap::DiffItem;

use crate::wire::{Name, Type};
use crate::zone::{Data, Zone};

/// Names whose sets are not the same in both, in canonical order. What both maps share is not looked at.
pub(super) fn changed(old: &Zone, new: &Zone) -> Vec<Name> {
    let difference = old.names.diff(&new.names).map(|item| match item {
        DiffItem::Add(name, _) | DiffItem::Remove(name, _) => name,
        DiffItem::Update { new: (name, _), .. } => name,
    });
    difference.cloned().collect()
}

/// Whether what all nodes of a zone have in common is the same in both.
pub(super) fn same_frame(old: &Zone, new: &Zone) -> bool {
    old.origin == new.origin
        && old.default_ttl == new.default_ttl
        && old.negative_ttl == new.negative_ttl
        && old.signing == new.signing
}

/// Every name of `zone`, and the empty ones between.
pub(super) fn all(zone: &Zone) -> BTreeSet<Name> {
    let mut all = BTreeSet::new();
    for name in zone.names.keys() {
        with_ancestors(zone, name, &mut all);
    }
    all
}

/// Names whose nodes have to be made anew when `changed` have. `cuts` are the zone cuts that there were.
pub(super) fn touched(old: &Zone, new: &Zone, changed: &[Name], cuts: &BTreeSet<Name>) -> BTreeSet<Name> {
    let mut touched = BTreeSet::new();
    for name in changed {
        touched.insert(name.clone());
        let (before, after) = (old.names.contains_key(name), new.names.contains_key(name));
        if before != after {
            with_ancestors(new, name, &mut touched);
        }
        if delegates(old, name) != delegates(new, name) {
            for zone in [old, new] {
                for below in zone.below(name) {
                    with_ancestors(new, below, &mut touched);
                }
            }
        }
        if in_chain(old, name) != in_chain(new, name) {
            touched.extend(new.before_in_chain(name));
        }
        // Glue.
        touched.extend(cuts.iter().filter(|cut| serves(new, cut, name)).cloned());
    }
    touched
}

fn with_ancestors(zone: &Zone, name: &Name, into: &mut BTreeSet<Name>) {
    let mut next = Some(name.clone());
    while let Some(name) = next.filter(|name| name.is_within(&zone.origin)) {
        next = name.parent();
        into.insert(name);
    }
}

fn delegates(zone: &Zone, name: &Name) -> bool {
    *name != zone.origin && zone.names.get(name).is_some_and(|sets| sets.has(Type::NS))
}

fn in_chain(zone: &Zone, name: &Name) -> bool {
    zone.names.contains_key(name) && zone.cut(name).is_none_or(|cut| cut == *name)
}

fn serves(zone: &Zone, cut: &Name, server: &Name) -> bool {
    let set = zone.names.get(cut).and_then(|sets| sets.get(Type::NS));
    let mut data = set.iter().flat_map(|set| &set.tiers).flatten().flat_map(|choice| &choice.data);
    data.any(|data| matches!(data, Data::Ns(name) if name == server))
}

impl Zone {
    /// The names below `name`, which need not be there, in order.
    fn below<'z>(&'z self, name: &'z Name) -> impl Iterator<Item = &'z Name> {
        let behind = self.names.range((Bound::Excluded(name), Bound::Unbounded));
        behind.map(|(next, _)| next).take_while(move |next| next.is_within(name))
    }

    pub(super) fn has_below(&self, name: &Name) -> bool {
        self.below(name).next().is_some()
    }

    pub(super) fn exists(&self, name: &Name) -> bool {
        self.names.contains_key(name) || self.has_below(name)
    }

    /// The name that the NSEC record of `name` leads to: the next that the zone answers for or delegates, and the origin behind the last
    /// (RFC 4034 section 4.1.1).
    pub(super) fn next_in_chain<'z>(&'z self, name: &Name) -> &'z Name {
        let at_cut = delegates(self, name);
        let mut behind = self.names.range((Bound::Excluded(name), Bound::Unbounded));
        // What is below a cut follows it at once.
        behind.find(|(next, _)| !(at_cut && next.is_within(name))).map_or(&self.origin, |(next, _)| next)
    }

    /// The name whose NSEC record would lead to `name`.
    fn before_in_chain(&self, name: &Name) -> Option<Name> {
        let (before, _) = self.names.range((Bound::Unbounded, Bound::Excluded(name))).next_back()?;
        Some(self.cut(before).unwrap_or_else(|| before.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    fn zone(names: &[(&str, &str, &str)]) -> std::sync::Arc<Zone> {
        let record = |&(name, kind, data): &(&str, &str, &str)| v1::RecordSet {
            name: format!("{name}t."),
            r#type: kind.into(),
            tiers: vec![v1::Tier {
                choices: vec![v1::Choice { data: vec![data.into()], ..v1::Choice::default() }],
            }],
            ..v1::RecordSet::default()
        };
        let zone = v1::Zone {
            origin: "t.".into(),
            nameservers: vec!["ns.t.".into()],
            records: names.iter().map(record).collect(),
            ..v1::Zone::default()
        };
        let update = v1::ZoneUpdate { zones: vec![zone], ..v1::ZoneUpdate::default() };
        crate::zone::Zones::from_update(&update).expect("a valid update").zones.remove(0)
    }

    #[track_caller]
    fn check(old: &[(&str, &str, &str)], new: &[(&str, &str, &str)], expected: &[&str]) {
        let (old, new) = (zone(old), zone(new));
        let cuts = old.names.keys().filter(|name| delegates(&old, name)).cloned().collect();
        let touched = touched(&old, &new, &changed(&old, &new), &cuts);
        let touched: Vec<String> = touched.iter().map(ToString::to_string).collect();
        assert_eq!(touched, expected.iter().map(|name| format!("{name}t.")).collect::<Vec<_>>());
    }

    #[test]
    fn a_change_of_a_name_touches_it_alone() {
        let others = [("a.", "A", "192.0.2.1"), ("c.b.", "A", "192.0.2.1"), ("d.", "A", "192.0.2.1")];
        let mut changed = others;
        changed[1].2 = "192.0.2.2";
        check(&others, &others, &[]);
        check(&others, &changed, &["c.b."]);
    }

    #[test]
    fn a_new_name_touches_its_ancestors_and_the_one_before_it() {
        let old = [("a.", "A", "192.0.2.1"), ("d.", "A", "192.0.2.1")];
        let new = [old[0], ("x.c.", "A", "192.0.2.1"), old[1]];
        check(&old, &new, &["", "a.", "c.", "x.c."]);
        check(&new, &old, &["", "a.", "c.", "x.c."]);
    }

    #[test]
    fn a_delegation_touches_what_is_below_it_and_glue_the_delegation() {
        let old = [("a.", "A", "192.0.2.1"), ("x.y.c.", "A", "192.0.2.1"), ("ns.d.", "A", "192.0.2.1")];
        let new = [old[0], ("c.", "NS", "ns.d.t."), old[1], old[2]];
        check(&old, &new, &["", "a.", "c.", "y.c.", "x.y.c."]);
        let mut moved = new;
        moved[3].2 = "192.0.2.2";
        check(&new, &moved, &["c.", "ns.d."]);
    }
}
