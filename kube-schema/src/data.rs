//! The embedded data files (see NOTICE for their sources), inflated on demand.

use std::io::Read as _;

use serde_json::{Map, Value};

/// OpenAPI definitions, name → schema, as JSON.
pub(crate) fn openapi() -> Vec<u8> {
    inflate(include_bytes!("../data/openapi.json.z"))
}

/// Message tables, full name → fields.
pub(crate) fn protobuf() -> Value {
    let parse = |text: &[u8]| -> Map<String, Value> {
        serde_json::from_slice(text).expect("invariant: the embedded data is JSON")
    };
    let mut tables = parse(&inflate(include_bytes!("../data/protobuf.json.z")));
    tables.extend(parse(include_bytes!("../data/protobuf-others.json")));
    Value::Object(tables)
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::ZlibDecoder::new(bytes)
        .read_to_end(&mut text)
        .expect("invariant: the embedded data is a whole zlib stream");
    text
}
