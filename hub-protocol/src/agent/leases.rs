//! Leases on what may run in one cluster at a time.
//!
//! The hub gives such an object to another cluster only after this agent's lease on it must have lapsed. The lease counts on this
//! agent's clock from when it *sent* the heartbeat that the hub acknowledged as current, which is before the moment that the hub
//! counts from: no clocks are compared, only lengths of time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Entry, State};
use crate::Key;

/// An agent that starts does not know how long nobody heard of it: what ran before may run this much longer without the hub's word,
/// milliseconds, so that an upgrade of the agent stops nothing.
const START_MS: u64 = 5_000;

/// Sent heartbeats that are remembered until they are acknowledged: of three seconds, should one follow the other as fast as may be
/// (`HURRY_MS`).
const BEATS: usize = 64;

/// The leases of one agent. Bounded by the number of objects wanted.
#[derive(Debug)]
pub(super) struct Leases {
    started_at: u64,
    renewed_at: Option<u64>,
    /// Leases of held objects that run, milliseconds.
    running: BTreeMap<Key, u32>,
    /// Held objects that were stopped.
    stopped: BTreeSet<Key>,
    /// Sequence and time of heartbeats on this stream.
    beats: VecDeque<(u64, u64)>,
}

impl Leases {
    pub(super) fn new(now: u64) -> Self {
        Self {
            started_at: now,
            renewed_at: None,
            running: BTreeMap::new(),
            stopped: BTreeSet::new(),
            beats: VecDeque::new(),
        }
    }

    /// Takes in what is wanted of an object now.
    pub(super) fn note(&mut self, entry: &Entry) {
        self.forget(&entry.key);
        if entry.lease_ms == 0 || entry.state != State::Held {
            return;
        }
        if entry.stopped {
            self.stopped.insert(entry.key.clone());
        } else {
            self.running.insert(entry.key.clone(), entry.lease_ms);
        }
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.running.remove(key);
        self.stopped.remove(key);
    }

    /// A stream begins: its heartbeats count from 1 again.
    pub(super) fn restart(&mut self) {
        self.beats.clear();
    }

    pub(super) fn beat(&mut self, sequence: u64, now: u64) {
        if self.beats.len() == BEATS {
            self.beats.pop_front();
        }
        self.beats.push_back((sequence, now));
    }

    /// The hub acknowledged a heartbeat as current. A heartbeat that is not remembered renews nothing.
    pub(super) fn renew(&mut self, sequence: u64) {
        while let Some((of, sent)) = self.beats.front().copied().filter(|(of, _)| *of <= sequence) {
            self.beats.pop_front();
            if of == sequence {
                self.renewed_at = self.renewed_at.max(Some(sent));
            }
        }
    }

    /// Whether a lease of this length has lapsed.
    pub(super) fn has_lapsed(&self, now: u64, lease_ms: u32) -> bool {
        lease_ms > 0 && now >= self.until(lease_ms)
    }

    /// The next object whose lease has lapsed, each once; it is to be noted again when it was stopped.
    pub(super) fn lapsed(&mut self, now: u64) -> Option<Key> {
        let lapsed = |(_, lease): &(&Key, &u32)| now >= self.until(**lease);
        let key = self.running.iter().find(lapsed)?.0.clone();
        self.running.remove(&key);
        Some(key)
    }

    /// The next stopped object that may run again, each once.
    pub(super) fn may_run(&mut self) -> Option<Key> {
        self.stopped.pop_first()
    }

    /// When the next lease lapses.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.running.values().min().map(|lease| self.until(*lease))
    }

    fn until(&self, lease_ms: u32) -> u64 {
        let lease = u64::from(lease_ms);
        match self.renewed_at {
            Some(at) => at + lease,
            None => self.started_at + lease.min(START_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::v1;

    use super::*;

    fn entry(name: &str, lease_ms: u32, stopped: bool) -> Entry {
        Entry {
            key: Key { resource: "deployments".into(), name: name.into(), ..Key::default() },
            uid: "u".into(),
            generation: 1,
            epoch: 1,
            manifest: Bytes::new(),
            conflict: v1::ConflictPolicy::Refuse,
            lease_ms,
            stopped,
            floor: 0,
            state: State::Held,
        }
    }

    #[test]
    fn a_lease_counts_from_when_the_acknowledged_heartbeat_was_sent() {
        let mut leases = Leases::new(0);
        leases.note(&entry("a", 10_000, false));
        leases.beat(1, 1_000);
        leases.beat(2, 2_000);
        leases.renew(1);
        assert_eq!(leases.next_deadline(), Some(11_000));
        assert_eq!(leases.lapsed(10_999), None);
        leases.renew(2);
        assert_eq!(leases.lapsed(11_999), None);
        assert_eq!(leases.lapsed(12_000), Some(entry("a", 0, false).key));
        assert_eq!(leases.lapsed(12_000), None);
    }

    #[test]
    fn an_acknowledgement_of_an_earlier_stream_renews_nothing() {
        let mut leases = Leases::new(0);
        leases.note(&entry("a", 10_000, false));
        leases.beat(7, 1_000);
        leases.restart();
        leases.beat(1, 4_000);
        leases.renew(7);
        assert_eq!(leases.next_deadline(), Some(START_MS));
    }

    #[test]
    fn what_was_stopped_stays_so_over_a_restart_until_the_hub_speaks() {
        let mut leases = Leases::new(50_000);
        leases.note(&entry("stopped", 10_000, true));
        leases.note(&entry("ran", 10_000, false));
        leases.note(&entry("free", 0, false));
        assert_eq!(leases.lapsed(50_000), None);
        assert_eq!(leases.lapsed(55_000), Some(entry("ran", 0, false).key));
        assert_eq!(leases.lapsed(90_000), None);
        leases.beat(1, 90_000);
        leases.renew(1);
        assert_eq!(leases.may_run(), Some(entry("stopped", 0, false).key));
    }
}
