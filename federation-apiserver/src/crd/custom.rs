//! What a CustomResourceDefinition adds to the steps of a request.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use apimachinery::{
    FieldError, FieldPath, apply,
    json::go_type,
    jsonpath::{JsonPath, Looks},
    numbers,
    patch::printed,
    table::CREATION_DESCRIPTION,
};
use jiff::Timestamp;
use kube_schema::{Schemas, structural::Structural};
use serde_json::{Value, json};

use super::conversion::Converter;
use crate::registry::since;

/// One version of a custom kind: what its [`Kind`](crate::registry::Kind) does not hold.
pub(crate) struct Custom {
    /// The definition is being deleted: no new objects are accepted.
    pub(crate) terminating: bool,
    /// `example.com/v1` of this version.
    pub(crate) api_version: String,
    /// `example.com/v1` of the version in which objects are stored.
    pub(crate) storage_version: String,
    /// `example.com/v1` of each version, be it served or not.
    pub(crate) versions: Arc<[String]>,
    /// The conversion webhook; none if versions differ in name only.
    pub(crate) converter: Option<Arc<Converter>>,
    /// Its structural schema.
    pub(crate) schema: Structural,
    /// That of the version in which objects are stored, if it is another one and no webhook converts them.
    pub(crate) stored_schema: Option<Arc<Structural>>,
    /// The same as it was written, for OpenAPI.
    pub(crate) published: Value,
    /// Columns of its Table, after the name.
    pub(crate) columns: Vec<PrinterColumn>,
    /// The paths of its Scale.
    pub(crate) scale: Option<ScalePaths>,
    /// The warning for users of this version.
    pub(crate) deprecation: Option<String>,
    /// Selectable fields of all versions: path and JSON pointer.
    pub(crate) selectable: Vec<(String, String)>,
    pub(crate) ownership: OnceLock<(apply::Schema, String)>,
}

/// A column of `additionalPrinterColumns`.
pub(crate) struct PrinterColumn {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: JsonPath,
}

/// Where the parts of a Scale are in an object, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    /// Where the selector is, as text.
    pub(crate) selector: Option<String>,
}

impl ScalePaths {
    /// Replicas must not be negative, and the selector is a text (`customResourceValidator.ValidateScaleSpec` and `ValidateScaleStatus`).
    fn check(&self, object: &Value, part: Part, errors: &mut Vec<FieldError>) {
        let spec = Some(&self.spec_replicas).filter(|_| part == Part::Whole);
        for pointer in spec.into_iter().chain([&self.status_replicas]) {
            let path = FieldPath::new(pointer.replace('/', "."));
            let count = match at(object, pointer, Value::is_i64, "int64") {
                Ok(count) => count.and_then(Value::as_i64).unwrap_or_default(),
                Err(why) => {
                    errors.push(FieldError::invalid(&path, 0, &why));
                    continue;
                }
            };
            let detail = match count {
                ..0 => "should be a non-negative integer".to_owned(),
                _ if count > i64::from(i32::MAX) => format!("should be less than or equal to {}", i32::MAX),
                _ => continue,
            };
            errors.push(FieldError::invalid(&path, count, &detail));
        }
        if let Some(pointer) = &self.selector
            && let Err(why) = at(object, pointer, Value::is_string, "string")
        {
            errors.push(FieldError::invalid(&FieldPath::new(pointer.replace('/', ".")), "", &why));
        }
    }
}

/// What a write changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object, but for the status if that is a part of its own.
    Whole,
    /// The status alone.
    Status,
}

/// The value at a JSON pointer, if there is one, or what Go says of what stands there or on the way (`unstructured.NestedInt64`).
fn at<'v>(
    object: &'v Value,
    pointer: &str,
    fits: fn(&Value) -> bool,
    wanted: &str,
) -> Result<Option<&'v Value>, String> {
    let fault = |path: &str, value: &Value, wanted: &str| {
        let (text, kind) = (printed(value), go_type(value));
        format!("{path} accessor error: {text} is of the type {kind}, expected {wanted}")
    };
    let (mut at, mut path) = (object, String::new());
    for step in pointer.split('/').skip(1) {
        path = format!("{path}.{step}");
        match at {
            Value::Null => return Ok(None),
            Value::Object(map) => match map.get(step) {
                Some(inner) => at = inner,
                None => return Ok(None),
            },
            other => return Err(fault(&path, other, "map[string]interface{}")),
        }
    }
    if fits(at) { Ok(Some(at)) } else { Err(fault(&path, at, wanted)) }
}

/// Reads numbers as Go does: 1.0 and 1e2 are 1 and 100, which integers of typed clients can be read from, and what is no int64 is a float.
fn settle_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if !number.is_f64() && number.as_i64().is_none() {
                if let Some(float) = number.as_f64().and_then(serde_json::Number::from_f64) {
                    *number = float;
                }
                return;
            }
            let whole = number.as_f64().filter(|_| number.is_f64()).map(|float| (float, float as i64));
            // At the ends of the range the cast saturates.
            if let Some((float, whole)) = whole
                && whole as f64 == float
                && !matches!(whole, i64::MIN | i64::MAX)
            {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle_numbers),
        Value::Object(map) => map.values_mut().for_each(settle_numbers),
        _ => {}
    }
}

fn complete(schema: &Structural, object: &mut Value) {
    schema.prune(object, true);
    schema.prune_nulls(object);
    schema.fill_defaults(object);
    settle_numbers(object);
}

impl Custom {
    /// An object in the form in which it is stored: what the version that it is stored in does not specify is lost.
    pub(crate) fn to_stored(&self, mut object: Value) -> Value {
        object["apiVersion"] = self.storage_version.as_str().into();
        if let Some(stored) = &self.stored_schema {
            stored.prune(&mut object, true);
        }
        object
    }

    /// An object of this version from its stored form: the schema may have changed since it was written. Defaults are those of the version
    /// that it is stored in; this one's are for what is sent in it.
    pub(crate) fn to_served(&self, mut object: Value) -> Value {
        object["apiVersion"] = self.api_version.as_str().into();
        match &self.stored_schema {
            Some(stored) => {
                complete(stored, &mut object);
                self.schema.prune(&mut object, true);
            }
            None => self.complete(&mut object),
        }
        object
    }

    /// Drops what the schema does not specify, and null where it is no value; fills defaults in.
    pub(crate) fn complete(&self, object: &mut Value) {
        complete(&self.schema, object);
    }

    /// The same for the result of an apply: an invalid null stays, and is refused. kube-apiserver drops it when it decodes an object, and the result of a
    /// merge is not decoded again.
    pub(crate) fn complete_applied(&self, object: &mut Value) {
        self.schema.prune(object, true);
        self.schema.fill_defaults(object);
        settle_numbers(object);
    }

    /// Paths of fields that [`Custom::complete`] would drop.
    pub(crate) fn unknown(&self, object: &Value) -> Vec<String> {
        self.schema.prune(&mut object.clone(), true)
    }

    /// Whether rules are not asked where there is such an error: what is missing or has the wrong type would only make them fail, and hide
    /// what is wrong.
    pub(crate) fn is_blocking(error: &FieldError) -> bool {
        use apimachinery::FieldReason::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        matches!(error.reason, NotSupported | Required | TooLong | TooMany | TypeInvalid)
    }

    /// All errors of an object, and of the change from `old`, in a part of it. `blocked` says whether its metadata has errors for which rules are
    /// not asked. What is wrong, but was so before, is told in `warnings`.
    pub(crate) fn validate(
        &self,
        part: Part,
        (object, old): (&Value, Option<&Value>),
        blocked: bool,
        errors: &mut Vec<FieldError>,
        warnings: &mut Vec<String>,
    ) {
        let mut found = match part {
            Part::Whole => self.schema.check(object, old),
            Part::Status => self.schema.check_status(object, old),
        };
        if let Some(paths) = &self.scale {
            paths.check(object, part, &mut found);
        }
        let blocked = blocked || found.iter().any(Self::is_blocking);
        errors.extend(found);
        if !self.schema.has_rules() {
            return;
        }
        if blocked {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&FieldPath::new("<nil>"), Value::Null, detail));
        } else {
            let outcome = self.schema.check_rules(object, old);
            errors.extend(outcome.faults);
            warnings.extend(outcome.warnings.iter().map(ToString::to_string));
        }
    }

    /// The values of the selectable fields of a stored object.
    pub(crate) fn field_values(&self, stored: &Value) -> BTreeMap<String, String> {
        let values = self.selectable.iter().filter_map(|(name, pointer)| {
            let text = match stored.pointer(pointer)? {
                Value::String(text) => text.clone(),
                value @ (Value::Bool(_) | Value::Number(_)) => value.to_string(),
                _ => return None,
            };
            Some((name.clone(), text))
        });
        values.collect()
    }

    /// The types for field ownership, and the name of the root type.
    pub(crate) fn ownership(&self, group: &str, version: &str, kind: &str) -> &(apply::Schema, String) {
        self.ownership
            .get_or_init(|| Schemas::builtin().apply_schema_of(group, version, kind, &self.published))
    }
}

/// A float from here on is no int64: Go makes the least one of it.
const LONG: f64 = 9_223_372_036_854_775_808.0;

/// A value as client-go prints what a JSONPath has found.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Array(_) | Value::Object(_) => {
            // Go's JSON can stand in HTML.
            value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
        Value::Number(number) if number.is_f64() => number.as_f64().map(numbers::general).unwrap_or_default(),
        other => printed(other),
    }
}

impl PrinterColumn {
    /// The column that a version has if it names none.
    pub(crate) fn age() -> Option<Self> {
        Some(Self {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: CREATION_DESCRIPTION.to_owned(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp").ok()?,
        })
    }

    /// Its definition in a Table.
    pub(crate) fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    /// The cell of an object; null where there is nothing of the column's type.
    pub(crate) fn cell(&self, object: &Value, looks: &mut Looks, now: Timestamp) -> Value {
        let Some(value) = self.path.first(object, looks) else { return Value::Null };
        match (self.kind.as_str(), value) {
            ("string", value) => text(value).into(),
            ("integer", Value::Number(number)) => {
                let float =
                    || number.as_f64().map(|float| if float.abs() < LONG { float as i64 } else { i64::MIN });
                number.as_i64().or_else(float).map_or(Value::Null, Value::from)
            }
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(text)) if matches!(text.as_str(), "" | "null") => "<unknown>".into(),
            ("date", Value::String(text)) => {
                since(text, now).unwrap_or_else(|| "<invalid>".to_owned()).into()
            }
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_printed_as_client_go_prints_them() {
        let cell = |kind: &str, value: Value| {
            let path = JsonPath::parse(".x").expect("a path");
            let (name, format, description) = Default::default();
            let column =
                PrinterColumn { name, kind: kind.to_owned(), format, description, priority: 0, path };
            column.cell(&json!({"x": value}), &mut Looks::default(), Timestamp::UNIX_EPOCH)
        };
        for (value, expect) in [
            (json!(null), "<no value>"),
            (json!("a\nb"), "a\nb"),
            (json!(true), "true"),
            (json!(1.5), "1.5"),
            (json!(1e30), "1e+30"),
            (json!(-1e-6), "-1e-06"),
            (json!([1.5, null, {"a": "<&>"}]), r#"[1.5,null,{"a":"\u003c\u0026\u003e"}]"#),
        ] {
            assert_eq!(cell("string", value.clone()), expect, "{value}");
        }
        assert_eq!(cell("integer", json!(1e30)), i64::MIN);
        assert_eq!(cell("integer", json!(1.5)), 1);
        assert_eq!(cell("integer", json!("1")), Value::Null);
        assert_eq!(cell("date", json!("")), "<unknown>");
        assert_eq!(cell("date", json!(5)), Value::Null);
        assert_eq!(cell("boolean", json!(null)), Value::Null);
    }
}
