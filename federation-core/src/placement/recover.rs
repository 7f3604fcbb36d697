//! Starting a decision from what members hold, when the store was restored from a backup and knows less than they do.
//!
//! A store that was restored from a backup has an older decision about an object than members hold copies of, or none at all. Decided from
//! that, replicas that run would be taken for none: given to others anew, and taken away where they are. So the next decision starts from
//! what members say that they hold by decisions which are newer than the store's, and from what those hold that it does not list at all. What
//! the store lists and its member does not hold runs nowhere: who runs it instead would be scaled down for it.

use crate::api::{ClusterTarget, PlacementSpec};

/// What the agent of a cluster says that it holds of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The cluster's name.
    pub cluster: String,
    /// Epoch of the decision that it holds it by.
    pub epoch: u64,
    /// Replicas that it runs; none of kinds without, and of agents that do not tell.
    pub replicas: Option<i64>,
}

impl Claim {
    /// Of a cluster that says that it holds no copy, which is newer than whatever the store says of it.
    pub fn none(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), epoch: u64::MAX, replicas: Some(0) }
    }
}

/// What a member says of its copy of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// Epoch of the decision that it holds a copy by; none if it has told of none.
    pub holds: Option<u64>,
    /// It says that it holds no copy, and was sent none since.
    pub is_without: bool,
}

/// Whether members know better than the store's decision: one holds a copy by a newer one, or lost what is listed there by a decision that the
/// store does not know of. The latter counts only with `counts_absence`: who was never given what this run decided has lost nothing.
pub fn is_doubtful<'a>(
    current: &PlacementSpec,
    counts_absence: bool,
    said: impl IntoIterator<Item = Witness<'a>>,
) -> bool {
    let is_listed = |cluster: &str| {
        current.clusters.iter().any(|target| target.name == cluster && target.replicas != Some(0))
    };
    said.into_iter().any(|said| {
        said.holds.is_some_and(|epoch| epoch > current.epoch)
            || (counts_absence && said.is_without && is_listed(said.cluster))
    })
}

/// The decision from which the next one starts. `None`: from the store's, because nobody holds a newer one, nor a copy where it lists none: a
/// cluster stays in it until its copy is known to be gone, so that such a copy is of a decision which the store has forgotten, however new
/// its own is.
pub fn recover(current: Option<&PlacementSpec>, claims: &[Claim]) -> Option<PlacementSpec> {
    let known = current.map_or(0, |current| current.epoch);
    let mut next = current.cloned().unwrap_or_default();
    let mut newer = false;
    for claim in claims {
        let Some(replicas) = claim.replicas else { continue };
        let replicas = Some(replicas.max(0));
        let listed = next.clusters.iter_mut().find(|target| target.name == claim.cluster);
        if *claim == Claim::none(&claim.cluster)
            && listed.as_ref().is_none_or(|target| target.replicas == Some(0))
        {
            continue;
        }
        match listed {
            Some(target) if claim.epoch > known => {
                (target.replicas, target.leaving, target.lost) = (replicas, false, false);
            }
            // A decision that says no number leaves it to the template, of which the store may have an older one.
            Some(target) if claim.epoch == known && target.replicas.is_none() => target.replicas = replicas,
            Some(_) => continue,
            None => next.clusters.push(ClusterTarget {
                name: claim.cluster.clone(),
                replicas,
                ..ClusterTarget::default()
            }),
        }
        newer = true;
    }
    next.clusters.sort_by(|a, b| a.name.cmp(&b.name));
    newer.then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(cluster: &str, epoch: u64, replicas: Option<i64>) -> Claim {
        Claim { cluster: cluster.into(), epoch, replicas }
    }

    fn told(spec: Option<PlacementSpec>) -> Vec<(String, Option<i64>)> {
        let clusters = spec.map(|spec| spec.clusters).unwrap_or_default();
        clusters.into_iter().map(|target| (target.name, target.replicas)).collect()
    }

    #[test]
    fn what_is_held_by_newer_decisions_is_where_the_next_one_starts() {
        let target = |name: &str, replicas| ClusterTarget {
            name: name.into(),
            replicas: Some(replicas),
            ..ClusterTarget::default()
        };
        let clusters = vec![target("osaka", 1), target("taiwan", 3)];
        let current = PlacementSpec { clusters, epoch: 10, ..PlacementSpec::default() };
        let claims = [claim("tokyo", 50, Some(3)), claim("taiwan", 48, Some(0)), claim("osaka", 9, Some(7))];
        let next = recover(Some(&current), &claims);
        let expect =
            [("osaka".to_owned(), Some(1)), ("taiwan".to_owned(), Some(0)), ("tokyo".to_owned(), Some(3))];
        assert_eq!(told(next), expect);
    }

    #[test]
    fn what_is_held_where_no_decision_says_so_counts_however_old_it_is() {
        let clusters = vec![ClusterTarget { name: "taiwan".into(), replicas: Some(3), ..Default::default() }];
        let current = PlacementSpec { clusters, epoch: 10_008, ..PlacementSpec::default() };
        let next = recover(Some(&current), &[claim("taiwan", 16, Some(0)), claim("tokyo", 16, Some(3))]);
        assert_eq!(told(next), [("taiwan".to_owned(), Some(3)), ("tokyo".to_owned(), Some(3))]);
    }

    #[test]
    fn what_a_listed_cluster_does_not_hold_runs_nowhere() {
        let target = |name: &str, replicas| ClusterTarget {
            name: name.into(),
            replicas: Some(replicas),
            ..ClusterTarget::default()
        };
        let clusters = vec![target("taiwan", 0), target("tokyo", 2)];
        let current = PlacementSpec { clusters, epoch: 10, ..PlacementSpec::default() };
        let next = recover(Some(&current), &[claim("taiwan", 43, Some(2)), Claim::none("tokyo")]);
        assert_eq!(told(next), [("taiwan".to_owned(), Some(2)), ("tokyo".to_owned(), Some(0))]);
        let says_nothing_new = [Claim::none("taiwan"), Claim::none("osaka")];
        assert_eq!(recover(Some(&current), &says_nothing_new), None);
        assert_eq!(recover(None, &says_nothing_new), None);
    }

    #[test]
    fn who_holds_a_newer_copy_or_lacks_a_listed_one_knows_better_than_the_store() {
        let clusters = vec![ClusterTarget { name: "taiwan".into(), replicas: Some(3), ..Default::default() }];
        let current = PlacementSpec { clusters, epoch: 10, ..PlacementSpec::default() };
        let holds = |epoch| Witness { cluster: "taiwan", holds: Some(epoch), is_without: false };
        let is_doubtful = |counts_absence, said| is_doubtful(&current, counts_absence, [said]);
        assert!(
            is_doubtful(false, holds(11)) && !is_doubtful(true, holds(10)) && !is_doubtful(true, holds(3))
        );
        let lacks = |cluster| Witness { cluster, holds: None, is_without: true };
        assert!(is_doubtful(true, lacks("taiwan")) && !is_doubtful(false, lacks("taiwan")));
        assert!(!is_doubtful(true, lacks("tokyo")), "nothing is listed there");
        assert!(!is_doubtful(true, Witness { is_without: false, ..lacks("taiwan") }), "nobody knows");
    }

    #[test]
    fn without_a_decision_everything_that_is_held_counts() {
        assert_eq!(told(recover(None, &[claim("tokyo", 1, Some(3))])), [("tokyo".to_owned(), Some(3))]);
    }

    #[test]
    fn the_stores_own_decision_stands_where_nobody_holds_a_newer_one() {
        let clusters = vec![ClusterTarget { name: "tokyo".into(), replicas: Some(2), ..Default::default() }];
        let current = PlacementSpec { clusters, epoch: 50, ..PlacementSpec::default() };
        assert_eq!(recover(Some(&current), &[claim("tokyo", 50, Some(3))]), None);
        assert_eq!(recover(None, &[claim("tokyo", 7, None)]), None);
    }
}
