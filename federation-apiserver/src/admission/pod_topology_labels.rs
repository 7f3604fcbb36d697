//! The plugin `PodTopologyLabels`: labels a pod with the zone and the region of its node, so that its containers can read them.

use serde_json::{Map, Value, json};

use crate::store::{Key, ResourceKey, Storage};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Adds the topology labels of `node` to a pod or a binding; none if the node does not exist.
pub(crate) fn label(storage: &Storage, node: &str, object: &mut Value) {
    if node.is_empty() {
        return;
    }
    let found = storage.get(&Key::new(ResourceKey::new("", "nodes"), "", node));
    let Some(node) = found.and_then(|stored| stored.value().ok()) else { return };
    let told = LABELS.iter().filter_map(|label| Some((*label, node["metadata"]["labels"].get(*label)?)));
    put(object, told);
}

/// Sets labels in place of those that are there.
fn put<'a>(object: &mut Value, told: impl Iterator<Item = (&'a str, &'a Value)>) {
    for (name, value) in told {
        if let Some(labels) = labels_of(object) {
            labels.insert(name.to_owned(), value.clone());
        }
    }
}

fn labels_of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let mut at = object;
    for name in ["metadata", "labels"] {
        at = at.as_object_mut()?.entry(name).or_insert(Value::Null);
        if at.is_null() {
            *at = json!({});
        }
    }
    at.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_place_count_before_others() {
        let zone = json!("z");
        let mut pod = json!({"metadata": {"labels": {"a": "b", LABELS[0]: "elsewhere"}}});
        put(&mut pod, [(LABELS[0], &zone)].into_iter());
        assert_eq!(pod["metadata"]["labels"], json!({"a": "b", LABELS[0]: "z"}));
        let mut binding = json!({});
        put(&mut binding, [(LABELS[0], &zone)].into_iter());
        assert_eq!(binding, json!({"metadata": {"labels": {LABELS[0]: "z"}}}));
        let mut bare = json!({"metadata": {}});
        put(&mut bare, std::iter::empty());
        assert_eq!(bare, json!({"metadata": {}}));
    }
}
