//! The watch cache: every live object in memory, the recent past, and the streams of those who watch.
//!
//! The newest state is an immutable ordered map behind an atomic pointer; a [`Snapshot`] clones the pointer, so a list is
//! consistent for free and blocks nobody. Recent changes stand once in a bounded [window](window::Window), indexed by
//! resource. A [`Watch`] is a cursor into its resource's part of the window and owns no buffer: a slow watcher costs nothing
//! and is cut off ([`Expired`]) when the window leaves its cursor behind; watchers of other resources are not even woken.
//!
//! See docs/adr/0002-watch-cache.md.

mod compaction;
mod event;
mod notify;
mod root;
mod snapshot;
mod watch;
mod window;

use std::sync::Arc;

use arc_swap::ArcSwap;
use compaction::Compaction;
use parking_lot::RwLock;
use tokio::sync::Notify;

pub use event::{Event, EventKind, Expired, SnapshotError};
use root::Root;
pub use snapshot::Snapshot;
pub(crate) use snapshot::{Checked, Collection};
pub use watch::Watch;
pub use window::Bounds;
use window::Window;

use crate::store::{Change, ResourceKey};

/// The cache. Many read it; whoever holds the writer's lock feeds it, one at a time.
pub(crate) struct Cache {
    root: ArcSwap<Root>,
    window: RwLock<Window>,
    compaction: RwLock<Compaction>,
    /// For those who wait for a revision: told of each that is published. Most often there is nobody, and that costs nothing.
    news: Notify,
}

impl Cache {
    /// A cache whose past begins at revision `floor`: states before it are unknown.
    pub(crate) fn new(floor: u64, bounds: Bounds) -> Self {
        Self {
            root: ArcSwap::from_pointee(Root::default()),
            window: RwLock::new(Window::new(floor, bounds)),
            compaction: RwLock::default(),
            news: Notify::new(),
        }
    }

    /// Takes in changes in order of revision and publishes them together. Watchers are woken before this returns.
    pub(crate) fn publish(&self, changes: impl IntoIterator<Item = Change>) {
        let mut root = Root::clone(&self.root.load());
        let mut window = self.window.write();
        let mut touched: Vec<Arc<window::Log>> = Vec::new();
        for change in changes {
            let event = root.apply(change);
            if let Some(log) = window.push(event, &root)
                && !touched.iter().any(|known| Arc::ptr_eq(known, &log))
            {
                touched.push(log);
            }
        }
        // Once for all of them: as long as nobody else has the nodes of this root, the next change need not copy them.
        window.rebase(&root);
        drop(window);
        let revision = root.revision;
        self.root.store(Arc::new(root));
        // Those who watch come first: they are many, and have clients who wait.
        for log in touched {
            log.wake(revision);
        }
        self.news.notify_waiters();
    }

    /// Names the newest revision when the last changes are no longer there to tell it.
    pub(crate) fn advance(&self, revision: u64) {
        let mut root = Root::clone(&self.root.load());
        root.revision = root.revision.max(revision);
        self.window.write().rebase(&root);
        self.root.store(Arc::new(root));
        self.news.notify_waiters();
    }

    /// The newest state.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.root.load_full())
    }

    /// The state as of `revision`, if it is neither compacted nor beyond the window.
    pub(crate) fn snapshot_at(&self, revision: u64) -> Result<Snapshot, SnapshotError> {
        let newest = self.root.load_full();
        if revision == newest.revision {
            return Ok(Snapshot::new(newest));
        }
        if revision > newest.revision {
            return Err(SnapshotError::Future { newest: newest.revision });
        }
        let floor = self.compaction.read().floor();
        if revision < floor {
            return Err(Expired { asked: revision, oldest: floor }.into());
        }
        let root = self.window.read().root_at(revision)?;
        Ok(Snapshot::new(Arc::new(root)))
    }

    /// The resource's changes after revision `from`.
    pub(crate) fn watch(self: &Arc<Self>, resource: &ResourceKey, from: u64) -> Result<Watch, Expired> {
        // Most often somebody watches the resource already, and a read lock finds its log.
        let known = self.window.read().log(resource);
        let log = known.unwrap_or_else(|| self.window.write().log_or_new(resource));
        Watch::new(Arc::clone(self), log, from)
    }

    /// All changes after revision `from`, of every resource.
    pub(crate) fn changes_after(&self, from: u64) -> Result<Vec<Arc<Event>>, Expired> {
        self.window.read().changes_after(from)
    }

    /// Waits until a revision is published.
    pub(crate) async fn reach(&self, revision: u64) {
        loop {
            // Made before the look, so that it hears of what comes after it.
            let news = self.news.notified();
            if self.root.load().revision >= revision {
                return;
            }
            news.await;
        }
    }

    /// An interval of compaction is over.
    pub(crate) fn compact(&self) {
        let newest = self.root.load().revision;
        self.compaction.write().tick(newest);
    }

    /// The interval of compaction that it is now.
    pub(crate) fn interval(&self) -> u64 {
        self.compaction.read().interval()
    }

    /// Whether what began in this interval is forgotten.
    pub(crate) fn is_over(&self, interval: u64) -> bool {
        self.compaction.read().is_over(interval)
    }

    /// The oldest revision whose state can be rebuilt.
    pub(crate) fn oldest(&self) -> u64 {
        self.window.read().floor()
    }

    /// Ends all watches, after what they have not yet seen.
    pub(crate) fn end(&self) {
        self.window.write().end();
    }
}

#[cfg(test)]
mod tests;
