//! Rows on disk.
//!
//! A row is `flags: u8, header length: u32 LE, header: JSON, body: the object's JSON`. The header holds the key and the
//! facts that selectors need, so that opening the store parses the headers alone.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Change, Failure, Key, Meta, ResourceKey, Stored};

/// The key went with this row.
const DELETED: u8 = 1;
/// Flags and header length.
const PREFIX: usize = 5;

#[derive(Serialize)]
struct HeaderRef<'a> {
    key: &'a Key,
    meta: &'a Meta,
}

#[derive(Deserialize)]
struct Header {
    key: Key,
    meta: Meta,
}

pub(crate) fn encode(change: &Change) -> Vec<u8> {
    let object = &change.object;
    let mut row = Vec::with_capacity(PREFIX + 256 + object.bytes.len());
    row.extend_from_slice(&[if change.deleted { DELETED } else { 0 }, 0, 0, 0, 0]);
    serde_json::to_writer(&mut row, &HeaderRef { key: &object.key, meta: &object.meta })
        .expect("keys and facts are plain strings, and writing to memory cannot fail");
    let length = (row.len() - PREFIX) as u32;
    row[1..PREFIX].copy_from_slice(&length.to_le_bytes());
    row.extend_from_slice(&object.bytes);
    row
}

pub(crate) fn decode(revision: u64, row: &[u8]) -> Result<Change, Failure> {
    let damaged = |what: &str| Failure::Damaged { revision, what: what.to_owned() };
    let (prefix, rest) = row.split_first_chunk::<PREFIX>().ok_or_else(|| damaged("it is too short"))?;
    let [flags, length @ ..] = *prefix;
    let (header, body) = rest
        .split_at_checked(u32::from_le_bytes(length) as usize)
        .ok_or_else(|| damaged("its header is cut off"))?;
    let header: Header = serde_json::from_slice(header).map_err(|error| damaged(&error.to_string()))?;
    Ok(Change {
        object: Arc::new(Stored {
            key: header.key,
            revision,
            bytes: Bytes::copy_from_slice(body),
            meta: header.meta,
        }),
        deleted: flags & DELETED != 0,
    })
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
