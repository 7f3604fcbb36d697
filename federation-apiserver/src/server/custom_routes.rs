//! What requests on custom resources are answered with where a kind of the table has no route: apiextensions-apiserver's `crdHandler`.
//!
//! kube-apiserver has a route for each method of a built-in kind. A custom kind has one handler that looks at the verb, so it knows HEAD, does not
//! mind a name on a create, and says of what it does not do which verb on which resource that was.

use apimachinery::ApiError;

use crate::{http::info::ResourcePath, registry::Kind};

const OF_OBJECTS: &[&str] =
    &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
const OF_PARTS: &[&str] = &["get", "update", "patch"];

/// Whether the path has a namespace exactly where the kind has one. Only a list and a watch may go across all of them.
pub(super) fn is_in_scope(kind: &Kind, path: &ResourcePath, verb: &str) -> bool {
    if kind.namespaced() {
        path.namespace.is_some() || matches!(verb, "list" | "watch")
    } else {
        path.namespace.is_none()
    }
}

/// Refuses what the kind does not do.
pub(super) fn check(kind: &Kind, path: &ResourcePath, verb: &str) -> Result<(), ApiError> {
    let name = path.name.as_deref().unwrap_or_default();
    let verbs = match path.subresource.as_deref() {
        None => OF_OBJECTS,
        Some(part) if kind.subresource(part).is_some() => OF_PARTS,
        // The object is missed, whether it is there or not.
        Some(_) => return Err(ApiError::not_found(&kind.resource(), name)),
    };
    if !verbs.contains(&verb) {
        return Err(ApiError::method_not_allowed(&kind.resource(), verb));
    }
    if name.is_empty() && matches!(verb, "update" | "patch") {
        return Err(ApiError::bad_request("name must be provided"));
    }
    Ok(())
}
