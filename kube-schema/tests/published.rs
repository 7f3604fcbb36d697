//! The published test data of `k8s.io/api`: each stable kind with every field filled, as JSON and as protobuf.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::io::Read as _;

use base64::Engine as _;
use kube_schema::protobuf;
use serde_json::Value;

fn published() -> Vec<(String, Value, Vec<u8>)> {
    let mut text = Vec::new();
    flate2::read::ZlibDecoder::new(&include_bytes!("fixtures/published.json.z")[..])
        .read_to_end(&mut text)
        .unwrap();
    let packed: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
    packed
        .into_iter()
        // A watch event travels without envelope.
        .filter(|(name, _)| name != "core.v1.WatchEvent")
        .map(|(name, object)| {
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(object["pb"].as_str().unwrap()).unwrap();
            (name, object["json"].clone(), bytes)
        })
        .collect()
}

/// The first difference as a path, so that a failure is readable.
fn difference(path: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                difference(
                    &format!("{path}.{key}"),
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                )
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| difference(&format!("{path}[{at}]"), a, b))
        }
        _ => (left != right).then(|| format!("{path}: {left} against {right}")),
    }
}

#[test]
fn published_protobuf_decodes_to_the_published_json() {
    let mut failures = Vec::new();
    for (name, json, bytes) in published() {
        match protobuf::decode(&bytes) {
            Ok((_, value)) => failures.extend(difference(&name, &value, &json)),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn published_json_encodes_to_the_published_bytes() {
    let mut failures = Vec::new();
    for (name, json, bytes) in published() {
        match protobuf::encode_object(&json) {
            Ok(ours) if ours == bytes => {}
            Ok(ours) => {
                let at = ours.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
                failures.push(format!(
                    "{name}: {} bytes against {}, first difference at {at}",
                    ours.len(),
                    bytes.len()
                ));
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}
