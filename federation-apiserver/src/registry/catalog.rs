//! What is served at a time: the table of kinds, and what CustomResourceDefinitions add to it.
//!
//! Nothing follows the definitions in the background: each request asks whether they are still those of the last time,
//! which compares two pointers, and the first one after a change reads them anew. So a kind is served as soon as the write
//! that brought it is answered, and a restart needs no step of its own. Definitions that have not changed are kept, and
//! requests and watches that are under way keep the kind that they began with.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, OnceLock},
};

use arc_swap::ArcSwap;
use kube_schema::{Schemas, openapi::Documents};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Kind, KindRef, Registry};
use crate::{
    aggregate::{self, Aggregator, External},
    cache::{Checked, Collection},
    crd::{self, Definition},
    discovery, openapi,
    store::{ResourceKey, Snapshot, Storage},
};

static DEFINITIONS: LazyLock<ResourceKey> = LazyLock::new(|| ResourceKey::new(crd::GROUP, crd::PLURAL));

/// The kinds of one server.
pub(crate) struct Catalog {
    storage: Storage,
    aggregator: Arc<Aggregator>,
    served: ArcSwap<Served>,
    /// Held by the one who reads changed definitions.
    building: Mutex<()>,
}

impl Catalog {
    /// The kinds that are served over `storage`, and those that others serve.
    pub(crate) fn new(storage: Storage, aggregator: Arc<Aggregator>) -> Self {
        let served = Served::build(&storage.snapshot(), &aggregator, None);
        Self { storage, aggregator, served: ArcSwap::from_pointee(served), building: Mutex::new(()) }
    }

    /// What is served now.
    pub(crate) fn served(&self) -> Arc<Served> {
        let served = self.served.load_full();
        if self.is_current(&served, &self.storage.snapshot()) {
            return served;
        }
        let _building = self.building.lock();
        let (served, snapshot) = (self.served.load_full(), self.storage.snapshot());
        if self.is_current(&served, &snapshot) {
            return served;
        }
        let next = Arc::new(Served::build(&snapshot, &self.aggregator, Some(&served)));
        self.served.store(Arc::clone(&next));
        next
    }

    fn is_current(&self, served: &Served, snapshot: &Snapshot) -> bool {
        served.checked.holds(snapshot, || snapshot.collection(&DEFINITIONS).same(&served.stored))
            && Arc::ptr_eq(&self.aggregator.external(snapshot), &served.external)
    }
}

/// One state of what is served.
pub(crate) struct Served {
    /// The definitions as they were read.
    stored: Collection,
    checked: Checked,
    /// What other servers serve.
    external: Arc<Vec<Arc<External>>>,
    definitions: BTreeMap<String, Arc<Definition>>,
    kinds: Vec<KindRef>,
    /// The custom ones by `group/version/plural`.
    custom: HashMap<String, Arc<Kind>>,
    documents: OnceLock<Documents>,
    discovery: OnceLock<discovery::Aggregated>,
}

impl Served {
    fn build(snapshot: &Snapshot, aggregator: &Aggregator, previous: Option<&Self>) -> Self {
        let mut definitions = BTreeMap::new();
        for stored in snapshot.range(&DEFINITIONS, None, None) {
            let name = &stored.key.name;
            let known = previous.and_then(|previous| previous.definitions.get(name));
            let definition = match known.filter(|known| known.revision == stored.revision) {
                Some(known) => Arc::clone(known),
                None => match Definition::read(&stored) {
                    Ok(definition) => Arc::new(definition),
                    Err(error) => {
                        tracing::error!(%name, %error, "a stored CustomResourceDefinition cannot be served");
                        continue;
                    }
                },
            };
            definitions.insert(name.clone(), definition);
        }
        let table = Registry::get();
        let mut kinds: Vec<_> = table.kinds().iter().copied().map(KindRef::Fixed).collect();
        let mut custom = HashMap::new();
        let mut sorted: Vec<_> = definitions.values().collect();
        sorted.sort_by(|one, other| (&one.group, &one.plural).cmp(&(&other.group, &other.plural)));
        for kind in sorted.into_iter().flat_map(|definition| &definition.kinds) {
            // What is built in cannot be taken over.
            if table.find(kind.group, kind.version, kind.plural).is_none() {
                kinds.push(KindRef::Custom(Arc::clone(kind)));
                custom.insert(path(kind.group, kind.version, kind.plural), Arc::clone(kind));
            }
        }
        Self {
            stored: snapshot.collection(&DEFINITIONS),
            checked: Checked::at(snapshot),
            external: aggregator.external(snapshot),
            definitions,
            kinds,
            custom,
            documents: OnceLock::new(),
            discovery: OnceLock::new(),
        }
    }

    /// Every kind: the table's, core first, and then the custom ones by group, resource and precedence of their version.
    pub(crate) fn kinds(&self) -> &[KindRef] {
        &self.kinds
    }

    /// The kind behind a URL.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<KindRef> {
        if let Some(kind) = Registry::get().find(group, version, plural) {
            return Some(KindRef::Fixed(kind));
        }
        self.custom.get(&path(group, version, plural)).cloned().map(KindRef::Custom)
    }

    /// A kind that is stored under a resource.
    pub(crate) fn stored_as(&self, resource: &ResourceKey) -> Option<KindRef> {
        if let Some(kind) = Registry::get().stored_as(resource) {
            return Some(KindRef::Fixed(kind));
        }
        self.definition(&format!("{}.{}", resource.resource, resource.group))?
            .kinds
            .first()
            .cloned()
            .map(KindRef::Custom)
    }

    /// The other versions of a kind in which the same objects are served.
    pub(crate) fn other_versions(&self, kind: &Kind) -> Vec<KindRef> {
        let stored = kind.storage();
        let other = |other: &&KindRef| {
            other.is_stored_as(&stored) && (other.group, other.version) != (kind.group, kind.version)
        };
        self.kinds.iter().filter(other).cloned().collect()
    }

    /// The CustomResourceDefinition of a name.
    pub(crate) fn definition(&self, name: &str) -> Option<&Arc<Definition>> {
        self.definitions.get(name)
    }

    /// All CustomResourceDefinitions, by name.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.definitions.values()
    }

    /// What another server serves as a group version.
    pub(crate) fn external(&self, group: &str, version: &str) -> Option<&External> {
        let mut all = self.external.iter();
        all.find(|external| external.group == group && external.version == version)
            .map(|external| &**external)
    }

    /// Group versions in order of the kinds; those of a custom group by precedence. Those of other servers come last.
    pub(crate) fn group_versions(&self) -> Vec<(&str, &str)> {
        let mut found = Registry::get().group_versions();
        let fixed = found.len();
        for kind in self.kinds.iter().filter(|kind| kind.custom.is_some()) {
            let pair = (kind.group, kind.version);
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
        found[fixed..]
            .sort_by(|one, other| one.0.cmp(other.0).then_with(|| crd::version_precedence(one.1, other.1)));
        for external in &*self.external {
            let pair = (external.group.as_str(), external.version.as_str());
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
        found
    }

    /// The OpenAPI documents. `base` holds the definitions of the table's kinds.
    pub(crate) fn documents(&self, base: &Schemas) -> &Documents {
        self.documents.get_or_init(|| {
            // All definitions are looked at, most of them for the only time.
            let base = &base.unparsed();
            let extensions = aggregate::extensions(&self.external);
            let custom: Vec<(&Kind, &Value)> = self
                .kinds
                .iter()
                .filter_map(|kind| Some((&**kind, &kind.custom.as_ref()?.published)))
                .collect();
            if custom.is_empty() {
                return openapi::documents(base, &self.kinds, &extensions);
            }
            let all = base.with_kinds(
                custom.iter().map(|(kind, schema)| (kind.group, kind.version, kind.kind, *schema)),
            );
            openapi::documents(&all, &self.kinds, &extensions)
        })
    }

    /// The aggregated discovery documents.
    pub(crate) fn discovery(&self) -> &discovery::Aggregated {
        self.discovery.get_or_init(|| discovery::Aggregated::new(self))
    }
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}
