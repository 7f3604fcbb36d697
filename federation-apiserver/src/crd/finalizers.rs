//! Finalizers of custom objects whose names others may have, too.

use std::collections::BTreeSet;

use apimachinery::field::quoted;
use serde_json::Value;

/// Kubernetes' own, which have no domain.
const STANDARD: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

/// What the writer of an object is warned of: new finalizers without a path, as the customresource strategy's `WarningsOnCreate` and
/// `WarningsOnUpdate` tell.
pub(super) fn warn(new: &Value, old: Option<&Value>) -> Vec<String> {
    let names = |object: &'_ Value| -> BTreeSet<String> {
        let finalizers = object["metadata"]["finalizers"].as_array().into_iter().flatten();
        finalizers.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let before = old.map(names).unwrap_or_default();
    let added = names(new).into_iter().filter(|name| !before.contains(name));
    added
        .filter(|name| !name.contains('/') && !STANDARD.contains(&name.as_str()))
        .map(|name| {
            let path = if name.contains('.') { " including a path (/)" } else { "" };
            format!(
                "metadata.finalizers: {}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers",
                quoted(&name),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn new_finalizers_without_a_path_are_warned_of_in_order() {
        let object = |finalizers: &[&str]| json!({"metadata": {"finalizers": finalizers}});
        let new = object(&["things.example.com", "a.io/b", "orphan", "kept", "bad"]);
        assert_eq!(
            warn(&new, Some(&object(&["kept"]))),
            [
                "metadata.finalizers: \"bad\": prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers",
                "metadata.finalizers: \"things.example.com\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers",
            ]
        );
        assert_eq!(warn(&json!({}), None), Vec::<String>::new());
    }
}
