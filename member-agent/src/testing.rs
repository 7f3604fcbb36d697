//! Fixtures for this crate's tests.

use bytes::Bytes;
use hub_protocol::Key;
use hub_protocol::agent::{Entry, State};
use proto::v1;

/// Something that is held here, by the first decision about it, without a lease and without a plan.
pub(crate) fn held(key: Key, manifest: &str) -> Entry {
    Entry {
        key,
        uid: "t".into(),
        generation: 1,
        epoch: 1,
        manifest: Bytes::copy_from_slice(manifest.as_bytes()),
        conflict: v1::ConflictPolicy::Refuse,
        lease_ms: 0,
        stopped: false,
        floor: 0,
        state: State::Held,
    }
}

/// The Service `shop/web`.
pub(crate) fn service() -> Key {
    Key {
        version: "v1".into(),
        kind: "Service".into(),
        resource: "services".into(),
        namespace: "shop".into(),
        name: "web".into(),
        ..Key::default()
    }
}
