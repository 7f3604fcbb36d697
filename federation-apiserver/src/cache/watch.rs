//! One watcher's cursor.

use std::{collections::VecDeque, sync::Arc};

use futures::Stream;
use tokio::sync::watch as signal;

use super::{Cache, Event, Expired, window::Log};

/// Events that a watcher takes from its log at a time, so that a long backlog does not hold the log's lock for long.
const CHUNK: usize = 128;

/// The changes of one resource after a revision, in order, each once.
pub struct Watch {
    cache: Arc<Cache>,
    log: Arc<Log>,
    signal: signal::Receiver<u64>,
    /// Everything up to here was delivered.
    cursor: u64,
    taken: VecDeque<Arc<Event>>,
}

impl Watch {
    pub(super) fn new(cache: Arc<Cache>, log: Arc<Log>, from: u64) -> Result<Self, Expired> {
        let mut watch = Self { signal: log.subscribe(), cache, log, cursor: from, taken: VecDeque::new() };
        watch.log.read(from, CHUNK, &mut watch.taken)?;
        Ok(watch)
    }

    /// The next change; waits for one. `None` once the store is closed. After `Expired` there is nothing more to come:
    /// the watcher was too slow, and must list again. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Expired>> {
        loop {
            if let Some(event) = self.taken.pop_front() {
                self.cursor = event.revision;
                return Some(Ok(event));
            }
            // Seen before reading: news that comes after the read wakes us again.
            let ended = Log::ended(*self.signal.borrow_and_update());
            if let Err(expired) = self.log.read(self.cursor, CHUNK, &mut self.taken) {
                return Some(Err(expired));
            }
            if self.taken.is_empty() && (ended || self.signal.changed().await.is_err()) {
                return None;
            }
        }
    }

    /// The revision up to which every change of the resource was delivered by [`next`](Self::next): what a bookmark may
    /// say. Rises with writes of other resources, too.
    pub fn progress(&self) -> u64 {
        // In this order: an event enters its log before its revision is published.
        let published = self.cache.root.load().revision;
        if self.taken.is_empty() && self.log.newest() <= self.cursor {
            published.max(self.cursor)
        } else {
            self.cursor
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Arc<Event>, Expired>> + Send {
        futures::stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            let item = watch.next().await?;
            let rest = item.is_ok().then_some(watch);
            Some((item, rest))
        })
    }
}
