//! `/openapi/v2` and `/openapi/v3`: the documents that kubectl validates and explains with.

use federation_core::api;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use kube_schema::{
    Schemas,
    openapi::{
        Document, Documents, Extension, Resource, Subresource, V2_PROTOBUF, V2_PROTOBUF_OLD, V3_PROTOBUF,
        V3_PROTOBUF_OLD,
    },
};
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Value, json};

use crate::{
    http::{
        Body, body, compress,
        negotiate::{JSON, accept},
        query::Query,
    },
    registry::{Kind, KindRef, Registry},
    version,
};

/// The built-in definitions and those of our own kinds.
pub(crate) fn schemas() -> Schemas {
    let kinds: Vec<_> = Registry::get().kinds().iter().filter(|kind| !kind.built_in).collect();
    let definitions: Vec<_> = kinds.iter().map(|kind| own(kind)).collect();
    let own = kinds.iter().zip(&definitions);
    Schemas::builtin().with_kinds(own.map(|(kind, schema)| (kind.group, kind.version, kind.kind, schema)))
}

fn own(kind: &Kind) -> Value {
    match kind.kind {
        "Cluster" => spec_and_status::<api::ClusterSpec, api::ClusterStatus>("A member cluster."),
        "Placement" | "ClusterPlacement" => spec_and_status::<api::PlacementSpec, api::PlacementStatus>(
            "Where one template goes, and why. Made by the controller.",
        ),
        "PlacementPolicy" | "ClusterPlacementPolicy" => {
            spec_and_status::<api::PlacementPolicySpec, api::PolicyStatus>(
                "Placement rules for the objects that it selects.",
            )
        }
        "ClientRegions" => spec_and_status::<api::ClientRegionsSpec, api::ClientRegionsStatus>(
            "Regions of DNS clients, by address prefix.",
        ),
        "DNSZone" => {
            spec_and_status::<api::DNSZoneSpec, api::DNSZoneStatus>("What is particular to one DNS zone.")
        }
        "DNSRecordSet" => spec_and_status::<api::DNSRecordSetSpec, api::DNSRecordSetStatus>(
            "DNS records of one name and type.",
        ),
        "TrafficPolicy" => spec_and_status::<api::TrafficPolicySpec, api::TrafficPolicyStatus>(
            "DNS answers for one Service.",
        ),
        "FailoverDrill" => spec_and_status::<api::FailoverDrillSpec, api::FailoverDrillStatus>(
            "The rehearsal of a cluster's loss.",
        ),
        "DeletionBudget" => spec_and_status::<api::DeletionBudgetSpec, api::SafetyStatus>(
            "How much one cause may remove before a person is asked.",
        ),
        "HeldRemoval" => spec_and_status::<api::HeldRemovalSpec, api::SafetyStatus>(
            "Removals of one cause that are over budget. Made by the controller; a person decides.",
        ),
        "Trash" => spec_and_status::<api::TrashSpec, api::SafetyStatus>(
            "A deleted template as its user last wrote it. Made by the controller.",
        ),
        _ => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    }
}

fn spec_and_status<Spec: JsonSchema, Status: JsonSchema>(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {"spec": plain::<Spec>(), "status": plain::<Status>()},
    })
}

/// OpenAPI 3.0's dialect of JSON schema, written out without references.
fn plain<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    // They are the names of Rust's types.
    let untitled = RecursiveTransform(|schema: &mut Schema| {
        schema.remove("title");
    });
    let settings = settings.with_transform(untitled);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Builds all documents of this server.
pub(crate) fn documents(schemas: &Schemas, kinds: &[KindRef], extensions: &[Extension]) -> Documents {
    let resources: Vec<_> = kinds.iter().map(|kind| resource(kind)).collect();
    Documents::build(schemas, &resources, version::GIT_VERSION, extensions)
}

fn resource(kind: &Kind) -> Resource {
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let subresources = kind.all_subresources();
    // Streams have no schema.
    let described = subresources
        .iter()
        .filter(|part| !matches!(part.name, "attach" | "exec" | "log" | "portforward" | "proxy"));
    let subresources = described.map(|part| Subresource {
        name: part.name.into(),
        group: part.group.into(),
        version: part.version.into(),
        kind: part.kind.into(),
        verbs: strings(part.verbs),
    });
    Resource {
        group: kind.group.into(),
        version: kind.version.into(),
        kind: kind.kind.into(),
        plural: kind.plural.into(),
        namespaced: kind.namespaced(),
        verbs: strings(kind.verbs),
        subresources: subresources.collect(),
    }
}

/// The answer to a path below `/openapi`; none if there is no such document.
pub(crate) fn find(
    path: &str,
    query: &Query,
    headers: &HeaderMap,
    documents: &Documents,
) -> Option<Response<Body>> {
    match path {
        "/openapi/v2" => Some(v2(headers, documents)),
        "/openapi/v3" | "/openapi/v3/" => Some(tagged(headers, JSON, &documents.v3_index)),
        path => {
            let key = path.strip_prefix("/openapi/v3/")?;
            let document = documents.v3.get(key)?;
            match query.get("hash") {
                Some(hash) if hash != document.hash => {
                    let mut response = Response::new(body::empty());
                    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
                    let location = format!("/openapi/v3/{key}?hash={}", document.hash);
                    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).ok()?);
                    Some(response)
                }
                hash => {
                    let mut response = if wants_protobuf(headers, V3_PROTOBUF, V3_PROTOBUF_OLD) {
                        tagged_with(headers, V3_PROTOBUF, document, Document::v3_protobuf)
                    } else {
                        tagged(headers, JSON, document)
                    };
                    if hash.is_some() {
                        // The hash in the URL names the content for good.
                        let value = HeaderValue::from_static("public, immutable");
                        response.headers_mut().insert(header::CACHE_CONTROL, value);
                    }
                    Some(response)
                }
            }
        }
    }
}

/// Whether a client would rather have protobuf, whose name has two spellings.
fn wants_protobuf(headers: &HeaderMap, name: &str, old: &str) -> bool {
    let known = |kind: &str| kind.eq_ignore_ascii_case(name) || kind.eq_ignore_ascii_case(old);
    let chosen = accept(headers).iter().find_map(|range| match range.kind.as_str() {
        JSON | "*/*" => Some(false),
        kind => known(kind).then_some(true),
    });
    chosen == Some(true)
}

fn v2(headers: &HeaderMap, documents: &Documents) -> Response<Body> {
    if wants_protobuf(headers, V2_PROTOBUF, V2_PROTOBUF_OLD) {
        tagged(headers, V2_PROTOBUF, &documents.v2_protobuf)
    } else {
        tagged(headers, JSON, &documents.v2_json)
    }
}

fn tagged(headers: &HeaderMap, content_type: &'static str, document: &Document) -> Response<Body> {
    tagged_with(headers, content_type, document, Document::bytes)
}

fn tagged_with(
    headers: &HeaderMap,
    content_type: &'static str,
    document: &Document,
    bytes: impl FnOnce(&Document) -> Vec<u8>,
) -> Response<Body> {
    let etag = format!("\"{}\"", document.hash);
    let known =
        headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(etag.as_str());
    let mut response = if known {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        compress::bytes_for(headers, StatusCode::OK, content_type, bytes(document))
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    response
}
