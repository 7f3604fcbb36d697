//! State that the agent's tasks share: the desired objects, and the channel for reports.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hub_protocol::Key;
use hub_protocol::agent::{Facts, Outcome, State, Vitals};
use parking_lot::RwLock;
use proto::v1;
use tokio::sync::{mpsc, watch};

use crate::manifest::Wanted;

/// Group, version, plural and kind of a collection that is watched.
pub(crate) type Collection = (String, String, String, String);

/// Reports that wait for the session: the session takes thousands a millisecond, so this is slack for a burst of watch
/// events, and beyond it the watchers wait.
pub(crate) const REPORTS: usize = 1024;

/// What the tasks tell the session.
#[derive(Debug)]
pub(crate) enum Report {
    Applied(v1::Applied),
    Withdrawn {
        key: Key,
        uid: String,
        epoch: u64,
        outcome: Outcome,
    },
    Status(v1::ObjectStatus),
    Service(v1::ServiceState),
    Event(v1::MemberEvent),
    Vitals(Vitals),
    /// What the member serves, when that may have changed.
    Facts(Facts),
}

/// Shared by all tasks of one agent.
#[derive(Debug)]
pub(crate) struct World {
    wanted: RwLock<HashMap<Key, Arc<Wanted>>>,
    collections: watch::Sender<BTreeSet<Collection>>,
    permits_from: AtomicU64,
    pub(crate) reports: mpsc::Sender<Report>,
}

impl World {
    pub(crate) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self {
            wanted: RwLock::default(),
            collections: watch::Sender::new(BTreeSet::new()),
            permits_from: AtomicU64::new(0),
            reports,
        }
    }

    /// Permits of older epochs are void from now on.
    pub(crate) fn void(&self, before: u64) {
        self.permits_from.fetch_max(before, Ordering::SeqCst);
    }

    /// Whether a permit of this epoch is void.
    pub(crate) fn is_void(&self, epoch: u64) -> bool {
        epoch < self.permits_from.load(Ordering::SeqCst)
    }

    /// Takes in what is wanted from now on.
    pub(crate) fn put(&self, wanted: Arc<Wanted>) {
        let key = &wanted.entry.key;
        let collection = (key.group.clone(), key.version.clone(), key.resource.clone(), key.kind.clone());
        self.collections.send_if_modified(|collections| collections.insert(collection));
        self.wanted.write().insert(key.clone(), wanted);
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.wanted.write().remove(key);
    }

    /// The desired state of this object, unless it is being removed or released.
    pub(crate) fn held(&self, key: &Key) -> Option<Arc<Wanted>> {
        self.wanted.read().get(key).filter(|wanted| wanted.entry.state == State::Held).cloned()
    }

    /// Everything that is wanted in a collection.
    pub(crate) fn held_in(&self, collection: &Collection) -> Vec<Arc<Wanted>> {
        let (group, _, resource, _) = collection;
        let wanted = self.wanted.read();
        wanted
            .values()
            .filter(|wanted| {
                let key = &wanted.entry.key;
                wanted.entry.state == State::Held && key.group == *group && key.resource == *resource
            })
            .cloned()
            .collect()
    }

    /// A federated object by kind and name, as Events name it.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Wanted>> {
        let resource = plural(kind);
        self.wanted
            .read()
            .values()
            .find(|wanted| {
                let key = &wanted.entry.key;
                wanted.entry.state == State::Held
                    && key.name == name
                    && key.namespace == namespace
                    && (key.kind == kind || key.resource == resource)
            })
            .cloned()
    }

    /// The collections that hold or held wanted objects. They only grow: a watch of an empty collection costs nothing.
    pub(crate) fn collections(&self) -> watch::Receiver<BTreeSet<Collection>> {
        self.collections.subscribe()
    }
}

fn plural(kind: &str) -> String {
    kind.to_ascii_lowercase() + "s"
}
