//! What a DNS server may withdraw on its own while the hub is away.

use std::collections::{BTreeMap, BTreeSet};

use super::Alone;

/// The clusters that go out of one answer, of those that `down` names with the bounds of the Service's policy. `answered` are the
/// clusters in the answer with their weights.
///
/// Never the last one, and none at all where every one is down: then an old answer is better than none, and the fault is more likely
/// here. Within the bounds the first ones by name go, so that servers which see the same do the same.
pub fn withdrawn<'a>(answered: &BTreeMap<&'a str, u64>, down: &BTreeMap<String, Alone>) -> BTreeSet<&'a str> {
    let all: u64 = answered.values().sum();
    let standing = answered.keys().filter(|cluster| !down.contains_key(**cluster)).count();
    let mut gone = BTreeSet::new();
    if standing == 0 {
        return gone;
    }
    let mut weight_gone: u64 = 0;
    for (cluster, weight) in answered {
        let Some(alone) = down.get(*cluster).filter(|alone| alone.may_withdraw) else { continue };
        let left = answered.len() - gone.len() - 1;
        let share = (weight_gone + weight).saturating_mul(100);
        let within = alone.max_withdrawn_percent >= 100
            || share <= all.saturating_mul(alone.max_withdrawn_percent.into());
        if left >= 1.max(alone.min_clusters as usize) && within {
            weight_gone += weight;
            gone.insert(*cluster);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Alone = Alone { may_withdraw: true, min_clusters: 0, max_withdrawn_percent: 100 };

    #[track_caller]
    fn check(answered: &[(&str, u64)], down: &[&str], alone: Alone, gone: &[&str]) {
        let answered: BTreeMap<&str, u64> = answered.iter().copied().collect();
        let down = down.iter().map(|name| ((*name).to_owned(), alone)).collect();
        assert_eq!(withdrawn(&answered, &down).into_iter().collect::<Vec<_>>(), gone);
    }

    #[test]
    fn what_is_down_goes_but_never_the_last() {
        let three = [("osaka", 1), ("taiwan", 1), ("tokyo", 1)];
        check(&three, &["taiwan"], FREE, &["taiwan"]);
        check(&three, &["osaka", "taiwan"], FREE, &["osaka", "taiwan"]);
        check(&three, &["osaka", "taiwan", "tokyo"], FREE, &[]);
        check(&[("taiwan", 1)], &["taiwan"], FREE, &[]);
        check(&three, &["elsewhere"], FREE, &[]);
    }

    #[test]
    fn the_policy_binds() {
        let three = [("osaka", 1), ("taiwan", 1), ("tokyo", 2)];
        let down = ["osaka", "taiwan"];
        check(&three, &down, Alone { may_withdraw: false, ..FREE }, &[]);
        check(&three, &down, Alone { min_clusters: 2, ..FREE }, &["osaka"]);
        check(&three, &down, Alone { max_withdrawn_percent: 49, ..FREE }, &["osaka"]);
        check(&three, &down, Alone { max_withdrawn_percent: 10, ..FREE }, &[]);
    }

    #[test]
    fn some_cluster_that_is_not_down_always_stays() {
        let names = ["a", "b", "c", "d"];
        for answered in 1_u32..16 {
            for down in 0_u32..16 {
                let pick = |bits: u32| (0..4).filter(move |at| bits >> at & 1 == 1).map(|at| names[at]);
                let answered: BTreeMap<&str, u64> = pick(answered).map(|name| (name, 1)).collect();
                let down: BTreeMap<String, Alone> = pick(down).map(|name| (name.to_owned(), FREE)).collect();
                let gone = withdrawn(&answered, &down);
                let stays = answered.keys().filter(|name| !gone.contains(*name));
                let well = stays.clone().any(|name| !down.contains_key(*name));
                assert!(gone.is_empty() || well, "{answered:?} {down:?}: {gone:?}");
                assert!(stays.count() > 0);
            }
        }
    }
}
