//! Rows on disk.
//!
//! A row is `flags: u8, header length: u32 LE, header: JSON, body: the object's JSON`. The header holds the key and the
//! facts that selectors need, so that opening the store parses the headers alone. Where the
//! object is sealed ([`Encryption`]), the facts are sealed with the body, each after its length, and the header holds the key alone.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Change, Encryption, Failure, Key, Meta, ResourceKey, Stored};

/// The key went with this row.
const DELETED: u8 = 1;

#[derive(Serialize)]
struct HeaderRef<'a> {
    key: &'a Key,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a Meta>,
}

#[derive(Deserialize)]
struct Header {
    key: Key,
    meta: Option<Meta>,
}

/// Appends `length: u32 LE, JSON`.
fn put(row: &mut Vec<u8>, value: &impl Serialize) {
    let at = row.len();
    row.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *row, value)
        .expect("keys and facts are plain strings, and writing to memory cannot fail");
    let length = (row.len() - at - 4) as u32;
    row[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// The JSON that [`put`] wrote, and what follows it.
fn take<'a, T: Deserialize<'a>>(row: &'a [u8]) -> Result<(T, &'a [u8]), String> {
    let (length, rest) = row.split_first_chunk::<4>().ok_or("it is too short")?;
    let (json, rest) =
        rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or("its header is cut off")?;
    Ok((serde_json::from_slice(json).map_err(|error| error.to_string())?, rest))
}

/// Appends a change as a row.
pub(crate) fn append(row: &mut Vec<u8>, change: &Change, encryption: &Encryption) {
    let object = &change.object;
    let seals = encryption.seals(&object.key.resource);
    row.reserve(512 + object.bytes.len());
    row.push(if change.deleted { DELETED } else { 0 });
    put(row, &HeaderRef { key: &object.key, meta: (!seals).then_some(&object.meta) });
    if seals {
        let mut text = Vec::with_capacity(256 + object.bytes.len());
        put(&mut text, &object.meta);
        text.extend_from_slice(&object.bytes);
        row.extend_from_slice(&encryption.seal(&object.key, &text));
    } else {
        row.extend_from_slice(&object.bytes);
    }
}

/// A row whose body is as it is on the disk.
pub(crate) struct Row<'a> {
    pub(crate) key: Key,
    pub(crate) deleted: bool,
    pub(crate) body: &'a [u8],
    meta: Option<Meta>,
}

pub(crate) fn decode(revision: u64, row: &[u8], encryption: &Encryption) -> Result<Change, Failure> {
    let damaged = |what: &str| Failure::Damaged { revision, what: what.to_owned() };
    let Row { key, deleted, body, meta } = split(revision, row)?;
    let (meta, bytes) = match meta {
        Some(meta) => (meta, Bytes::copy_from_slice(body)),
        None => {
            let text = encryption
                .open(&key, body)
                .map_err(|why| Failure::Sealed { key: Box::new(key.clone()), why })?;
            let (meta, bytes) = take(&text).map_err(|what| damaged(&what))?;
            (meta, Bytes::copy_from_slice(bytes))
        }
    };
    Ok(Change { object: Arc::new(Stored { key, revision, bytes, meta }), deleted })
}

/// The row without a look into its body.
pub(crate) fn split(revision: u64, row: &[u8]) -> Result<Row<'_>, Failure> {
    let damaged = |what: &str| Failure::Damaged { revision, what: what.to_owned() };
    let (flags, rest) = row.split_first().ok_or_else(|| damaged("it is empty"))?;
    let (header, body): (Header, _) = take(rest).map_err(|what| damaged(&what))?;
    Ok(Row { key: header.key, deleted: flags & DELETED != 0, body, meta: header.meta })
}

/// `group NUL resource NUL`: where the resource's keys begin.
pub(crate) fn resource_prefix(resource: &ResourceKey) -> Vec<u8> {
    let mut path = Vec::with_capacity(96);
    for part in [&resource.group, &resource.resource] {
        path.extend_from_slice(part.as_bytes());
        path.push(0);
    }
    path
}

/// `group NUL resource NUL namespace NUL name NUL`, to which the index appends the revision, big-endian.
pub(crate) fn key_prefix(key: &Key) -> Vec<u8> {
    let mut path = resource_prefix(&key.resource);
    for part in [&key.namespace, &key.name] {
        path.extend_from_slice(part.as_bytes());
        path.push(0);
    }
    path
}

/// The index row's key for `key` at `revision`.
pub(crate) fn index_key(prefix: &[u8], revision: u64) -> Vec<u8> {
    let mut row = Vec::with_capacity(prefix.len() + 8);
    row.extend_from_slice(prefix);
    row.extend_from_slice(&revision.to_be_bytes());
    row
}

/// Splits an index row's key into the object's prefix and the revision.
pub(crate) fn split_index_key(row: &[u8]) -> Option<(&[u8], u64)> {
    let (prefix, revision) = row.split_last_chunk::<8>()?;
    Some((prefix, u64::from_be_bytes(*revision)))
}
