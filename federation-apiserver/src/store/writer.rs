//! The one writer: a thread, or for a write that comes alone the task that brought it.
//!
//! Whoever holds the lock writes. Requests queue, the thread takes as many as wait, and commits them together. While writes come one by one and
//! the disk is quick, the task that brings one commits it itself: to wake the thread and to be woken by it takes a good part of the
//! time that the disk takes. As soon as two come at once, it is the thread's again.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use federation_runtime::errors::Chain;
use parking_lot::Mutex;
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
/// After so many commits of one write each, the next one is expected to come alone, too.
const ALONE: u32 = 8;
/// So many are remembered. A slow one halves what is remembered, so that one among many does not end it, and three in a row do.
const ALONE_MAX: u32 = 32;
/// A commit that takes no longer than this may keep a worker of the runtime from its other tasks.
const QUICK: Duration = Duration::from_micros(400);

pub(super) type Verdict = Result<Arc<Stored>, WriteError>;

struct Request {
    operation: Box<Operation>,
    answer: oneshot::Sender<Verdict>,
}

/// Where writes go.
pub(super) struct Lane {
    queue: mpsc::Sender<Request>,
    /// Requests that nobody has taken yet.
    waiting: AtomicUsize,
    writer: Mutex<Writer>,
    /// Whether the last commits were of one write each, and quick.
    alone: AtomicBool,
    closing: AtomicBool,
    thread: OnceLock<thread::Thread>,
    /// Whether there are other workers when one of them commits.
    shared: bool,
}

impl Lane {
    /// Starts the thread. It ends when the lane is closed, and the backend with it.
    pub(super) fn start(
        backend: Box<dyn Backend>,
        cache: Arc<Cache>,
        failed: Arc<AtomicBool>,
    ) -> std::io::Result<(Arc<Self>, thread::JoinHandle<()>)> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = Writer {
            backend: Some(backend),
            cache,
            requests,
            broken: None,
            failed,
            alone: 0,
            writing: false,
        };
        let runtime = tokio::runtime::Handle::try_current();
        let lane = Arc::new(Self {
            queue,
            waiting: AtomicUsize::new(0),
            writer: Mutex::new(writer),
            alone: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            thread: OnceLock::new(),
            shared: runtime.is_ok_and(|runtime| runtime.metrics().num_workers() > 1),
        });
        let own = Arc::clone(&lane);
        let thread = thread::Builder::new().name("store-writer".into()).spawn(move || own.run())?;
        let _first = lane.thread.set(thread.thread().clone());
        Ok((lane, thread))
    }

    /// Queues an operation, or commits it.
    pub(super) fn send(&self, operation: Operation) -> Result<oneshot::Receiver<Verdict>, WriteError> {
        let (answer, verdict) = oneshot::channel();
        // Counted before it can be taken.
        let others = self.waiting.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.queue.try_send(Request { operation: Box::new(operation), answer }) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => closed(),
            });
        }
        if others > 0 || !self.commit_here() {
            self.wake();
        }
        Ok(verdict)
    }

    /// Commits what waits, if it comes alone and nobody else is at it.
    fn commit_here(&self) -> bool {
        if !self.shared || !self.alone.load(Ordering::Relaxed) {
            return false;
        }
        let Some(mut writer) = self.writer.try_lock() else { return false };
        self.commit(&mut writer);
        // That takes too long for here.
        let due = writer.is_to_compact();
        drop(writer);
        // Who came meanwhile has found the lock taken, and left it to the thread.
        !due && self.waiting.load(Ordering::SeqCst) == 0
    }

    fn commit(&self, writer: &mut Writer) {
        writer.commit(|taken| {
            self.waiting.fetch_sub(taken, Ordering::SeqCst);
        });
        self.alone.store(writer.alone >= ALONE, Ordering::Relaxed);
    }

    /// Takes no more writes. The thread ends when it has done those that wait.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closing.load(Ordering::SeqCst) || self.queue.is_closed()
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn run(&self) {
        // However it ends, nobody may wait for it.
        let _closed = Closed(self);
        loop {
            let closing = self.closing.load(Ordering::SeqCst);
            if closing {
                self.writer.lock().requests.close();
            }
            while self.waiting.load(Ordering::SeqCst) > 0 {
                let mut writer = self.writer.lock();
                self.commit(&mut writer);
                writer.compact();
            }
            if closing {
                return;
            }
            self.writer.lock().compact();
            thread::park();
        }
    }
}

/// Ends the writer when the thread ends.
struct Closed<'a>(&'a Lane);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.closing.store(true, Ordering::SeqCst);
        let mut writer = self.0.writer.lock();
        writer.requests.close();
        writer.cache.end();
        drop(writer.backend.take());
        // Those whose senders were faster are told by their answers' ends.
        while writer.requests.try_recv().is_ok() {}
    }
}

fn closed() -> WriteError {
    WriteError::Unavailable("it is closed".into())
}

struct Writer {
    /// Gone when the lane is closed.
    backend: Option<Box<dyn Backend>>,
    cache: Arc<Cache>,
    requests: mpsc::Receiver<Request>,
    /// Why nothing can be written any more. After a failed commit nobody knows what the disk holds, so the store refuses
    /// everything until it is opened anew.
    broken: Option<Arc<str>>,
    /// The same, for those who watch over the server's health.
    failed: Arc<AtomicBool>,
    /// So many commits were of one write, and quick; see [`ALONE_MAX`].
    alone: u32,
    /// A commit is under way; what panicked in one has left the engine in an unknown state.
    writing: bool,
}

impl Writer {
    /// Commits what waits, as far as one commit goes, and answers. `taken` hears how many that were.
    fn commit(&mut self, taken: impl FnOnce(usize)) {
        let (mut operations, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        while operations.len() < BATCH_WRITES
            && bytes < BATCH_BYTES
            && let Ok(Request { operation, answer }) = self.requests.try_recv()
        {
            bytes += operation.object.size();
            operations.push(*operation);
            answers.push(answer);
        }
        taken(operations.len());
        if operations.is_empty() {
            // Counted, and not yet queued.
            return thread::yield_now();
        }
        if self.writing {
            self.breaks("a commit was interrupted by a defect of the server");
        }
        self.writing = true;
        let (start, count) = (Instant::now(), operations.len());
        let verdicts = self.write(operations);
        self.alone = remembered(self.alone, count, start.elapsed());
        for (answer, verdict) in answers.into_iter().zip(verdicts) {
            // A caller that went away does not undo its write.
            let _gone = answer.send(verdict);
        }
        self.writing = false;
    }

    fn write(&mut self, operations: Vec<Operation>) -> Vec<Verdict> {
        let count = operations.len();
        if count == 0 {
            return Vec::new();
        }
        if self.broken.is_none()
            && let Some(backend) = &mut self.backend
        {
            let before = self.cache.snapshot();
            let keys: Vec<_> = operations.iter().map(|operation| operation.key.clone()).collect();
            match backend.commit(operations) {
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

    fn is_to_compact(&self) -> bool {
        let compacted = self.backend.as_ref().map(|backend| backend.compacted());
        compacted.is_some_and(|compacted| self.cache.oldest() >= compacted + COMPACT_STEP)
    }

    fn compact(&mut self) {
        if self.broken.is_none()
            && self.is_to_compact()
            && let Some(backend) = &mut self.backend
            && let Err(failure) = backend.compact(self.cache.oldest(), COMPACT_STEP as usize)
        {
            self.fail("compacting", &failure);
        }
    }

    fn fail(&mut self, doing: &str, failure: &Failure) {
        let why = Chain(failure).to_string();
        tracing::error!(error = %why, "{doing} failed; the store takes no more writes until the server is restarted");
        self.breaks(&why);
    }

    fn breaks(&mut self, why: &str) {
        self.broken.get_or_insert_with(|| why.into());
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// How many commits of one write each are remembered after one of so many writes that took so long; see [`ALONE_MAX`].
fn remembered(before: u32, writes: usize, took: Duration) -> u32 {
    match writes {
        1 if took < QUICK => (before + 1).min(ALONE_MAX),
        1 => before / 2,
        _ => 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = QUICK;
    const SWIFT: Duration = QUICK.saturating_sub(Duration::from_nanos(1));

    /// What is remembered after commits of so many writes that took so long.
    fn after(commits: &[(usize, Duration)]) -> u32 {
        commits.iter().fold(0, |before, (writes, took)| remembered(before, *writes, *took))
    }

    fn is_alone(commits: &[(usize, Duration)]) -> bool {
        after(commits) >= ALONE
    }

    #[test]
    fn the_next_write_is_expected_alone_after_eight_that_were_alone_and_quick() {
        assert!(!is_alone(&[(1, SWIFT); 7]));
        assert!(is_alone(&[(1, SWIFT); 8]));
        assert!(
            !is_alone(&[(1, SLOW); 100]),
            "whoever commits where a write arrives keeps a worker from its tasks"
        );
    }

    #[test]
    fn one_slow_commit_among_many_quick_ones_ends_nothing_and_three_in_a_row_do() {
        let quick = [(1, SWIFT); 100];
        assert!(is_alone(&[&quick[..], &[(1, SLOW)]].concat()));
        assert!(!is_alone(&[&quick[..], &[(1, SLOW); 3]].concat()), "however many were quick before");
        // Every second one.
        let mixed = [[(1, SLOW), (1, SWIFT)]; 10].concat();
        assert!(!is_alone(&[&quick[..], &mixed].concat()));
    }

    #[test]
    fn two_writes_at_once_are_the_threads_at_once() {
        assert!(!is_alone(&[&[(1, SWIFT); 100][..], &[(2, SWIFT)]].concat()));
    }
}
