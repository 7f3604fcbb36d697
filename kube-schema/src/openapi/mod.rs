//! The documents at `/openapi/v2` and `/openapi/v3`, made from a list of resources.
//!
//! kubectl reads them before it sends anything: it validates against them, looks there for the parameters of PATCH
//! (dryRun, fieldManager, fieldValidation, force), and prints them in `explain`.

pub(crate) mod custom;
mod discovery;
mod gnostic;
mod gnostic3;
mod operation;
mod v2;
mod v3;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::Schemas;

/// The media type of the protobuf form of `/openapi/v2` in the spelling of newer servers.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The spelling that clients ask for; it is not a legal media type, and newer servers accept it all the same.
pub const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The same of `/openapi/v3/…`.
pub const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
/// The spelling that clients ask for.
pub const V3_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

/// A resource as the registry knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resource {
    /// `apps`, empty for core.
    pub group: String,
    /// `v1`
    pub version: String,
    /// `Deployment`
    pub kind: String,
    /// `deployments`
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// The discovery verbs: create, delete, deletecollection, get, list, patch, update, watch.
    pub verbs: Vec<String>,
    /// status, scale, token and the like.
    pub subresources: Vec<Subresource>,
}

/// A subresource with the kind it takes and gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subresource {
    /// `scale`
    pub name: String,
    /// Group of the kind: `autoscaling`.
    pub group: String,
    /// Version of the kind: `v1`.
    pub version: String,
    /// `Scale`
    pub kind: String,
    /// get, update, patch, create
    pub verbs: Vec<String>,
}

/// One finished document. It is kept compressed: together they are some megabytes, and clients ask for them once in a while.
#[derive(Debug, Clone)]
pub struct Document {
    compressed: Bytes,
    /// SHA-512 of the body in upper-case hexadecimal, as Kubernetes prints it: the `hash` of its URL and its ETag (in quotes).
    pub hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        use std::fmt::Write as _;
        let hash = Sha512::digest(&bytes).iter().fold(String::with_capacity(128), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02X}");
            text
        });
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        let compressed = encoder
            .write_all(&bytes)
            .and_then(|()| encoder.finish())
            .expect("invariant: writing to memory cannot fail");
        Self { compressed: compressed.into(), hash }
    }

    /// The body.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ZlibDecoder::new(self.compressed.as_ref())
            .read_to_end(&mut bytes)
            .expect("invariant: what was compressed here is a whole stream");
        bytes
    }

    /// The body of a document of version 3 as [`V3_PROTOBUF`]. It is made anew each time: clients ask for JSON.
    pub fn v3_protobuf(&self) -> Vec<u8> {
        serde_json::from_slice(&self.bytes()).map(|document| gnostic3::encode(&document)).unwrap_or_default()
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }
}

/// All documents of one state of the registry. Build it anew when a kind comes or goes.
#[derive(Debug, Clone)]
pub struct Documents {
    /// `/openapi/v3`
    pub v3_index: Document,
    /// `/openapi/v3/KEY` by key: `api/v1`, `apis/apps/v1`, and `version` and the like.
    pub v3: BTreeMap<String, Document>,
    /// `/openapi/v2` as JSON.
    pub v2_json: Document,
    /// `/openapi/v2` as [`V2_PROTOBUF`].
    pub v2_protobuf: Document,
}

/// What another server says of a group version that is served through this one.
#[derive(Debug, Clone, Default)]
pub struct Extension {
    /// `apis/GROUP/VERSION`
    pub key: String,
    /// Path and query of its document of version 3, if it has one: `/openapi/v3/apis/GROUP/VERSION?hash=…`.
    pub v3: Option<String>,
    /// Its whole document of version 2; null if it has none.
    pub v2: Value,
}

impl Extension {
    /// Adds its paths to a document, and the definitions that it does not have yet.
    fn extend(&self, document: &mut Value) {
        let below = format!("/{}", self.key);
        let own = |path: &str| {
            path.strip_prefix(&below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        for (part, all) in [("paths", false), ("definitions", true)] {
            let (Some(from), Some(to)) = (self.v2[part].as_object(), document[part].as_object_mut()) else {
                continue;
            };
            for (name, value) in from.iter().filter(|(name, _)| all || own(name)) {
                to.entry(name.as_str()).or_insert_with(|| value.clone());
            }
        }
    }
}

impl Documents {
    /// Builds every document. `schemas` holds the definitions of all kinds of `resources` (see [`Schemas::with_kind`]); a kind
    /// without definition appears as an open object. `version` is the server's, as `v1.37.0`. What `extensions` say is added.
    ///
    /// It costs some tens of milliseconds: not for each request.
    pub fn build(schemas: &Schemas, resources: &[Resource], version: &str, extensions: &[Extension]) -> Self {
        let mut groups: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
        for resource in resources {
            let key = operation::prefix(&resource.group, &resource.version);
            groups.entry(key.trim_start_matches('/').to_owned()).or_default().push(resource);
        }
        let endpoints = discovery::endpoints(schemas, resources);
        let keys: BTreeSet<&String> = groups.keys().chain(endpoints.keys()).collect();
        let v3: BTreeMap<String, Document> = keys
            .into_iter()
            .map(|key| {
                let resources = groups.get(key).map_or(&[][..], Vec::as_slice);
                let endpoints = endpoints.get(key).map_or(&[][..], Vec::as_slice);
                (key.clone(), Document::json(&v3::document(schemas, resources, endpoints, version)))
            })
            .collect();
        let paths: serde_json::Map<String, Value> = v3
            .iter()
            .map(|(key, document)| {
                (
                    key.clone(),
                    json!({"serverRelativeURL": format!("/openapi/v3/{key}?hash={}", document.hash)}),
                )
            })
            .chain(extensions.iter().filter_map(|extension| {
                Some((extension.key.clone(), json!({"serverRelativeURL": extension.v3.as_ref()?})))
            }))
            .collect();
        let all: Vec<&Resource> = resources.iter().collect();
        let endpoints: Vec<_> = endpoints.into_values().flatten().collect();
        let mut v2 = v2::document(schemas, &all, &endpoints, version);
        for extension in extensions {
            extension.extend(&mut v2);
        }
        Self {
            v3_index: Document::json(&json!({ "paths": paths })),
            v3,
            v2_protobuf: Document::new(gnostic::encode(&v2)),
            v2_json: Document::json(&v2),
        }
    }
}

/// The names of all definitions that the given ones need, themselves included.
pub(crate) fn closure<'a>(
    schemas: &'a Schemas,
    start: impl IntoIterator<Item = &'a str>,
) -> BTreeMap<&'a str, &'a Value> {
    let mut found = BTreeMap::new();
    let mut wanted: Vec<&str> = start.into_iter().collect();
    while let Some(name) = wanted.pop() {
        if let (false, Some(schema)) = (found.contains_key(name), schemas.definition(name)) {
            found.insert(name, schema);
            references(schema, &mut wanted);
        }
    }
    found
}

fn references<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
    match schema {
        Value::Object(map) => {
            found.extend(crate::schemas::reference(schema));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// The definition that an operation answers with.
fn response_name<'a>(schemas: &'a Schemas, operation: &operation::Operation) -> Option<&'a str> {
    let (group, version, kind) = &operation.gvk;
    match operation.response {
        operation::Response::Object => schemas.name_of(group, version, kind),
        operation::Response::List => schemas.name_of(group, version, &format!("{kind}List")),
        operation::Response::Status => schemas.name_of("", "v1", "Status").or(Some(STATUS)),
    }
}

/// Everything that documents about these operations and endpoints must define.
fn needed<'a>(
    schemas: &'a Schemas,
    operations: &'a [operation::Operation],
    endpoints: &'a [discovery::Endpoint],
) -> BTreeMap<&'a str, &'a Value> {
    let kinds = operations.iter().filter_map(|operation| {
        let (group, version, kind) = &operation.gvk;
        schemas.name_of(group, version, kind)
    });
    let responses = operations.iter().filter_map(|operation| response_name(schemas, operation));
    let common = if operations.is_empty() { &[][..] } else { &[DELETE_OPTIONS, STATUS, PATCH][..] };
    let described = endpoints.iter().filter_map(|endpoint| endpoint.response.as_deref());
    closure(schemas, kinds.chain(responses).chain(common.iter().copied()).chain(described))
}

fn operations(schemas: &Schemas, resources: &[&Resource]) -> Vec<operation::Operation> {
    resources
        .iter()
        .flat_map(|resource| {
            let built_in = schemas
                .name_of(&resource.group, &resource.version, &resource.kind)
                .is_some_and(Schemas::is_builtin);
            operation::operations(resource, built_in)
        })
        .collect()
}

fn gvk_value(gvk: &(String, String, String)) -> Value {
    json!({"group": gvk.0, "version": gvk.1, "kind": gvk.2})
}
