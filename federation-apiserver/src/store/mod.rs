//! The durable store: one counter of revisions, optimistic writes, an fsync before each acknowledgement.
//!
//! A [`Storage`] owns a writer over a [`Backend`] and a [watch cache](crate::cache). Writes queue; the writer's thread, or
//! for a write that comes alone the task that brought it, takes as many as wait (group commit), has the backend check and
//! commit them in one transaction, publishes the new states to the cache and answers the waiters, in that order: who has
//! been answered reads its own write. One at a time writes, under the writer's lock. Reads never touch the disk or a lock:
//! a [`Snapshot`](crate::cache::Snapshot) is a pointer to an immutable map.
//!
//! See docs/adr/0001-store.md for the choice of the engine, and docs/adr/0002-watch-cache.md for the cache.

mod backend;
mod checkpoint;
mod embedded;
mod encoded;
mod encryption;
mod key;
mod log;
mod object;
mod recent;
mod record;
mod storage;
mod tables;
mod write;
mod writer;

pub use backend::{Backend, Change, Expect, Failure, Operation, Rejection};
pub use embedded::Embedded;
pub use encoded::Encoded;
pub use encryption::{ConfigError, Encryption, Unreadable};
pub use key::{Key, ResourceKey};
pub use object::{Meta, OwnerRef, Stored};
pub use storage::{OpenError, Options, Storage, Timed, WaitError};
pub use write::{Write, WriteError};

pub use crate::cache::{Event, EventKind, Expired, Snapshot, SnapshotError, Watch};

#[cfg(test)]
mod tests;
