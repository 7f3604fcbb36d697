//! What can be asked of the writer, and how it refuses.

use std::sync::Arc;

use super::{Encoded, Key, Stored};

/// One change of one object, with its optimistic condition.
#[derive(Clone, Debug)]
pub enum Write {
    /// Stores a new object; refused if the key is taken.
    Create {
        /// Where.
        key: Key,
        /// What.
        object: Encoded,
        /// The object's namespace and the revision at which the caller found it open for new contents; refused if it has
        /// moved on. So nothing gets into a namespace behind the back of those who end it.
        within: Option<(Key, u64)>,
    },
    /// Replaces an object; refused if it is absent, or no longer at `expect`.
    Update {
        /// Which.
        key: Key,
        /// The revision that the caller read; `None` replaces whatever is there.
        expect: Option<u64>,
        /// The new state.
        object: Encoded,
    },
    /// Removes an object; refused if it is absent, or no longer at `expect`.
    Delete {
        /// Which.
        key: Key,
        /// The revision that the caller read; `None` removes whatever is there.
        expect: Option<u64>,
        /// The object's last state, which watchers see with the deletion's revision.
        last: Encoded,
    },
}

impl Write {
    /// The object that is written.
    pub fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. } | Self::Update { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// What it is, in a word.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Update { .. } => "update",
            Self::Delete { .. } => "delete",
        }
    }

    /// The state that is written: for a delete, the last one.
    pub fn object(&self) -> &Encoded {
        match self {
            Self::Create { object, .. } | Self::Update { object, .. } => object,
            Self::Delete { last, .. } => last,
        }
    }
}

/// Why a write did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// A create found the key taken.
    #[error("{} already exists", .0.key)]
    Exists(Arc<Stored>),
    /// An update or delete found nothing.
    #[error("the object was not found")]
    NotFound,
    /// An update or delete expected another revision.
    #[error("{} is at revision {}, not at the expected one", current.key, current.revision)]
    Conflict {
        /// What is there.
        current: Arc<Stored>,
    },
    /// A create found its namespace gone or changed since the caller looked.
    #[error("the namespace has changed meanwhile")]
    Moved,
    /// The store is closed or broken. The write may or may not have happened if it was already under way.
    #[error("the store is unavailable: {0}; see the server's log, free disk space, and restart the server")]
    Unavailable(Arc<str>),
    /// Too many writes wait; try again shortly.
    #[error("too many writes are waiting for the disk; try again in a second")]
    Overloaded,
}
