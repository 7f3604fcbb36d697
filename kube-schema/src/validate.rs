//! Checks an object against its schema: unknown fields and wrong JSON types (`fieldValidation`, and the 400 of decoding).

use base64::Engine as _;
use serde_json::Value;

use crate::{Schemas, schemas::OBJECT_META};

/// What [`Schemas::validate`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Paths of fields that the schema does not know: `spec.template.spec.containers[0].imagee`.
    pub unknown: Vec<String>,
    /// Values of the wrong type: the object cannot be decoded, whatever fieldValidation says.
    pub mismatches: Vec<Mismatch>,
}

impl Report {
    /// The texts of fieldValidation=Warn and Strict: `unknown field "spec.foo"`.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unknown.iter().map(|field| format!("unknown field {field:?}"))
    }
}

/// A value of the wrong type; displays as encoding/json words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("json: cannot unmarshal {found} into Go struct field {kind}.{field} of type {expected}")]
pub struct Mismatch {
    /// The kind of the object.
    pub kind: String,
    /// The path, `spec.replicas`.
    pub field: String,
    /// The type that the field has in Go.
    pub expected: &'static str,
    /// What stood there instead.
    pub found: &'static str,
}

/// Objects nested deeper are refused by the API server's JSON limits long before; below it nothing is looked at.
const MAX_DEPTH: usize = 64;

impl Schemas {
    /// Checks `object` against the schema of its kind; `None` when the kind is unknown.
    pub fn validate(&self, group: &str, version: &str, kind: &str, object: &Value) -> Option<Report> {
        let schema = self.of_kind(group, version, kind)?;
        let mut walk = Walk { schemas: self, kind, report: Report::default(), path: String::new() };
        walk.value(schema, object, 0);
        Some(walk.report)
    }

    /// Checks nothing but an object's metadata, which is the same for all kinds; `kind` is for messages.
    pub fn validate_metadata(&self, kind: &str, object: &Value) -> Report {
        let mut walk = Walk { schemas: self, kind, report: Report::default(), path: "metadata".to_owned() };
        if let (Some(schema), Some(metadata)) = (self.definition(OBJECT_META), object.get("metadata")) {
            walk.value(schema, metadata, 0);
        }
        walk.report
    }
}

struct Walk<'a> {
    schemas: &'a Schemas,
    kind: &'a str,
    report: Report,
    path: String,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Value, value: &Value, depth: usize) {
        let schema = self.schemas.resolve(schema);
        let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
        // Null is Go's zero value everywhere.
        if value.is_null() || depth > MAX_DEPTH {
            return;
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let int_or_string = format == "int-or-string" || flag("x-kubernetes-int-or-string");
        match (schema.get("type").and_then(Value::as_str), value) {
            _ if int_or_string => {
                if !value.is_string() && value.as_i64().is_none() {
                    self.mismatch("intstr.IntOrString", value);
                }
            }
            (Some("object"), Value::Object(object)) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                let additional = schema.get("additionalProperties").filter(|schema| schema.is_object());
                // A schema that names nothing is an open object (RawExtension, FieldsV1).
                let open = flag("x-kubernetes-preserve-unknown-fields")
                    || flag("additionalProperties")
                    || (properties.is_none() && additional.is_none());
                let embedded = flag("x-kubernetes-embedded-resource");
                for (key, inner) in object {
                    let length = self.path.len();
                    if !self.path.is_empty() {
                        self.path.push('.');
                    }
                    self.path.push_str(key);
                    match properties.and_then(|properties| properties.get(key)).or(additional) {
                        Some(schema) => self.value(schema, inner, depth + 1),
                        None if open
                            || (embedded && matches!(key.as_str(), "apiVersion" | "kind" | "metadata")) => {}
                        None => self.report.unknown.push(self.path.clone()),
                    }
                    self.path.truncate(length);
                }
            }
            (Some("array"), Value::Array(items)) => {
                let Some(schema) = schema.get("items") else { return };
                for (at, item) in items.iter().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{at}]"));
                    self.value(schema, item, depth + 1);
                    self.path.truncate(length);
                }
            }
            (Some("string"), Value::String(text)) => self.text(format, text),
            (Some("string"), Value::Number(_)) if is_quantity(schema) => {}
            (Some("integer"), Value::Number(number)) => {
                let (min, max, name) = match format {
                    "int32" => (i64::from(i32::MIN), i64::from(i32::MAX), "int32"),
                    _ => (i64::MIN, i64::MAX, "int64"),
                };
                if !number.as_i64().is_some_and(|number| (min..=max).contains(&number)) {
                    self.mismatch(name, value);
                }
            }
            (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(expected), found) => {
                let expected = match expected {
                    "object" => "map",
                    "array" => "slice",
                    "boolean" => "bool",
                    "integer" if format == "int32" => "int32",
                    "integer" => "int64",
                    "number" => "float64",
                    _ => "string",
                };
                self.mismatch(expected, found);
            }
        }
    }

    fn text(&mut self, format: &str, text: &str) {
        let (good, name) = match format {
            "byte" => (base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "[]byte (base64)"),
            "date-time" => (text.parse::<jiff::Timestamp>().is_ok(), "v1.Time (RFC 3339)"),
            _ => return,
        };
        if !good {
            self.push(name, "string");
        }
    }

    fn mismatch(&mut self, expected: &'static str, found: &Value) {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        self.push(expected, found);
    }

    fn push(&mut self, expected: &'static str, found: &'static str) {
        let (kind, field) = (self.kind.to_owned(), self.path.clone());
        self.report.mismatches.push(Mismatch { kind, field, expected, found });
    }
}

/// Quantities may be written as numbers (`cpu: 2`); the definition is known by its text.
fn is_quantity(schema: &Value) -> bool {
    schema
        .get("description")
        .and_then(Value::as_str)
        .is_some_and(|text| text.starts_with("Quantity is a fixed-point representation of a number"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(object: Value) -> (Vec<String>, Vec<String>) {
        let report = Schemas::builtin().validate("apps", "v1", "Deployment", &object).unwrap();
        let mismatches = report.mismatches.iter().map(ToString::to_string).collect();
        (report.warnings().collect(), mismatches)
    }

    #[test]
    fn an_unknown_field_is_named_with_its_path() {
        let (warnings, mismatches) = check(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "b"}},
            "spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "c", "imagee": "x",
                "resources": {"limits": {"cpu": 2, "memory": "1Gi"}}, "ports": [{"containerPort": 80}]}]}}},
        }));
        assert_eq!(
            warnings,
            [r#"unknown field "spec.foo""#, r#"unknown field "spec.template.spec.containers[0].imagee""#]
        );
        assert!(mismatches.is_empty(), "{mismatches:?}");
    }

    #[test]
    fn a_wrong_type_is_worded_as_go_does() {
        let (_, mismatches) = check(json!({"spec": {"replicas": "three"}, "metadata": {"labels": {"a": 1}}}));
        assert_eq!(
            mismatches,
            [
                "json: cannot unmarshal number into Go struct field Deployment.metadata.labels.a of type string",
                "json: cannot unmarshal string into Go struct field Deployment.spec.replicas of type int32",
            ]
        );
    }

    #[test]
    fn null_and_int_or_string_are_fine() {
        let (warnings, mismatches) = check(json!({"metadata": {"creationTimestamp": null}, "spec": {
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}}));
        assert!(warnings.is_empty() && mismatches.is_empty(), "{warnings:?} {mismatches:?}");
    }
}
