//! The one thread that writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use federation_runtime::errors::Chain;
use tokio::sync::{mpsc, oneshot};

use super::{Backend, Change, Operation, Rejection, Stored, WriteError, backend::Failure};
use crate::cache::{Cache, Snapshot};

/// Writes that may wait. At 20,000 durable writes a second a full queue is 0.2 s of work; longer waits are better spent by
/// clients, who are told to come again.
pub(super) const QUEUE: usize = 4096;
/// Writes in one commit: with more, the first ones wait longer than an fsync takes.
const BATCH_WRITES: usize = 256;
/// Bytes in one commit, for the same reason.
const BATCH_BYTES: usize = 1 << 20;
/// Compaction follows the cache's window in steps of so many revisions: one short transaction for thousands of writes.
const COMPACT_STEP: u64 = 4096;

pub(super) type Verdict = Result<Arc<Stored>, WriteError>;

pub(super) enum Request {
    Write { operation: Box<Operation>, answer: oneshot::Sender<Verdict> },
    Close,
}

/// Starts the thread. It ends at `Request::Close`, or when nobody can ask any more.
pub(super) fn spawn(
    backend: Box<dyn Backend>,
    cache: Arc<Cache>,
    failed: Arc<AtomicBool>,
) -> std::io::Result<(mpsc::Sender<Request>, thread::JoinHandle<()>)> {
    let (queue, requests) = mpsc::channel(QUEUE);
    let writer = Writer { backend, cache, broken: None, failed };
    let thread = thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(requests))?;
    Ok((queue, thread))
}

struct Writer {
    backend: Box<dyn Backend>,
    cache: Arc<Cache>,
    /// Why nothing can be written any more. After a failed commit nobody knows what the disk holds, so the store refuses
    /// everything until it is opened anew.
    broken: Option<Arc<str>>,
    /// The same, for those who watch over the server's health.
    failed: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut open = true;
        while open && let Some(first) = requests.blocking_recv() {
            let (mut operations, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
            let mut next = Some(first);
            while let Some(request) = next.take() {
                match request {
                    Request::Write { operation, answer } => {
                        bytes += operation.object.size();
                        operations.push(*operation);
                        answers.push(answer);
                    }
                    Request::Close => {
                        open = false;
                        break;
                    }
                }
                if operations.len() < BATCH_WRITES && bytes < BATCH_BYTES {
                    next = requests.try_recv().ok();
                }
            }
            let verdicts = self.write(operations);
            for (answer, verdict) in answers.into_iter().zip(verdicts) {
                // A caller that went away does not undo its write.
                let _gone = answer.send(verdict);
            }
            self.compact();
        }
        self.cache.end();
    }

    fn write(&mut self, operations: Vec<Operation>) -> Vec<Verdict> {
        let count = operations.len();
        if count == 0 {
            return Vec::new();
        }
        if self.broken.is_none() {
            let before = self.cache.snapshot();
            let keys: Vec<_> = operations.iter().map(|operation| operation.key.clone()).collect();
            match self.backend.commit(operations) {
                Ok(verdicts) => {
                    self.cache.publish(verdicts.iter().flatten().cloned());
                    return answer(&before, &keys, verdicts);
                }
                Err(failure) => self.fail("writing", &failure),
            }
        }
        let why = self.broken.clone().unwrap_or_else(|| "closed".into());
        vec![Err(WriteError::Unavailable(why)); count]
    }

    fn compact(&mut self) {
        let oldest = self.cache.oldest();
        if self.broken.is_none()
            && oldest >= self.backend.compacted() + COMPACT_STEP
            && let Err(failure) = self.backend.compact(oldest, COMPACT_STEP as usize)
        {
            self.fail("compacting", &failure);
        }
    }

    fn fail(&mut self, doing: &str, failure: &Failure) {
        let why = Chain(failure).to_string();
        tracing::error!(error = %why, "{doing} failed; the store takes no more writes until the server is restarted");
        self.broken = Some(why.into());
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// Puts the engine's verdicts into the callers' words. What a rejected operation ran into is either in the state before
/// the batch, or was made by the batch.
fn answer(before: &Snapshot, keys: &[super::Key], verdicts: Vec<Result<Change, Rejection>>) -> Vec<Verdict> {
    let made: Vec<Arc<Stored>> = verdicts.iter().flatten().map(|change| Arc::clone(&change.object)).collect();
    let find = |key, revision| {
        made.binary_search_by_key(&revision, |object| object.revision)
            .ok()
            .map(|at| Arc::clone(&made[at]))
            .or_else(|| before.get(key))
            .ok_or_else(|| WriteError::Unavailable("the engine and the cache disagree".into()))
    };
    keys.iter()
        .zip(verdicts)
        .map(|(key, verdict)| match verdict {
            Ok(change) => Ok(change.object),
            Err(Rejection::Moved) => Err(WriteError::Moved),
            Err(Rejection::Absent) => Err(WriteError::NotFound),
            Err(Rejection::Exists(revision)) => {
                Err(find(key, revision).map_or_else(|e| e, WriteError::Exists))
            }
            Err(Rejection::Stale(revision)) => {
                Err(find(key, revision).map_or_else(|e| e, |current| WriteError::Conflict { current }))
            }
        })
        .collect()
}
