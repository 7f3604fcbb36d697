//! The identity of one federated object.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use proto::v1;

/// Names one object in a member.
///
/// Two keys that differ only in version or kind name the same object: a version is how one speaks of an object, not which
/// one it is. Otherwise a template that moves from `v1beta1` to `v1` would look like one to remove and one to make.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// API group; empty for core.
    pub group: String,
    /// Version to speak with.
    pub version: String,
    /// Kind, as in manifests.
    pub kind: String,
    /// Plural, as in the URL.
    pub resource: String,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    fn identity(&self) -> (&str, &str, &str, &str) {
        (&self.group, &self.resource, &self.namespace, &self.name)
    }

    /// Whether other objects wait for this one: Namespaces and CustomResourceDefinitions go out first.
    pub fn comes_first(&self) -> bool {
        (self.group.is_empty() && self.resource == "namespaces")
            || (self.group == "apiextensions.k8s.io" && self.resource == "customresourcedefinitions")
    }

    /// `group/version`, or the version alone for core: the manifest's `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(out, ".{}", self.group)?;
        }
        if !self.namespace.is_empty() {
            write!(out, " {}", self.namespace)?;
        }
        write!(out, "/{}", self.name)
    }
}

impl From<v1::Key> for Key {
    fn from(wire: v1::Key) -> Self {
        Self {
            group: wire.group,
            version: wire.version,
            kind: wire.kind,
            resource: wire.resource,
            namespace: wire.namespace,
            name: wire.name,
        }
    }
}

impl From<Key> for v1::Key {
    fn from(key: Key) -> Self {
        Self {
            group: key.group,
            version: key.version,
            kind: key.kind,
            resource: key.resource,
            namespace: key.namespace,
            name: key.name,
        }
    }
}

impl From<&Key> for v1::Key {
    fn from(key: &Key) -> Self {
        key.clone().into()
    }
}
