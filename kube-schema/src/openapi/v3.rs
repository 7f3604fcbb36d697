//! OpenAPI 3.0: one document for each group version.

use serde_json::{Map, Value, json};

use super::discovery::Endpoint;
use super::operation::{Body, Method, Operation, PRETTY, Query};
use super::{DELETE_OPTIONS, PATCH, Resource, custom, gvk_value, needed, operations, response_name};
use crate::Schemas;

const PREFIX: &str = "#/components/schemas/";
const OBJECT_TYPES: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

pub(super) fn document(
    schemas: &Schemas,
    resources: &[&Resource],
    endpoints: &[Endpoint],
    version: &str,
) -> Value {
    let operations = operations(schemas, resources);
    let mut paths: Map<String, Value> = Map::new();
    for operation in &operations {
        let item = paths
            .entry(operation.path.clone())
            .or_insert_with(|| json!({"parameters": path_level(operation)}));
        if let Some(item) = item.as_object_mut() {
            item.insert(operation.method.name().to_owned(), render(schemas, operation));
        }
    }
    paths.extend(endpoints.iter().map(|endpoint| (endpoint.path.clone(), render_endpoint(endpoint))));
    let mut definitions: Map<String, Value> = needed(schemas, &operations, endpoints)
        .into_iter()
        .map(|(name, schema)| {
            let builtin = Schemas::is_builtin(name);
            let adapted = if builtin { adapt(name, schema) } else { adapt(name, &custom::v3(schema)) };
            (name.to_owned(), adapted)
        })
        .collect();
    custom::describe_lists(schemas, resources, &mut definitions);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
            }},
        },
    })
}

fn render_endpoint(endpoint: &Endpoint) -> Value {
    let schema = endpoint.response.as_deref().map_or_else(|| json!({"type": "string"}), to);
    let content: Map<String, Value> =
        endpoint.types.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
    json!({"get": {
        "tags": [endpoint.tag],
        "description": endpoint.description,
        "operationId": endpoint.id,
        "responses": {
            "200": {"description": "OK", "content": content},
            "401": {"description": "Unauthorized"},
        },
    }})
}

fn path_level(operation: &Operation) -> Vec<Value> {
    let mut all: Vec<Value> = operation
        .path_parameters()
        .into_iter()
        .map(|name| {
            let text = if name == "name" {
                format!("name of the {}", operation.gvk.2)
            } else {
                "object name and auth scope, such as for teams and projects".to_owned()
            };
            json!({"name": name, "in": "path", "required": true, "description": text,
                "schema": {"type": "string", "uniqueItems": true}})
        })
        .collect();
    all.push(parameter(&PRETTY));
    all
}

fn parameter(query: &Query) -> Value {
    json!({"name": query.name, "in": "query", "description": query.text, "schema": {"type": query.kind, "uniqueItems": true}})
}

fn to(name: &str) -> Value {
    json!({"$ref": format!("{PREFIX}{name}")})
}

fn render(schemas: &Schemas, operation: &Operation) -> Value {
    let (group, version, kind) = &operation.gvk;
    let schema = response_name(schemas, operation).map_or_else(|| json!({"type": "object"}), to);
    let types = if operation.built_in { OBJECT_TYPES } else { &OBJECT_TYPES[..2] };
    let content: Map<String, Value> =
        types.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
    let mut responses = Map::new();
    let codes: &[(&str, &str)] = match operation.method {
        Method::Get => &[("200", "OK")],
        Method::Put | Method::Patch => &[("200", "OK"), ("201", "Created")],
        Method::Post => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
        Method::Delete => &[("200", "OK"), ("202", "Accepted")],
    };
    for (code, text) in codes {
        responses.insert((*code).to_owned(), json!({"description": text, "content": content}));
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    let mut rendered = json!({
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
        "parameters": operation.query.iter().map(parameter).collect::<Vec<_>>(),
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk_value(&operation.gvk),
    });
    let body = match operation.body {
        Body::None => None,
        Body::Object => {
            let schema = schemas.name_of(group, version, kind).map_or_else(|| json!({"type": "object"}), to);
            Some(json!({"required": true, "content": {"*/*": {"schema": schema}}}))
        }
        Body::DeleteOptions => Some(json!({"content": {"*/*": {"schema": to(DELETE_OPTIONS)}}})),
        Body::Patch => {
            let content: Map<String, Value> = operation
                .patch_types()
                .iter()
                .map(|media| ((*media).to_owned(), json!({"schema": to(PATCH)})))
                .collect();
            Some(json!({"required": true, "content": content}))
        }
    };
    if let (Some(body), Some(object)) = (body, rendered.as_object_mut()) {
        object.insert("requestBody".into(), body);
    }
    rendered
}

/// In 3.0 a reference has no siblings: what stands beside it moves out by `allOf`. The two scalar unions say so.
fn adapt(name: &str, schema: &Value) -> Value {
    let mut adapted = siblings(schema);
    let union: &[&str] = match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => &["string", "number"],
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => &["integer", "string"],
        _ => &[],
    };
    if let (Some(object), false) = (adapted.as_object_mut(), union.is_empty()) {
        object.remove("type");
        object.insert("oneOf".into(), union.iter().map(|kind| json!({"type": kind})).collect());
    }
    adapted
}

fn siblings(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut result: Map<String, Value> =
                map.iter().map(|(key, value)| (key.clone(), siblings(value))).collect();
            // A property may be called $ref (JSONSchemaProps): only a string is a reference.
            if result.len() > 1 && result.get("$ref").is_some_and(Value::is_string) {
                let reference = result.remove("$ref");
                result.insert("allOf".into(), json!([{"$ref": reference}]));
            }
            Value::Object(result)
        }
        Value::Array(items) => items.iter().map(siblings).collect(),
        other => other.clone(),
    }
}
