//! Delayed keys: one deadline for each, as in client-go's delaying queue.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use federation_runtime::clock::Instant;

use super::queue::Priority;

// The number tells those of one moment apart.
type Moment = (Instant, u64);

/// Keys and their moments.
pub(super) struct DelayQueue<K> {
    moments: HashMap<K, (Moment, Priority)>,
    line: BTreeMap<Moment, K>,
    noted: u64,
}

impl<K> Default for DelayQueue<K> {
    fn default() -> Self {
        Self { moments: HashMap::new(), line: BTreeMap::new(), noted: 0 }
    }
}

impl<K: Clone + Eq + Hash> DelayQueue<K> {
    /// Notes a key. Of two moments the earlier counts, and of two priorities the more urgent one. Tells whether no other key comes sooner.
    pub(super) fn note(&mut self, key: K, at: Instant, mut priority: Priority) -> bool {
        if let Some((known, urgent)) = self.moments.get_mut(&key) {
            priority = priority.min(*urgent);
            *urgent = priority;
            if known.0 <= at {
                return false;
            }
            self.line.remove(known);
        }
        self.noted += 1;
        let moment = (at, self.noted);
        self.line.insert(moment, key.clone());
        self.moments.insert(key, (moment, priority));
        self.line.first_key_value().is_some_and(|(first, _)| *first == moment)
    }

    /// Takes a key whose moment has come.
    pub(super) fn due(&mut self, now: Instant) -> Option<(K, Priority)> {
        let first = self.line.first_entry().filter(|first| first.key().0 <= now)?;
        let key = first.remove();
        let (_, priority) = self.moments.remove(&key)?;
        Some((key, priority))
    }

    /// The next moment.
    pub(super) fn next(&self) -> Option<Instant> {
        self.line.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_has_one_moment_and_that_is_its_earliest() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut delayed = DelayQueue::default();
        assert!(delayed.note('a', at(5), Priority::Background));
        assert!(!delayed.note('a', at(9), Priority::Urgent), "later says nothing new of when");
        assert!(!delayed.note('b', at(5), Priority::Normal), "the first of one moment stays the first");
        assert!(delayed.note('b', at(3), Priority::Background), "sooner than all");
        assert_eq!((delayed.next(), delayed.due(at(2))), (Some(at(3)), None));
        assert_eq!(delayed.due(at(4)), Some(('b', Priority::Normal)));
        assert_eq!(delayed.due(at(4)), None);
        assert_eq!(delayed.due(at(5)), Some(('a', Priority::Urgent)));
        assert_eq!((delayed.next(), delayed.due(at(99))), (None, None));
    }
}
