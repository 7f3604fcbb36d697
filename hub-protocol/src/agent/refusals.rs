//! Manifests that the member refused, and when they are tried again: the cause may go away (a quota is raised, a CRD installed, a permission
//! granted).

use std::collections::{BTreeMap, BTreeSet};

use crate::Key;

/// The first question comes this soon after a refusal, milliseconds: most refusals that end at all end by a hand at work.
const FIRST_MS: u64 = 2_000;
/// The longest wait between two questions, milliseconds. A thousand objects that stay refused then cost the member 17 requests a second.
const LONGEST_MS: u64 = 60_000;

#[derive(Clone, Copy, Debug)]
struct Refusal {
    wait_ms: u64,
    /// None while the question is under way.
    ask_at: Option<u64>,
}

/// Refused objects, each with its own doubling wait. Bounded by the number of objects wanted.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    refused: BTreeMap<Key, Refusal>,
    /// The same, by the time of the next question.
    queue: BTreeSet<(u64, Key)>,
}

impl Refusals {
    /// The member refused this, now.
    pub(super) fn note(&mut self, now: u64, key: Key) {
        let wait_ms = self.take(&key).map_or(FIRST_MS, |last| (last.wait_ms * 2).min(LONGEST_MS));
        let ask_at = now + wait_ms;
        self.queue.insert((ask_at, key.clone()));
        self.refused.insert(key, Refusal { wait_ms, ask_at: Some(ask_at) });
    }

    /// The member took it, or something else is wanted of it.
    pub(super) fn forget(&mut self, key: &Key) {
        self.take(key);
    }

    /// The next object to ask for again now; each once, until it is noted again.
    pub(super) fn due(&mut self, now: u64) -> Option<Key> {
        let (at, key) = self.queue.first()?;
        if *at > now {
            return None;
        }
        let key = key.clone();
        self.queue.pop_first();
        if let Some(refusal) = self.refused.get_mut(&key) {
            refusal.ask_at = None;
        }
        Some(key)
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.queue.first().map(|(at, _)| *at)
    }

    fn take(&mut self, key: &Key) -> Option<Refusal> {
        let refusal = self.refused.remove(key)?;
        if let Some(at) = refusal.ask_at {
            self.queue.remove(&(at, key.clone()));
        }
        Some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            group: String::new(),
            version: "v1".into(),
            kind: "Service".into(),
            resource: "services".into(),
            namespace: "default".into(),
            name: name.into(),
        }
    }

    #[test]
    fn each_refusal_waits_twice_as_long_as_the_last_up_to_a_minute() {
        let mut refusals = Refusals::default();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..8 {
            refusals.note(now, key("web"));
            let at = refusals.next_deadline().expect("it was noted");
            waits.push(at - now);
            assert_eq!(refusals.due(at - 1), None);
            assert_eq!(refusals.due(at), Some(key("web")));
            assert!(refusals.due(at).is_none() && refusals.next_deadline().is_none(), "asked twice");
            now = at;
        }
        assert_eq!(waits, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn what_was_taken_is_not_asked_for_and_begins_anew_when_refused_again() {
        let mut refusals = Refusals::default();
        refusals.note(0, key("web"));
        refusals.note(0, key("shop"));
        refusals.forget(&key("web"));
        assert_eq!(refusals.due(10_000), Some(key("shop")));
        assert_eq!(refusals.due(10_000), None);
        refusals.note(10_000, key("web"));
        assert_eq!(refusals.next_deadline(), Some(12_000));
    }
}
