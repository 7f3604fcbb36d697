//! Names of containers and the like, as the texts of violations list them.

use serde_json::Value;

use crate::validation::{text, visit::containers};

/// The names of the containers that do something.
pub(super) fn those(spec: &Value, does: impl Fn(&Value) -> bool) -> Vec<String> {
    containers(spec).filter(|one| does(one)).map(|one| text(one, "name").to_owned()).collect()
}

/// `container "a"`, or `containers "a", "b"`.
pub(super) fn named(one: &str, many: &str, names: &[String]) -> String {
    format!("{} {}", plural(one, many, names.len()), quoted(names))
}

pub(super) fn of_containers(names: &[String]) -> String {
    named("container", "containers", names)
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
pub(super) fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

/// In order, each once.
pub(super) fn distinct(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

/// Who set something: the pod, containers, or both.
pub(super) fn setters(pod: bool, containers: &[String]) -> Vec<String> {
    let pod = pod.then(|| "pod".to_owned());
    pod.into_iter().chain((!containers.is_empty()).then(|| of_containers(containers))).collect()
}
