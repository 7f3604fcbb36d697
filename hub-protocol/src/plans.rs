//! Contingency plans on their way to an agent: whole once, then what changed.
//!
//! The hub makes the whole for each member and sends what [`change`] gives; the agent's [`apply`] turns what it holds into the same, or
//! says that it does not fit, and then the whole is sent. The digest tells both.

use std::collections::BTreeMap;

use prost::Message as _;
use proto::v1;
use xxhash_rust::xxh3::xxh3_64;

use crate::Key;

/// A change does not lead to what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

/// Digest of whole plans: the order of losses and takes does not matter.
pub fn digest(plans: &v1::Plans) -> u64 {
    let mut sum = plans.council.as_ref().map_or(0, |council| xxh3_64(&council.encode_to_vec()));
    for loss in &plans.losses {
        let mut head = loss.name.clone().into_bytes();
        for cluster in &loss.clusters {
            head.push(0);
            head.extend_from_slice(cluster.as_bytes());
        }
        sum = sum.wrapping_add(xxh3_64(&head));
        for take in &loss.takes {
            let mut text = head.clone();
            text.push(0);
            text.extend_from_slice(&take.encode_to_vec());
            sum = sum.wrapping_add(xxh3_64(&text));
        }
    }
    sum
}

/// What turns `before` into `after`, both whole. `after` has its digest.
pub fn change(before: &v1::Plans, after: &v1::Plans) -> v1::Plans {
    let old: BTreeMap<&str, &v1::LossPlan> = by_name(before);
    let new: BTreeMap<&str, &v1::LossPlan> = by_name(after);
    let mut losses = Vec::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        losses.push(v1::LossPlan { name: (*name).into(), over: true, ..v1::LossPlan::default() });
    }
    for (name, loss) in new {
        let Some(former) = old.get(name).filter(|former| former.clusters == loss.clusters) else {
            losses.push(loss.clone());
            continue;
        };
        let (had, has) = (by_key(former), by_key(loss));
        let gone: Vec<v1::Key> =
            had.keys().filter(|key| !has.contains_key(*key)).map(v1::Key::from).collect();
        let takes: Vec<_> = has
            .iter()
            .filter(|(key, take)| had.get(*key).is_none_or(|former| former != *take))
            .map(|(_, take)| (*take).clone())
            .collect();
        if !gone.is_empty() || !takes.is_empty() {
            let (name, clusters) = (loss.name.clone(), loss.clusters.clone());
            losses.push(v1::LossPlan { name, clusters, takes, gone, over: false });
        }
    }
    let council = after.council.clone().filter(|_| before.council != after.council);
    v1::Plans { epoch: after.epoch, base: before.epoch, digest: after.digest, council, losses }
}

/// Turns what is held into what `told` leads to: itself if it is whole.
///
/// # Errors
/// When it is a change of something else, or does not lead to its digest.
pub fn apply(held: Option<&v1::Plans>, told: v1::Plans) -> Result<v1::Plans, Unfit> {
    let whole = if told.base == 0 {
        told
    } else {
        let held = held.filter(|held| held.epoch == told.base).ok_or(Unfit)?;
        let mut losses: BTreeMap<String, v1::LossPlan> =
            held.losses.iter().map(|loss| (loss.name.clone(), loss.clone())).collect();
        for change in told.losses {
            if change.over {
                losses.remove(&change.name);
                continue;
            }
            let loss = losses.entry(change.name.clone()).or_default();
            if loss.clusters != change.clusters {
                loss.takes.clear();
            }
            let mut takes =
                by_key(loss).into_iter().map(|(key, take)| (key, take.clone())).collect::<BTreeMap<_, _>>();
            for gone in change.gone {
                takes.remove(&Key::from(gone));
            }
            for take in change.takes {
                takes.insert(Key::from(take.key.clone().unwrap_or_default()), take);
            }
            *loss = v1::LossPlan {
                name: change.name,
                clusters: change.clusters,
                takes: takes.into_values().collect(),
                ..v1::LossPlan::default()
            };
        }
        v1::Plans {
            epoch: told.epoch,
            base: 0,
            digest: told.digest,
            council: told.council.or_else(|| held.council.clone()),
            losses: losses.into_values().collect(),
        }
    };
    if digest(&whole) == whole.digest { Ok(whole) } else { Err(Unfit) }
}

fn by_name(plans: &v1::Plans) -> BTreeMap<&str, &v1::LossPlan> {
    plans.losses.iter().map(|loss| (loss.name.as_str(), loss)).collect()
}

fn by_key(loss: &v1::LossPlan) -> BTreeMap<Key, &v1::Take> {
    loss.takes.iter().map(|take| (Key::from(take.key.clone().unwrap_or_default()), take)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(name: &str, to: u32) -> v1::Take {
        let key = v1::Key {
            group: "apps".into(),
            resource: "deployments".into(),
            name: name.into(),
            ..v1::Key::default()
        };
        v1::Take { key: Some(key), uid: "u".into(), from: 1, to, after_ms: 1000 }
    }

    fn loss(cluster: &str, takes: &[(&str, u32)]) -> v1::LossPlan {
        v1::LossPlan {
            name: format!("cluster/{cluster}"),
            clusters: vec![cluster.into()],
            takes: takes.iter().map(|(name, to)| take(name, *to)).collect(),
            ..v1::LossPlan::default()
        }
    }

    fn plans(epoch: u64, losses: Vec<v1::LossPlan>) -> v1::Plans {
        let council = v1::Council { away_ms: 1000, ..v1::Council::default() };
        let mut plans = v1::Plans { epoch, losses, council: Some(council), ..v1::Plans::default() };
        plans.digest = digest(&plans);
        plans
    }

    #[test]
    fn a_change_is_small_and_leads_to_the_same() {
        let many: Vec<(String, u32)> = (0..100).map(|number| (format!("web-{number}"), 4)).collect();
        let mut named: Vec<(&str, u32)> = many.iter().map(|(name, to)| (name.as_str(), *to)).collect();
        let before = plans(1, vec![loss("taiwan", &named), loss("osaka", &[("a", 2)]), loss("seoul", &[])]);
        named[7].1 = 9;
        named.remove(3);
        let after =
            plans(2, vec![loss("taiwan", &named), loss("osaka", &[("a", 2)]), loss("lima", &[("b", 3)])]);
        let change = change(&before, &after);
        assert_eq!(change.losses.len(), 3, "{change:?}");
        assert!(change.encoded_len() < before.encoded_len() / 10 && change.council.is_none());
        let applied = apply(Some(&before), change.clone()).expect("it fits");
        assert_eq!((applied.epoch, digest(&applied)), (2, after.digest));
        assert_eq!(apply(None, change.clone()), Err(Unfit));
        assert_eq!(apply(Some(&after), change), Err(Unfit));
        assert_eq!(apply(None, after.clone()), Ok(after));
    }

    #[test]
    fn what_does_not_lead_to_its_digest_is_refused() {
        let mut wrong = plans(1, vec![loss("taiwan", &[("a", 2)])]);
        wrong.losses[0].takes[0].to = 3;
        assert_eq!(apply(None, wrong), Err(Unfit));
    }

    #[test]
    fn a_loss_of_other_clusters_is_told_anew() {
        let before = plans(1, vec![loss("taiwan", &[("a", 2), ("b", 2)])]);
        let mut other = loss("taiwan", &[("a", 2)]);
        other.clusters.push("osaka".into());
        let after = plans(2, vec![other]);
        assert_eq!(apply(Some(&before), change(&before, &after)).map(|plans| plans.losses), Ok(after.losses));
    }
}
