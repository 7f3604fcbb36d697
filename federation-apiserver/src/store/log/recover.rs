//! What a log holds that the tables do not.

use std::{fs, path::Path};

use super::{
    frame::{self, Frame},
    segments,
};
use crate::store::Failure;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Recovered {
    /// The newest revision that was handed out.
    pub(in crate::store) last: u64,
    /// The newest revision that was seen, also behind damage.
    pub(in crate::store) seen: u64,
}

/// What may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Lost {
    /// Nothing that was acknowledged.
    Nothing,
    /// What comes after this revision, if it cannot be read: somebody has decided so.
    After(u64),
}

/// A sink of revisions, the revisions that they replaced, and rows.
type Sink<'a> = &'a mut dyn FnMut(u64, Option<u64>, &[u8]) -> Result<(), Failure>;

/// Hands out, in order, the rows of a log that come after revision `from`.
///
/// Frames are written and synced one after the other, and acknowledged only then. So the last one may be torn, and is passed over: nobody was
/// told that it happened. One that is missing before another is damage, and nothing is opened then but by the word of an operator.
pub(in crate::store) fn recover(
    folder: &Path,
    generation: u64,
    from: u64,
    lost: Lost,
    sink: Sink<'_>,
) -> Result<Recovered, Failure> {
    let failed = |error: std::io::Error| Failure::Read(Box::new(error));
    let mut files = Vec::new();
    for path in segments(folder, Some(generation)).map_err(failed)? {
        files.push(fs::read(path).map_err(failed)?);
    }
    let path = folder.display().to_string();
    let mut recovered = Recovered { last: from, seen: from };
    if files.is_empty() {
        return if lost == Lost::After(from) {
            Ok(recovered)
        } else {
            Err(Failure::LogMissing { path, after: from })
        };
    }
    let mut frames: Vec<(&[u8], Frame)> = Vec::new();
    for bytes in &files {
        let whole = frame::scan(bytes, generation);
        // What an earlier use of a segment left is in the tables.
        frames.extend(whole.into_iter().filter(|frame| frame.last > from).map(|frame| (&**bytes, frame)));
    }
    frames.sort_by_key(|(_, frame)| frame.first);
    recovered.seen = frames.last().map_or(from, |(_, frame)| frame.last);
    for (bytes, frame) in frames {
        if frame.first > recovered.last + 1 {
            if lost == Lost::After(recovered.last) {
                break;
            }
            return Err(Failure::LogDamaged { path, after: recovered.last, next: frame.first });
        }
        let rows = frame.rows(bytes).map_err(|what| Failure::Damaged { revision: frame.first, what })?;
        for row in rows {
            if row.revision > recovered.last {
                sink(row.revision, row.replaced, row.row)?;
                recovered.last = row.revision;
            }
        }
    }
    Ok(recovered)
}
