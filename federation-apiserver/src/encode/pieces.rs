//! Large lists as JSON: each object is read and written when its turn to be sent comes.
//!
//! Ten thousand objects that are read at once take ten times their text in memory, and the thread for as long as it takes to write them all.

use std::{sync::Arc, vec};

use apimachinery::{ApiError, order::Ordered};
use bytes::Bytes;
use jiff::Timestamp;

use super::{
    LIST_END, ListMeta, append_element, element, is_verbatim, list_head, list_of_values, parse, written,
};
use crate::{
    http::{
        negotiate::{Encoding, Format, View},
        respond,
    },
    registry::KindRef,
    store::Stored,
};

/// Bytes from which on a list is made in pieces, while it is being sent: its first byte leaves at once, and it is never whole in memory.
const PIECES_FROM_BYTES: usize = 256 << 10;
/// Bytes of a piece: four records of TLS.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of stored objects that are read in one step, unless one is larger. What they become in the list may be far less.
const READ_BYTES: usize = 64 << 10;

/// Whether a list is large enough to be made in pieces.
pub(crate) fn is_large(items: &[Arc<Stored>]) -> bool {
    let mut size = 0;
    items.iter().any(|stored| {
        size += stored.bytes.len();
        size >= PIECES_FROM_BYTES
    })
}

/// The pieces of a large list.
pub(crate) struct Pieces {
    kind: KindRef,
    format: Format,
    now: Timestamp,
    /// Elements are stored bytes.
    verbatim: bool,
    items: vec::IntoIter<Arc<Stored>>,
    /// An element has been written.
    begun: bool,
    /// What has not been handed out yet; at first what comes before the elements.
    piece: Vec<u8>,
    /// What comes after them; nothing once it is written.
    end: Option<Vec<u8>>,
}

impl Pieces {
    /// The items back if they are few, or if the form is one whose parts must be known before its beginning is written.
    pub(crate) fn new(
        kind: &KindRef,
        format: Format,
        items: Vec<Arc<Stored>>,
        meta: &ListMeta,
        now: Timestamp,
    ) -> Result<Self, Vec<Arc<Stored>>> {
        if format.encoding != Encoding::Json || format.pretty || !is_large(&items) {
            return Err(items);
        }
        let verbatim = is_verbatim(kind, format);
        let (head, end) = if verbatim {
            (list_head(kind, meta).into_bytes(), LIST_END.to_vec())
        } else {
            match frame(kind, format, meta, now) {
                Some(frame) => frame,
                None => return Err(items),
            }
        };
        let items = items.into_iter();
        Ok(Self {
            kind: kind.clone(),
            format,
            now,
            verbatim,
            items,
            begun: false,
            piece: head,
            end: Some(end),
        })
    }

    /// Writes an element behind the others.
    fn append(&mut self, stored: &Stored) -> Result<(), ApiError> {
        if self.verbatim {
            append_element(&mut self.piece, &self.kind, self.begun, stored);
        } else {
            let element = element(&self.kind, self.format, parse(&self.kind, stored)?, self.now);
            if self.begun {
                self.piece.push(b',');
            }
            let name = array_of(self.format);
            let element = if self.kind.custom.is_some() && self.format.view == View::Object {
                respond::compact(&element)
            } else {
                respond::compact(&Ordered::member(name, &element))
            };
            self.piece.extend_from_slice(&element);
        }
        self.begun = true;
        Ok(())
    }
}

impl Iterator for Pieces {
    type Item = Result<Bytes, ApiError>;

    /// The next piece. It is empty where so much was read that others shall have the thread first.
    fn next(&mut self) -> Option<Self::Item> {
        let end = self.end.as_ref()?.len();
        let mut read = 0;
        loop {
            let Some(stored) = self.items.as_slice().first().cloned() else {
                self.piece.extend(self.end.take().unwrap_or_default());
                return Some(Ok(std::mem::take(&mut self.piece).into()));
            };
            let size = stored.bytes.len();
            // What an object takes in the list is known beforehand only if it is the stored bytes.
            let next = if self.verbatim { size + end } else { 0 };
            if !self.piece.is_empty() && self.piece.len() + next >= PIECE_BYTES {
                let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
                return Some(Ok(piece.into()));
            }
            if !self.verbatim && read > 0 && read + size > READ_BYTES {
                return Some(Ok(Bytes::new()));
            }
            read += size;
            read_ahead(self.items.as_slice());
            self.items.next();
            if let Err(error) = self.append(&stored) {
                tracing::error!(key = %stored.key, %error, "a stored object cannot be read; its list is not told to its end");
                self.end = None;
                return Some(Err(error));
            }
        }
    }
}

/// What comes before the elements of a list, and what comes after them.
fn frame(kind: &KindRef, format: Format, meta: &ListMeta, now: Timestamp) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, mut head) = written(kind, format, &list_of_values(kind, format, Vec::new(), meta, now));
    // Quotation marks within a text have a backslash before them, so this is nowhere else.
    let empty = format!("\"{}\":[]", array_of(format));
    let at = head.windows(empty.len()).position(|part| part == empty.as_bytes())?;
    let end = head.split_off(at + empty.len() - 1);
    Some((head, end))
}

/// The member that has the elements.
fn array_of(format: Format) -> &'static str {
    if format.view == View::Table { "rows" } else { "items" }
}

/// Has the processor fetch objects before they are written. They lie anywhere in memory, and to wait for each in turn is a good part of the
/// time that a large list takes.
fn read_ahead(items: &[Arc<Stored>]) {
    // So many objects ahead: where the text of one lies, and the text.
    const PLACES: usize = 8;
    const TEXTS: usize = 4;
    /// The processor itself goes on from there.
    const STEP: usize = 256;
    let place = items.get(PLACES).map(|stored| stored.bytes.len());
    let text = items
        .get(TEXTS)
        .map(|stored| stored.bytes.iter().step_by(STEP).take(4).fold(0, |all, byte| all ^ byte));
    std::hint::black_box((place, text));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        crd::Definition,
        encode,
        http::negotiate::Include,
        store::{Key, Meta, ResourceKey},
    };

    fn stored(number: u64, value: &Value) -> Arc<Stored> {
        Arc::new(Stored {
            key: Key::new(ResourceKey::new("", "any"), "default", format!("n-{number:04}")),
            revision: number,
            bytes: serde_json::to_vec(value).expect("JSON").into(),
            meta: Meta::default(),
        })
    }

    fn objects(api_version: &str, kind: &str) -> Vec<Arc<Stored>> {
        let object = |number: u64| {
            // The names of the members that the elements are in, as texts.
            json!({
                "apiVersion": api_version, "kind": kind,
                "metadata": {
                    "name": format!("n-{number:04}"), "namespace": "default", "uid": "u", "resourceVersion": number.to_string(),
                    "annotations": {"a": "\"items\":[]", "b": "\"rows\":[]", "c": "<&>\u{2028}"},
                },
                "data": {"value": "x".repeat(900)},
                "spec": {"z": 1, "a": [number]},
            })
        };
        (1..400).map(|number| stored(number, &object(number))).collect()
    }

    fn custom() -> KindRef {
        let definition = json!({
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                    "additionalPrinterColumns": [
                        {"name": "Z", "type": "integer", "jsonPath": ".spec.z", "description": "\"rows\":[]"},
                    ]}],
            },
            "status": {
                "acceptedNames": {"kind": "Thing", "plural": "things", "singular": "thing", "listKind": "ThingList"},
                "conditions": [{"type": "Established", "status": "True"}],
            },
        });
        let definition = Definition::read(&stored(1, &definition)).expect("a definition");
        KindRef::Custom(Arc::clone(&definition.kinds[0]))
    }

    #[track_caller]
    fn check(kind: &KindRef, format: Format, items: &[Arc<Stored>]) {
        let now = Timestamp::UNIX_EPOCH;
        let meta =
            ListMeta { resource_version: 7, continuation: Some("next".to_owned()), remaining: Some(3) };
        let (_, whole) = encode::list(kind, format, items, &meta, now).expect("a list");
        let pieces = Pieces::new(kind, format, items.to_vec(), &meta, now);
        let pieces: Vec<_> = pieces.expect("a large list").map(|piece| piece.expect("a piece")).collect();
        let together = String::from_utf8(pieces.concat()).expect("UTF-8");
        assert_eq!(together, String::from_utf8(whole).expect("UTF-8"), "{format:?}");
        assert!(pieces.len() > 1 || format.view != View::Object, "{format:?}");
    }

    #[test]
    fn pieces_are_the_list_in_each_view() {
        let config_maps = crate::kinds::all().into_iter().find(|kind| kind.is("", "configmaps"));
        let config_maps = KindRef::Fixed(config_maps.expect("a kind of core"));
        for (kind, items) in
            [(&config_maps, objects("v1", "ConfigMap")), (&custom(), objects("example.com/v1", "Thing"))]
        {
            for view in [View::Object, View::Metadata, View::Table] {
                for beta in [false, true] {
                    for include in [Include::Nothing, Include::Metadata, Include::Object] {
                        check(kind, Format { view, beta, include, ..Format::JSON }, &items);
                    }
                }
            }
        }
    }

    #[test]
    fn little_and_what_needs_its_end_first_is_not_in_pieces() {
        let kind = custom();
        let items = objects("example.com/v1", "Thing");
        let is_whole = |format: Format, items: &[Arc<Stored>]| {
            Pieces::new(&kind, format, items.to_vec(), &ListMeta::default(), Timestamp::UNIX_EPOCH).is_err()
        };
        assert!(is_whole(Format::JSON, &items[..200]));
        assert!(!is_whole(Format::JSON, &items));
        assert!(is_whole(Format { pretty: true, ..Format::JSON }, &items));
        for encoding in [Encoding::Yaml, Encoding::Protobuf] {
            assert!(is_whole(Format { encoding, ..Format::JSON }, &items));
        }
    }

    /// What becomes of a large list in which an object at a place cannot be read: the pieces before, and whether an error is last.
    fn with_a_broken_one(at: usize) -> (Vec<Bytes>, bool) {
        let mut items = objects("example.com/v1", "Thing");
        let broken = Stored { bytes: "{".into(), ..Stored::clone(&items[at]) };
        items.insert(at, Arc::new(broken));
        let pieces = Pieces::new(&custom(), Format::JSON, items, &ListMeta::default(), Timestamp::UNIX_EPOCH);
        let mut all: Vec<_> = pieces.expect("a large list").collect();
        let is_error = all.pop().is_some_and(|last| last.is_err());
        (all.into_iter().map(|piece| piece.expect("only the last fails")).collect(), is_error)
    }

    #[test]
    fn a_list_with_an_object_that_cannot_be_read_has_no_end() {
        let (pieces, is_error) = with_a_broken_one(300);
        assert!(is_error && !pieces.concat().is_empty());
        assert!(serde_json::from_slice::<Value>(&pieces.concat()).is_err());
        let (pieces, is_error) = with_a_broken_one(3);
        assert!(is_error && pieces.concat().is_empty(), "nothing was handed out before");
    }

    #[test]
    fn no_step_reads_more_than_a_little_however_little_comes_of_it() {
        let items = objects("example.com/v1", "Thing");
        let size: usize = items.iter().map(|stored| stored.bytes.len()).sum();
        for view in [View::Metadata, View::Table] {
            let format = Format { view, include: Include::Nothing, ..Format::JSON };
            let pieces =
                Pieces::new(&custom(), format, items.clone(), &ListMeta::default(), Timestamp::UNIX_EPOCH);
            let steps = pieces.expect("a large list").count();
            assert!(steps > size / READ_BYTES, "{steps} steps for {size} bytes");
        }
    }
}
