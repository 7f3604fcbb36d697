//! Names of stored things: a resource, and one object of it.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// An API resource, without its version: `("apps", "deployments")`.
///
/// All served versions of a resource share one set of stored objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    /// API group; empty for core.
    pub group: Arc<str>,
    /// Plural resource name, lower case.
    pub resource: Arc<str>,
}

impl ResourceKey {
    /// Names a resource.
    pub fn new(group: impl Into<Arc<str>>, resource: impl Into<Arc<str>>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl fmt::Display for ResourceKey {
    /// `deployments.apps`, or `configmaps` in the core group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// One object's place in the store. Keys order by resource, then namespace, then name: the order of every list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// What it is.
    pub resource: ResourceKey,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// Names an object; `namespace` is empty for cluster-scoped ones.
    pub fn new(resource: ResourceKey, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { resource, namespace: namespace.into(), name: name.into() }
    }

    /// Whether the key can be stored. NUL separates the parts of a key on disk and in the cache's maps; the API's name
    /// validation never lets one through, so a key that fails here is a defect of the caller.
    pub(crate) fn is_well_formed(&self) -> bool {
        !self.name.is_empty()
            && ![&*self.resource.group, &*self.resource.resource, &self.namespace, &self.name]
                .iter()
                .any(|part| part.contains('\0'))
    }

    /// `namespace NUL name`: sorts as the pair does, because NUL sorts below every character of a name.
    pub(crate) fn path(namespace: &str, name: &str) -> String {
        let mut path = String::with_capacity(namespace.len() + name.len() + 1);
        path.push_str(namespace);
        path.push('\0');
        path.push_str(name);
        path
    }
}

impl Key {
    /// Sorts after the [`path`](Self::path) of everything in a namespace, and before that of anything else that does.
    pub(crate) fn path_after(namespace: &str) -> String {
        format!("{namespace}\u{1}")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.resource)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}
