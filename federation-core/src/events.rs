//! Which of the members' Events reach the federation: deduplicated and rate-limited.
//!
//! Members repeat themselves, and a federation multiplies that by its clusters. Events that say the same of the same object in the same
//! cluster become one event with a count; and each object in each cluster has a bucket of tokens, as client-go's spam filter, so that
//! one crash loop does not push everything else out of the store.

use std::collections::{BTreeMap, HashMap};

use xxhash_rust::xxh3::xxh3_64;

/// Thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// New events about one object of one cluster at once.
    pub burst: u32,
    /// Milliseconds until one more is let through.
    pub refill_ms: i64,
    /// An event is written again at most so often while its count rises.
    pub update_every_ms: i64,
    /// An event that was silent for so long starts anew.
    pub forget_after_ms: i64,
    /// The most events remembered.
    pub capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // client-go's defaults: a burst of 25, and one more each five minutes.
            burst: 25,
            refill_ms: 300_000,
            update_every_ms: 2_000,
            // client-go aggregates over ten minutes.
            forget_after_ms: 600_000,
            // 1,000 objects in crisis with four kinds of complaints each, at some 200 bytes: below a megabyte.
            capacity: 4096,
        }
    }
}

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// The Cluster's name.
    pub cluster: String,
    /// The template's uid.
    pub uid: String,
    /// `Normal` or `Warning`.
    pub event_type: String,
    /// CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Who says so.
    pub component: String,
}

/// What to do with an event of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the Event; its name ends with this suffix, which is the same for the same key and time.
    Create {
        /// Hexadecimal.
        suffix: String,
        /// Its count.
        count: u64,
    },
    /// Raise the count of the Event that was created with this suffix.
    Update {
        /// Hexadecimal.
        suffix: String,
        /// Its new count.
        count: u64,
    },
    /// Nothing yet: it was written a moment ago, and [`Correlator::due`] will give it.
    Later,
    /// Nothing: there are too many about this object.
    Drop,
}

/// Remembers what was said.
#[derive(Clone, Debug)]
pub struct Correlator {
    options: Options,
    known: BTreeMap<EventKey, Known>,
    buckets: HashMap<(String, String), Bucket>,
    dropped: u64,
}

#[derive(Clone, Debug)]
struct Known {
    suffix: String,
    count: u64,
    written: u64,
    written_ms: i64,
    last_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    refilled_ms: i64,
}

impl Correlator {
    /// An empty memory.
    pub fn new(options: Options) -> Self {
        Self { options, known: BTreeMap::new(), buckets: HashMap::new(), dropped: 0 }
    }

    /// Decides about one event that happened `count` times since it was last told: agents tell differences, so that a member's
    /// counter that restarts, and an agent that does, count nothing twice.
    pub fn observe(&mut self, now_ms: i64, key: EventKey, count: u64) -> Action {
        let count = count.max(1);
        let options = self.options;
        if let Some(known) = self.known.get_mut(&key) {
            if now_ms.saturating_sub(known.last_ms) < options.forget_after_ms {
                known.count = known.count.saturating_add(count);
                known.last_ms = now_ms;
                return known.update(&options, now_ms);
            }
            self.known.remove(&key);
        }
        if !self.take_token(now_ms, &key) {
            self.dropped = self.dropped.saturating_add(1);
            return Action::Drop;
        }
        self.make_room(now_ms);
        let suffix = format!("{:016x}", xxh3_64(format!("{key:?}\0{now_ms}").as_bytes()));
        let known =
            Known { suffix: suffix.clone(), count, written: count, written_ms: now_ms, last_ms: now_ms };
        self.known.insert(key, known);
        Action::Create { suffix, count }
    }

    /// Counts that rose since they were written, and may be written now.
    pub fn due(&mut self, now_ms: i64) -> Vec<(EventKey, Action)> {
        let options = self.options;
        self.known
            .iter_mut()
            .filter_map(|(key, known)| match known.update(&options, now_ms) {
                Action::Later => None,
                action => Some((key.clone(), action)),
            })
            .collect()
    }

    /// When [`Self::due`] has something to give, in Unix milliseconds.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let waits = self.known.values().filter(|known| known.count > known.written);
        waits.map(|known| known.written_ms.saturating_add(self.options.update_every_ms)).min()
    }

    /// Events that were dropped, for a metric.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn take_token(&mut self, now_ms: i64, key: &EventKey) -> bool {
        let options = self.options;
        let bucket = self
            .buckets
            .entry((key.cluster.clone(), key.uid.clone()))
            .or_insert(Bucket { tokens: options.burst, refilled_ms: now_ms });
        bucket.refill(&options, now_ms);
        let has = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        has
    }

    fn make_room(&mut self, now_ms: i64) {
        let options = self.options;
        if self.known.len() >= options.capacity {
            self.known.retain(|_, known| now_ms.saturating_sub(known.last_ms) < options.forget_after_ms);
        }
        if self.known.len() >= options.capacity
            && let Some(oldest) =
                self.known.iter().min_by_key(|(_, known)| known.last_ms).map(|(key, _)| key.clone())
        {
            self.known.remove(&oldest);
        }
        if self.buckets.len() >= options.capacity {
            // A full bucket is as good as none.
            self.buckets.retain(|_, bucket| {
                bucket.refill(&options, now_ms);
                bucket.tokens < options.burst
            });
        }
        if self.buckets.len() >= options.capacity.saturating_mul(2) {
            self.buckets.clear();
        }
    }
}

impl Known {
    fn update(&mut self, options: &Options, now_ms: i64) -> Action {
        let waited = now_ms.saturating_sub(self.written_ms) >= options.update_every_ms;
        if self.count == self.written || !waited {
            return Action::Later;
        }
        self.written = self.count;
        self.written_ms = now_ms;
        Action::Update { suffix: self.suffix.clone(), count: self.count }
    }
}

impl Bucket {
    fn refill(&mut self, options: &Options, now_ms: i64) {
        let refills = now_ms.saturating_sub(self.refilled_ms).max(0) / options.refill_ms.max(1);
        self.tokens =
            self.tokens.saturating_add(u32::try_from(refills).unwrap_or(u32::MAX)).min(options.burst);
        self.refilled_ms = self.refilled_ms.saturating_add(refills.saturating_mul(options.refill_ms.max(1)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn key(uid: &str, message: &str) -> EventKey {
        EventKey {
            cluster: "taiwan".into(),
            uid: uid.into(),
            event_type: "Warning".into(),
            reason: "BackOff".into(),
            message: message.into(),
            component: "kubelet".into(),
        }
    }

    #[test]
    fn the_same_event_is_counted_and_not_repeated() {
        let mut events = Correlator::new(Options::default());
        let Action::Create { suffix, count: 1 } = events.observe(0, key("u", "crash"), 1) else {
            panic!("not created")
        };
        assert_eq!(events.observe(100, key("u", "crash"), 1), Action::Later);
        assert_eq!(events.observe(200, key("u", "crash"), 2), Action::Later);
        assert_eq!(events.next_deadline_ms(), Some(2_000));
        assert!(events.due(1_999).is_empty());
        let due = events.due(2_000);
        assert_eq!(due, [(key("u", "crash"), Action::Update { suffix: suffix.clone(), count: 4 })]);
        assert_eq!(events.next_deadline_ms(), None);
        assert_eq!(events.observe(9_000, key("u", "crash"), 1), Action::Update { suffix, count: 5 });
    }

    #[test]
    fn a_storm_about_one_object_leaves_room_for_the_others() {
        let mut events = Correlator::new(Options::default());
        let created = |action: &Action| matches!(action, Action::Create { .. });
        let storm = (0..100).filter(|n| created(&events.observe(0, key("u", &n.to_string()), 1))).count();
        assert_eq!((storm, events.dropped()), (25, 75));
        assert!(created(&events.observe(0, key("v", "calm"), 1)));
        assert_eq!(events.observe(299_999, key("u", "late"), 1), Action::Drop);
        assert!(created(&events.observe(300_000, key("u", "later"), 1)));
    }

    #[test]
    fn memory_is_bounded() {
        let options = Options { capacity: 8, ..Options::default() };
        let mut events = Correlator::new(options);
        for n in 0..1000 {
            events.observe(n, key(&n.to_string(), "m"), 1);
        }
        assert!(events.known.len() <= 8 && events.buckets.len() <= 17);
    }
}
