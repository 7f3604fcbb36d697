//! The protobuf form of an OpenAPI 2.0 document: `openapi.v2.Document` of google/gnostic (`openapiv2/OpenAPIv2.proto`).
//!
//! Only what our own documents hold is written. Free-form values (extensions, defaults, enums) are YAML text there, and JSON
//! is YAML.

use std::convert::Infallible;

use serde_json::{Map, Value};

use crate::protobuf::wire::{put_bytes, put_double, put_message, put_number};

pub(super) type Object = Map<String, Value>;

pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(document) = document.as_object() else { return out };
    text(&mut out, 1, document, "swagger");
    nested(&mut out, 2, document, "info", |out, info| {
        text(out, 1, info, "title");
        text(out, 2, info, "version");
    });
    nested(&mut out, 8, document, "paths", |out, paths| {
        for (path, item) in paths {
            named(out, 2, path, item, path_item);
        }
    });
    nested(&mut out, 9, document, "definitions", |out, definitions| {
        for (name, definition) in definitions {
            named(out, 1, name, definition, schema);
        }
    });
    for requirement in list(document, "security") {
        message(&mut out, 12, |out| {
            for name in requirement.as_object().into_iter().flat_map(Object::keys) {
                message(out, 1, |out| {
                    put_bytes(out, 1, name.as_bytes());
                    message(out, 2, |_| {});
                });
            }
        });
    }
    nested(&mut out, 13, document, "securityDefinitions", |out, definitions| {
        for (name, definition) in definitions {
            named(out, 1, name, definition, |out, definition| {
                message(out, 2, |out| {
                    text(out, 1, definition, "type");
                    text(out, 2, definition, "name");
                    text(out, 3, definition, "in");
                    text(out, 4, definition, "description");
                });
            });
        }
    });
    out
}

fn path_item(out: &mut Vec<u8>, item: &Object) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        nested(out, number, item, method, operation);
    }
    for value in list(item, "parameters") {
        parameter(out, 9, value);
    }
    extensions(out, 10, item);
}

fn operation(out: &mut Vec<u8>, operation: &Object) {
    texts(out, 1, operation, "tags");
    text(out, 3, operation, "description");
    text(out, 5, operation, "operationId");
    texts(out, 6, operation, "produces");
    texts(out, 7, operation, "consumes");
    for value in list(operation, "parameters") {
        parameter(out, 8, value);
    }
    nested(out, 9, operation, "responses", |out, responses| {
        for (code, response) in responses {
            named(out, 1, code, response, |out, response| {
                message(out, 1, |out| {
                    text(out, 1, response, "description");
                    nested(out, 2, response, "schema", |out, value| {
                        message(out, 1, |out| schema(out, value));
                    });
                });
            });
        }
    });
    texts(out, 10, operation, "schemes");
    extensions(out, 13, operation);
}

/// ParametersItem > Parameter > BodyParameter, or NonBodyParameter > Query or PathParameterSubSchema.
fn parameter(out: &mut Vec<u8>, number: u32, value: &Value) {
    let Some(parameter) = value.as_object() else { return };
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default();
    message(out, number, |out| {
        message(out, 1, |out| {
            if place == "body" {
                message(out, 1, |out| {
                    text(out, 1, parameter, "description");
                    text(out, 2, parameter, "name");
                    text(out, 3, parameter, "in");
                    flag(out, 4, parameter, "required");
                    nested(out, 5, parameter, "schema", schema);
                });
                return;
            }
            let (sub_schema, first, unique) = if place == "path" { (4, 5, 18) } else { (3, 6, 20) };
            message(out, 2, |out| {
                message(out, sub_schema, |out| {
                    flag(out, 1, parameter, "required");
                    text(out, 2, parameter, "in");
                    text(out, 3, parameter, "description");
                    text(out, 4, parameter, "name");
                    text(out, first, parameter, "type");
                    flag(out, unique, parameter, "uniqueItems");
                });
            });
        });
    });
}

fn schema(out: &mut Vec<u8>, schema_object: &Object) {
    let object = schema_object;
    text(out, 1, object, "$ref");
    text(out, 2, object, "format");
    text(out, 3, object, "title");
    text(out, 4, object, "description");
    if let Some(value) = object.get("default") {
        any(out, 5, value);
    }
    for (number, key) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        if let Some(value) = object.get(key).and_then(Value::as_f64) {
            put_double(out, number, value);
        }
    }
    flag(out, 8, object, "exclusiveMaximum");
    flag(out, 10, object, "exclusiveMinimum");
    for (number, key) in [(11, "maxLength"), (12, "minLength")] {
        count(out, number, object, key);
    }
    text(out, 13, object, "pattern");
    for (number, key) in [(14, "maxItems"), (15, "minItems")] {
        count(out, number, object, key);
    }
    flag(out, 16, object, "uniqueItems");
    for (number, key) in [(17, "maxProperties"), (18, "minProperties")] {
        count(out, number, object, key);
    }
    texts(out, 19, object, "required");
    for value in list(object, "enum") {
        any(out, 20, value);
    }
    match object.get("additionalProperties") {
        Some(Value::Object(inner)) => message(out, 21, |out| message(out, 1, |out| schema(out, inner))),
        Some(Value::Bool(allowed)) => message(out, 21, |out| put_number(out, 2, u64::from(*allowed))),
        _ => {}
    }
    if let Some(kind) = object.get("type").and_then(Value::as_str) {
        message(out, 22, |out| put_bytes(out, 1, kind.as_bytes()));
    }
    if let Some(inner) = object.get("items").and_then(Value::as_object) {
        message(out, 23, |out| message(out, 1, |out| schema(out, inner)));
    }
    for branch in list(object, "allOf").filter_map(Value::as_object) {
        message(out, 24, |out| schema(out, branch));
    }
    nested(out, 25, object, "properties", |out, properties| {
        for (name, property) in properties {
            named(out, 1, name, property, schema);
        }
    });
    extensions(out, 31, object);
}

// ---- small forms ----

pub(super) fn message(out: &mut Vec<u8>, number: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = put_message(out, number, |out| {
        body(out);
        Ok::<(), Infallible>(())
    });
}

pub(super) fn nested(
    out: &mut Vec<u8>,
    number: u32,
    object: &Object,
    key: &str,
    body: impl FnOnce(&mut Vec<u8>, &Object),
) {
    if let Some(inner) = object.get(key).and_then(Value::as_object) {
        message(out, number, |out| body(out, inner));
    }
}

/// A `Named*` pair: 1 the name, 2 the value.
pub(super) fn named(
    out: &mut Vec<u8>,
    number: u32,
    name: &str,
    value: &Value,
    body: impl FnOnce(&mut Vec<u8>, &Object),
) {
    let Some(object) = value.as_object() else { return };
    message(out, number, |out| {
        put_bytes(out, 1, name.as_bytes());
        message(out, 2, |out| body(out, object));
    });
}

pub(super) fn any(out: &mut Vec<u8>, number: u32, value: &Value) {
    message(out, number, |out| put_bytes(out, 2, value.to_string().as_bytes()));
}

pub(super) fn extensions(out: &mut Vec<u8>, number: u32, object: &Object) {
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
        message(out, number, |out| {
            put_bytes(out, 1, name.as_bytes());
            any(out, 2, value);
        });
    }
}

pub(super) fn text(out: &mut Vec<u8>, number: u32, object: &Object, key: &str) {
    if let Some(text) = object.get(key).and_then(Value::as_str) {
        put_bytes(out, number, text.as_bytes());
    }
}

pub(super) fn flag(out: &mut Vec<u8>, number: u32, object: &Object, key: &str) {
    if object.get(key).and_then(Value::as_bool) == Some(true) {
        put_number(out, number, 1);
    }
}

pub(super) fn count(out: &mut Vec<u8>, number: u32, object: &Object, key: &str) {
    if let Some(value) = object.get(key).and_then(Value::as_u64) {
        put_number(out, number, value);
    }
}

pub(super) fn texts(out: &mut Vec<u8>, number: u32, object: &Object, key: &str) {
    for text in list(object, key).filter_map(Value::as_str) {
        put_bytes(out, number, text.as_bytes());
    }
}

pub(super) fn list<'a>(object: &'a Object, key: &str) -> impl Iterator<Item = &'a Value> {
    object.get(key).and_then(Value::as_array).into_iter().flatten()
}
