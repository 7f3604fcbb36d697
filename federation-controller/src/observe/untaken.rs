//! Objects of which what is known is old, or nothing: taking them in failed, or they cannot be read, because another version wrote them.

use std::collections::BTreeSet;

use super::kinds::Key;

const CLUSTERS: &str = "/apis/federation.rs/v1alpha1/clusters";
const POLICIES: &str = "/apis/federation.rs/v1alpha1/placementpolicies";
const CLUSTER_POLICIES: &str = "/apis/federation.rs/v1alpha1/clusterplacementpolicies";
const TRAFFIC_POLICIES: &str = "/apis/federation.rs/v1alpha1/trafficpolicies";
const PLACEMENTS: &str = "/apis/federation.rs/v1alpha1/placements";
const CLUSTER_PLACEMENTS: &str = "/apis/federation.rs/v1alpha1/clusterplacements";

/// The objects, by collection: each as `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Untaken(BTreeSet<(String, String)>);

impl Untaken {
    /// An object is one of them.
    pub(super) fn add(&mut self, collection: &str, object: String) {
        self.0.insert((collection.to_owned(), object));
    }

    /// An object was taken in, or is gone. Says whether it was one of them.
    pub(super) fn remove(&mut self, collection: &str, object: &str) -> bool {
        self.0.remove(&(collection.to_owned(), object.to_owned()))
    }

    /// Nothing is known of a collection, and nothing is missing in it.
    pub(super) fn forget(&mut self, collection: &str) {
        self.0.retain(|(of, _)| of != collection);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is of a collection.
    pub(super) fn is_any_of(&self, collection: &str) -> bool {
        self.of(collection).next().is_some()
    }

    /// Policies that may decide for objects of a namespace, or for those of none.
    pub(super) fn policies(&self, namespace: &str) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let own = self.of(POLICIES).filter(|(of, _)| *of == namespace);
        let own = own.map(|(namespace, name)| format!("PlacementPolicy {namespace}/{name}"));
        let all = self.of(CLUSTER_POLICIES).map(|(_, name)| format!("ClusterPlacementPolicy {name}"));
        own.chain(all).collect()
    }

    /// Policies that may say how users of the Services of a namespace are answered.
    pub(super) fn traffic(&self, namespace: &str) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let own = self.of(TRAFFIC_POLICIES).filter(|(of, _)| *of == namespace);
        own.map(|(namespace, name)| format!("TrafficPolicy {namespace}/{name}")).collect()
    }

    /// The Placement of a template.
    pub(super) fn placement(&self, key: &Key) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let collection = if key.namespace.is_empty() { CLUSTER_PLACEMENTS } else { PLACEMENTS };
        let placement = key.placement_name();
        let is_of = |(namespace, name): &(&str, &str)| *namespace == &*key.namespace && *name == placement;
        self.of(collection).any(|object| is_of(&object)).then(|| format!("its Placement {placement}"))
    }

    /// Names of Clusters.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &str> {
        self.of(CLUSTERS).map(|(_, name)| name)
    }

    /// Namespaces and names of those of a collection.
    fn of<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let from = self.0.range((collection.to_owned(), String::new())..);
        let within = from.take_while(move |(of, _)| of == collection);
        within.map(|(_, object)| object.split_once('/').unwrap_or(("", object)))
    }
}
