//! OpenAPI 2.0 (Swagger): one document for everything.

use serde_json::{Map, Value, json};

use super::discovery::Endpoint;
use super::operation::{Body, Method, Operation, PRETTY, Query};
use super::{DELETE_OPTIONS, PATCH, Resource, custom, gvk_value, needed, operations, response_name};
use crate::Schemas;

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
            let adapted = if Schemas::is_builtin(name) { adapt(schema) } else { adapt(&custom::v2(schema)) };
            (name.to_owned(), adapted)
        })
        .collect();
    custom::describe_lists(schemas, resources, &mut definitions);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
        }},
        "security": [{"BearerToken": []}],
    })
}

fn render_endpoint(endpoint: &Endpoint) -> Value {
    let schema = endpoint.response.as_deref().map_or_else(|| json!({"type": "string"}), to);
    let mut get = json!({
        "tags": [endpoint.tag],
        "schemes": ["https"],
        "description": endpoint.description,
        "operationId": endpoint.id,
        "produces": endpoint.types,
        "responses": {
            "200": {"description": "OK", "schema": schema},
            "401": {"description": "Unauthorized"},
        },
    });
    if endpoint.response.is_some() {
        get["consumes"] = json!(endpoint.types);
    }
    json!({"get": get})
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
            json!({"name": name, "in": "path", "required": true, "description": text, "type": "string", "uniqueItems": true})
        })
        .collect();
    all.push(parameter(&PRETTY));
    all
}

fn parameter(query: &Query) -> Value {
    json!({"name": query.name, "in": "query", "description": query.text, "type": query.kind, "uniqueItems": true})
}

fn to(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}

fn render(schemas: &Schemas, operation: &Operation) -> Value {
    let (group, version, kind) = &operation.gvk;
    let schema = response_name(schemas, operation).map_or_else(|| json!({"type": "object"}), to);
    let codes: &[(&str, &str)] = match operation.method {
        Method::Get => &[("200", "OK")],
        Method::Put | Method::Patch => &[("200", "OK"), ("201", "Created")],
        Method::Post => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
        Method::Delete => &[("200", "OK"), ("202", "Accepted")],
    };
    let mut responses: Map<String, Value> = codes
        .iter()
        .map(|(code, text)| ((*code).to_owned(), json!({"description": text, "schema": schema})))
        .collect();
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    let mut parameters: Vec<Value> = operation.query.iter().map(parameter).collect();
    let mut consumes: &[&str] = &["*/*"];
    match operation.body {
        Body::None => {}
        Body::Object => {
            let schema = schemas.name_of(group, version, kind).map_or_else(|| json!({"type": "object"}), to);
            parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
        }
        Body::DeleteOptions => {
            parameters.push(json!({"name": "body", "in": "body", "schema": to(DELETE_OPTIONS)}));
        }
        Body::Patch => {
            parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": to(PATCH)}));
            consumes = operation.patch_types();
        }
    }
    json!({
        "tags": [operation.tag],
        "schemes": ["https"],
        "description": operation.description,
        "operationId": operation.id,
        "consumes": consumes,
        "produces": if operation.built_in { OBJECT_TYPES } else { &OBJECT_TYPES[..2] },
        "parameters": parameters,
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk_value(&operation.gvk),
    })
}

/// What Swagger 2.0 cannot say is left out, as kube-apiserver does for custom resources, and so are defaults, which clients would fill in.
const UNKNOWN_TO_V2: &[&str] = &["nullable", "oneOf", "anyOf", "not", "default"];

fn adapt(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let mut result = Map::new();
    for (key, value) in map {
        let value = match (key.as_str(), value) {
            (unknown, _) if UNKNOWN_TO_V2.contains(&unknown) => continue,
            ("$ref", Value::String(reference)) => {
                json!(reference.replace("#/components/schemas/", "#/definitions/"))
            }
            ("properties", Value::Object(properties)) => {
                Value::Object(properties.iter().map(|(name, schema)| (name.clone(), adapt(schema))).collect())
            }
            ("items" | "additionalProperties", value) => adapt(value),
            ("allOf", Value::Array(branches)) => branches.iter().map(adapt).collect(),
            (_, value) => value.clone(),
        };
        result.insert(key.clone(), value);
    }
    Value::Object(result)
}
