//! Frames that many watchers get, encoded once.
//!
//! Whoever watches a custom kind, or asks for protobuf (as every informer of client-go does) or for metadata, gets other bytes than the stored ones: the
//! object is read, converted and written anew. A hundred watchers of an object get the same frame, and so do those who read it later because they are slow:
//! its bytes are in memory once.
//!
//! Frames are kept in slots, of which a revision has one for each form. A slot is overwritten by the next frame that belongs there, so that the memory is
//! bounded and nothing expires. A frame that is gone is encoded again.

use std::{
    ptr,
    sync::{Arc, Weak},
};

use apimachinery::ApiError;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use jiff::Timestamp;

use super::FrameKind;
use crate::{
    http::negotiate::{Encoding, Format, View},
    registry::{Kind, KindRef},
    store::Stored,
};

/// Slots by the size of the object, in bytes: up to so many, so many slots. With objects of 3 MiB, the largest that a request can have, 20 MiB.
const CLASSES: [(usize, usize); 3] = [(4 << 10, 1024), (64 << 10, 64), (usize::MAX, 4)];

/// The frames that were encoded last.
pub(crate) struct SharedFrames([Box<[ArcSwapOption<Encoded>]>; CLASSES.len()]);

/// A frame, and what it was made of.
struct Encoded {
    kind: usize,
    /// So that no other kind gets the address. What the kind knows, such as its schema, goes with the last who uses it.
    _keeps_address: Option<Weak<Kind>>,
    format: Format,
    event: FrameKind,
    object: Bytes,
    frame: Bytes,
}

impl SharedFrames {
    pub(crate) fn new() -> Self {
        Self(CLASSES.map(|(_, slots)| (0..slots).map(|_| ArcSwapOption::empty()).collect()))
    }

    /// The frame of a watch about a stored object, as [`super::frame`] makes it. Tables are none of these: their ages depend on when they are made.
    ///
    /// # Errors
    /// As [`super::frame`].
    pub(crate) fn frame(
        &self,
        kind: &KindRef,
        format: Format,
        event: FrameKind,
        stored: &Stored,
    ) -> Result<Bytes, ApiError> {
        let slot = self.slot(kind, format, stored);
        if let Some(slot) = slot
            && let Some(encoded) = &*slot.load()
            && encoded.is(kind, format, event, stored)
        {
            return Ok(encoded.frame.clone());
        }
        let frame = Bytes::from(super::frame(kind, format, event, stored, Timestamp::now(), false)?);
        if let Some(slot) = slot {
            let custom = match kind {
                KindRef::Fixed(_) => None,
                KindRef::Custom(kind) => Some(Arc::downgrade(kind)),
            };
            slot.store(Some(Arc::new(Encoded {
                kind: address(kind),
                _keeps_address: custom,
                format,
                event,
                object: stored.bytes.clone(),
                frame: frame.clone(),
            })));
        }
        Ok(frame)
    }

    fn slot(&self, kind: &Kind, format: Format, stored: &Stored) -> Option<&ArcSwapOption<Encoded>> {
        let form = match (format.encoding, format.view) {
            (_, View::Table) => return None,
            (Encoding::Protobuf, View::Object) => 0,
            (Encoding::Protobuf, View::Metadata) => 1,
            (_, View::Object) => 2,
            (_, View::Metadata) => 3,
        };
        let class = CLASSES.iter().position(|(up_to, _)| stored.bytes.len() <= *up_to)?;
        let slots = self.0.get(class)?;
        // The versions of a kind must not take each other's slots, either. The lowest bits of addresses are equal.
        let at = (stored.revision as usize).wrapping_mul(4).wrapping_add(form) ^ (address(kind) >> 3 << 2);
        slots.get(at % slots.len())
    }
}

impl Encoded {
    /// An object is the same if its bytes are the same ones: they name their revision.
    fn is(&self, kind: &Kind, format: Format, event: FrameKind, stored: &Stored) -> bool {
        self.kind == address(kind)
            && self.format == format
            && self.event == event
            && self.object.as_ptr() == stored.bytes.as_ptr()
            && self.object.len() == stored.bytes.len()
    }
}

/// What tells a kind from every other that is in use: a definition that changes brings a new one.
fn address(kind: &Kind) -> usize {
    ptr::from_ref(kind).addr()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::tests::stored, *};

    #[test]
    fn a_frame_is_encoded_once_for_all_who_watch_in_the_same_form() {
        let kinds = crate::kinds::all();
        let of = |group, plural| {
            KindRef::Fixed(kinds.iter().copied().find(|kind| kind.is(group, plural)).expect("a kind"))
        };
        let (config_maps, secrets) = (of("", "configmaps"), of("", "secrets"));
        let frames = SharedFrames::new();
        let [object, other] = [stored("a", &json!({"k": "v"})), stored("a", &json!({"k": "w"}))];
        let json = Format::JSON;
        let metadata = Format { view: View::Metadata, ..json };
        let beta = Format { beta: true, ..metadata };
        let protobuf = Format { encoding: Encoding::Protobuf, ..json };
        let of_all = [
            (&config_maps, json, FrameKind::Added, &object),
            (&config_maps, json, FrameKind::Modified, &object),
            (&config_maps, json, FrameKind::Added, &other),
            (&config_maps, metadata, FrameKind::Added, &object),
            (&config_maps, beta, FrameKind::Added, &object),
            (&config_maps, protobuf, FrameKind::Added, &object),
            (&secrets, json, FrameKind::Added, &object),
        ];
        for (kind, format, event, stored) in of_all {
            let frame = || frames.frame(kind, format, event, stored).expect("a frame");
            let fresh = super::super::frame(kind, format, event, stored, Timestamp::UNIX_EPOCH, false);
            let first = frame();
            assert_eq!(first, fresh.expect("a frame"), "{format:?}");
            assert_eq!(first.as_ptr(), frame().as_ptr(), "{format:?}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let slots: usize = CLASSES.iter().map(|(up_to, slots)| slots * (*up_to).min(3 << 20)).sum();
        assert!(slots <= 20 << 20, "{slots} bytes");
    }
}
