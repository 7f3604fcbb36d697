//! What an engine must do: revisioned keys, as etcd has them.

use std::sync::Arc;

use super::{Encoded, Key, ResourceKey, Stored, Unreadable, Write};

/// A durable map whose every change has a revision, and whose recent past can be read.
///
/// Calls block. They are made one at a time, by whoever holds the writer's lock: its thread, or the task that brings a
/// write which comes alone. So an engine needs no lock of its own, and may not count on being called from one thread.
/// Watching is not here: the cache sees every change that [`commit`](Self::commit) returns.
pub trait Backend: Send + 'static {
    /// A random identity that lives as long as the data: a store that was wiped has another one.
    fn incarnation(&self) -> &str;

    /// The newest revision; 0 before the first write.
    fn revision(&self) -> u64;

    /// States older than this revision can no longer be read.
    fn compacted(&self) -> u64;

    /// The object as of revision `at`.
    fn get(&self, key: &Key, at: u64) -> Result<Option<Stored>, Failure>;

    /// The resource's objects as of revision `at`, in key order; of one namespace, or of all.
    fn range(&self, resource: &ResourceKey, namespace: Option<&str>, at: u64)
    -> Result<Vec<Stored>, Failure>;

    /// Hands out, in order of revision, a set of changes that rebuilds first the state at [`compacted`](Self::compacted) and
    /// then every state since.
    fn replay(&self, sink: &mut dyn FnMut(Change)) -> Result<(), Failure>;

    /// Checks each operation in order against the state that the ones before it left, and makes the accepted ones durable
    /// together. Each takes the next revision; a rejected one takes none. Returns one verdict for each operation.
    fn commit(&mut self, batch: Vec<Operation>) -> Result<Vec<Result<Change, Rejection>>, Failure>;

    /// Forgets what only reads before revision `to` need, at most `limit` states of it. Returns whether it got all the way.
    fn compact(&mut self, to: u64, limit: usize) -> Result<bool, Failure>;
}

/// What an operation requires of the key's present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is there.
    Absent,
    /// Something is there.
    Present,
    /// This very revision is there.
    At(u64),
}

/// One conditional change.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Which key.
    pub key: Key,
    /// On which condition.
    pub expect: Expect,
    /// The new state; when deleting, the last one.
    pub object: Encoded,
    /// Whether the key goes.
    pub delete: bool,
    /// Another key that must stand at this very revision.
    pub within: Option<(Key, u64)>,
}

impl From<Write> for Operation {
    fn from(write: Write) -> Self {
        let at = |expect: Option<u64>| expect.map_or(Expect::Present, Expect::At);
        match write {
            Write::Create { key, object, within } => {
                Self { key, expect: Expect::Absent, object, delete: false, within }
            }
            Write::Update { key, expect, object } => {
                Self { key, expect: at(expect), object, delete: false, within: None }
            }
            Write::Delete { key, expect, last } => {
                Self { key, expect: at(expect), object: last, delete: true, within: None }
            }
        }
    }
}

/// A change that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new state, with the change's revision; after a deletion, the last state.
    pub object: Arc<Stored>,
    /// Whether the key went.
    pub deleted: bool,
}

/// Why an operation's condition did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The key was to be absent and stands at this revision.
    Exists(u64),
    /// The key was to be present and is not.
    Absent,
    /// The key was to be at another revision than this one.
    Stale(u64),
    /// The other key is absent or at another revision.
    Moved,
}

/// Checks a condition against the key's present revision.
pub(crate) fn check(expect: Expect, current: Option<u64>) -> Result<(), Rejection> {
    match (expect, current) {
        (Expect::Absent, Some(revision)) => Err(Rejection::Exists(revision)),
        (Expect::Present | Expect::At(_), None) => Err(Rejection::Absent),
        (Expect::At(expected), Some(revision)) if expected != revision => Err(Rejection::Stale(revision)),
        (Expect::Absent, None) | (Expect::Present | Expect::At(_), Some(_)) => Ok(()),
    }
}

/// Why the engine itself failed. After a failed commit its outcome is unknown until the store is opened again.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Somebody else has it.
    #[error("the store at {path} is in use by another process: is the hub running already?")]
    InUse {
        /// The folder.
        path: String,
    },
    /// The file of the tables is not there, or empty, and the log is: it would be taken for a new store, and the log be removed.
    #[error(
        "the store's tables are missing in {path}, and its log is there: bring {file} back (a copy of the store is one of the whole folder), or restore the folder from a backup; to begin with an empty store, move the folder away"
    )]
    TablesMissing {
        /// The folder.
        path: String,
        /// The file.
        file: &'static str,
    },
    /// Opening the files.
    #[error("cannot open the store at {path}; if it is damaged, restore the folder from a backup")]
    Open {
        /// The folder.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Reading.
    #[error("cannot read from the store")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Writing or flushing.
    #[error("cannot write to the store")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row that this version cannot decode.
    #[error("the store's row at revision {revision} is damaged: {what}")]
    Damaged {
        /// Which row.
        revision: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A body that was sealed and cannot be opened.
    #[error("{key} cannot be read: {why}")]
    Sealed {
        /// Which object.
        key: Box<Key>,
        /// What is wrong.
        why: Unreadable,
    },
    /// The log of a store that was not closed in order is not there.
    #[error(
        "the store's log is missing in {path}: the tables end at revision {after}, and what was acknowledged since stood in the log alone; bring its files back (log-*: a copy of the store is one of the whole folder), or, to go on without those writes, make an empty file {path}/lose-after-{after} and start again"
    )]
    LogMissing {
        /// The folder.
        path: String,
        /// What the tables hold.
        after: u64,
    },
    /// Something that was acknowledged cannot be read.
    #[error(
        "the store's log in {path} is damaged: the writes after revision {after} and before {next} cannot be read, and they were acknowledged; restore the folder from a copy, or, to go on without all writes after revision {after}, make an empty file {path}/lose-after-{after} and start again"
    )]
    LogDamaged {
        /// The folder.
        path: String,
        /// The last revision before the damage.
        after: u64,
        /// The first revision behind it.
        next: u64,
    },
    /// The files are of another format.
    #[error(
        "the store has format {found}, this version reads format {expected}: use the version that wrote it"
    )]
    Format {
        /// In the files.
        found: u64,
        /// Readable.
        expected: u64,
    },
}
