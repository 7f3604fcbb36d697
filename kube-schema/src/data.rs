//! The embedded data files (see NOTICE for their sources), inflated on demand.

use std::io::Read as _;

use serde_json::Value;

/// OpenAPI definitions, name → schema, as JSON.
pub(crate) fn openapi() -> Vec<u8> {
    inflate(include_bytes!("../data/openapi.json.z"))
}

/// Message tables, full name → fields.
pub(crate) fn protobuf() -> Value {
    serde_json::from_slice(&inflate(include_bytes!("../data/protobuf.json.z")))
        .expect("invariant: the embedded data is JSON")
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::ZlibDecoder::new(bytes)
        .read_to_end(&mut text)
        .expect("invariant: the embedded data is a whole zlib stream");
    text
}
