//! The one form of what can be written in several: quantities, and fields that are null.
//!
//! kube-apiserver decodes into Go's types and encodes them again: `1024Mi` comes back as `1Gi`, `0.5` as `500m`, the
//! number 2 as the text `2`, and a null field not at all. Objects are kept as JSON here, so this does the same to it.

use apimachinery::quantity::Quantity;
use serde_json::Value;

use crate::{Schemas, schemas::reference};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
/// Objects nest less deep than this; a schema that refers to itself does not.
const DEPTH_MAX: usize = 64;

impl Schemas {
    /// Brings an object of a kind into its canonical form. What no schema knows stays as it is.
    pub fn canonicalise(&self, group: &str, version: &str, kind: &str, object: &mut Value) {
        if let Some(name) = self.name_of(group, version, kind) {
            self.canonical(name, object, 0);
        }
    }

    fn canonical(&self, definition: &str, value: &mut Value, depth: usize) {
        if definition == QUANTITY {
            if let Some(quantity) = quantity(value) {
                *value = quantity.to_string().into();
            }
            return;
        }
        let Some(properties) = self.definition(definition).and_then(|schema| schema.get("properties")) else {
            return;
        };
        let Some(object) = value.as_object_mut().filter(|_| depth < DEPTH_MAX) else { return };
        object.retain(|name, value| !value.is_null() || properties.get(name).is_none());
        for (name, value) in object.iter_mut() {
            let Some(property) = properties.get(name) else { continue };
            if let Some(inner) = reference(property) {
                self.canonical(inner, value, depth + 1);
            } else if let Some(inner) = property.get("items").and_then(reference) {
                for item in value.as_array_mut().into_iter().flatten() {
                    self.canonical(inner, item, depth + 1);
                }
            } else if let Some(inner) = property.get("additionalProperties").and_then(reference) {
                for (_, item) in value.as_object_mut().into_iter().flatten() {
                    self.canonical(inner, item, depth + 1);
                }
            }
        }
    }
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_have_one_form_and_nulls_go() {
        let mut pod = json!({
            "metadata": {"name": "a", "creationTimestamp": null, "annotations": {"b": "0.5"}},
            "spec": {"containers": [{"name": "c", "image": null,
                "resources": {"limits": {"memory": "1024Mi", "cpu": 2, "x": "0.5"}}}]},
        });
        Schemas::builtin().canonicalise("", "v1", "Pod", &mut pod);
        assert_eq!(
            pod,
            json!({
                "metadata": {"name": "a", "annotations": {"b": "0.5"}},
                "spec": {"containers": [{"name": "c",
                    "resources": {"limits": {"memory": "1Gi", "cpu": "2", "x": "500m"}}}]},
            })
        );
    }
}
