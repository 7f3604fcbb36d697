//! Checks an object against its schema: unknown fields and wrong JSON types (`fieldValidation`, and the 400 of decoding).

use std::collections::HashSet;

use apimachinery::{field::quoted, json::type_name};
use base64::{
    Engine as _,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};

use crate::{
    Schemas,
    bounds::{step, tell},
    canonical::QUANTITY,
    schemas::{JSON_SCHEMA, OBJECT_META, PREFIX, reference},
    times::{MICRO_TIME, describe_micro_time_fault, describe_time_fault},
};

/// What [`Schemas::validate`] found: of each sort the first hundred.
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
        self.unknown.iter().map(|field| format!("unknown field {}", quoted(field)))
    }

    /// Leaves out what another object has as well: the same field unknown, or wrong for the same reason.
    pub fn leave_out(&mut self, other: &Self) {
        let unknown: HashSet<_> = other.unknown.iter().collect();
        self.unknown.retain(|field| !unknown.contains(field));
        let wrong: HashSet<_> = other.mismatches.iter().map(Mismatch::place).collect();
        self.mismatches.retain(|one| !wrong.contains(&one.place()));
    }
}

/// A value that cannot be decoded; displays as Go's decoder words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Mismatch {
    /// The path, `spec.template.spec.containers[0].image`.
    pub field: String,
    /// The type that the field has in Go.
    pub expected: String,
    /// What stood there instead.
    pub found: &'static str,
    message: String,
}

impl Mismatch {
    fn place(&self) -> (&str, &str) {
        (&self.field, &self.message)
    }

    /// The message, with a number as it stands in the text that the value was read from: a value does not tell numbers over 64 bits, or
    /// how they were written.
    pub fn told_of(&self, json: &[u8]) -> String {
        const HEAD: &str = "json: cannot unmarshal number ";
        let Some((_, rest)) = self.message.strip_prefix(HEAD).and_then(|rest| rest.split_once(" into "))
        else {
            return self.message.clone();
        };
        match crate::json::raw_at(json, &self.field) {
            Some(raw) if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                format!("{HEAD}{raw} into {rest}")
            }
            _ => self.message.clone(),
        }
    }

    /// The same as `runtime.DefaultUnstructuredConverter` words it, which kube-apiserver decodes strategically merged objects with.
    pub fn restoring(&self) -> String {
        let expected = &*self.expected;
        if !self.message.starts_with("json: cannot unmarshal") || expected.ends_with("IntOrString") {
            return self.message.clone();
        }
        let place = match self.found {
            "object" => "map",
            "array" => "slice",
            "number" => "int64",
            other => other,
        };
        let structure = expected.rsplit('.').next().is_some_and(|name| name.starts_with(char::is_uppercase));
        if expected.starts_with("map[") {
            format!("cannot restore map from {place}")
        } else if expected.starts_with("[]") {
            format!("cannot restore slice from {place}")
        } else if structure {
            format!("cannot restore struct from: {place}")
        } else if self.found == "number" {
            // Go converts numbers to text and to each other, which JSON does not.
            format!("cannot convert {} to {expected}", if expected == "string" { "int64" } else { "float64" })
        } else {
            format!("unrecognized type: {expected}")
        }
    }
}

/// What a text that is no quantity is refused with.
const QUANTITY_SYNTAX: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Objects nested deeper are refused by the API server's JSON limits long before; below it nothing is looked at.
const MAX_DEPTH: usize = 64;

impl Schemas {
    /// Checks `object` against the schema of its kind; `None` when the kind is unknown.
    pub fn validate(&self, group: &str, version: &str, kind: &str, object: &Value) -> Option<Report> {
        let schema = self.of_kind(group, version, kind)?;
        let mut walk = Walk::new(self, kind);
        walk.value(schema, object, 0);
        Some(walk.report)
    }

    /// Checks nothing but an object's metadata, which is the same for all kinds. Go reads it apart, and tells faults as those of an
    /// ObjectMeta.
    pub fn validate_metadata(&self, object: &Value) -> Report {
        let mut walk = Walk::new(self, "ObjectMeta");
        if let Some(metadata) = object.get("metadata") {
            "metadata".clone_into(&mut walk.path);
            walk.value(&serde_json::json!({"$ref": format!("{PREFIX}{OBJECT_META}")}), metadata, 0);
        }
        walk.report
    }
}

struct Walk<'a> {
    schemas: &'a Schemas,
    report: Report,
    path: String,
    /// The Go type whose field is looked at.
    structure: String,
    /// The path of Go fields, without the keys of maps and the places in lists.
    fields: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(schemas: &'a Schemas, kind: &str) -> Self {
        let (path, structure) = (String::new(), kind.to_owned());
        Self { schemas, report: Report::default(), path, structure, fields: Vec::new() }
    }

    fn value(&mut self, schema: &Value, value: &Value, depth: usize) {
        // Null is Go's zero value everywhere.
        if value.is_null() || depth > MAX_DEPTH {
            return;
        }
        let name = reference(schema);
        let resolved = self.schemas.resolve(schema);
        if name == Some(QUANTITY) {
            self.quantity(value);
            return;
        }
        if let Some(inner) = self.schemas.schema_in(name) {
            self.either(inner, value, depth);
            return;
        }
        let flag = |key: &str| resolved.get(key).and_then(Value::as_bool).unwrap_or(false);
        let format = resolved.get("format").and_then(Value::as_str).unwrap_or_default();
        if format == "int-or-string" || flag("x-kubernetes-int-or-string") {
            if !value.is_string() && value.as_i64().is_none_or(|number| i32::try_from(number).is_err()) {
                let found = type_name(value);
                let message = format!("json: cannot unmarshal {found} into Go value of type int32");
                self.push("intstr.IntOrString".to_owned(), found, message);
            }
            return;
        }
        match (resolved.get("type").and_then(Value::as_str), value) {
            (Some("object"), Value::Object(object)) => self.object(name, resolved, object, depth),
            (Some("array"), Value::Array(items)) => {
                let Some(schema) = resolved.get("items") else { return };
                for (at, item) in items.iter().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{at}]"));
                    self.value(schema, item, depth + 1);
                    self.path.truncate(length);
                }
            }
            (Some("string"), Value::String(text)) if name == Some(MICRO_TIME) => self.micro_time(text),
            (Some("string"), Value::String(text)) => self.text(format, text),
            (Some("integer"), Value::Number(number)) => {
                let (min, max) = match format {
                    "int32" => (i64::from(i32::MIN), i64::from(i32::MAX)),
                    _ => (i64::MIN, i64::MAX),
                };
                if !number.as_i64().is_some_and(|number| (min..=max).contains(&number)) {
                    self.mismatch(schema, &format!("number {number}"), "number");
                }
            }
            (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(_), other) => self.mismatch(schema, type_name(other), type_name(other)),
        }
    }

    /// A schema, or something else that is not looked at. Go reads it apart: it does not know there where that stands, and misses no fields.
    fn either(&mut self, schema: &Value, value: &Value, depth: usize) {
        let fields = std::mem::take(&mut self.fields);
        let known = self.report.unknown.len();
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        for one in list.iter().chain(std::iter::once(value)).filter_map(Value::as_object) {
            self.object(Some(JSON_SCHEMA), schema, one, depth + 1);
        }
        self.report.unknown.truncate(known);
        self.fields = fields;
    }

    fn object(&mut self, name: Option<&str>, schema: &Value, object: &Map<String, Value>, depth: usize) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let additional = schema.get("additionalProperties").filter(|schema| schema.is_object());
        for (key, inner) in object {
            let length = self.path.len();
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(step(key));
            if let Some(property) = properties.and_then(|properties| properties.get(key)) {
                let outer = name.map(|name| std::mem::replace(&mut self.structure, last(name).to_owned()));
                self.fields.push(key.clone());
                self.value(property, inner, depth + 1);
                self.fields.pop();
                if let Some(outer) = outer {
                    self.structure = outer;
                }
            } else if let Some(additional) = additional {
                self.value(additional, inner, depth + 1);
            } else if !is_open(schema) && !is_embedded(schema, key) {
                tell(&mut self.report.unknown, || self.path.clone());
            }
            self.path.truncate(length);
        }
    }

    fn text(&mut self, format: &str, text: &str) {
        match format {
            "byte" => {
                if let Some(at) = base64_fault(text) {
                    let message = format!("illegal base64 data at input byte {at}");
                    self.push("[]byte".to_owned(), "string", message);
                }
            }
            "date-time" => {
                if let Some(message) = describe_time_fault(text) {
                    self.push("v1.Time".to_owned(), "string", message);
                }
            }
            _ => {}
        }
    }

    fn micro_time(&mut self, text: &str) {
        if let Some(message) = describe_micro_time_fault(text) {
            self.push("v1.MicroTime".to_owned(), "string", message);
        }
    }

    fn quantity(&mut self, value: &Value) {
        if crate::canonical::quantity(value).is_none() {
            self.push("resource.Quantity".to_owned(), type_name(value), QUANTITY_SYNTAX.to_owned());
        }
    }

    fn mismatch(&mut self, schema: &Value, value: &str, found: &'static str) {
        let mut expected = go_type(self.schemas, schema);
        // Users' ids are plain text.
        let of_user = ["UserInfo", "SubjectAccessReviewSpec", "CertificateSigningRequestSpec"];
        if self.fields.last().is_some_and(|field| field == "uid") && !of_user.contains(&&*self.structure) {
            "types.UID".clone_into(&mut expected);
        }
        let field = format!("{}.{}", self.structure, self.fields.join("."));
        let place = if self.fields.is_empty() { "value".to_owned() } else { format!("struct field {field}") };
        let message = format!("json: cannot unmarshal {value} into Go {place} of type {expected}");
        self.push(expected, found, message);
    }

    fn push(&mut self, expected: String, found: &'static str, message: String) {
        let field = &self.path;
        tell(&mut self.report.mismatches, || Mismatch { field: field.clone(), expected, found, message });
    }
}

/// A schema that names nothing is an open object (RawExtension, FieldsV1).
pub(crate) fn is_open(schema: &Value) -> bool {
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    flag("x-kubernetes-preserve-unknown-fields")
        || flag("additionalProperties")
        || (schema.get("properties").is_none()
            && !schema.get("additionalProperties").is_some_and(Value::is_object))
}

/// Fields that every embedded object has.
pub(crate) fn is_embedded(schema: &Value, key: &str) -> bool {
    schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true))
        && matches!(key, "apiVersion" | "kind" | "metadata")
}

fn last(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or_default()
}

/// The type in Go, as far as a schema tells: `map[string]string`, `[]v1.Container`.
fn go_type(schemas: &Schemas, schema: &Value) -> String {
    let resolved = schemas.resolve(schema);
    let inner = |key: &str| resolved.get(key).map(|schema| go_type(schemas, schema));
    match (resolved.get("type").and_then(Value::as_str), resolved.get("format").and_then(Value::as_str)) {
        (Some("string"), Some("byte")) => "[]uint8".to_owned(),
        (Some("boolean"), _) => "bool".to_owned(),
        (Some("integer"), Some("int32")) => "int32".to_owned(),
        (Some("integer"), _) => "int64".to_owned(),
        (Some("number"), _) => "float64".to_owned(),
        (Some("array"), _) => format!("[]{}", inner("items").unwrap_or_default()),
        (Some("object"), _) if resolved.get("additionalProperties").is_some_and(Value::is_object) => {
            format!("map[string]{}", inner("additionalProperties").unwrap_or_default())
        }
        (Some("object"), _) => match reference(schema) {
            Some(name) => name
                .rsplitn(3, '.')
                .take(2)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join("."),
            None => "map[string]interface {}".to_owned(),
        },
        _ => "string".to_owned(),
    }
}

/// The bytes of a text in base64, as Go reads it: line breaks are skipped, and so are bits behind the last byte.
///
/// # Errors
/// When it is none.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    const AS_GO: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    if text.contains(['\r', '\n']) {
        return AS_GO.decode(text.replace(['\r', '\n'], ""));
    }
    AS_GO.decode(text)
}

/// Where Go's decoder stops reading base64; none if it reads all. Line breaks are skipped.
fn base64_fault(text: &str) -> Option<usize> {
    if decode_base64(text).is_ok() {
        return None;
    }
    let bad = text.bytes().position(|byte| {
        !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\r' | b'\n'))
    });
    let padding = text.trim_end_matches(['=', '\r', '\n']).find('=');
    Some(bad.or(padding).unwrap_or_else(|| text.len() - text.len() % 4))
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
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ]
        );
    }

    #[test]
    fn many_faults_below_a_long_key_take_little_to_tell() {
        let key = "k".repeat(1 << 20);
        let review = json!({"spec": {"extra": {key.as_str(): vec![1; 100_000]}}});
        let check =
            |kind, object| Schemas::builtin().validate("authorization.k8s.io", "v1", kind, object).unwrap();
        let wrong = check("SubjectAccessReview", &review).mismatches;
        assert_eq!(wrong.len(), crate::bounds::MOST_TOLD);
        assert!(wrong.iter().all(|mismatch| mismatch.field.len() < 2048), "{}", wrong[0].field.len());
        let many: Map<_, _> =
            (0..200).map(|at| (format!("{at}{}", "u".repeat(5000)), Value::from(1))).collect();
        let unknown = check("SubjectAccessReview", &json!({"spec": many})).unknown;
        assert_eq!(unknown.len(), crate::bounds::MOST_TOLD);
        assert!(unknown.iter().all(|path| path.len() < 2048));
    }

    #[test]
    fn places_in_lists_are_no_part_of_a_go_field() {
        let env = json!([{"name": "c", "env": [{"name": "A", "value": true}], "args": "x",
            "resources": {"limits": {"cpu": "much"}}}]);
        let (_, mismatches) =
            check(json!({"spec": {"template": {"spec": {"containers": env, "volumes": {}}}}}));
        assert_eq!(
            mismatches,
            [
                "json: cannot unmarshal string into Go struct field Container.spec.template.spec.containers.args of type []string",
                "json: cannot unmarshal bool into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.volumes of type []v1.Volume",
            ]
        );
    }

    #[test]
    fn bytes_and_times_are_refused_as_go_refuses_them() {
        let text = |kind: &str, object: Value| {
            let report = Schemas::builtin().validate("", "v1", kind, &object).unwrap();
            report.mismatches.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let secret = json!({"data": {"a": "YQ==", "b": "***", "c": "YWJ"}});
        assert_eq!(
            text("Secret", secret),
            ["illegal base64 data at input byte 0", "illegal base64 data at input byte 0"]
        );
        assert_eq!(
            text("ConfigMap", json!({"metadata": {"creationTimestamp": "2020-01-01"}})),
            [r#"parsing time "2020-01-01" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#]
        );
    }

    #[test]
    fn what_another_object_has_as_well_is_left_out() {
        let report = |spec: Value| {
            let object = json!({ "spec": spec });
            Schemas::builtin().validate("coordination.k8s.io", "v1", "Lease", &object).unwrap()
        };
        let old = report(json!({"renewTime": "2026-01-01T00:00:00Z", "more": 1}));
        let mut new = report(json!({
            "renewTime": "2026-01-01T00:00:00Z", "acquireTime": "2026-01-01T00:00:00Z", "more": 2, "moore": 1,
        }));
        new.leave_out(&old);
        assert_eq!(new.unknown, ["spec.moore"]);
        assert_eq!(new.mismatches.iter().map(|one| &*one.field).collect::<Vec<_>>(), ["spec.acquireTime"]);
        let mut new = report(json!({"renewTime": "2026-01-01T00:00:01Z"}));
        new.leave_out(&old);
        assert_eq!(new.mismatches.len(), 1);
    }

    #[test]
    fn null_and_int_or_string_are_fine() {
        let (warnings, mismatches) = check(json!({"metadata": {"creationTimestamp": null}, "spec": {
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}}));
        assert!(warnings.is_empty() && mismatches.is_empty(), "{warnings:?} {mismatches:?}");
    }
}
