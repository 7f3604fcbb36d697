//! Objects within objects: `x-kubernetes-embedded-resource`. Their metadata is that of any object, which no schema tells.

use serde_json::Value;

use super::Structural;
use crate::bounds;

impl Structural {
    /// Shows each object below a value, and its path.
    pub fn visit_embedded(&self, value: &mut Value, visit: &mut impl FnMut(&mut Value, &str)) {
        if self.embeds {
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
        if schema.embeds {
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

    #[test]
    fn what_a_schema_has_below_is_told_when_it_is_parsed() {
        let embeds = |schema: &Value| Structural::parse(schema).is_ok_and(|schema| schema.embeds);
        let object = json!({"type": "object", "x-kubernetes-embedded-resource": true});
        let mut schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        assert!(!embeds(&object) && !embeds(&schema));
        schema["properties"]["b"] = json!({"type": "array", "items": object});
        let map = json!({"type": "object", "additionalProperties": schema});
        assert!(embeds(&schema) && embeds(&map));
    }
}
