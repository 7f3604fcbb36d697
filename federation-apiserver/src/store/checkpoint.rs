//! The thread that takes what the log holds into the tables, behind the writer's back.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use federation_runtime::errors::Chain;
use parking_lot::Mutex;

use super::{
    Failure,
    log::{self, Segment},
    tables::{Entry, Tables},
};

/// What is in the log alone is in the tables so long after: a start after a crash reads no more than that, and a commit of the tables is
/// shared by what comes in this time.
const DELAY: Duration = Duration::from_secs(1);
/// Rows of one commit of the tables. It bounds the pages that the engine holds for it.
const ROWS_MAX: usize = 4096;

/// What the writer asks for. What it hands over stands in [`Progress`], so that the thread need not wake for each commit.
pub(super) enum Job {
    /// There is something to take, after a time without.
    Begin,
    /// Everything in this segment was handed over; it can be used again when the tables hold that.
    Filled(Segment),
    /// A new segment of so many bytes.
    Prepare(usize),
    /// Tell when the tables hold everything that was handed over.
    Settle(SyncSender<()>),
}

/// What is handed over, and how far it is.
#[derive(Default)]
pub(super) struct Progress {
    /// What is durable in the log, and was not taken yet.
    pending: Mutex<Vec<Entry>>,
    /// Everything up to this revision is durable in the tables.
    pub(super) settled: AtomicU64,
    /// Why it goes no further.
    pub(super) failed: OnceLock<Arc<str>>,
}

impl Progress {
    /// Hands over what is durable in the log. Whether it is the first after a time without.
    pub(super) fn hand_over(&self, entries: Vec<Entry>) -> bool {
        let mut pending = self.pending.lock();
        let first = pending.is_empty();
        pending.extend(entries);
        first
    }
}

/// The log's files, and what stands in the tables about them.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) generation: u64,
    /// Smaller ones are not used again.
    pub(super) segment_bytes: usize,
}

/// The other end of it.
pub(super) struct Handle {
    pub(super) jobs: Sender<Job>,
    /// Segments that can be written.
    pub(super) segments: Receiver<Segment>,
    pub(super) thread: JoinHandle<()>,
}

/// Starts the thread. It ends when the jobs do, with everything in the tables and no log left.
pub(super) fn spawn(tables: Arc<Tables>, place: Place, progress: Arc<Progress>) -> std::io::Result<Handle> {
    let (jobs, asked) = mpsc::channel();
    let (segments, made) = mpsc::channel();
    // The first one is the log's own.
    let mut worker =
        Worker { tables, place, progress, segments: Some(segments), made: 1, filled: Vec::new() };
    let thread = thread::Builder::new().name("store-tables".into()).spawn(move || worker.run(&asked))?;
    Ok(Handle { jobs, segments: made, thread })
}

struct Worker {
    tables: Arc<Tables>,
    place: Place,
    progress: Arc<Progress>,
    /// Gone after a failure, so that nobody waits for a segment.
    segments: Option<Sender<Segment>>,
    made: u32,
    filled: Vec<Segment>,
}

impl Worker {
    fn run(&mut self, jobs: &Receiver<Job>) {
        let mut due: Option<Instant> = None;
        loop {
            let job = match due {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::Begin) => {
                    due = due.or_else(|| Some(Instant::now() + DELAY));
                    continue;
                }
                Ok(Job::Prepare(bytes)) => {
                    self.prepare(bytes);
                    continue;
                }
                Ok(Job::Filled(segment)) => {
                    self.filled.push(segment);
                    self.settle();
                }
                Ok(Job::Settle(done)) => {
                    self.settle();
                    // Who asked may have gone.
                    let _gone = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.settle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Whoever hands over from here on says so.
            due = None;
        }
        self.settle();
        if self.progress.failed.get().is_none() {
            self.end();
        }
    }

    /// Takes everything that was handed over into the tables.
    fn settle(&mut self) {
        let pending = std::mem::take(&mut *self.progress.pending.lock());
        for rows in pending.chunks(ROWS_MAX) {
            if self.progress.failed.get().is_some() {
                return;
            }
            if let Err(failure) = self.tables.apply(rows) {
                return self.fail(&failure);
            }
            self.progress.settled.store(self.tables.revision(), Ordering::Release);
        }
        for segment in self.filled.drain(..) {
            if segment.bytes >= self.place.segment_bytes
                && let Some(segments) = &self.segments
            {
                // A writer that has ended needs none.
                let _ended = segments.send(segment);
            }
        }
    }

    fn prepare(&mut self, bytes: usize) {
        let number = self.made;
        self.made += 1;
        match Segment::create(&self.place.folder, self.place.generation, number, bytes) {
            Ok(segment) => {
                if let Some(segments) = &self.segments {
                    let _ended = segments.send(segment);
                }
            }
            Err(error) => self.fail(&Failure::Write(Box::new(error))),
        }
    }

    /// An orderly end: the tables are all there is.
    fn end(&mut self) {
        let ended = self.tables.set_log(None);
        let removed = ended.and_then(|()| {
            log::remove_others(&self.place.folder, None).map_err(|error| Failure::Write(Box::new(error)))
        });
        if let Err(failure) = removed {
            tracing::warn!(error = %Chain(&failure), "the store's log is kept; the next start takes it over");
        }
    }

    fn fail(&mut self, failure: &Failure) {
        let why = Chain(failure).to_string();
        tracing::error!(error = %why, "the store's tables cannot be written; the log keeps what was acknowledged");
        let _first = self.progress.failed.set(why.into());
        self.segments = None;
    }
}
