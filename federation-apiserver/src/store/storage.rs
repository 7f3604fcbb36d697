//! The store as the rest of the server sees it.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{
    Backend, Embedded, Encryption, Key, ResourceKey, Stored, Write, WriteError, backend::Failure,
    writer::Lane,
};
use crate::cache::{Bounds, Cache, Event, Expired, Snapshot, SnapshotError, Watch};

/// Where and how to keep the data.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the embedded store; made if absent.
    pub folder: PathBuf,
    /// How much of the past to keep, in memory and on disk, for watches and paginated lists.
    pub window: Bounds,
    /// What is sealed on disk.
    pub encryption: Encryption,
}

impl Options {
    /// The defaults, in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), window: Bounds::default(), encryption: Encryption::default() }
    }
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] Failure),
    /// The writer's thread did not start.
    #[error("cannot start the store's writer thread")]
    Thread(#[source] std::io::Error),
    /// The thread that reads the data in died.
    #[error("the store could not be read in: if it is damaged, restore its folder from a backup")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// Why a revision was not awaited to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The deadline came first.
    #[error("too large resource version: the newest one is {newest}")]
    Timeout {
        /// The newest revision.
        newest: u64,
    },
}

/// The durable store with its watch cache. Clones share it.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

struct Shared {
    cache: Arc<Cache>,
    lane: Arc<Lane>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    incarnation: String,
    broken: Arc<AtomicBool>,
    timed: OnceLock<Box<Timed>>,
}

/// Hears of each write: of which resource, what it was in a word, and how long it took until it was durable.
pub type Timed = dyn Fn(&ResourceKey, &'static str, Duration) + Send + Sync;

impl Drop for Shared {
    fn drop(&mut self) {
        self.lane.close();
    }
}

impl Storage {
    /// Opens the embedded store and reads it into the cache.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        tokio::task::spawn_blocking(move || {
            let backend = Embedded::open(&options.folder, options.encryption)?;
            Self::with_backend(Box::new(backend), options.window)
        })
        .await
        .map_err(OpenError::Interrupted)?
    }

    /// Reads an engine's data into the cache and starts to write through it. Blocks.
    pub fn with_backend(backend: Box<dyn Backend>, window: Bounds) -> Result<Self, OpenError> {
        /// Changes taken into the cache at a time.
        const CHUNK: usize = 1024;
        let cache = Arc::new(Cache::new(backend.compacted(), window));
        let mut changes = Vec::with_capacity(CHUNK);
        backend.replay(&mut |change| {
            changes.push(change);
            if changes.len() == CHUNK {
                cache.publish(changes.drain(..));
            }
        })?;
        cache.publish(changes);
        // The newest write may have been a deletion that compaction has since forgotten.
        cache.advance(backend.revision());
        let incarnation = backend.incarnation().to_owned();
        let broken = Arc::new(AtomicBool::new(false));
        let (lane, thread) =
            Lane::start(backend, Arc::clone(&cache), Arc::clone(&broken)).map_err(OpenError::Thread)?;
        let shared = Shared {
            cache,
            lane,
            writer: Mutex::new(Some(thread)),
            incarnation,
            broken,
            timed: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes one change. Returns once it is durable and in the newest snapshot: the object as stored, or for a delete its
    /// last state. If the caller stops waiting, the change may still happen.
    pub async fn write(&self, write: Write) -> Result<Arc<Stored>, WriteError> {
        if !write.key().is_well_formed() {
            return Err(WriteError::Unavailable(format!("{:?} cannot be a key", write.key()).into()));
        }
        let Some(timed) = self.shared.timed.get() else { return self.commit(write).await };
        let (resource, operation) = (write.key().resource.clone(), write.operation());
        let begun = Instant::now();
        let outcome = self.commit(write).await;
        timed(&resource, operation, begun.elapsed());
        outcome
    }

    async fn commit(&self, write: Write) -> Result<Arc<Stored>, WriteError> {
        let verdict = self.shared.lane.send(write.into())?;
        verdict.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Has the time of writes told, to the first who asks for it.
    pub fn time_writes(&self, timed: Box<Timed>) {
        let _first = self.shared.timed.set(timed);
    }

    /// The newest state of everything.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.cache.snapshot()
    }

    /// The state as of a past revision, as far back as the window goes and compaction lets it.
    pub fn snapshot_at(&self, revision: u64) -> Result<Snapshot, SnapshotError> {
        self.shared.cache.snapshot_at(revision)
    }

    /// An interval of compaction is over: states that were old at the last call are told no more. Watches keep the whole window.
    pub fn compact(&self) {
        self.shared.cache.compact();
    }

    /// The interval of compaction that it is now: for whoever goes on later in the state of now.
    pub(crate) fn interval(&self) -> u64 {
        self.shared.cache.interval()
    }

    /// Whether what began in this interval may not go on in its state.
    pub(crate) fn is_over(&self, interval: u64) -> bool {
        self.shared.cache.is_over(interval)
    }

    /// The newest object at a key.
    pub fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.snapshot().get(key)
    }

    /// Waits until a revision is written, and returns the newest state then.
    pub async fn wait_for(&self, revision: u64, deadline: Instant) -> Result<Snapshot, WaitError> {
        let reached = timeout_at(deadline, self.shared.cache.reach(revision)).await.is_ok();
        let snapshot = self.snapshot();
        if reached { Ok(snapshot) } else { Err(WaitError::Timeout { newest: snapshot.revision() }) }
    }

    /// The resource's changes after revision `from`: a snapshot's revision, to go on from a list. Revision 0 means the
    /// beginning of time here, which is forgotten in a store that was compacted; the "any state" of the API's
    /// resourceVersion 0 is the caller's to serve from a snapshot.
    pub fn watch(&self, resource: &ResourceKey, from: u64) -> Result<Watch, Expired> {
        self.shared.cache.watch(resource, from)
    }

    /// All changes after revision `from`, of every resource, that are known by now.
    pub fn changes_after(&self, from: u64) -> Result<Vec<Arc<Event>>, Expired> {
        self.shared.cache.changes_after(from)
    }

    /// The identity of the data: a store that was wiped has another one.
    pub fn incarnation(&self) -> &str {
        &self.shared.incarnation
    }

    /// Whether the store still takes writes.
    pub fn is_open(&self) -> bool {
        !self.shared.lane.is_closed() && !self.shared.broken.load(Ordering::Relaxed)
    }

    /// Finishes the writes that wait, ends all watches and releases the files. Other clones refuse writes from here on.
    pub async fn close(self) {
        self.shared.lane.close();
        let thread = self.shared.writer.lock().take();
        if let Some(thread) = thread {
            let _ended = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

fn closed() -> WriteError {
    WriteError::Unavailable("it is closed".into())
}
