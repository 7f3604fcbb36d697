//! Zones without the clusters that this server sees down, while the hub is away.

use std::collections::BTreeMap;
use std::sync::Arc;

use federation_core::probe::{Alone, withdrawn};

use super::packed::Packed;
use super::{Choice, RecordSet, Selection, Sets, Zone, Zones, units};
use crate::wire::Type;

/// What is down, with the bounds of its policy: by Service and cluster.
pub type Down = BTreeMap<String, BTreeMap<String, Alone>>;

impl Zones {
    /// The same without the choices of clusters that are down, as far as the policies let them go. No answer becomes empty.
    #[must_use]
    pub fn without(&self, down: &Down) -> Self {
        let zones = self.zones.iter().map(|zone| of_zone(zone, down)).collect();
        Self { zones, ..self.clone() }
    }
}

fn of_zone(zone: &Arc<Zone>, down: &Down) -> Arc<Zone> {
    let mut names = zone.names.clone();
    let mut changed = false;
    for (name, sets) in &zone.names {
        let mut less: BTreeMap<Type, RecordSet> = sets.iter().collect();
        let mut touched = false;
        for (kind, set) in &mut less {
            touched |= of_set(*kind, set, down);
        }
        if touched {
            let packed = less.iter().map(|(kind, set)| (*kind, Packed::new(set))).collect();
            names.insert(name.clone(), Sets::of(&packed));
            changed = true;
        }
    }
    if changed { Arc::new(Zone { names, ..(**zone).clone() }) } else { zone.clone() }
}

/// Says whether anything went.
fn of_set(kind: Type, set: &mut RecordSet, down: &Down) -> bool {
    let Some(down) = set.service.as_deref().and_then(|service| down.get(service)) else { return false };
    let mut touched = of_tiers(kind, set.selection, &mut set.tiers, down);
    for variant in &mut set.variants {
        touched |= of_tiers(kind, variant.selection, &mut variant.tiers, down);
    }
    touched
}

fn of_tiers(
    kind: Type,
    selection: Selection,
    tiers: &mut Vec<Vec<Choice>>,
    down: &BTreeMap<String, Alone>,
) -> bool {
    let gone: Vec<String> = {
        let mut answered: BTreeMap<&str, u64> = BTreeMap::new();
        for choice in tiers.iter().flatten() {
            let answers = !choice.data.is_empty() && (selection == Selection::All || choice.weight > 0);
            if let Some(cluster) = choice.cluster.as_deref().filter(|_| answers) {
                let weight = answered.entry(cluster).or_default();
                *weight = (*weight).max(choice.weight.max(1).into());
            }
        }
        withdrawn(&answered, down).into_iter().map(str::to_owned).collect()
    };
    if gone.is_empty() {
        return false;
    }
    let mut less = tiers.clone();
    for choice in less.iter_mut().flatten() {
        if choice.cluster.as_deref().is_some_and(|cluster| gone.iter().any(|name| name == cluster)) {
            choice.data.clear();
        }
    }
    // The pure rule leaves somebody; that this one answers is looked at all the same.
    if units(kind, selection, &less).units.is_empty() {
        return false;
    }
    *tiers = less;
    true
}
