//! Behaviour of the storage, of every engine, and of the embedded one under kill -9.

#![allow(clippy::unwrap_used, clippy::panic)]

mod conformance;
mod crash;
mod encryption;
mod kms;
mod log;
mod storage;

use serde_json::{Value, json};

use super::*;

fn mk_key(name: &str) -> Key {
    mk_key_in("default", name)
}

fn mk_key_in(namespace: &str, name: &str) -> Key {
    Key::new(ResourceKey::new("", "configmaps"), namespace, name)
}

fn mk_object(name: &str, value: &str) -> Encoded {
    let object: Value = json!({"kind": "ConfigMap", "metadata": {"name": name, "labels": {"v": value}}, "data": {"k": value}});
    let meta = Meta::from_value(&object, Default::default());
    Encoded::new(&object, meta)
}

fn create(name: &str, value: &str) -> Write {
    Write::Create { key: mk_key(name), object: mk_object(name, value), within: None }
}

fn update(name: &str, expect: Option<u64>, value: &str) -> Write {
    Write::Update { key: mk_key(name), expect, object: mk_object(name, value) }
}

fn delete(name: &str, expect: Option<u64>) -> Write {
    Write::Delete { key: mk_key(name), expect, last: mk_object(name, "last") }
}

/// Whether a file of the folder has the text in it.
fn on_disk(folder: &std::path::Path, text: &str) -> bool {
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.any(|file| {
        let bytes = if file.file_type().unwrap().is_file() {
            std::fs::read(file.path()).unwrap()
        } else {
            Vec::new()
        };
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
