//! Changes of zones: what a dns-lb is sent instead of everything, once it has acknowledged an epoch.
//!
//! A change says what every set that it touches is afterwards, or that it is gone. So it may be applied to any epoch from its base on that
//! the same sets led to, and two changes in a row are one.

mod pieces;

use std::collections::{BTreeMap, BTreeSet};

use proto::v1;

pub use pieces::{MESSAGE_MAX, PIECE, PieceError, Pieces, UPDATE_MAX, cut, size};

type SetKey<'u> = (&'u str, &'u str);

fn set_key(set: &v1::RecordSet) -> SetKey<'_> {
    (&set.name, &set.r#type)
}

fn probe_key(probe: &v1::Probe) -> SetKey<'_> {
    (&probe.service, &probe.cluster)
}

/// What turns `old` into `new`. None: only the whole can say it, since something changed that everything depends on.
pub fn change(old: &v1::ZoneUpdate, new: &v1::ZoneUpdate) -> Option<v1::ZoneUpdate> {
    let same_frame = old.incarnation == new.incarnation
        && old.epoch > 0
        && old.epoch < new.epoch
        && old.regions == new.regions
        && old.cookie_secrets == new.cookie_secrets
        // Who keeps a drill's way back on disk has no base there for what comes after it.
        && old.otherwise.is_none()
        && new.otherwise.is_none()
        && old.zones.len() == new.zones.len();
    if !same_frame {
        return None;
    }
    let mut zones = Vec::new();
    for (before, after) in old.zones.iter().zip(&new.zones) {
        let same_frame = before.origin == after.origin
            && before.default_ttl == after.default_ttl
            && before.nameservers == after.nameservers
            && before.keys == after.keys
            && before.signature_validity == after.signature_validity
            && before.compact_denial == after.compact_denial;
        if !same_frame {
            return None;
        }
        let (records, gone) = differences(&before.records, &after.records, set_key);
        if !records.is_empty() || !gone.is_empty() || head(before) != head(after) {
            zones.push(v1::Zone { records, gone, ..head(after) });
        }
    }
    let (probes, gone_probes) = differences(&old.probes, &new.probes, probe_key);
    Some(v1::ZoneUpdate {
        epoch: new.epoch,
        incarnation: new.incarnation.clone(),
        base: old.epoch,
        zones,
        withdrawn: new.withdrawn.clone(),
        probes,
        gone_probes,
        ..v1::ZoneUpdate::default()
    })
}

/// `first` and then `second` as one change.
pub fn join(first: &v1::ZoneUpdate, second: &v1::ZoneUpdate) -> v1::ZoneUpdate {
    let mut zones: BTreeMap<&str, v1::Zone> =
        first.zones.iter().map(|zone| (zone.origin.as_str(), zone.clone())).collect();
    for zone in &second.zones {
        let joined = match zones.get(zone.origin.as_str()) {
            None => zone.clone(),
            Some(before) => {
                let (records, gone) =
                    both((&before.records, &before.gone), (&zone.records, &zone.gone), set_key);
                v1::Zone { records, gone, ..head(zone) }
            }
        };
        zones.insert(&zone.origin, joined);
    }
    let (probes, gone_probes) =
        both((&first.probes, &first.gone_probes), (&second.probes, &second.gone_probes), probe_key);
    v1::ZoneUpdate {
        base: first.base,
        zones: zones.into_values().collect(),
        probes,
        gone_probes,
        ..second.clone()
    }
}

/// Turns `whole` into what it is after `change`. False: the change is not of this update or a later one, and nothing was done.
pub fn apply(whole: &mut v1::ZoneUpdate, change: &v1::ZoneUpdate) -> bool {
    let fits = whole.incarnation == change.incarnation
        && (change.base..change.epoch).contains(&whole.epoch)
        && change.base > 0
        && change.zones.iter().all(|zone| whole.zones.iter().any(|known| known.origin == zone.origin));
    if !fits {
        return false;
    }
    for zone in &change.zones {
        let Some(known) = whole.zones.iter_mut().find(|known| known.origin == zone.origin) else { continue };
        let records = std::mem::take(&mut known.records);
        *known = v1::Zone { records: replaced(&records, &zone.records, &zone.gone, set_key), ..head(zone) };
    }
    let probes = std::mem::take(&mut whole.probes);
    whole.probes = replaced(&probes, &change.probes, &change.gone_probes, probe_key);
    whole.withdrawn.clone_from(&change.withdrawn);
    whole.epoch = change.epoch;
    true
}

/// A zone without its records.
fn head(zone: &v1::Zone) -> v1::Zone {
    v1::Zone {
        origin: zone.origin.clone(),
        serial: zone.serial,
        default_ttl: zone.default_ttl,
        negative_ttl: zone.negative_ttl,
        nameservers: zone.nameservers.clone(),
        hostmaster: zone.hostmaster.clone(),
        records: Vec::new(),
        keys: zone.keys.clone(),
        signature_validity: zone.signature_validity,
        compact_denial: zone.compact_denial,
        gone: Vec::new(),
    }
}

/// What is new or another one in `new`, and what is there no more.
fn differences<T: Clone + PartialEq>(
    old: &[T],
    new: &[T],
    key: impl Fn(&T) -> SetKey<'_>,
) -> (Vec<T>, Vec<v1::Gone>) {
    let mut changed = Vec::new();
    // Mostly the same are in the same places: only what is between the first and the last that are not is looked up.
    let in_place = old.iter().zip(new).take_while(|(before, after)| key(before) == key(after)).count();
    let (old_rest, new_rest) =
        (old.get(in_place..).unwrap_or_default(), new.get(in_place..).unwrap_or_default());
    let behind = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(|(before, after)| key(before) == key(after))
        .count();
    let same_place = old.iter().zip(new).take(in_place);
    changed.extend(same_place.filter(|(before, after)| before != after).map(|(_, after)| after.clone()));
    let (old_middle, old_tail) = old_rest.split_at(old_rest.len() - behind);
    let (new_middle, new_tail) = new_rest.split_at(new_rest.len() - behind);
    let known: BTreeMap<SetKey<'_>, &T> = old_middle.iter().map(|one| (key(one), one)).collect();
    changed.extend(new_middle.iter().filter(|one| known.get(&key(one)) != Some(one)).cloned());
    let left: BTreeSet<SetKey<'_>> = new_middle.iter().map(&key).collect();
    let gone = known.keys().filter(|key| !left.contains(*key)).map(|&key| gone(key)).collect();
    let tails = old_tail.iter().zip(new_tail);
    changed.extend(tails.filter(|(before, after)| before != after).map(|(_, after)| after.clone()));
    (changed, gone)
}

fn both<T: Clone>(
    first: (&[T], &[v1::Gone]),
    second: (&[T], &[v1::Gone]),
    key: impl Fn(&T) -> SetKey<'_>,
) -> (Vec<T>, Vec<v1::Gone>) {
    let there: BTreeSet<SetKey<'_>> = second.0.iter().map(&key).collect();
    let gone: BTreeSet<SetKey<'_>> = second.1.iter().map(gone_key).collect();
    let earlier = first.0.iter().filter(|one| !there.contains(&key(one)) && !gone.contains(&key(one)));
    let changed = earlier.chain(second.0).cloned().collect();
    let earlier =
        first.1.iter().filter(|one| !there.contains(&gone_key(one)) && !gone.contains(&gone_key(one)));
    (changed, earlier.chain(second.1).cloned().collect())
}

/// `records` with `changed` in their places or behind them, and without `gone`.
fn replaced<T: Clone>(
    records: &[T],
    changed: &[T],
    gone: &[v1::Gone],
    key: impl Fn(&T) -> SetKey<'_>,
) -> Vec<T> {
    let gone: BTreeSet<SetKey<'_>> = gone.iter().map(gone_key).collect();
    let new: BTreeMap<SetKey<'_>, &T> = changed.iter().map(|one| (key(one), one)).collect();
    let known: BTreeSet<SetKey<'_>> = records.iter().map(&key).collect();
    let added: Vec<T> = changed.iter().filter(|one| !known.contains(&key(one))).cloned().collect();
    records
        .iter()
        .filter(|one| !gone.contains(&key(one)))
        .map(|one| new.get(&key(one)).copied().unwrap_or(one).clone())
        .chain(added)
        .collect()
}

fn gone((name, kind): SetKey<'_>) -> v1::Gone {
    v1::Gone { name: name.into(), kind: kind.into() }
}

fn gone_key(gone: &v1::Gone) -> SetKey<'_> {
    (&gone.name, &gone.kind)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};

    use super::*;

    /// Two zones whose sets, and probes, come, change and go.
    fn random(epoch: u64, dice: &mut StdRng, before: &v1::ZoneUpdate) -> v1::ZoneUpdate {
        let mut next = v1::ZoneUpdate { epoch, ..before.clone() };
        for zone in &mut next.zones {
            zone.serial = epoch as u32;
            for _ in 0..dice.random_range(0..4) {
                let (n, ttl) = (dice.random_range(0..30), dice.random_range(1..4));
                let record =
                    v1::RecordSet { name: format!("n{n}"), r#type: "A".into(), ttl, ..Default::default() };
                zone.records.retain(|known| known.name != record.name || dice.random_bool(0.0));
                if dice.random_bool(0.7) {
                    let at = dice.random_range(0..=zone.records.len());
                    zone.records.insert(at, record);
                }
            }
        }
        let port = dice.next_u32() % 3;
        let probe =
            v1::Probe { service: "a/b".into(), cluster: format!("c{port}"), port, ..Default::default() };
        next.probes.retain(|known| known.cluster != probe.cluster);
        if dice.random_bool(0.5) {
            next.probes.push(probe);
        }
        next
    }

    /// In an order that says nothing.
    fn sorted(mut update: v1::ZoneUpdate) -> v1::ZoneUpdate {
        for zone in &mut update.zones {
            zone.records.sort_by(|a, b| a.name.cmp(&b.name));
        }
        update.probes.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        update
    }

    #[test]
    fn changes_alone_and_joined_lead_to_the_same_update() {
        for seed in 0..200 {
            let mut dice = StdRng::seed_from_u64(seed);
            let zone = |origin: &str| v1::Zone { origin: origin.into(), ..Default::default() };
            let first = v1::ZoneUpdate {
                epoch: 1,
                incarnation: "store".into(),
                zones: vec![zone("a."), zone("b.")],
                ..Default::default()
            };
            let mut all = vec![first];
            let mut changes: Vec<v1::ZoneUpdate> = Vec::new();
            for epoch in 2..12 {
                let last = all.last().expect("never empty");
                let next = random(epoch, &mut dice, last);
                changes.push(change(last, &next).expect("nothing that all depends on"));
                all.push(next);
            }
            let from = dice.random_range(0..changes.len());
            let joined =
                changes[from..].iter().skip(1).fold(changes[from].clone(), |sum, next| join(&sum, next));
            // From the base, and from any epoch between it and the end.
            for update in &all[from..all.len() - 1] {
                let mut whole = update.clone();
                assert!(apply(&mut whole, &joined), "seed {seed}");
                assert_eq!(sorted(whole), sorted(all[all.len() - 1].clone()), "seed {seed}");
            }
            let mut older = all[0].clone();
            assert_eq!(apply(&mut older, &joined), from == 0, "seed {seed}");
        }
    }

    #[test]
    fn what_everything_depends_on_is_no_change() {
        let old = v1::ZoneUpdate { epoch: 1, zones: vec![v1::Zone::default()], ..Default::default() };
        let new = v1::ZoneUpdate { epoch: 2, ..old.clone() };
        assert!(change(&old, &new).is_some_and(|change| change.zones.is_empty() && change.base == 1));
        assert!(change(&new, &old).is_none());
        let others = [
            v1::ZoneUpdate { zones: Vec::new(), ..new.clone() },
            v1::ZoneUpdate { incarnation: "other".into(), ..new.clone() },
            v1::ZoneUpdate { cookie_secrets: vec![vec![1; 16].into()], ..new.clone() },
            v1::ZoneUpdate { regions: Some(v1::Regions::default()), ..new.clone() },
            v1::ZoneUpdate { otherwise: Some(Box::default()), ..new.clone() },
            v1::ZoneUpdate { zones: vec![v1::Zone { default_ttl: 3, ..Default::default() }], ..new.clone() },
            v1::ZoneUpdate {
                zones: vec![v1::Zone { keys: vec![v1::DnsKey::default()], ..Default::default() }],
                ..new.clone()
            },
        ];
        let drill = v1::ZoneUpdate { otherwise: Some(Box::default()), ..old.clone() };
        assert!(change(&drill, &new).is_none(), "the drill is over");
        for other in others {
            assert!(change(&old, &other).is_none(), "{other:?}");
        }
    }
}
