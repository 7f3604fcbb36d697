//! A consistent view of everything at one revision.

use std::{
    ops::Bound,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use im::ordmap::DiffItem;

use super::root::{Root, Table};
use crate::store::{Key, ResourceKey, Stored};

/// All objects as of one revision. Cloning it, and keeping it, blocks nobody.
#[derive(Clone)]
pub struct Snapshot {
    root: Arc<Root>,
}

impl Snapshot {
    pub(super) fn new(root: Arc<Root>) -> Self {
        Self { root }
    }

    /// The last write that is in it.
    pub fn revision(&self) -> u64 {
        self.root.revision
    }

    /// The newest change of what the server itself goes by: definitions, roles, policies, webhooks, flow schemas, other servers. Where two
    /// snapshots have the same, all of that is the same, too.
    pub(crate) fn configured(&self) -> Option<u64> {
        self.root.configured
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        let table = self.root.tables.get(&key.resource)?;
        table.get(Key::path(&key.namespace, &key.name).as_str()).cloned()
    }

    /// A resource's objects in order of (namespace, name): of one namespace or of all, after the pair `after` or from the
    /// start.
    pub fn range<'a>(
        &'a self,
        resource: &ResourceKey,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
    ) -> impl Iterator<Item = Arc<Stored>> + use<'a> {
        let first = Key::path(namespace.unwrap_or_default(), "");
        let start = match after.map(|(namespace, name)| Key::path(namespace, name)) {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        };
        // The bound spares a look at each object, which is seldom in the processor's cache.
        let end = namespace.map_or(Bound::Unbounded, |namespace| Bound::Excluded(Key::path_after(namespace)));
        let is_empty =
            matches!((&start, &end), (Bound::Excluded(start), Bound::Excluded(end)) if start >= end);
        let table = self.root.tables.get(resource).filter(|_| !is_empty);
        let objects = table.map(|table| table.range::<_, str>((as_str(&start), as_str(&end))));
        objects.into_iter().flatten().map(|(_, object)| object).cloned()
    }

    /// How many objects the resource has in the namespace, or in all. Counting all costs nothing; one namespace is walked.
    pub fn count(&self, resource: &ResourceKey, namespace: Option<&str>) -> usize {
        match namespace {
            None => self.root.tables.get(resource).map_or(0, im::OrdMap::len),
            Some(_) => self.range(resource, namespace, None).count(),
        }
    }

    /// A resource's objects, to look at them later and to tell whether they have changed since.
    pub fn collection(&self, resource: &ResourceKey) -> Collection {
        Collection(self.root.tables.get(resource).cloned())
    }

    /// The resources that have, or had, objects.
    pub fn resources(&self) -> impl Iterator<Item = &ResourceKey> {
        self.root.tables.keys()
    }
}

/// One resource's objects as of some revision. It keeps no other resource's past alive.
#[derive(Clone, Default)]
pub struct Collection(Option<Table>);

impl Collection {
    /// Whether both are the same state; equal objects that were written again are not.
    pub fn same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => one.ptr_eq(other),
            (None, None) => true,
            _ => false,
        }
    }

    /// What has changed since an earlier state: each object as it was then, and as it is. What both have in common is not looked at.
    pub fn changes<'a>(
        &'a self,
        since: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Stored>, Option<&'a Stored>)> {
        static NOTHING: LazyLock<Table> = LazyLock::new(Table::new);
        let (old, new) = (since.0.as_ref().unwrap_or(&NOTHING), self.0.as_ref().unwrap_or(&NOTHING));
        old.diff(new).map(|change| match change {
            DiffItem::Add(_, new) => (None, Some(&**new)),
            DiffItem::Update { old: (_, old), new: (_, new) } => (Some(&**old), Some(&**new)),
            DiffItem::Remove(_, old) => (Some(&**old), None),
        })
    }

    /// The objects in order of (namespace, name).
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.0.iter().flat_map(im::OrdMap::values)
    }
}

/// Remembers up to which state of what the server goes by something that was made of it was found to be as new. To compare a number is
/// all that most requests do.
#[derive(Default)]
pub(crate) struct Checked(AtomicU64);

impl Checked {
    /// Something that was made from this snapshot.
    pub(crate) fn at(snapshot: &Snapshot) -> Self {
        Self(AtomicU64::new(snapshot.configured().unwrap_or_default()))
    }

    /// Whether it is as new as a snapshot; `same` looks if that is not known.
    pub(crate) fn holds(&self, snapshot: &Snapshot, same: impl FnOnce() -> bool) -> bool {
        let Some(configured) = snapshot.configured() else { return same() };
        if self.0.load(Ordering::Relaxed) == configured {
            return true;
        }
        let same = same();
        if same {
            self.0.store(configured, Ordering::Relaxed);
        }
        same
    }
}

fn as_str(bound: &Bound<String>) -> Bound<&str> {
    match bound {
        Bound::Included(path) => Bound::Included(path),
        Bound::Excluded(path) => Bound::Excluded(path),
        Bound::Unbounded => Bound::Unbounded,
    }
}
