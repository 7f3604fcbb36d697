//! Objects within objects: `x-kubernetes-embedded-resource`. Their metadata is that of any object, which no schema tells.

use serde_json::Value;

use super::Structural;
use crate::bounds;

impl Structural {
    /// Whether there may be objects below this node.
    pub fn has_embedded(&self) -> bool {
        self.children().any(|child| child.embedded || child.has_embedded())
    }

    /// Shows each object below a value, and its path.
    pub fn visit_embedded(&self, value: &mut Value, visit: &mut impl FnMut(&mut Value, &str)) {
        if self.has_embedded() {
            descend(self, value, &mut String::new(), visit);
        }
    }
}

fn descend(
    schema: &Structural,
    value: &mut Value,
    path: &mut String,
    visit: &mut impl FnMut(&mut Value, &str),
) {
    let length = path.len();
    let mut child = |schema: &Structural, value: &mut Value, path: &mut String| {
        if schema.embedded && value.is_object() {
            visit(value, path);
        }
        if schema.has_embedded() {
            descend(schema, value, path, visit);
        }
        path.truncate(length);
    };
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let Some(field) = schema.field(name) else { continue };
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(bounds::step(name));
                child(field, value, path);
            }
        }
        Value::Array(items) => {
            let Some(element) = schema.items.as_deref() else { return };
            for (at, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{at}]"));
                child(element, item, path);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_found_wherever_the_schema_says_that_there_are_some() {
        let object = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
        let schema = json!({"type": "object", "properties": {
            "one": object,
            "many": {"type": "array", "items": object},
            "named": {"type": "object", "additionalProperties": object},
            "other": {"type": "object"},
        }});
        let schema = Structural::parse(&schema).unwrap_or_default();
        let mut value = json!({
            "one": {"one": {}}, "many": [{}, "odd", {}], "named": {"a": {}, "b": 1}, "other": {"one": {}}, "none": {},
        });
        let mut found = Vec::new();
        schema.visit_embedded(&mut value, &mut |_, path| found.push(path.to_owned()));
        assert_eq!(found, ["many[0]", "many[2]", "named.a", "one"]);
    }
}
