//! Copies that clusters were asked to give up, between one decision and the next.
//!
//! A user may take a template back and federate it again before all agents have answered. The decision is then what it was, but it is older than
//! the removals and releases that were asked for since, and no agent takes it over those: it needs an epoch of its own.

use std::collections::BTreeMap;

use crate::api::{ClusterTarget, PlacementSpec};

/// A cluster was asked to give its copy up, and was not given it anew since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Epoch of the removal or release.
    pub epoch: u64,
    /// Its agent has said that the copy is gone.
    pub gone: bool,
}

/// By cluster name.
pub type Withdrawals = BTreeMap<String, Withdrawn>;

/// The targets of a decision that have a copy still, as far as is known.
pub fn still_held<'a>(
    decided: &'a PlacementSpec,
    withdrawn: &'a Withdrawals,
) -> impl Iterator<Item = &'a ClusterTarget> {
    let is_gone = |name: &str| withdrawn.get(name).is_some_and(|withdrawn| withdrawn.gone);
    decided.clusters.iter().filter(move |target| !is_gone(&target.name))
}

/// Whether a word about a copy by the decision of epoch `of` may be about the copy that the decision of epoch `given` gave anew, or a later one. A
/// word about an earlier copy may have been on its way when that one went. `of` is 0 where the agent does not tell.
pub const fn is_of_given(of: u64, given: u64) -> bool {
    of == 0 || of >= given
}

/// Whether `next` is another decision than `last`, and is to be written with an epoch of its own: it says something else, or wants a copy that its
/// cluster was asked to give up since `last` was made. A target that is leaving is not wanted. Epochs, and inputs that led to the same end, do not count.
pub fn is_new(last: &PlacementSpec, next: &PlacementSpec, withdrawn: &Withdrawals) -> bool {
    let takes_back = |target: &ClusterTarget| {
        !target.leaving && withdrawn.get(&target.name).is_some_and(|withdrawn| withdrawn.epoch > last.epoch)
    };
    last.clusters != next.clusters
        || last.lease != next.lease
        || last.adopted != next.adopted
        || last.former != next.former
        || last.template != next.template
        || last.policy != next.policy
        || last.policy_generation != next.policy_generation
        || next.clusters.iter().any(takes_back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, leaving: bool) -> ClusterTarget {
        ClusterTarget { name: name.into(), leaving, ..ClusterTarget::default() }
    }

    /// A decision for taiwan, and for tokyo, which it leaves.
    fn decided(epoch: u64) -> PlacementSpec {
        let clusters = vec![target("taiwan", false), target("tokyo", true)];
        PlacementSpec { clusters, epoch, ..PlacementSpec::default() }
    }

    fn withdrawn(cluster: &str, epoch: u64, gone: bool) -> Withdrawals {
        [(cluster.to_owned(), Withdrawn { epoch, gone })].into()
    }

    #[test]
    fn a_decision_that_differs_in_its_inputs_only_is_not_written_again() {
        let last = PlacementSpec { inputs_hash: "a".into(), ..decided(1) };
        let next = PlacementSpec { inputs_hash: "b".into(), ..decided(2) };
        assert!(!is_new(&last, &next, &Withdrawals::new()));
        assert!(is_new(&last, &PlacementSpec { policy: "p".into(), ..next }, &Withdrawals::new()));
    }

    #[test]
    fn a_copy_that_is_wanted_again_after_it_was_asked_for_is_decided_anew_once() {
        for gone in [false, true] {
            let asked = withdrawn("taiwan", 5, gone);
            assert!(is_new(&decided(4), &decided(0), &asked));
            assert!(!is_new(&decided(6), &decided(0), &asked), "decided since");
        }
    }

    #[test]
    fn a_word_about_a_copy_by_an_earlier_decision_is_none_about_the_one_that_was_given_anew() {
        assert!(!is_of_given(4, 6) && is_of_given(6, 6) && is_of_given(7, 6));
        assert!(is_of_given(0, 6), "an agent that does not tell is believed as before");
        assert!(is_of_given(4, 0), "nothing was given anew");
    }

    #[test]
    fn a_copy_that_leaves_is_not_wanted_again() {
        assert!(!is_new(&decided(4), &decided(0), &withdrawn("tokyo", 5, false)));
    }

    #[test]
    fn who_was_asked_for_a_copy_holds_it_until_it_says_that_it_is_gone() {
        let names = |withdrawn: &Withdrawals| -> Vec<String> {
            still_held(&decided(4), withdrawn).map(|target| target.name.clone()).collect()
        };
        assert_eq!(names(&withdrawn("tokyo", 5, false)), ["taiwan", "tokyo"]);
        assert_eq!(names(&withdrawn("tokyo", 5, true)), ["taiwan"]);
    }
}
