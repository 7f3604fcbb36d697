//! The containers of a pod, in whichever list they stand.

use apimachinery::FieldPath;
use serde_json::Value;

use super::items;

/// Those that run first come first (`podutil.VisitContainers`).
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a pod.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    LISTS.into_iter().flat_map(|list| items(spec, list))
}

/// All containers of a pod, and where they stand.
pub(crate) fn placed<'a>(spec: &'a Value, path: &FieldPath) -> impl Iterator<Item = (&'a Value, FieldPath)> {
    LISTS.into_iter().flat_map(move |list| {
        let path = path.child(list);
        items(spec, list).enumerate().map(move |(index, container)| (container, path.index(index)))
    })
}

/// Whether one of `initContainers` runs beside the others.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}
