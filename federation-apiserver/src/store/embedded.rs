//! The embedded engine, on redb.
//!
//! | table | row | for |
//! |---|---|---|
//! | `changes` | revision → row ([`record`]) | replay at open; the bytes of every state |
//! | `index` | key, revision → whether the key went | optimistic checks, reads of the past |
//! | `superseded` | revision → the revision it replaced | compaction without a scan |
//! | `meta` | name → number or text | incarnation, format, compacted and newest revision |
//!
//! A batch is acknowledged when the [`journal`](super::journal) has it; the tables are made durable when the journal is full, when old states are forgotten,
//! and when the store is closed.

use std::{fs::File, path::Path, sync::Arc};

use federation_runtime::{errors::Chain, files};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::{
    Change, Encryption, Failure, Key, Operation, Rejection, ResourceKey, Stored,
    backend::{Backend, check},
    journal::{Entry, Journal},
    record,
};

const CHANGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("changes");
const INDEX: TableDefinition<'_, &[u8], bool> = TableDefinition::new("index");
const SUPERSEDED: TableDefinition<'_, u64, u64> = TableDefinition::new("superseded");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const FORMAT: u64 = 1;
const FILE: &str = "store.redb";
/// The watch cache holds every live object, so the engine's own page cache only serves the writer's index lookups: a row of the index is
/// about 100 bytes, and what finds no room here is in the system's page cache. Of it the engine keeps the pages of one commit, some MiB.
const PAGE_CACHE_BYTES: usize = 8 << 20;

/// A store in one file of a folder. One process at a time can have it open.
pub struct Embedded {
    db: Database,
    incarnation: String,
    revision: u64,
    compacted: u64,
    encryption: Encryption,
    journal: Journal,
    /// The tables hold more than is durable in them.
    pending: bool,
}

/// Rows that one transaction writes anew.
const RESEALED: usize = 1024;

impl Embedded {
    /// Opens the store in `folder`, and makes it if there is none. What `encryption` would seal otherwise than it is sealed is written
    /// anew first.
    pub fn open(folder: &Path, encryption: Encryption) -> Result<Self, Failure> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Failure::Open {
            path: folder.display().to_string(),
            source,
        };
        // Secrets are inside.
        files::private_directory(folder).map_err(|error| failed(error.into()))?;
        let db = Database::builder()
            .set_cache_size(PAGE_CACHE_BYTES)
            .create(folder.join(FILE))
            .map_err(|error| failed(error.into()))?;
        let mut store = Self::load(db, encryption, |incarnation| {
            Journal::open(folder, incarnation).map_err(|error| failed(error.into()))
        })?;
        // The files' names must survive a power cut as their contents do.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(error.into()))?;
        store.recover()?;
        store.reseal()?;
        Ok(store)
    }

    /// Takes in what only the journal holds.
    fn recover(&mut self) -> Result<(), Failure> {
        let rows = self.journal.rows().map_err(journaling)?;
        let durable = self.revision;
        let write = begin(&self.db)?;
        {
            let mut tables = Tables::open(&write)?;
            for (revision, row) in rows.iter().filter(|(revision, _)| *revision > durable) {
                if *revision != self.revision + 1 {
                    tracing::warn!(
                        revision,
                        newest = self.revision,
                        "the store's journal goes on later than the store ends: it is of another time"
                    );
                    break;
                }
                let split = record::split(*revision, row)?;
                let (prefix, deleted) = (record::key_prefix(&split.key), split.deleted);
                let current = standing(&tables.index, &prefix)?;
                tables.put(&prefix, *revision, row, deleted, current)?;
                self.revision = *revision;
            }
        }
        if self.revision > durable {
            tracing::info!(
                rows = self.revision - durable,
                "took what was written last from the store's journal"
            );
            note_revision(&write, self.revision)?;
            commit(write)?;
        } else {
            write.abort().map_err(writing)?;
        }
        self.journal.clear().map_err(journaling)
    }

    /// Makes durable in the tables what is in them.
    fn settle(&mut self) -> Result<(), Failure> {
        if self.pending {
            commit(begin(&self.db)?)?;
            self.settled();
        }
        Ok(())
    }

    /// Everything in the tables is durable there.
    fn settled(&mut self) {
        self.pending = false;
        self.journal.restart();
    }

    /// Writes anew what is sealed with another key than it would be now, or not at all. Revisions stay as they are.
    fn reseal(&mut self) -> Result<(), Failure> {
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
                    let row = record::encode(&change, &self.encryption);
                    changes.insert(*revision, row.as_slice()).map_err(writing)?;
                }
            }
            commit(write)?;
        }
        // The old bodies still stand in pages that are free now: give these back, as far as the engine can.
        self.db.compact().map(drop).map_err(|error| Failure::Write(Box::new(error)))
    }

    fn load(
        db: Database,
        encryption: Encryption,
        journal: impl FnOnce(&str) -> Result<Journal, Failure>,
    ) -> Result<Self, Failure> {
        let write = db.begin_write().map_err(writing)?;
        let (incarnation, found);
        {
            let mut meta = write.open_table(META).map_err(writing)?;
            write.open_table(CHANGES).map_err(writing)?;
            write.open_table(INDEX).map_err(writing)?;
            write.open_table(SUPERSEDED).map_err(writing)?;
            if meta.get("format").map_err(reading)?.is_none() {
                meta.insert("format", FORMAT.to_be_bytes().as_slice()).map_err(writing)?;
                meta.insert("incarnation", uuid::Uuid::new_v4().to_string().as_bytes()).map_err(writing)?;
            }
            let id = meta.get("incarnation").map_err(reading)?;
            incarnation = id.map(|id| String::from_utf8_lossy(id.value()).into_owned()).unwrap_or_default();
            found = (number(&meta, "format")?, number(&meta, "revision")?, number(&meta, "compacted")?);
        }
        let (format, revision, compacted) = found;
        if format != FORMAT {
            return Err(Failure::Format { found: format, expected: FORMAT });
        }
        commit(write)?;
        let journal = journal(&incarnation)?;
        Ok(Self { db, incarnation, revision, compacted, encryption, journal, pending: false })
    }
}

impl Backend for Embedded {
    fn incarnation(&self) -> &str {
        &self.incarnation
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn compacted(&self) -> u64 {
        self.compacted
    }

    fn get(&self, key: &Key, at: u64) -> Result<Option<Stored>, Failure> {
        let read = self.db.begin_read().map_err(reading)?;
        let index = read.open_table(INDEX).map_err(reading)?;
        let Some((revision, false)) = newest(&index, &record::key_prefix(key), at)? else { return Ok(None) };
        let changes = read.open_table(CHANGES).map_err(reading)?;
        Ok(Some(Arc::unwrap_or_clone(row_at(&changes, revision, &self.encryption)?.object)))
    }

    fn range(
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

    fn replay(&self, sink: &mut dyn FnMut(Change)) -> Result<(), Failure> {
        let read = self.db.begin_read().map_err(reading)?;
        let changes = read.open_table(CHANGES).map_err(reading)?;
        for row in changes.iter().map_err(reading)? {
            let (revision, row) = row.map_err(reading)?;
            sink(record::decode(revision.value(), row.value(), &self.encryption)?);
        }
        Ok(())
    }

    fn commit(&mut self, batch: Vec<Operation>) -> Result<Vec<Result<Change, Rejection>>, Failure> {
        let mut write = begin(&self.db)?;
        let mut revision = self.revision;
        let mut verdicts = Vec::with_capacity(batch.len());
        let mut entry = Entry::new();
        {
            let mut tables = Tables::open(&write)?;
            for operation in batch {
                let prefix = record::key_prefix(&operation.key);
                let current = standing(&tables.index, &prefix)?;
                if let Some((other, at)) = &operation.within
                    && standing(&tables.index, &record::key_prefix(other))? != Some(*at)
                {
                    verdicts.push(Err(Rejection::Moved));
                    continue;
                }
                if let Err(rejection) = check(operation.expect, current) {
                    verdicts.push(Err(rejection));
                    continue;
                }
                revision += 1;
                let bytes = operation.object.fill(revision);
                let object = Stored { key: operation.key, revision, bytes, meta: operation.object.meta };
                let change = Change { object: Arc::new(object), deleted: operation.delete };
                let row = record::encode(&change, &self.encryption);
                tables.put(&prefix, revision, &row, change.deleted, current)?;
                entry.push(revision, &row);
                verdicts.push(Ok(change));
            }
        }
        if revision == self.revision {
            // Nothing was accepted: nothing to flush.
            write.abort().map_err(writing)?;
            return Ok(verdicts);
        }
        note_revision(&write, revision)?;
        if self.journal.takes(&entry) {
            write.set_durability(Durability::None).map_err(|error| Failure::Write(Box::new(error)))?;
            commit(write)?;
            self.pending = true;
            self.journal.append(entry).map_err(journaling)?;
        } else {
            commit(write)?;
            self.settled();
        }
        self.revision = revision;
        Ok(verdicts)
    }

    fn compact(&mut self, to: u64, limit: usize) -> Result<bool, Failure> {
        let to = to.min(self.revision);
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
            meta.insert("compacted", reached.max(self.compacted).to_be_bytes().as_slice())
                .map_err(writing)?;
        }
        commit(write)?;
        self.settled();
        self.compacted = self.compacted.max(reached);
        Ok(reached == to)
    }
}

impl Drop for Embedded {
    /// So the next start has nothing to take in, and nothing is left in the journal. Without it nothing is lost.
    fn drop(&mut self) {
        let closed = self.settle().and_then(|()| self.journal.clear().map_err(journaling));
        if let Err(error) = closed {
            tracing::warn!(error = %Chain(&error), "the store's journal stays as it is until the next start");
        }
    }
}

/// The tables of one transaction.
struct Tables<'t> {
    changes: Table<'t, u64, &'static [u8]>,
    index: Table<'t, &'static [u8], bool>,
    superseded: Table<'t, u64, u64>,
}

impl<'t> Tables<'t> {
    fn open(write: &'t WriteTransaction) -> Result<Self, Failure> {
        Ok(Self {
            changes: write.open_table(CHANGES).map_err(writing)?,
            index: write.open_table(INDEX).map_err(writing)?,
            superseded: write.open_table(SUPERSEDED).map_err(writing)?,
        })
    }

    /// Adds a change of the key behind `prefix`, which stood at `current`.
    fn put(
        &mut self,
        prefix: &[u8],
        revision: u64,
        row: &[u8],
        deleted: bool,
        current: Option<u64>,
    ) -> Result<(), Failure> {
        self.changes.insert(revision, row).map_err(writing)?;
        self.index.insert(record::index_key(prefix, revision).as_slice(), deleted).map_err(writing)?;
        if let Some(current) = current {
            self.superseded.insert(revision, current).map_err(writing)?;
        }
        Ok(())
    }
}

/// The revision that the key behind `prefix` stands at now.
fn standing(index: &impl ReadableTable<&'static [u8], bool>, prefix: &[u8]) -> Result<Option<u64>, Failure> {
    Ok(newest(index, prefix, u64::MAX)?.filter(|(_, deleted)| !deleted).map(|(at, _)| at))
}

fn note_revision(write: &WriteTransaction, revision: u64) -> Result<(), Failure> {
    let mut meta = write.open_table(META).map_err(writing)?;
    meta.insert("revision", revision.to_be_bytes().as_slice()).map_err(writing)?;
    Ok(())
}

fn journaling(error: std::io::Error) -> Failure {
    Failure::Write(Box::new(error))
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

/// Commits as durably as the transaction says: by default it returns after fsync.
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
