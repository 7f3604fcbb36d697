//! The OpenAPI documents, looked at as kubectl does.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use kube_schema::Schemas;
use kube_schema::openapi::{Documents, Resource, Subresource};
use serde_json::{Value, json};

fn resource(group: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    Resource {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced,
        verbs: verbs.map(str::to_owned).to_vec(),
        subresources: Vec::new(),
    }
}

fn build() -> Documents {
    let mut deployments = resource("apps", "Deployment", "deployments", true);
    let verbs = ["get", "patch", "update"].map(str::to_owned).to_vec();
    deployments.subresources = vec![
        Subresource {
            name: "status".into(),
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            verbs: verbs.clone(),
        },
        Subresource {
            name: "scale".into(),
            group: "autoscaling".into(),
            version: "v1".into(),
            kind: "Scale".into(),
            verbs,
        },
    ];
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}});
    let schemas = Schemas::builtin().with_kind("example.org", "v1", "Widget", &schema);
    let resources = [
        deployments,
        resource("", "Namespace", "namespaces", false),
        resource("", "ConfigMap", "configmaps", true),
        resource("", "Secret", "secrets", true),
        resource("", "Service", "services", true),
        resource("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false),
        resource("example.org", "Widget", "widgets", true),
    ];
    Documents::build(&schemas, &resources, "v1.37.0", &[])
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Object(map) => map.values().for_each(|value| walk(value, visit)),
        Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

#[test]
fn the_index_names_each_group_version_with_its_hash() {
    let documents = build();
    let index = parse(&documents.v3_index.bytes());
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", documents.v3["apis/apps/v1"].hash));
    assert!(index["paths"]["api/v1"].is_object() && index["paths"]["apis/example.org/v1"].is_object());
}

#[test]
fn what_is_no_resource_has_documents_as_well() {
    let documents = build();
    let keys: Vec<&str> = documents.v3.keys().map(String::as_str).collect();
    let expected = [
        ".well-known/openid-configuration",
        "api",
        "api/v1",
        "apis",
        "apis/apiextensions.k8s.io",
        "apis/apiextensions.k8s.io/v1",
        "apis/apps",
        "apis/apps/v1",
        "apis/example.org/v1",
        "openid/v1/jwks",
        "version",
    ];
    assert_eq!(keys, expected);
    let (apps, v2) = (parse(&documents.v3["apis/apps"].bytes()), parse(&documents.v2_json.bytes()));
    let get = &apps["paths"]["/apis/apps/"]["get"];
    assert_eq!((&get["operationId"], &get["tags"]), (&json!("getAppsAPIGroup"), &json!(["apps"])));
    let group = "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup";
    assert_eq!(
        get["responses"]["200"]["content"]["application/yaml"]["schema"]["$ref"],
        format!("#/components/schemas/{group}")
    );
    assert!(apps["components"]["schemas"][group].is_object());
    assert_eq!(apps["components"]["schemas"].as_object().unwrap().len(), 3, "and what it refers to");
    assert_eq!(
        v2["paths"]["/apis/apps/"]["get"]["responses"]["200"]["schema"]["$ref"],
        format!("#/definitions/{group}")
    );
    let resources = &parse(&documents.v3["apis/apps/v1"].bytes())["paths"]["/apis/apps/v1/"]["get"];
    assert_eq!(resources["operationId"], "getAppsV1APIResources");
    let keys = &parse(&documents.v3["openid/v1/jwks"].bytes())["paths"]["/openid/v1/jwks/"]["get"];
    assert_eq!(
        keys["responses"]["200"]["content"],
        json!({"application/jwk-set+json": {"schema": {"type": "string"}}})
    );
}

#[test]
fn every_patch_names_the_parameters_that_kubectl_looks_for() {
    let documents = build();
    for document in documents.v3.values().chain([&documents.v2_json]) {
        for (path, item) in parse(&document.bytes())["paths"].as_object().unwrap() {
            let Some(patch) = item.get("patch") else { continue };
            let names: Vec<&str> =
                patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
            for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
                assert!(names.contains(&name), "{path} lacks {name}");
            }
            assert!(patch["x-kubernetes-group-version-kind"]["kind"].is_string(), "{path}");
        }
    }
}

#[test]
fn documents_are_closed_over_their_references() {
    let documents = build();
    for (prefix, key, document) in documents
        .v3
        .values()
        .map(|document| ("#/components/schemas/", "/components/schemas", document))
        .chain([("#/definitions/", "/definitions", &documents.v2_json)])
    {
        let value = parse(&document.bytes());
        let defined = value.pointer(key).unwrap().as_object().unwrap();
        walk(&value, &mut |value| {
            if let Some(Value::String(reference)) = value.get("$ref") {
                assert!(defined.contains_key(reference.strip_prefix(prefix).unwrap()), "{reference}");
            }
        });
    }
}

#[test]
fn defaults_and_enumerations_are_told_where_openapi_has_them() {
    let documents = build();
    let apps = parse(&documents.v3["apis/apps/v1"].bytes());
    let property = |definition: &str, name: &str| {
        apps["components"]["schemas"][format!("io.k8s.api.{definition}")]["properties"][name].clone()
    };
    assert_eq!(property("apps.v1.Deployment", "spec")["default"], json!({}));
    assert_eq!(property("apps.v1.DeploymentSpec", "replicas")["default"], Value::Null, "a pointer");
    assert_eq!(property("core.v1.PodSpec", "containers")["items"]["default"], json!({}));
    assert_eq!(property("core.v1.PodSpec", "nodeSelector")["additionalProperties"]["default"], "");
    assert_eq!(property("core.v1.ContainerPort", "containerPort")["default"], 0);
    assert_eq!(property("core.v1.ContainerPort", "hostPort")["default"], Value::Null, "it may be left out");
    assert_eq!(
        property("core.v1.ResourceRequirements", "limits")["additionalProperties"]["default"],
        Value::Null
    );
    let protocol = property("core.v1.ContainerPort", "protocol");
    assert_eq!((&protocol["default"], &protocol["enum"]), (&json!("TCP"), &json!(["SCTP", "TCP", "UDP"])));
    assert!(protocol["description"].as_str().unwrap().contains("Possible enum values:\n - `\"SCTP\"` is"));
    // Clients would fill the defaults of version 2 in.
    let v2 = parse(&documents.v2_json.bytes());
    let port = &v2["definitions"]["io.k8s.api.core.v1.ContainerPort"]["properties"];
    assert_eq!((&port["protocol"]["enum"], &port["protocol"]["default"]), (&protocol["enum"], &Value::Null));
}

#[test]
fn documents_are_the_same_for_the_same_registry() {
    let (one, two) = (build(), build());
    assert_eq!(one.v3_index.hash, two.v3_index.hash);
    assert_eq!(one.v2_protobuf.hash, two.v2_protobuf.hash);
}

#[test]
fn the_protobuf_document_starts_with_the_swagger_version() {
    // Document.swagger = 1, then Document.info = 2.
    assert!(build().v2_protobuf.bytes().starts_with(b"\x0a\x032.0\x12"));
}

/// Set KUBE_SCHEMA_DUMP to a folder to look at the documents, or to serve them to a real client.
#[test]
fn documents_can_be_dumped() {
    let Some(folder) = std::env::var_os("KUBE_SCHEMA_DUMP").map(std::path::PathBuf::from) else { return };
    let documents = build();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("v3", &documents.v3_index.bytes());
    write("v2.json", &documents.v2_json.bytes());
    write("v2.pb", &documents.v2_protobuf.bytes());
    for (key, document) in &documents.v3 {
        write(&format!("v3.{}", key.replace('/', ".")), &document.bytes());
    }
}

/// The fields of a message that are bytes: number and contents. Nothing is known of what they hold.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        match tag & 7 {
            0 => drop(number(&mut bytes)),
            1 => bytes = &bytes[8..],
            2 => {
                let length = number(&mut bytes) as usize;
                found.push((tag >> 3, &bytes[..length]));
                bytes = &bytes[length..];
            }
            other => panic!("wire type {other}"),
        }
    }
    found
}

/// The only field of a number.
fn field(bytes: &[u8], number: u64) -> &[u8] {
    fields(bytes).into_iter().find(|(found, _)| *found == number).unwrap().1
}

#[test]
fn documents_of_version_3_have_a_protobuf_form() {
    let documents = build();
    let document = &documents.v3["apis/apps/v1"];
    let json = parse(&document.bytes());
    let bytes = document.v3_protobuf();
    assert_eq!(field(&bytes, 1), b"3.0.0");
    assert_eq!(field(field(&bytes, 2), 6), b"v1.37.0");
    let named = |bytes| -> Vec<String> {
        fields(bytes).iter().map(|(_, pair)| String::from_utf8(field(pair, 1).to_vec()).unwrap()).collect()
    };
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(named(field(&bytes, 4)), keys(&json["paths"]));
    let schemas = field(field(&bytes, 5), 1);
    assert_eq!(named(schemas), keys(&json["components"]["schemas"]));
    // The replicas of a DeploymentSpec: an int32.
    let spec = fields(schemas)
        .into_iter()
        .find(|(_, pair)| field(pair, 1) == b"io.k8s.api.apps.v1.DeploymentSpec")
        .unwrap()
        .1;
    let properties = field(field(field(spec, 2), 1), 31);
    let replicas = fields(properties).into_iter().find(|(_, pair)| field(pair, 1) == b"replicas").unwrap().1;
    let schema = field(field(replicas, 2), 1);
    assert_eq!((field(schema, 25), field(schema, 35)), (&b"integer"[..], &b"int32"[..]));
}
