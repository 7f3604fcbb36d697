//! One record of the log.

use bytes::Bytes;
use hub_protocol::agent::{Entry, Persist, State};
use hub_protocol::{Key, content_hash};
use serde::{Deserialize, Serialize};

/// No message of the hub holds more ([`hub_protocol::MESSAGE_LIMIT`]), so that a record that says so is damage.
const RECORD_LIMIT: u32 = 16 << 20;

/// Length of the header, length of the manifest, hash of both.
const HEAD: usize = 4 + 4 + 8;

#[derive(Serialize, Deserialize)]
enum Header {
    Put {
        group: String,
        version: String,
        kind: String,
        resource: String,
        namespace: String,
        name: String,
        uid: String,
        generation: i64,
        epoch: u64,
        conflict: i32,
        state: u8,
        #[serde(default)]
        lease_ms: u32,
        #[serde(default)]
        stopped: bool,
    },
    Forget {
        group: String,
        resource: String,
        namespace: String,
        name: String,
    },
    Meta {
        epoch: u64,
        incarnation: String,
    },
}

/// Length of the header, length of the manifest, hash of both, header (JSON), manifest.
pub(super) fn encode(persist: &Persist) -> Vec<u8> {
    let (header, manifest) = match persist {
        Persist::Put(entry) => {
            let key = entry.key.clone();
            let header = Header::Put {
                group: key.group,
                version: key.version,
                kind: key.kind,
                resource: key.resource,
                namespace: key.namespace,
                name: key.name,
                uid: entry.uid.clone(),
                generation: entry.generation,
                epoch: entry.epoch,
                conflict: entry.conflict.into(),
                state: match entry.state {
                    State::Held => 0,
                    State::Removing => 1,
                    State::Releasing => 2,
                },
                lease_ms: entry.lease_ms,
                stopped: entry.stopped,
            };
            (header, entry.manifest.clone())
        }
        Persist::Forget(key) => {
            let key = key.clone();
            (
                Header::Forget {
                    group: key.group,
                    resource: key.resource,
                    namespace: key.namespace,
                    name: key.name,
                },
                Bytes::new(),
            )
        }
        Persist::Meta { epoch, incarnation } => {
            (Header::Meta { epoch: *epoch, incarnation: incarnation.clone() }, Bytes::new())
        }
        // Not in the log.
        Persist::Plans(_) => return Vec::new(),
    };
    let header = serde_json::to_vec(&header).expect("invariant: strings and numbers always make JSON");
    let mut body = header.clone();
    body.extend_from_slice(&manifest);
    let mut record = Vec::with_capacity(HEAD + body.len());
    record.extend_from_slice(&(header.len() as u32).to_le_bytes());
    record.extend_from_slice(&(manifest.len() as u32).to_le_bytes());
    record.extend_from_slice(&content_hash(&body).to_le_bytes());
    record.extend_from_slice(&body);
    record
}

/// What the log goes on with.
pub(super) enum Found<'a> {
    /// A record, and what is behind it.
    Record(Box<Persist>, &'a [u8]),
    /// A whole record of a sort that this version does not know.
    Unknown,
    /// The end, or no whole record.
    Nothing,
}

pub(super) fn decode(bytes: &[u8]) -> Found<'_> {
    let Some((header, manifest, after)) = split(bytes) else { return Found::Nothing };
    match understand(header, manifest) {
        Some(persist) => Found::Record(Box::new(persist), after),
        None => Found::Unknown,
    }
}

/// Whether a whole record begins anywhere behind the first octet. Looked for by how headers begin, so that hashes are made of little
/// else than records.
pub(super) fn whole_record_within(bytes: &[u8]) -> bool {
    let begins = |at: &usize| bytes.get(at + HEAD..).is_some_and(|header| header.starts_with(b"{\""));
    (1..bytes.len()).filter(begins).any(|at| bytes.get(at..).is_some_and(|rest| split(rest).is_some()))
}

/// Header, manifest and what is behind, of a record whose hash is right.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (header_length, rest) = bytes.split_first_chunk::<4>()?;
    let (manifest_length, rest) = rest.split_first_chunk::<4>()?;
    let (hash, rest) = rest.split_first_chunk::<8>()?;
    let (header_length, manifest_length) =
        (u32::from_le_bytes(*header_length), u32::from_le_bytes(*manifest_length));
    if header_length > RECORD_LIMIT || manifest_length > RECORD_LIMIT {
        return None;
    }
    let (body, after) = rest.split_at_checked(header_length as usize + manifest_length as usize)?;
    if content_hash(body) != u64::from_le_bytes(*hash) {
        return None;
    }
    let (header, manifest) = body.split_at_checked(header_length as usize)?;
    Some((header, manifest, after))
}

fn understand(header: &[u8], manifest: &[u8]) -> Option<Persist> {
    Some(match serde_json::from_slice(header).ok()? {
        Header::Put {
            group,
            version,
            kind,
            resource,
            namespace,
            name,
            uid,
            generation,
            epoch,
            conflict,
            state,
            lease_ms,
            stopped,
        } => Persist::Put(Entry {
            key: Key { group, version, kind, resource, namespace, name },
            uid,
            generation,
            epoch,
            manifest: Bytes::copy_from_slice(manifest),
            conflict: conflict.try_into().unwrap_or_default(),
            lease_ms,
            stopped,
            // Kept beside the log, with the plans.
            floor: 0,
            state: match state {
                0 => State::Held,
                1 => State::Removing,
                2 => State::Releasing,
                _ => return None,
            },
        }),
        Header::Forget { group, resource, namespace, name } => {
            Persist::Forget(Key { group, resource, namespace, name, ..Key::default() })
        }
        Header::Meta { epoch, incarnation } => Persist::Meta { epoch, incarnation },
    })
}
