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
    objects: RwLock<Objects>,
    collections: watch::Sender<BTreeSet<Collection>>,
    permits_from: AtomicU64,
    pub(crate) reports: mpsc::Sender<Report>,
}

/// The desired objects, and how Events name them.
#[derive(Debug, Default)]
struct Objects {
    wanted: HashMap<Key, Arc<Wanted>>,
    // By kind, namespace and name. Kinds of two groups may have one name.
    named: HashMap<(String, String, String), BTreeSet<Key>>,
}

impl Objects {
    fn forget(&mut self, key: &Key) {
        // Its own key says of what kind it was: keys are equal without that.
        let Some(former) = self.wanted.remove(key) else { return };
        let name = name_of(&former.entry.key);
        if let Some(keys) = self.named.get_mut(&name) {
            keys.remove(key);
            if keys.is_empty() {
                self.named.remove(&name);
            }
        }
    }
}

fn name_of(key: &Key) -> (String, String, String) {
    (key.kind.clone(), key.namespace.clone(), key.name.clone())
}

impl World {
    pub(crate) fn new(reports: mpsc::Sender<Report>) -> Self {
        Self {
            objects: RwLock::default(),
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
        let mut objects = self.objects.write();
        let (name, key) = (name_of(key), key.clone());
        objects.forget(&key);
        objects.named.entry(name).or_default().insert(key.clone());
        objects.wanted.insert(key, wanted);
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.objects.write().forget(key);
    }

    /// The desired state of this object, unless it is being removed or released.
    pub(crate) fn held(&self, key: &Key) -> Option<Arc<Wanted>> {
        self.objects.read().wanted.get(key).filter(|wanted| wanted.entry.state == State::Held).cloned()
    }

    /// Everything that is wanted in a collection.
    pub(crate) fn held_in(&self, collection: &Collection) -> Vec<Arc<Wanted>> {
        let (group, _, resource, _) = collection;
        let objects = self.objects.read();
        objects
            .wanted
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
        let objects = self.objects.read();
        let keys = objects.named.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))?;
        let mut wanted = keys.iter().filter_map(|key| objects.wanted.get(key));
        wanted.find(|wanted| wanted.entry.state == State::Held).cloned()
    }

    /// The collections that hold or held wanted objects. They only grow: a watch of an empty collection costs nothing.
    pub(crate) fn collections(&self) -> watch::Receiver<BTreeSet<Collection>> {
        self.collections.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use hub_protocol::agent::Entry;

    use super::*;
    use crate::testing::held;

    fn key(group: &str, kind: &str, resource: &str) -> Key {
        Key {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            resource: resource.into(),
            namespace: "shop".into(),
            name: "web".into(),
        }
    }

    #[test]
    fn an_object_is_found_by_its_kind_whatever_its_plural_is() {
        let world = World::new(mpsc::channel(1).0);
        let found = |kind: &str| world.find(kind, "shop", "web").map(|wanted| wanted.entry.key.clone());
        let ingress = key("networking.k8s.io", "Ingress", "ingresses");
        world.put(Arc::new(Wanted::new(held(ingress.clone(), "{}"))));
        // Its resource is what somebody might take for the plural of another kind.
        world.put(Arc::new(Wanted::new(held(key("example.test", "Gadget", "widgets"), "{}"))));
        assert_eq!(found("Ingress"), Some(ingress.clone()));
        assert_eq!(found("Widget"), None);
        world.forget(&ingress);
        assert_eq!(found("Ingress"), None);
        assert_eq!(world.objects.read().named.len(), 1, "nothing is kept of what is forgotten");
    }

    #[test]
    fn of_two_kinds_of_one_name_the_one_that_is_held_is_found() {
        let world = World::new(mpsc::channel(1).0);
        let (one, other) = (key("a.test", "Gadget", "gadgets"), key("b.test", "Gadget", "gadgets"));
        let going = Entry { state: State::Removing, ..held(one, "{}") };
        world.put(Arc::new(Wanted::new(going)));
        world.put(Arc::new(Wanted::new(held(other.clone(), "{}"))));
        assert_eq!(world.find("Gadget", "shop", "web").map(|found| found.entry.key.clone()), Some(other));
    }
}
