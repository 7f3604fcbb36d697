//! The protobuf form of an OpenAPI 3.0 document: `openapi.v3.Document` of google/gnostic (`openapiv3/OpenAPIv3.proto`).
//!
//! Only what our own documents hold is written. `*OrReference` is a choice: 1 the thing itself, 2 a reference.

use serde_json::Value;

use super::gnostic::{Object, any, count, extensions, flag, list, message, named, nested, text, texts};
use crate::protobuf::wire::{put_bytes, put_double, put_number};

pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(document) = document.as_object() else { return out };
    text(&mut out, 1, document, "openapi");
    nested(&mut out, 2, document, "info", |out, info| {
        text(out, 1, info, "title");
        text(out, 2, info, "description");
        text(out, 6, info, "version");
    });
    nested(&mut out, 4, document, "paths", |out, paths| {
        for (path, item) in paths {
            named(out, 1, path, item, path_item);
        }
    });
    nested(&mut out, 5, document, "components", |out, components| {
        nested(out, 1, components, "schemas", |out, schemas| {
            for (name, definition) in schemas {
                named(out, 1, name, definition, schema_or_reference);
            }
        });
        nested(out, 7, components, "securitySchemes", |out, schemes| {
            for (name, scheme) in schemes {
                named(out, 1, name, scheme, |out, scheme| {
                    message(out, 1, |out| {
                        for (number, key) in [(1, "type"), (2, "description"), (3, "name"), (4, "in")] {
                            text(out, number, scheme, key);
                        }
                    });
                });
            }
        });
    });
    out
}

fn path_item(out: &mut Vec<u8>, item: &Object) {
    for (number, method) in [(4, "get"), (5, "put"), (6, "post"), (7, "delete"), (9, "head"), (10, "patch")] {
        nested(out, number, item, method, operation);
    }
    parameters(out, 13, item);
    extensions(out, 14, item);
}

fn operation(out: &mut Vec<u8>, operation: &Object) {
    texts(out, 1, operation, "tags");
    text(out, 3, operation, "description");
    text(out, 5, operation, "operationId");
    parameters(out, 6, operation);
    nested(out, 7, operation, "requestBody", |out, body| {
        message(out, 1, |out| {
            text(out, 1, body, "description");
            content(out, 2, body);
            flag(out, 3, body, "required");
        });
    });
    nested(out, 8, operation, "responses", |out, responses| {
        for (code, response) in responses {
            named(out, 2, code, response, |out, response| {
                message(out, 1, |out| {
                    text(out, 1, response, "description");
                    content(out, 3, response);
                });
            });
        }
    });
    extensions(out, 13, operation);
}

fn parameters(out: &mut Vec<u8>, number: u32, owner: &Object) {
    for parameter in list(owner, "parameters").filter_map(Value::as_object) {
        message(out, number, |out| {
            message(out, 1, |out| {
                text(out, 1, parameter, "name");
                text(out, 2, parameter, "in");
                text(out, 3, parameter, "description");
                flag(out, 4, parameter, "required");
                nested(out, 10, parameter, "schema", schema_or_reference);
            });
        });
    }
}

fn content(out: &mut Vec<u8>, number: u32, owner: &Object) {
    nested(out, number, owner, "content", |out, types| {
        for (name, media) in types {
            named(out, 1, name, media, |out, media| nested(out, 1, media, "schema", schema_or_reference));
        }
    });
}

fn schema_or_reference(out: &mut Vec<u8>, object: &Object) {
    match object.get("$ref").and_then(Value::as_str) {
        Some(place) => message(out, 2, |out| put_bytes(out, 1, place.as_bytes())),
        None => message(out, 1, |out| schema(out, object)),
    }
}

fn schema(out: &mut Vec<u8>, object: &Object) {
    flag(out, 1, object, "nullable");
    text(out, 9, object, "title");
    for (number, key) in [(10, "multipleOf"), (11, "maximum"), (13, "minimum")] {
        if let Some(value) = object.get(key).and_then(Value::as_f64) {
            put_double(out, number, value);
        }
    }
    flag(out, 12, object, "exclusiveMaximum");
    flag(out, 14, object, "exclusiveMinimum");
    for (number, key) in [(15, "maxLength"), (16, "minLength"), (18, "maxItems"), (19, "minItems")] {
        count(out, number, object, key);
    }
    text(out, 17, object, "pattern");
    flag(out, 20, object, "uniqueItems");
    for (number, key) in [(21, "maxProperties"), (22, "minProperties")] {
        count(out, number, object, key);
    }
    texts(out, 23, object, "required");
    for value in list(object, "enum") {
        any(out, 24, value);
    }
    text(out, 25, object, "type");
    for (number, key) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for branch in list(object, key).filter_map(Value::as_object) {
            message(out, number, |out| schema_or_reference(out, branch));
        }
    }
    nested(out, 29, object, "not", schema);
    nested(out, 30, object, "items", |out, items| message(out, 1, |out| schema_or_reference(out, items)));
    nested(out, 31, object, "properties", |out, properties| {
        for (name, property) in properties {
            named(out, 1, name, property, schema_or_reference);
        }
    });
    match object.get("additionalProperties") {
        Some(Value::Object(inner)) => {
            message(out, 32, |out| message(out, 1, |out| schema_or_reference(out, inner)));
        }
        Some(Value::Bool(allowed)) => message(out, 32, |out| put_number(out, 2, u64::from(*allowed))),
        _ => {}
    }
    if let Some(default) = object.get("default") {
        message(out, 33, |out| match default {
            Value::Number(number) => put_double(out, 1, number.as_f64().unwrap_or_default()),
            Value::Bool(flag) => put_number(out, 2, u64::from(*flag)),
            Value::String(text) => put_bytes(out, 3, text.as_bytes()),
            // It has no other values.
            _ => {}
        });
    }
    text(out, 34, object, "description");
    text(out, 35, object, "format");
    extensions(out, 36, object);
}
