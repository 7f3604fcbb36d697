//! One group of writes in the log, and how to find it again.
//!
//! A frame begins at a multiple of [`PAGE`], so that writing it touches no page that an earlier one stands in. All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 8 | the log's generation |
//! | 8 | revision of the first row; the others follow without a gap |
//! | 4 | number of rows |
//! | 4 | length of the rows |
//! | 4 | CRC-32 of all the other bytes |
//! | … | rows: revision replaced, 0 for none (8); length (4); a row as [`record`](super::super::record) writes it |

use std::ops::Range;

use flate2::Crc;

/// What frames are aligned to: the page of the system's cache, and a multiple of every disk's sector.
pub(super) const PAGE: usize = 4096;
/// Begins with a byte that no text in UTF-8 has: an object cannot look like a frame.
const MAGIC: [u8; 8] = *b"\xffFEDLOG1";
const CHECKSUM: Range<usize> = 32..36;
const HEADER: usize = 36;
const ROW_HEADER: usize = 12;

/// Empties a buffer for the rows of a frame.
pub(in crate::store) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER, 0);
}

/// Adds what `write` appends as a row.
pub(in crate::store) fn push(buffer: &mut Vec<u8>, replaced: Option<u64>, write: impl FnOnce(&mut Vec<u8>)) {
    buffer.extend_from_slice(&replaced.unwrap_or_default().to_le_bytes());
    let at = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    write(buffer);
    let length = (buffer.len() - at - 4) as u32;
    buffer[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Makes a frame of the rows in a buffer.
pub(super) fn finish(buffer: &mut Vec<u8>, generation: u64, first: u64, count: u32) {
    let length = (buffer.len() - HEADER) as u32;
    buffer[..8].copy_from_slice(&MAGIC);
    buffer[8..16].copy_from_slice(&generation.to_le_bytes());
    buffer[16..24].copy_from_slice(&first.to_le_bytes());
    buffer[24..28].copy_from_slice(&count.to_le_bytes());
    buffer[28..32].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(buffer);
    buffer[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    buffer.resize(padded(buffer.len()), 0);
}

fn checksum(frame: &[u8]) -> u32 {
    let mut sum = Crc::new();
    sum.update(&frame[..CHECKSUM.start]);
    sum.update(&frame[CHECKSUM.end..]);
    sum.sum()
}

/// Bytes of whole pages.
pub(super) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE)
}

/// A frame that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) first: u64,
    pub(super) last: u64,
    rows: Range<usize>,
}

/// A row of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) revision: u64,
    pub(super) replaced: Option<u64>,
    pub(super) row: &'a [u8],
}

impl Frame {
    /// Reads the frame that begins where `bytes` does; none if it is not whole, or of another generation.
    fn read(bytes: &[u8], at: usize, generation: u64) -> Option<Self> {
        let bytes = bytes.get(at..)?;
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let short = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        if !bytes.starts_with(&MAGIC) || number(8)? != generation {
            return None;
        }
        let (first, count, length) = (number(16)?, short(24)?, short(28)?);
        let frame = bytes.get(..HEADER + length as usize)?;
        if count == 0 || short(CHECKSUM.start)? != checksum(frame) {
            return None;
        }
        let last = first.checked_add(u64::from(count) - 1)?;
        Some(Self { first, last, rows: at + HEADER..at + frame.len() })
    }

    /// The rows, from the bytes that the frame was found in; an error for rows that do not fill the frame.
    pub(super) fn rows<'a>(&self, bytes: &'a [u8]) -> Result<Vec<Row<'a>>, String> {
        let wrong = || format!("the rows of the frame at revision {} do not fill it", self.first);
        let mut rest = bytes.get(self.rows.clone()).ok_or_else(wrong)?;
        let mut rows = Vec::new();
        for revision in self.first..=self.last {
            let (header, after) = rest.split_first_chunk::<ROW_HEADER>().ok_or_else(wrong)?;
            let (replaced, length) = header.split_first_chunk::<8>().ok_or_else(wrong)?;
            let length = u32::from_le_bytes(length.try_into().map_err(|_| wrong())?);
            let (row, after) = after.split_at_checked(length as usize).ok_or_else(wrong)?;
            let replaced = Some(u64::from_le_bytes(*replaced)).filter(|revision| *revision > 0);
            rows.push(Row { revision, replaced, row });
            rest = after;
        }
        if rest.is_empty() { Ok(rows) } else { Err(wrong()) }
    }
}

/// All whole frames of a generation in a segment's bytes, wherever they stand.
pub(super) fn scan(bytes: &[u8], generation: u64) -> Vec<Frame> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match Frame::read(bytes, at, generation) {
            Some(frame) => {
                at = padded(frame.rows.end);
                frames.push(frame);
            }
            None => at += PAGE,
        }
    }
    frames
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const GENERATION: u64 = 7;

    fn mk_frame(first: u64, rows: &[&str]) -> Vec<u8> {
        let mut buffer = Vec::new();
        begin(&mut buffer);
        for row in rows {
            push(&mut buffer, first.checked_sub(2), |out| out.extend_from_slice(row.as_bytes()));
        }
        finish(&mut buffer, GENERATION, first, rows.len() as u32);
        buffer
    }

    fn spans(bytes: &[u8]) -> Vec<(u64, u64)> {
        scan(bytes, GENERATION).iter().map(|frame| (frame.first, frame.last)).collect()
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let long = "x".repeat(10_000);
        let bytes = [mk_frame(2, &["a", ""]), mk_frame(4, &[&long]), mk_frame(5, &["c"])].concat();
        assert_eq!(bytes.len(), 5 * PAGE);
        let frames = scan(&bytes, GENERATION);
        assert_eq!(spans(&bytes), [(2, 3), (4, 4), (5, 5)]);
        let rows = frames[0].rows(&bytes).unwrap();
        assert_eq!(rows[0], Row { revision: 2, replaced: None, row: b"a" });
        assert_eq!(rows[1], Row { revision: 3, replaced: None, row: b"" });
        let rows = frames[1].rows(&bytes).unwrap();
        assert_eq!(rows[0], Row { revision: 4, replaced: Some(2), row: long.as_bytes() });
        assert_eq!(scan(&bytes, GENERATION + 1), []);
    }

    #[test]
    fn a_frame_with_any_bit_turned_is_none() {
        let bytes = mk_frame(2, &["some text", "more"]);
        let used = HEADER + 2 * ROW_HEADER + 13;
        for bit in 0..used * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(spans(&damaged), [], "bit {bit}");
        }
    }

    #[test]
    fn a_frame_that_is_cut_at_any_byte_is_none_and_hides_no_other() {
        let (first, second) = (mk_frame(2, &["some text", "more"]), mk_frame(4, &[&"y".repeat(5000)]));
        let used = HEADER + ROW_HEADER + 5000;
        for cut in 0..used {
            let mut torn = [&first[..], &second[..cut]].concat();
            assert_eq!(spans(&torn), [(2, 3)], "cut after {cut} bytes");
            // As on a disk, where what was there before follows.
            torn.resize(4 * PAGE, 0);
            assert_eq!(spans(&torn), [(2, 3)], "cut after {cut} bytes");
            torn.extend_from_slice(&mk_frame(5, &["z"]));
            assert_eq!(spans(&torn), [(2, 3), (5, 5)], "cut after {cut} bytes");
        }
    }

    #[test]
    fn lengths_from_the_network_of_the_disk_are_not_believed() {
        let mut bytes = mk_frame(2, &["a"]);
        bytes[24..32].fill(0xff);
        assert_eq!(spans(&bytes), []);
        assert_eq!(spans(&[]), []);
        assert_eq!(spans(&MAGIC), []);
    }
}
