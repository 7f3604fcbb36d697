//! What a decision moves: told to people, since a failover is to be seen where it happens.

use std::collections::BTreeMap;

use federation_core::api::{PlacementSpec, Reason};

/// Replicas that leave clusters for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves(BTreeMap<String, (i64, i64)>);

impl Moves {
    /// What changes from one decision to the next. Nothing, where replicas only become more or fewer: nobody was moved.
    pub(super) fn between(last: &PlacementSpec, next: &PlacementSpec) -> Self {
        let mut all: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        // A copy that is leaving is there for its users only: what it ran is wanted elsewhere.
        let wanted = |spec: &PlacementSpec| -> Vec<(String, i64)> {
            let targets = spec.clusters.iter().filter(|target| !target.leaving);
            targets.filter_map(|target| Some((target.name.clone(), target.replicas?))).collect()
        };
        for (cluster, replicas) in wanted(last) {
            all.entry(cluster).or_default().0 = replicas;
        }
        for (cluster, replicas) in wanted(next) {
            all.entry(cluster).or_default().1 = replicas;
        }
        all.retain(|_, (from, to)| from != to);
        let is_move = all.values().any(|(from, to)| from < to) && all.values().any(|(from, to)| from > to);
        Self(if is_move { all } else { BTreeMap::new() })
    }

    /// Whether nothing moves.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By cluster: how many come, or go where that is negative.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(cluster, (from, to))| (cluster.as_str(), to - from))
    }

    /// The sentence for people: who has how many instead of how many, and why those who have fewer do.
    pub(super) fn told(&self, reasons: &[Reason]) -> String {
        let counts: Vec<String> =
            self.0.iter().map(|(cluster, (from, to))| format!("{cluster} {from} → {to}")).collect();
        let fewer = |cluster: &str| self.0.get(cluster).is_some_and(|(from, to)| from > to);
        let why: Vec<String> = reasons
            .iter()
            .filter(|reason| fewer(&reason.cluster) && !reason.message.is_empty())
            .map(|reason| format!("{}: {}: {}", reason.cluster, reason.rule, reason.message))
            .collect();
        let counts = counts.join(", ");
        if why.is_empty() { counts } else { format!("{counts} ({})", why.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use federation_core::api::ClusterTarget;

    use super::*;

    fn spec(targets: &[(&str, i64, bool)]) -> PlacementSpec {
        let target = |(name, replicas, leaving): &(&str, i64, bool)| ClusterTarget {
            name: (*name).into(),
            replicas: Some(*replicas),
            leaving: *leaving,
            ..ClusterTarget::default()
        };
        PlacementSpec { clusters: targets.iter().map(target).collect(), ..PlacementSpec::default() }
    }

    #[test]
    fn a_lost_cluster_is_told_with_who_takes_over_and_why() {
        let last = spec(&[("taiwan", 2, false), ("tokyo", 2, false)]);
        let next = spec(&[("taiwan", 2, true), ("tokyo", 4, false)]);
        let moves = Moves::between(&last, &next);
        let reason = |cluster: &str, message: &str| Reason {
            cluster: cluster.into(),
            selected: false,
            rule: "Lost".into(),
            message: message.into(),
        };
        let reasons = [reason("taiwan", "its users are not served"), reason("tokyo", "it takes over")];
        assert_eq!(
            moves.told(&reasons),
            "taiwan 2 → 0, tokyo 2 → 4 (taiwan: Lost: its users are not served)"
        );
        assert_eq!(moves.each().collect::<Vec<_>>(), [("taiwan", -2), ("tokyo", 2)]);
        let gone = spec(&[("tokyo", 4, false)]);
        assert!(Moves::between(&next, &gone).is_empty(), "it was told when it began");
    }

    #[test]
    fn more_or_fewer_replicas_are_no_move() {
        let two = spec(&[("taiwan", 2, false), ("tokyo", 2, false)]);
        let more = spec(&[("taiwan", 3, false), ("tokyo", 3, false)]);
        assert!(Moves::between(&two, &more).is_empty() && Moves::between(&more, &two).is_empty());
        assert!(Moves::between(&two, &two).is_empty());
    }
}
