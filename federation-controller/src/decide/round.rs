//! The first round after a start: everything that there was when the views became whole is worked on once.
//!
//! Not "the queue was empty": in a busy federation it seldom is, and until the round is over no agent's leases are renewed.

use std::collections::HashSet;
use std::hash::Hash;

/// What is left of the first round.
#[derive(Debug)]
pub(super) struct FirstRound<K> {
    // Before the views are whole: what was worked on.
    worked: HashSet<K>,
    left: Option<HashSet<K>>,
}

impl<K> Default for FirstRound<K> {
    fn default() -> Self {
        Self { worked: HashSet::new(), left: None }
    }
}

impl<K: Clone + Eq + Hash> FirstRound<K> {
    /// The views are whole: there is `all`, and `queued` of it is to be looked at, for the first time or again. Returns what is left.
    pub(super) fn begin(
        &mut self,
        all: impl IntoIterator<Item = K>,
        queued: impl IntoIterator<Item = K>,
    ) -> Vec<K> {
        let worked = std::mem::take(&mut self.worked);
        let left: HashSet<K> = all.into_iter().filter(|key| !worked.contains(key)).chain(queued).collect();
        let keys = left.iter().cloned().collect();
        self.left = Some(left);
        keys
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.left.is_some()
    }

    /// A key was worked on.
    pub(super) fn worked(&mut self, key: &K) {
        match &mut self.left {
            Some(left) => {
                left.remove(key);
            }
            None => {
                self.worked.insert(key.clone());
            }
        }
    }

    /// Whether all is done.
    pub(super) fn is_over(&self) -> bool {
        self.left.as_ref().is_some_and(HashSet::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_ends_when_what_there_was_is_done_however_much_comes_meanwhile() {
        let mut round = FirstRound::default();
        round.worked(&1);
        round.worked(&2);
        assert!(!round.is_over(), "the views are not whole yet");
        // 2 was changed since, and waits again.
        let mut left = round.begin([1, 2, 3], [2]);
        left.sort_unstable();
        assert_eq!(left, [2, 3]);
        for busy in 10..100 {
            round.worked(&busy);
            assert!(!round.is_over());
        }
        round.worked(&3);
        assert!(!round.is_over());
        round.worked(&2);
        assert!(round.is_over());
    }

    #[test]
    fn where_there_is_nothing_the_round_is_over_at_once() {
        let mut round = FirstRound::<u32>::default();
        assert!(!round.is_over());
        assert!(round.begin([], []).is_empty() && round.is_over());
    }
}
