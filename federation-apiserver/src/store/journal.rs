//! The journal: the rows that were written since the engine's last durable commit.
//!
//! A durable commit of the engine writes several pages in two steps, each with a flush of its own. An append here is one write and one flush, to
//! a place that the file has already: so each batch is appended here before it is acknowledged, while the engine commits it to memory only, and
//! makes everything durable in one go when the journal is full. After a kill or a power cut the engine is at its last durable commit, and the
//! journal holds what came after it.
//!
//! The file is a row of entries from its beginning on, each at a multiple of [`BLOCK`], so that an append never touches a block of an entry that was
//! acknowledged: `length of the payload: u32 LE, CRC-32 of the store's identity and the payload: u32 LE, payload`, and the payload is rows of
//! `revision: u64 LE, length: u32 LE, row`. When the engine is durable the next entry is written at the beginning again. What stands behind it then
//! is older, which its revisions tell.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

const FILE: &str = "journal";
/// What a disk writes whole.
const BLOCK: usize = 4096;
/// Bytes of entries. Reading them back takes some 10 ms, and a commit that makes them durable in the engine takes about as long as ten others.
/// Tests come to that more often.
const FULL: u64 = if cfg!(test) { 64 << 10 } else { 8 << 20 };
/// The file grows by so much: a flush of what does not change its length is one write of the disk.
const GROWTH: u64 = 512 << 10;
const HEAD: usize = 8;

/// A row and its revision.
pub(super) type Row = (u64, Vec<u8>);

pub(super) struct Journal {
    file: File,
    /// Of the store that the journal belongs to.
    identity: String,
    /// Where the next entry goes.
    end: u64,
    length: u64,
}

/// An entry that is being filled.
pub(super) struct Entry(Vec<u8>);

impl Entry {
    pub(super) fn new() -> Self {
        Self(vec![0; HEAD])
    }

    pub(super) fn push(&mut self, revision: u64, row: &[u8]) {
        self.0.extend_from_slice(&revision.to_le_bytes());
        self.0.extend_from_slice(&(row.len() as u32).to_le_bytes());
        self.0.extend_from_slice(row);
    }
}

impl Journal {
    /// Opens the journal of a store, and makes it if there is none.
    pub(super) fn open(folder: &Path, identity: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(folder.join(FILE))?;
        let length = file.metadata()?.len();
        Ok(Self { file, identity: identity.to_owned(), end: 0, length })
    }

    /// The rows in it, in order of their revisions, which have no gaps. An entry that was cut short was not acknowledged, and ends them.
    pub(super) fn rows(&self) -> io::Result<Vec<Row>> {
        let mut text = vec![0; usize::try_from(self.length.min(FULL)).unwrap_or_default()];
        self.file.read_exact_at(&mut text, 0)?;
        let mut rows: Vec<Row> = Vec::new();
        let mut rest = text.as_slice();
        while let Some((entry, size)) = self.entry(rest) {
            let next = entry.first().map(|(revision, _)| *revision);
            if rows.last().is_some_and(|(last, _)| next != Some(last + 1)) {
                break;
            }
            rows.extend(entry);
            rest = rest.get(size..).unwrap_or_default();
        }
        Ok(rows)
    }

    /// The entry at the beginning of a text and what it takes there; none if there is none, or not all of it.
    fn entry(&self, text: &[u8]) -> Option<(Vec<Row>, usize)> {
        let (length, rest) = text.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let mut payload = rest.get(..length).filter(|payload| !payload.is_empty())?;
        if self.sum(payload) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut rows = Vec::new();
        while !payload.is_empty() {
            let (revision, rest) = payload.split_first_chunk::<8>()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (row, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rows.push((u64::from_le_bytes(*revision), row.to_vec()));
            payload = rest;
        }
        Some((rows, (HEAD + length).next_multiple_of(BLOCK)))
    }

    fn sum(&self, payload: &[u8]) -> u32 {
        let mut sum = flate2::Crc::new();
        sum.update(self.identity.as_bytes());
        sum.update(payload);
        sum.sum()
    }

    /// Whether an entry finds room.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        self.end + entry.0.len().next_multiple_of(BLOCK) as u64 <= FULL
    }

    /// Appends an entry. Returns once it is on the disk.
    pub(super) fn append(&mut self, entry: Entry) -> io::Result<()> {
        let Entry(mut text) = entry;
        let (head, payload) = text.split_at_mut(HEAD);
        head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&self.sum(payload).to_le_bytes());
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        let end = self.end + text.len() as u64;
        if end > self.length {
            self.grow(end.next_multiple_of(GROWTH))?;
        }
        self.file.write_all_at(&text, self.end)?;
        self.file.sync_data()?;
        self.end = end;
        Ok(())
    }

    fn grow(&mut self, length: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(length - self.length).unwrap_or_default()];
        self.file.write_all_at(&zeros, self.length)?;
        self.file.sync_all()?;
        self.length = length;
        Ok(())
    }

    /// Begins anew, since everything in it is durable elsewhere.
    pub(super) fn restart(&mut self) {
        self.end = 0;
    }

    /// The same, and leaves nothing of it behind: what it holds may have been written before it was to be sealed.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()?;
        (self.end, self.length) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(rows: &[(u64, &str)]) -> Entry {
        let mut entry = Entry::new();
        for (revision, row) in rows {
            entry.push(*revision, row.as_bytes());
        }
        entry
    }

    fn revisions(folder: &Path) -> Vec<u64> {
        let rows = Journal::open(folder, "a").unwrap().rows().unwrap();
        rows.into_iter().map(|(revision, _)| revision).collect()
    }

    #[test]
    fn what_was_appended_is_read_back_up_to_what_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), "a").unwrap();
        assert_eq!(journal.rows().unwrap(), []);
        journal.append(entry(&[(7, "seven"), (8, "")])).unwrap();
        journal.append(entry(&[(9, &"nine".repeat(5000))])).unwrap();
        journal.append(entry(&[(10, "ten")])).unwrap();
        let rows = Journal::open(folder.path(), "a").unwrap().rows().unwrap();
        assert_eq!(rows[0], (7, b"seven".to_vec()));
        assert_eq!(rows[2].1.len(), 20_000);
        assert_eq!(rows.len(), 4);
        // Each byte of the long entry matters.
        journal.file.write_all_at(b"X", BLOCK as u64 + 9_000).unwrap();
        assert_eq!(revisions(folder.path()), [7, 8]);
        assert_eq!(Journal::open(folder.path(), "b").unwrap().rows().unwrap(), [], "it is another store's");
    }

    #[test]
    fn what_is_older_than_the_entries_before_it_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), "a").unwrap();
        for revision in 1..=3 {
            journal.append(entry(&[(revision, "row")])).unwrap();
        }
        journal.restart();
        journal.append(entry(&[(4, "row")])).unwrap();
        assert_eq!(revisions(folder.path()), [4]);
        journal.append(entry(&[(5, "row")])).unwrap();
        assert_eq!(revisions(folder.path()), [4, 5]);
        journal.clear().unwrap();
        assert!(revisions(folder.path()).is_empty());
        journal.append(entry(&[(6, "row")])).unwrap();
        assert_eq!(revisions(folder.path()), [6]);
    }

    #[test]
    fn a_full_journal_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), "a").unwrap();
        let large = "x".repeat(FULL as usize / 8);
        let mut revision = 0;
        while journal.takes(&entry(&[(revision + 1, &large)])) {
            revision += 1;
            journal.append(entry(&[(revision, &large)])).unwrap();
        }
        assert_eq!(revision, 5);
        assert_eq!(revisions(folder.path()).len(), 5);
    }
}
