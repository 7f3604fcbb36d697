//! The tables of the embedded engine, in redb: everything but what only the [log](super::log) holds yet.
//!
//! | table | row | for |
//! |---|---|---|
//! | `changes` | revision → row ([`record`]) | replay at open; the bytes of every state |
//! | `index` | key, revision → whether the key went | optimistic checks, reads of the past |
//! | `superseded` | revision → the revision it replaced | compaction without a scan |
//! | `meta` | name → number or text | incarnation, format, the log in use, compacted and newest revision |

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};

use super::{Change, Encryption, Failure, Key, ResourceKey, Stored, log, record};

const CHANGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("changes");
const INDEX: TableDefinition<'_, &[u8], bool> = TableDefinition::new("index");
const SUPERSEDED: TableDefinition<'_, u64, u64> = TableDefinition::new("superseded");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// All is in the tables.
const FORMAT_PLAIN: u64 = 1;
/// Some may be in a log beside them, of which versions that know only the other format know nothing.
const FORMAT_LOG: u64 = 2;
const FILE: &str = "store.redb";
/// The watch cache holds every live object, so the engine's own page cache only serves the writer's lookups of keys that were not written
/// lately: what finds no room here is in the system's page cache. Of it the engine keeps the pages of one commit.
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// One file of a folder. One process at a time can have it open.
pub(super) struct Tables {
    db: Database,
    incarnation: String,
    revision: AtomicU64,
    compacted: AtomicU64,
    encryption: Encryption,
}

/// A change that is durable in the log.
pub(super) struct Entry {
    pub(super) change: Change,
    /// The revision that it took the place of.
    pub(super) replaced: Option<u64>,
}

/// Rows that one transaction writes anew.
const RESEALED: usize = 1024;

impl Tables {
    /// Opens the file in `folder`, and makes it if there is none.
    pub(super) fn open(folder: &Path, encryption: Encryption) -> Result<Self, Failure> {
        let path = || folder.display().to_string();
        let failed = |source| Failure::Open { path: path(), source };
        let is_new = fs::metadata(folder.join(FILE)).map_or(true, |file| file.len() == 0);
        if is_new && log::is_there(folder).map_err(|error| failed(error.into()))? {
            return Err(Failure::TablesMissing { path: path(), file: FILE });
        }
        let opened = Database::builder().set_cache_size(PAGE_CACHE_BYTES).create(folder.join(FILE));
        let db = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Failure::InUse { path: path() },
            error => failed(error.into()),
        })?;
        if is_new {
            tracing::info!(folder = %folder.display(), "there was no store: an empty one is made");
        }
        Self::load(db, encryption)
    }

    /// Writes anew what is sealed with another key than it would be now, or not at all. Revisions stay as they are.
    pub(super) fn reseal(&mut self) -> Result<(), Failure> {
        let mut stale = Vec::new();
        {
            let read = self.db.begin_read().map_err(reading)?;
            let changes = read.open_table(CHANGES).map_err(reading)?;
            for row in changes.iter().map_err(reading)? {
                let (revision, row) = row.map_err(reading)?;
                let (revision, row) = (revision.value(), row.value());
                let row = record::split(revision, row)?;
                if self.encryption.is_stale(&row.key.resource, row.body) {
                    stale.push(revision);
                }
            }
        }
        if stale.is_empty() {
            return Ok(());
        }
        tracing::info!(rows = stale.len(), "sealing rows of the store anew");
        for batch in stale.chunks(RESEALED) {
            let write = begin(&self.db)?;
            {
                let mut changes = write.open_table(CHANGES).map_err(writing)?;
                for revision in batch {
                    let change = row_at(&changes, *revision, &self.encryption)?;
                    let mut row = Vec::new();
                    record::append(&mut row, &change, &self.encryption);
                    changes.insert(*revision, row.as_slice()).map_err(writing)?;
                }
            }
            commit(write)?;
        }
        // The old bodies still stand in pages that are free now: give these back, as far as the engine can.
        self.db.compact().map(drop).map_err(|error| Failure::Write(Box::new(error)))
    }

    fn load(db: Database, encryption: Encryption) -> Result<Self, Failure> {
        let write = db.begin_write().map_err(writing)?;
        let (incarnation, found);
        {
            let mut meta = write.open_table(META).map_err(writing)?;
            write.open_table(CHANGES).map_err(writing)?;
            write.open_table(INDEX).map_err(writing)?;
            write.open_table(SUPERSEDED).map_err(writing)?;
            if meta.get("format").map_err(reading)?.is_none() {
                meta.insert("format", FORMAT_PLAIN.to_be_bytes().as_slice()).map_err(writing)?;
                meta.insert("incarnation", uuid::Uuid::new_v4().to_string().as_bytes()).map_err(writing)?;
            }
            let id = meta.get("incarnation").map_err(reading)?;
            incarnation = id.map(|id| String::from_utf8_lossy(id.value()).into_owned()).unwrap_or_default();
            found = (number(&meta, "format")?, number(&meta, "revision")?, number(&meta, "compacted")?);
        }
        let (format, revision, compacted) = found;
        if ![FORMAT_PLAIN, FORMAT_LOG].contains(&format) {
            return Err(Failure::Format { found: format, expected: FORMAT_LOG });
        }
        commit(write)?;
        let (revision, compacted) = (revision.into(), compacted.into());
        Ok(Self { db, incarnation, revision, compacted, encryption })
    }

    pub(super) fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// The newest revision that is here.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// Which log goes on where the tables end; none after an orderly end.
    pub(super) fn log(&self) -> Result<Option<u64>, Failure> {
        let read = self.db.begin_read().map_err(reading)?;
        let meta = read.open_table(META).map_err(reading)?;
        Ok(Some(number(&meta, "log")?).filter(|generation| *generation != 0))
    }

    /// Names the log that goes on where the tables end.
    pub(super) fn set_log(&self, generation: Option<u64>) -> Result<(), Failure> {
        let format = if generation.is_some() { FORMAT_LOG } else { FORMAT_PLAIN };
        self.note(&[("format", format), ("log", generation.unwrap_or_default())])
    }

    /// Goes on at a later revision.
    pub(super) fn skip_to(&self, revision: u64) -> Result<(), Failure> {
        self.note(&[("revision", revision)])?;
        self.revision.store(revision, Ordering::Release);
        Ok(())
    }

    fn note(&self, numbers: &[(&str, u64)]) -> Result<(), Failure> {
        let write = begin(&self.db)?;
        {
            let mut meta = write.open_table(META).map_err(writing)?;
            for (name, number) in numbers {
                meta.insert(*name, number.to_be_bytes().as_slice()).map_err(writing)?;
            }
        }
        commit(write)
    }

    /// The newest states of keys, as of now.
    pub(super) fn newest(&self) -> Result<Newest, Failure> {
        let read = self.db.begin_read().map_err(reading)?;
        Ok(Newest(read.open_table(INDEX).map_err(reading)?))
    }

    /// Takes in changes in order, durably and together. Those that are here already are passed over.
    pub(super) fn apply(&self, entries: &[Entry]) -> Result<(), Failure> {
        let known = self.revision();
        let Some(revision) = entries.last().map(|last| last.change.object.revision) else { return Ok(()) };
        if revision <= known {
            return Ok(());
        }
        let write = begin(&self.db)?;
        {
            let mut changes = write.open_table(CHANGES).map_err(writing)?;
            let mut index = write.open_table(INDEX).map_err(writing)?;
            let mut superseded = write.open_table(SUPERSEDED).map_err(writing)?;
            let mut row = Vec::new();
            for Entry { change, replaced } in entries {
                let Stored { key, revision, .. } = &*change.object;
                if *revision <= known {
                    continue;
                }
                row.clear();
                record::append(&mut row, change, &self.encryption);
                changes.insert(*revision, row.as_slice()).map_err(writing)?;
                let place = record::index_key(&record::key_prefix(key), *revision);
                index.insert(place.as_slice(), change.deleted).map_err(writing)?;
                if let Some(replaced) = replaced {
                    superseded.insert(*revision, *replaced).map_err(writing)?;
                }
            }
            let mut meta = write.open_table(META).map_err(writing)?;
            meta.insert("revision", revision.to_be_bytes().as_slice()).map_err(writing)?;
        }
        commit(write)?;
        self.revision.store(revision, Ordering::Release);
        Ok(())
    }

    pub(super) fn get(&self, key: &Key, at: u64) -> Result<Option<Stored>, Failure> {
        let read = self.db.begin_read().map_err(reading)?;
        let index = read.open_table(INDEX).map_err(reading)?;
        let Some((revision, false)) = newest(&index, &record::key_prefix(key), at)? else { return Ok(None) };
        let changes = read.open_table(CHANGES).map_err(reading)?;
        Ok(Some(Arc::unwrap_or_clone(row_at(&changes, revision, &self.encryption)?.object)))
    }

    pub(super) fn range(
        &self,
        resource: &ResourceKey,
        namespace: Option<&str>,
        at: u64,
    ) -> Result<Vec<Stored>, Failure> {
        let read = self.db.begin_read().map_err(reading)?;
        let (index, changes) =
            (read.open_table(INDEX).map_err(reading)?, read.open_table(CHANGES).map_err(reading)?);
        let mut start = record::resource_prefix(resource);
        if let Some(namespace) = namespace {
            start.extend_from_slice(namespace.as_bytes());
            start.push(0);
        }
        // The newest state at or before `at` of the key that the scan stands on.
        let mut candidate: Option<(Vec<u8>, u64, bool)> = None;
        let mut found = Vec::new();
        let mut take = |candidate: Option<(Vec<u8>, u64, bool)>| -> Result<(), Failure> {
            if let Some((_, revision, false)) = candidate {
                found.push(Arc::unwrap_or_clone(row_at(&changes, revision, &self.encryption)?.object));
            }
            Ok(())
        };
        for row in index.range(start.as_slice()..).map_err(reading)? {
            let (row, deleted) = row.map_err(reading)?;
            let row = row.value();
            if !row.starts_with(&start) {
                break;
            }
            let Some((prefix, revision)) = record::split_index_key(row) else { continue };
            if revision > at {
                continue;
            }
            if candidate.as_ref().is_some_and(|(last, ..)| last != prefix) {
                take(candidate.take())?;
            }
            candidate = Some((prefix.to_vec(), revision, deleted.value()));
        }
        take(candidate)?;
        Ok(found)
    }

    pub(super) fn replay(&self, sink: &mut dyn FnMut(Change)) -> Result<(), Failure> {
        let read = self.db.begin_read().map_err(reading)?;
        let changes = read.open_table(CHANGES).map_err(reading)?;
        for row in changes.iter().map_err(reading)? {
            let (revision, row) = row.map_err(reading)?;
            sink(record::decode(revision.value(), row.value(), &self.encryption)?);
        }
        Ok(())
    }

    /// Forgets what only reads before revision `to` need, at most `limit` states of it. Returns whether it got all the way.
    pub(super) fn compact(&self, to: u64, limit: usize) -> Result<bool, Failure> {
        let to = to.min(self.revision());
        let write = begin(&self.db)?;
        let mut reached = to;
        {
            let mut changes = write.open_table(CHANGES).map_err(writing)?;
            let mut index = write.open_table(INDEX).map_err(writing)?;
            let mut superseded = write.open_table(SUPERSEDED).map_err(writing)?;
            let mut rows = Vec::new();
            for row in superseded.range(..=to).map_err(reading)? {
                let (by, old) = row.map_err(reading)?;
                if rows.len() == limit {
                    // States at this revision and later still need what is left.
                    reached = by.value() - 1;
                    break;
                }
                rows.push((by.value(), old.value()));
            }
            for (by, old) in rows {
                superseded.remove(by).map_err(writing)?;
                forget(&mut changes, &mut index, old)?;
                if is_tombstone(&changes, by)? {
                    forget(&mut changes, &mut index, by)?;
                }
            }
            let mut meta = write.open_table(META).map_err(writing)?;
            meta.insert("compacted", reached.max(self.compacted()).to_be_bytes().as_slice())
                .map_err(writing)?;
        }
        commit(write)?;
        self.compacted.fetch_max(reached, Ordering::AcqRel);
        Ok(reached == to)
    }
}

/// The newest states of keys as of one moment.
pub(super) struct Newest(ReadOnlyTable<&'static [u8], bool>);

impl Newest {
    /// The key's newest change: its revision, and whether the key went with it.
    pub(super) fn of(&self, prefix: &[u8]) -> Result<Option<(u64, bool)>, Failure> {
        newest(&self.0, prefix, u64::MAX)
    }
}

fn row_at(
    table: &impl ReadableTable<u64, &'static [u8]>,
    revision: u64,
    encryption: &Encryption,
) -> Result<Change, Failure> {
    let row = table.get(revision).map_err(reading)?;
    let row = row.ok_or_else(|| Failure::Damaged { revision, what: "it is in the index alone".into() })?;
    record::decode(revision, row.value(), encryption)
}

/// The key's newest change at or before `at`: its revision, and whether the key went with it.
fn newest(
    index: &impl ReadableTable<&'static [u8], bool>,
    prefix: &[u8],
    at: u64,
) -> Result<Option<(u64, bool)>, Failure> {
    let (first, last) = (record::index_key(prefix, 0), record::index_key(prefix, at));
    let Some(row) = index.range(first.as_slice()..=last.as_slice()).map_err(reading)?.next_back() else {
        return Ok(None);
    };
    let (row, deleted) = row.map_err(reading)?;
    Ok(record::split_index_key(row.value()).map(|(_, revision)| (revision, deleted.value())))
}

fn is_tombstone(changes: &Table<'_, u64, &'static [u8]>, revision: u64) -> Result<bool, Failure> {
    let row = changes.get(revision).map_err(reading)?;
    row.map_or(Ok(false), |row| Ok(record::split(revision, row.value())?.deleted))
}

fn forget(
    changes: &mut Table<'_, u64, &'static [u8]>,
    index: &mut Table<'_, &'static [u8], bool>,
    revision: u64,
) -> Result<(), Failure> {
    let Some(row) = changes.remove(revision).map_err(writing)? else { return Ok(()) };
    let key = record::index_key(&record::key_prefix(&record::split(revision, row.value())?.key), revision);
    index.remove(key.as_slice()).map_err(writing)?;
    Ok(())
}

fn begin(db: &Database) -> Result<WriteTransaction, Failure> {
    let mut write = db.begin_write().map_err(writing)?;
    // Without it a power cut means a repair of the whole file at the next open. It costs nothing measurable here.
    write.set_quick_repair(true);
    Ok(write)
}

/// Commits with redb's default durability, `Immediate`: returns after fsync.
fn commit(write: WriteTransaction) -> Result<(), Failure> {
    write.commit().map_err(writing)
}

fn number(meta: &impl ReadableTable<&'static str, &'static [u8]>, name: &str) -> Result<u64, Failure> {
    let value = meta.get(name).map_err(reading)?;
    Ok(value.and_then(|value| value.value().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0))
}

fn reading(error: impl Into<redb::Error>) -> Failure {
    Failure::Read(Box::new(error.into()))
}

fn writing(error: impl Into<redb::Error>) -> Failure {
    Failure::Write(Box::new(error.into()))
}
