//! The initial sync after a start: everything that there was when the views became whole is worked on once.
//!
//! Not "the queue was empty": in a busy federation it seldom is, and until it is over no agent's leases are renewed.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// So often a key may fail before the others do not wait for it any more: ten seconds. One that never can be worked on must not keep all
/// agents' leases from being renewed.
const TRIES: u8 = 20;

/// What is left of the initial sync.
#[derive(Debug)]
pub(super) struct InitialSync<K> {
    // Before the views are whole: what was worked on.
    worked: HashSet<K>,
    // How often each has failed.
    left: Option<HashMap<K, u8>>,
}

impl<K> Default for InitialSync<K> {
    fn default() -> Self {
        Self { worked: HashSet::new(), left: None }
    }
}

impl<K: Clone + Eq + Hash> InitialSync<K> {
    /// The views are whole: there is `all`, and `queued` of it is to be looked at, for the first time or again. Returns what is left.
    pub(super) fn begin(
        &mut self,
        all: impl IntoIterator<Item = K>,
        queued: impl IntoIterator<Item = K>,
    ) -> Vec<K> {
        let worked = std::mem::take(&mut self.worked);
        let left = all.into_iter().filter(|key| !worked.contains(key)).chain(queued);
        let left: HashMap<K, u8> = left.map(|key| (key, 0)).collect();
        let keys = left.keys().cloned().collect();
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

    /// A key could not be worked on, and comes again.
    pub(super) fn failed(&mut self, key: &K) {
        let Some(left) = &mut self.left else { return };
        if let Some(failures) = left.get_mut(key) {
            *failures += 1;
            if *failures >= TRIES {
                left.remove(key);
            }
        }
    }

    /// Whether all is done.
    pub(super) fn is_over(&self) -> bool {
        self.left.as_ref().is_some_and(HashMap::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sync_ends_when_what_there_was_is_done_however_much_comes_meanwhile() {
        let mut sync = InitialSync::default();
        sync.worked(&1);
        sync.worked(&2);
        assert!(!sync.is_over(), "the views are not whole yet");
        // 2 was changed since, and waits again.
        let mut left = sync.begin([1, 2, 3], [2]);
        left.sort_unstable();
        assert_eq!(left, [2, 3]);
        for busy in 10..100 {
            sync.worked(&busy);
            assert!(!sync.is_over());
        }
        sync.worked(&3);
        assert!(!sync.is_over());
        sync.worked(&2);
        assert!(sync.is_over());
    }

    #[test]
    fn what_fails_is_waited_for_but_not_for_ever() {
        let mut sync = InitialSync::default();
        sync.failed(&1);
        assert_eq!(sync.begin([1], []), [1]);
        for _ in 1..TRIES {
            sync.failed(&1);
            assert!(!sync.is_over());
        }
        sync.failed(&1);
        assert!(sync.is_over());
    }

    #[test]
    fn where_there_is_nothing_the_sync_is_over_at_once() {
        let mut sync = InitialSync::<u32>::default();
        assert!(!sync.is_over());
        assert!(sync.begin([], []).is_empty() && sync.is_over());
    }
}
