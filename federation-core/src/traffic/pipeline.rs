//! From the clusters of a front to tiers of choices: ranks by nearness, failover tiers within them, panic, weights.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{PanicRule, Strategy, TrafficPolicySpec};

use super::choose::{Chosen, weight};
use super::ramp::RAMP_STEPS;
use super::{Address, DEFAULT_WEIGHT, TrafficInput};

/// Percentage of a tier's weight below which it is in panic, if the policy says none.
const PANIC_PERCENT: u32 = 50;

/// One cluster in a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) cluster: String,
    pub(super) addresses: Vec<Address>,
    /// At least 1.
    pub(super) weight: u32,
}

/// The tiers of one answer, best first, none of them empty. `near` ranks clusters before the policy does.
pub(super) fn tiers(
    input: &TrafficInput<'_>,
    spec: &TrafficPolicySpec,
    chosen: &Chosen,
    near: &[BTreeSet<String>],
) -> Vec<Vec<Share>> {
    let mut left: BTreeSet<&String> = chosen.on.keys().chain(chosen.down.keys()).collect();
    let mut ranks: Vec<BTreeSet<&String>> =
        near.iter().map(|rank| rank.iter().filter_map(|name| left.take(name)).collect()).collect();
    ranks.push(left);
    let (mut well, mut in_panic) = (Vec::new(), Vec::new());
    for rank in ranks {
        for tier in failover(input, spec, rank) {
            let panic = is_in_panic(input, spec, chosen, &tier);
            let ignore = panic && spec.health.on_panic == PanicRule::IgnoreHealth;
            let shares = shares(input, spec, chosen, &tier, ignore);
            if shares.is_empty() {
                continue;
            }
            if panic && !ignore { in_panic.push(shares) } else { well.push(shares) }
        }
    }
    well.extend(in_panic);
    well
}

/// Clusters by rank: those of each tier that the policy names, the others together at the end.
fn failover<'a>(
    input: &TrafficInput<'_>,
    spec: &TrafficPolicySpec,
    mut left: BTreeSet<&'a String>,
) -> Vec<BTreeSet<&'a String>> {
    let mut tiers: Vec<BTreeSet<&String>> = Vec::new();
    if spec.strategy == Strategy::Failover {
        tiers.extend(spec.order.iter().filter_map(|name| left.take(name)).map(|name| BTreeSet::from([name])));
    }
    for tier in &spec.tiers {
        let of_tier = |name: &&&String| {
            let region = input.clusters.get(**name).map(|cluster| &cluster.region);
            tier.clusters.contains(name) || region.is_some_and(|region| tier.regions.contains(region))
        };
        let members: BTreeSet<&String> = left.iter().filter(of_tier).copied().collect();
        left.retain(|name| !members.contains(name));
        tiers.push(members);
    }
    tiers.push(left);
    tiers
}

/// Whether too little of a tier serves. A tier of which nothing serves is not in panic by [`PanicRule::NextTier`]: it is empty.
fn is_in_panic(
    input: &TrafficInput<'_>,
    spec: &TrafficPolicySpec,
    chosen: &Chosen,
    tier: &BTreeSet<&String>,
) -> bool {
    let percent = u64::from(spec.health.panic_percent.unwrap_or(PANIC_PERCENT));
    let sum = |names: &mut dyn Iterator<Item = &&String>| -> u64 {
        names.map(|name| u64::from(weight(input, spec, name))).sum()
    };
    let serving = sum(&mut tier.iter().filter(|name| chosen.on.contains_key(**name)));
    let total = sum(&mut tier.iter());
    serving * 100 < total * percent
}

/// The clusters of a tier with their weights. With ramps under way all weights are in tenths, so that the ratios stay exact.
fn shares(
    input: &TrafficInput<'_>,
    spec: &TrafficPolicySpec,
    chosen: &Chosen,
    tier: &BTreeSet<&String>,
    ignore_health: bool,
) -> Vec<Share> {
    let mut members: BTreeMap<&String, (&Vec<Address>, u32)> = BTreeMap::new();
    for name in tier {
        if let Some(on) = chosen.on.get(*name) {
            members.insert(name, (&on.addresses, on.ramp));
        } else if let Some(addresses) = chosen.down.get(*name).filter(|_| ignore_health) {
            members.insert(name, (addresses, RAMP_STEPS));
        }
    }
    members.retain(|_, (addresses, _)| !addresses.is_empty());
    let ramping = members.values().any(|(_, ramp)| *ramp < RAMP_STEPS);
    let weighted = |name: &str, ramp: u32| {
        if spec.strategy == Strategy::All {
            return DEFAULT_WEIGHT;
        }
        weight(input, spec, name).saturating_mul(if ramping { ramp } else { 1 })
    };
    let share = |name: &String, addresses: &[Address], weight| Share {
        cluster: name.clone(),
        addresses: addresses.to_vec(),
        weight,
    };
    let mut shares: Vec<Share> = members
        .iter()
        .map(|(name, (addresses, ramp))| share(name, addresses, weighted(name, *ramp)))
        .filter(|share| share.weight > 0)
        .collect();
    if shares.is_empty() {
        // All weights are 0, and a name never becomes empty by a weight.
        shares = members.iter().map(|(name, (addresses, _))| share(name, addresses, 1)).collect();
    }
    shares
}
