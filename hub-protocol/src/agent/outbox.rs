//! Messages that wait to be sent to the hub, coalesced: for states the newest counts, events are counted.

use std::collections::{BTreeMap, VecDeque};

use proto::v1::{self, agent_message::Message as Up};

use crate::{ITEMS, Key};

/// Most kinds of events kept while the hub is away. An event is about 300 bytes; beyond this many different ones nobody reads them, and
/// the oldest go first.
const EVENTS: usize = 256;

/// The newest message for each object. Bounded by the number of objects; kept after sending, because a hub that restarts knows nothing.
#[derive(Debug)]
struct Latest<T> {
    values: BTreeMap<Key, (T, bool)>,
    unsent: VecDeque<Key>,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), unsent: VecDeque::new() }
    }
}

impl<T: Clone + PartialEq> Latest<T> {
    fn put(&mut self, key: Key, value: T) {
        match self.values.get_mut(&key) {
            Some((old, _)) if *old == value => {}
            Some((old, waits)) => {
                *old = value;
                if !std::mem::replace(waits, true) {
                    self.unsent.push_back(key);
                }
            }
            None => {
                self.values.insert(key.clone(), (value, true));
                self.unsent.push_back(key);
            }
        }
    }

    fn next(&mut self) -> Option<T> {
        while let Some(key) = self.unsent.pop_front() {
            if let Some((value, waits)) = self.values.get_mut(&key)
                && std::mem::replace(waits, false)
            {
                return Some(value.clone());
            }
        }
        None
    }

    fn send_again(&mut self) {
        self.unsent = self.values.keys().cloned().collect();
        for (_, waits) in self.values.values_mut() {
            *waits = true;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) control: VecDeque<Up>,
    /// The rest of an answer to a digest. Behind `control`, so that heartbeats do not wait for all of it.
    pages: VecDeque<v1::DigestReply>,
    applied: Latest<v1::Applied>,
    services: Latest<v1::ServiceState>,
    statuses: Latest<v1::ObjectStatus>,
    removed: VecDeque<v1::Removed>,
    events: VecDeque<v1::MemberEvent>,
    pub(super) events_dropped: u64,
}

impl Outbox {
    /// A new stream: what was in answer to the old one goes, what the hub must know comes again.
    pub(super) fn restart(&mut self) {
        self.control.clear();
        self.pages.clear();
        self.removed.clear();
        self.applied.send_again();
        self.services.send_again();
        self.statuses.send_again();
    }

    /// Answers a digest, in pages. An answer that is not wholly sent yet is to an older question: the new one takes its place.
    pub(super) fn answer(&mut self, equal: bool, items: Vec<v1::digest_reply::Item>) {
        self.pages.clear();
        let mut rest = items.into_iter();
        loop {
            let items = rest.by_ref().take(ITEMS).collect();
            let more = rest.len() > 0;
            self.pages.push_back(v1::DigestReply { equal, items, more });
            if !more {
                break;
            }
        }
    }

    pub(super) fn applied(&mut self, key: Key, applied: v1::Applied) {
        self.applied.put(key, applied);
    }

    /// Something else is to be applied: its outcome is told though it may read as the last one did. A store that was restored from a backup gives
    /// the same epoch and generation to other contents.
    pub(super) fn expect_applied(&mut self, key: &Key) {
        self.applied.values.remove(key);
    }

    /// The last outcome for an object, if there is one.
    pub(super) fn last_applied(&self, key: &Key) -> Option<&v1::Applied> {
        self.applied.values.get(key).map(|(applied, _)| applied)
    }

    /// Sends the last outcome again, as the answer to an Apply that changed nothing but the epoch.
    pub(super) fn repeat_applied(&mut self, key: &Key, epoch: u64) {
        if let Some((applied, waits)) = self.applied.values.get_mut(key) {
            applied.epoch = epoch;
            if !std::mem::replace(waits, true) {
                self.applied.unsent.push_back(key.clone());
            }
        }
    }

    pub(super) fn service(&mut self, key: Key, service: v1::ServiceState) {
        self.services.put(key, service);
    }

    pub(super) fn status(&mut self, key: Key, status: v1::ObjectStatus) {
        self.statuses.put(key, status);
    }

    pub(super) fn removed(&mut self, removed: v1::Removed) {
        self.removed.push_back(removed);
    }

    /// A copy is leaving: what is known of it is of the past, and is neither sent nor told a hub that asks anew.
    pub(super) fn forget(&mut self, key: &Key) {
        self.applied.values.remove(key);
        self.statuses.values.remove(key);
        self.services.values.remove(key);
    }

    pub(super) fn event(&mut self, event: v1::MemberEvent) {
        let same = |old: &&mut v1::MemberEvent| {
            old.key == event.key
                && old.uid == event.uid
                && old.r#type == event.r#type
                && old.reason == event.reason
                && old.component == event.component
                && old.message == event.message
        };
        if let Some(old) = self.events.iter_mut().find(same) {
            old.count = old.count.saturating_add(event.count);
            old.first_ms = old.first_ms.min(event.first_ms);
            old.last_ms = old.last_ms.max(event.last_ms);
            return;
        }
        if self.events.len() >= EVENTS {
            self.events.pop_front();
            self.events_dropped += 1;
        }
        self.events.push_back(event);
    }

    /// The next message, the most urgent first: answers, then what moves users, then what is merely good to know.
    pub(super) fn next(&mut self) -> Option<Up> {
        self.control
            .pop_front()
            .or_else(|| self.pages.pop_front().map(Up::DigestReply))
            .or_else(|| self.removed.pop_front().map(Up::Removed))
            .or_else(|| self.services.next().map(Up::Service))
            .or_else(|| self.applied.next().map(Up::Applied))
            .or_else(|| self.statuses.next().map(Up::Status))
            .or_else(|| self.events.pop_front().map(Up::Event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_copy_that_leaves_nothing_is_said_any_more() {
        let key = Key { resource: "services".into(), name: "web".into(), ..Key::default() };
        let state = |epoch| v1::ServiceState { epoch, ..v1::ServiceState::default() };
        let mut outbox = Outbox::default();
        let forgets = |outbox: &mut Outbox| {
            outbox.service(key.clone(), state(4));
            outbox.status(key.clone(), v1::ObjectStatus::default());
            outbox.applied(key.clone(), v1::Applied::default());
            outbox.forget(&key);
        };
        forgets(&mut outbox);
        assert_eq!(outbox.next(), None);
        outbox.restart();
        assert_eq!(outbox.next(), None, "nor to the next hub");
        // Given anew, it is told of again, and on each stream.
        forgets(&mut outbox);
        outbox.service(key.clone(), state(6));
        for _ in 0..2 {
            assert_eq!(outbox.next(), Some(Up::Service(state(6))));
            assert_eq!(outbox.next(), None);
            outbox.restart();
        }
    }
}
