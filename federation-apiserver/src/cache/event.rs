//! Watch events and errors.

use std::sync::Arc;

use crate::store::Stored;

/// How an object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It is new.
    Added,
    /// It has a new state.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How it changed.
    pub kind: EventKind,
    /// The state after; of a deleted object the last one, with the deletion's resourceVersion inside.
    pub object: Arc<Stored>,
    /// The state before, by which a selector tells whether the watcher knew the object.
    pub previous: Option<Arc<Stored>>,
    /// The write's revision: that of `object`.
    pub revision: u64,
}

/// The past that was asked for is forgotten: list again, and watch from the list's revision (HTTP 410).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} is too old: the oldest one still known is {oldest}; list again")]
pub struct Expired {
    /// What was asked for.
    pub asked: u64,
    /// From where changes are known.
    pub oldest: u64,
}

/// Why there is no snapshot at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It is forgotten.
    #[error(transparent)]
    Expired(#[from] Expired),
    /// It has not been written yet.
    #[error("too large resource version: the newest one is {newest}")]
    Future {
        /// The newest revision.
        newest: u64,
    },
}
