//! One watcher's cursor.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;

use super::{Cache, Event, Expired, notify::Subscription, window::Log};

/// Events that a watcher takes from its log at a time, so that a long backlog does not hold the log's lock for long.
const CHUNK: usize = 128;

/// The changes of one resource after a revision, in order, each once.
pub struct Watch {
    cache: Arc<Cache>,
    log: Arc<Log>,
    subscription: Subscription,
    /// What the notifier said before the log was last read to its end; nothing while there may be more in it.
    heard: Option<u64>,
    /// Everything up to here was delivered.
    cursor: u64,
    taken: VecDeque<Arc<Event>>,
}

impl Watch {
    pub(super) fn new(cache: Arc<Cache>, log: Arc<Log>, from: u64) -> Result<Self, Expired> {
        let mut taken = VecDeque::new();
        log.read(from, CHUNK, &mut taken)?;
        Ok(Self { subscription: log.notifier.subscribe(), cache, log, heard: None, cursor: from, taken })
    }

    /// The next change; waits for one. `None` once the store is closed. After `Expired` there is nothing more to come:
    /// the watcher was too slow, and must list again. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, Expired>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for those who poll.
    pub(crate) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Result<Arc<Event>, Expired>>> {
        loop {
            if let Some(event) = self.taken.pop_front() {
                self.cursor = event.revision;
                return Poll::Ready(Some(Ok(event)));
            }
            let mut newest = self.log.notifier.newest();
            if self.heard == Some(newest) {
                self.subscription.wait(context.waker());
                // Whoever notified before the waker was in its place woke nobody.
                newest = self.log.notifier.newest();
                if self.heard == Some(newest) {
                    return Poll::Pending;
                }
            }
            // The notifier is read before the log: what comes after the log was read changes it again.
            if let Err(expired) = self.log.read(self.cursor, CHUNK, &mut self.taken) {
                return Poll::Ready(Some(Err(expired)));
            }
            if self.taken.is_empty() && Log::ended(newest) {
                return Poll::Ready(None);
            }
            self.heard = (self.taken.len() < CHUNK && !Log::ended(newest)).then_some(newest);
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

impl Drop for Watch {
    fn drop(&mut self) {
        self.log.notifier.unsubscribe(&self.subscription);
    }
}
