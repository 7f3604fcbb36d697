//! The recent past, bounded, indexed by resource.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::RwLock;

use super::{Event, EventKind, Expired, notify::Notifier, root::Root};
use crate::store::ResourceKey;

/// Every so many revisions the window keeps the whole state (a pointer and the changed nodes, some 10 kB), so that the
/// state at any revision is at most so many steps back from a kept one: tens of microseconds.
const CHECKPOINT_EVERY: u64 = 128;

/// What the window holds at most. The defaults keep ten minutes of 100 changes a second of 4 KiB objects.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Changes.
    pub events: usize,
    /// Bytes of the objects in them.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { events: 65_536, bytes: 256 << 20 }
    }
}

/// One resource's part of the window, and those who wait for more.
pub(super) struct Log {
    entries: RwLock<Entries>,
    /// Told the revisions at which there is news.
    pub(super) notifier: Notifier,
}

#[derive(Default)]
struct Entries {
    events: VecDeque<Arc<Event>>,
    /// Events up to this revision may be missing.
    lost: u64,
}

/// A watcher that is fewer events behind is found without a search, which looks at events all over memory.
const NEAR_END: usize = 4;

/// What the notifier is told when no more events come.
const ENDED: u64 = u64::MAX;

impl Log {
    fn new(lost: u64) -> Self {
        Self {
            entries: RwLock::new(Entries { events: VecDeque::new(), lost }),
            notifier: Notifier::default(),
        }
    }

    /// Appends to `into` at most `limit` events after `cursor`.
    pub(super) fn read(
        &self,
        cursor: u64,
        limit: usize,
        into: &mut VecDeque<Arc<Event>>,
    ) -> Result<(), Expired> {
        let entries = self.entries.read();
        if cursor < entries.lost {
            return Err(Expired { asked: cursor, oldest: entries.lost });
        }
        // Watchers are nearly always at the end: look there before searching.
        let events = &entries.events;
        let newer = events.iter().rev().take(NEAR_END).take_while(|event| event.revision > cursor).count();
        let start = if newer < NEAR_END {
            events.len() - newer
        } else {
            events.partition_point(|event| event.revision <= cursor)
        };
        into.extend(events.range(start..).take(limit).cloned());
        Ok(())
    }

    /// The newest event's revision.
    pub(super) fn newest(&self) -> u64 {
        let entries = self.entries.read();
        entries.events.back().map_or(entries.lost, |event| event.revision)
    }

    pub(super) fn wake(&self, revision: u64) {
        // An ended log stays ended.
        self.notifier.notify(revision);
    }

    pub(super) fn ended(value: u64) -> bool {
        value == ENDED
    }
}

/// All recent changes in order, each also in its resource's log, and the states at some of them.
pub(super) struct Window {
    bounds: Bounds,
    bytes: usize,
    order: VecDeque<Arc<Event>>,
    logs: HashMap<ResourceKey, Arc<Log>>,
    checkpoints: VecDeque<Root>,
    newest: Root,
    /// Where the window began when the store was opened.
    origin: u64,
    /// The state at this revision is the oldest that can be rebuilt.
    floor: u64,
    ended: bool,
}

impl Window {
    pub(super) fn new(floor: u64, bounds: Bounds) -> Self {
        Self {
            bounds,
            bytes: 0,
            order: VecDeque::new(),
            logs: HashMap::new(),
            checkpoints: VecDeque::new(),
            newest: Root::default(),
            origin: floor,
            floor,
            ended: false,
        }
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Adds an event that led to `root`, and forgets the oldest ones beyond the bounds. Returns the log that has news;
    /// none for the state that the window begins with. After the last of several, the window is [rebased](Self::rebase).
    pub(super) fn push(&mut self, event: Event, root: &Root) -> Option<Arc<Log>> {
        if event.revision <= self.origin {
            return None;
        }
        let event = Arc::new(event);
        let log = self.log_or_new(&event.object.key.resource);
        log.entries.write().events.push_back(Arc::clone(&event));
        self.bytes += weight(&event);
        self.order.push_back(event);
        if root.revision
            >= self.checkpoints.back().map_or(self.origin, |last| last.revision) + CHECKPOINT_EVERY
        {
            self.checkpoints.push_back(root.clone());
        }
        while self.order.len() > self.bounds.events || self.bytes > self.bounds.bytes {
            self.forget_oldest();
        }
        Some(log)
    }

    fn forget_oldest(&mut self) {
        let Some(event) = self.order.pop_front() else { return };
        self.bytes -= weight(&event);
        self.floor = event.revision;
        if let Some(log) = self.logs.get(&event.object.key.resource) {
            let mut entries = log.entries.write();
            entries.events.pop_front();
            entries.lost = event.revision;
        }
        while self.checkpoints.front().is_some_and(|oldest| oldest.revision < self.floor) {
            self.checkpoints.pop_front();
        }
    }

    /// Takes `root` as the newest state.
    pub(super) fn rebase(&mut self, root: &Root) {
        self.newest = root.clone();
    }

    /// The state as of `revision`: the nearest kept later one, with the changes in between taken back.
    pub(super) fn root_at(&self, revision: u64) -> Result<Root, Expired> {
        if revision < self.floor {
            return Err(Expired { asked: revision, oldest: self.floor });
        }
        let later = self.checkpoints.partition_point(|root| root.revision < revision);
        let mut root = self.checkpoints.get(later).unwrap_or(&self.newest).clone();
        let end = self.order.partition_point(|event| event.revision <= root.revision);
        let start = self.order.partition_point(|event| event.revision <= revision);
        for event in self.order.range(start..end.max(start)).rev() {
            root.take_back(event);
        }
        root.revision = revision;
        Ok(root)
    }

    /// All changes after `from`.
    pub(super) fn changes_after(&self, from: u64) -> Result<Vec<Arc<Event>>, Expired> {
        if from < self.floor {
            return Err(Expired { asked: from, oldest: self.floor });
        }
        let start = self.order.partition_point(|event| event.revision <= from);
        Ok(self.order.range(start..).cloned().collect())
    }

    pub(super) fn log(&self, resource: &ResourceKey) -> Option<Arc<Log>> {
        self.logs.get(resource).cloned()
    }

    /// The resource's log. One that is new has lost nothing since the store was opened: had there been an event, it
    /// would not be new.
    pub(super) fn log_or_new(&mut self, resource: &ResourceKey) -> Arc<Log> {
        if let Some(log) = self.logs.get(resource) {
            return Arc::clone(log);
        }
        let log = Arc::new(Log::new(self.origin));
        if self.ended {
            log.wake(ENDED);
        }
        self.logs.insert(resource.clone(), Arc::clone(&log));
        log
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        for log in self.logs.values() {
            log.wake(ENDED);
        }
    }
}

/// What an event keeps alive that the newest state does not: the state it made, or for a deletion also the one before.
fn weight(event: &Event) -> usize {
    /// Keys, labels, owner references and the counters of `Arc`s.
    const FIXED: usize = 512;
    let previous = if event.kind == EventKind::Deleted { event.previous.as_ref() } else { None };
    FIXED + event.object.bytes.len() + previous.map_or(0, |previous| previous.bytes.len())
}
