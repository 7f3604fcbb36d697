//! The write-ahead log of the embedded engine: what is durable before it is in the [tables](super::tables).
//!
//! A log is a few files, its segments, that are filled with zeros before they are used: writing into them changes no file's length and
//! no map of its blocks, so that a sync is one write of the disk. A group of writes is one [frame] and one sync. A segment is used again once
//! all that stands in it is durable in the tables.
//!
//! Each opening of the store begins a new log, under a new generation, after it has [taken over](recover) what the last one holds.

pub(super) mod frame;
mod recover;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

pub(super) use recover::{Lost, recover};

use super::Failure;
use frame::{PAGE, padded};

/// How large segments are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// The first of a log: small, so that a start is quick.
    pub(super) first: usize,
    /// The others: some thousands of writes.
    pub(super) others: usize,
    /// How many of the others there are at most. A writer that has filled them waits for the tables.
    pub(super) count: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { first: 1 << 20, others: 8 << 20, count: 3 }
    }
}

/// One file of the log.
pub(super) struct Segment {
    file: File,
    pub(super) bytes: usize,
}

impl Segment {
    /// A file that is not made here.
    #[cfg(test)]
    pub(super) fn of(file: File) -> Self {
        Self { file, bytes: usize::MAX }
    }

    /// Makes a file of zeros, of at least `bytes`, that only its owner reads. Durable, its name too.
    pub(super) fn create(folder: &Path, generation: u64, number: u32, bytes: usize) -> io::Result<Self> {
        static ZEROS: [u8; 16 * PAGE] = [0; 16 * PAGE];
        let bytes = padded(bytes);
        let path = folder.join(format!("{PREFIX}{generation:016x}-{number}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let mut at = 0;
        while at < bytes {
            let length = ZEROS.len().min(bytes - at);
            file.write_all_at(&ZEROS[..length], at as u64)?;
            at += length;
        }
        file.sync_all()?;
        sync_folder(folder)?;
        Ok(Self { file, bytes })
    }
}

const PREFIX: &str = "log-";

/// The segments of a generation; of all without one.
fn segments(folder: &Path, generation: Option<u64>) -> io::Result<Vec<PathBuf>> {
    let prefix =
        generation.map_or_else(|| PREFIX.to_owned(), |generation| format!("{PREFIX}{generation:016x}-"));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Whether there is a segment of any generation.
pub(super) fn is_there(folder: &Path) -> io::Result<bool> {
    Ok(!segments(folder, None)?.is_empty())
}

/// Removes the segments of all generations but one.
pub(super) fn remove_others(folder: &Path, kept: Option<u64>) -> io::Result<()> {
    let kept = kept.map_or_else(|| Ok(Vec::new()), |generation| segments(folder, Some(generation)))?;
    for path in segments(folder, None)? {
        if !kept.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The end of the log, where it is written.
pub(super) struct Log {
    generation: u64,
    segment: Segment,
    /// Bytes of the segment that are used.
    used: usize,
}

impl Log {
    pub(super) fn new(generation: u64, segment: Segment) -> Self {
        Self { generation, segment, used: 0 }
    }

    /// Whether a frame fits into the segment.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.used + padded(bytes) <= self.segment.bytes
    }

    /// Whether it is time to have the next segment made.
    pub(super) fn is_half_full(&self) -> bool {
        self.used > self.segment.bytes / 2
    }

    /// Goes on in another segment, and returns the full one.
    pub(super) fn go_on(&mut self, segment: Segment) -> Segment {
        self.used = 0;
        std::mem::replace(&mut self.segment, segment)
    }

    /// Writes the rows in a buffer as one frame. They are durable when it returns. After an error the end of the log is unknown.
    pub(super) fn append(&mut self, buffer: &mut Vec<u8>, first: u64, count: usize) -> Result<(), Failure> {
        frame::finish(buffer, self.generation, first, count as u32);
        let written = self.segment.file.write_all_at(buffer, self.used as u64);
        written.and_then(|()| self.segment.file.sync_data()).map_err(writing)?;
        self.used += buffer.len();
        Ok(())
    }
}

fn writing(error: io::Error) -> Failure {
    Failure::Write(Box::new(error))
}
