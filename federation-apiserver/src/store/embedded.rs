//! The embedded engine: a write-ahead log in front of tables.
//!
//! A commit is one frame of the [log] and one sync. A thread of its own [takes](checkpoint) what the log holds into the [tables], a second's
//! worth or a segment's at a time, so that a write pays for neither their pages nor their two syncs. In between, [`Recent`] knows where the
//! keys stand. See docs/adr/0001-store.md.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc},
};

use federation_runtime::files;

use super::{
    Change, Encryption, Failure, Key, Operation, Rejection, ResourceKey, Stored,
    backend::{Backend, check},
    checkpoint::{self, Handle, Job, Place, Progress},
    log::{self, Log, Lost, Segment, Sizes, frame},
    recent::Recent,
    record,
    tables::{Entry, Newest, Tables},
};

/// A store in a folder. One process at a time can have it open.
pub struct Embedded {
    tables: Arc<Tables>,
    log: Log,
    recent: Recent,
    encryption: Encryption,
    revision: u64,
    progress: Arc<Progress>,
    /// Gone when the store is being closed.
    tabling: Option<Handle>,
    segments: Segments,
    buffer: Vec<u8>,
    /// A commit has failed: what the log holds at its end is unknown.
    failed: bool,
}

/// The segments that the log goes on in.
struct Segments {
    sizes: Sizes,
    spare: Vec<Segment>,
    /// How many were asked for.
    asked: usize,
}

/// Named `lose-after-REVISION`, an empty file in the folder is an operator's word that what comes after a damage of the log is lost.
const LOSE_AFTER: &str = "lose-after-";
/// After a loss, revisions go on so much later: what was told under the lost ones can be told from what comes.
const REVISIONS_SKIPPED: u64 = 1 << 20;
/// Rows of a log that are taken into the tables together when the store is opened.
const RECOVERED: usize = 4096;
/// A buffer that a large commit has grown is given back. A group of 32 writes of 1 KiB fits.
const BUFFER_KEPT: usize = 128 << 10;

impl Embedded {
    /// Opens the store in `folder`, and makes it if there is none. What `encryption` would seal otherwise than it is sealed is written
    /// anew first.
    ///
    /// # Errors
    /// Also when the log of a store that was not closed in order is missing or damaged.
    pub fn open(folder: &Path, encryption: Encryption) -> Result<Self, Failure> {
        Self::open_sized(folder, encryption, Sizes::default())
    }

    pub(super) fn open_sized(folder: &Path, encryption: Encryption, sizes: Sizes) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::Open { path: folder.display().to_string(), source: error.into() };
        // Secrets are inside.
        files::private_directory(folder).map_err(failed)?;
        let mut tables = Tables::open(folder, encryption.clone())?;
        if let Some(generation) = tables.log()? {
            take_over(folder, generation, &tables, &encryption)?;
        }
        tables.reseal()?;
        let generation = rand::random_range(1..=u64::MAX);
        let segment = Segment::create(folder, generation, 0, sizes.first).map_err(failed)?;
        tables.set_log(Some(generation))?;
        log::remove_others(folder, Some(generation)).map_err(failed)?;
        let (tables, progress) = (Arc::new(tables), Arc::new(Progress::default()));
        progress.settled.store(tables.revision(), Ordering::Release);
        let place = Place { folder: folder.to_owned(), generation, segment_bytes: sizes.others };
        let tabling = checkpoint::spawn(Arc::clone(&tables), place, Arc::clone(&progress)).map_err(failed)?;
        Ok(Self {
            log: Log::new(generation, segment),
            recent: Recent::default(),
            encryption,
            revision: tables.revision(),
            tables,
            progress,
            tabling: Some(tabling),
            segments: Segments { sizes, spare: Vec::new(), asked: 0 },
            buffer: Vec::new(),
            failed: false,
        })
    }

    /// Has the log go on in `file`.
    #[cfg(test)]
    pub(super) fn break_log(&mut self, file: fs::File) {
        self.log.go_on(Segment::of(file));
    }

    /// Waits until the tables hold everything.
    fn settle(&self) -> Result<(), Failure> {
        let (done, settled) = mpsc::sync_channel(1);
        self.ask(Job::Settle(done))?;
        settled.recv().map_err(|_| self.stopped())?;
        if self.progress.failed.get().is_some() { Err(self.stopped()) } else { Ok(()) }
    }

    fn ask(&self, job: Job) -> Result<(), Failure> {
        let sent = self.tabling.as_ref().map(|tabling| tabling.jobs.send(job));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(self.stopped()) }
    }

    /// Why nothing can be written any more.
    fn stopped(&self) -> Failure {
        let why = self.progress.failed.get().map_or("the thread that writes the tables has ended", |why| why);
        Failure::Write(why.into())
    }

    /// The revision that a key stands at.
    fn standing(&mut self, prefix: &[u8], newest: &mut Option<Newest>) -> Result<Option<u64>, Failure> {
        let known = match self.recent.get(prefix) {
            Some(known) => Some(known),
            None => {
                let newest = match newest {
                    Some(newest) => newest,
                    None => newest.insert(self.tables.newest()?),
                };
                let found = newest.of(prefix)?;
                if let Some((revision, deleted)) = found {
                    self.recent.insert(prefix.to_vec(), revision, deleted);
                }
                found
            }
        };
        Ok(known.filter(|(_, deleted)| !deleted).map(|(revision, _)| revision))
    }

    /// Makes the rows in the buffer durable.
    fn append(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        let first = self.revision + 1;
        if !self.log.fits(self.buffer.len()) {
            let next = self.next_segment(self.buffer.len())?;
            let filled = self.log.go_on(next);
            self.ask(Job::Filled(filled))?;
        }
        self.log.append(&mut self.buffer, first, entries.len())?;
        if self.log.is_half_full() {
            self.ask_ahead()?;
        }
        self.revision += entries.len() as u64;
        if self.progress.hand_over(entries) { self.ask(Job::Begin) } else { Ok(()) }
    }

    /// Has a segment made before it is needed, unless there are enough.
    fn ask_ahead(&mut self) -> Result<(), Failure> {
        while let Some(segment) = self.tabling.as_ref().and_then(|tabling| tabling.segments.try_recv().ok()) {
            self.segments.spare.push(segment);
        }
        if self.segments.spare.is_empty() && self.segments.asked < self.segments.sizes.count {
            self.segments.asked += 1;
            self.ask(Job::Prepare(self.segments.sizes.others))?;
        }
        Ok(())
    }

    /// A segment in which so many bytes have room. Waits for one if all are full of what the tables do not hold yet.
    fn next_segment(&mut self, bytes: usize) -> Result<Segment, Failure> {
        if bytes > self.segments.sizes.others {
            self.ask(Job::Prepare(bytes))?;
        } else {
            self.ask_ahead()?;
        }
        loop {
            if let Some(at) = self.segments.spare.iter().position(|segment| segment.bytes >= bytes) {
                return Ok(self.segments.spare.swap_remove(at));
            }
            let made = self.tabling.as_ref().and_then(|tabling| tabling.segments.recv().ok());
            self.segments.spare.push(made.ok_or_else(|| self.stopped())?);
        }
    }

    fn try_commit(&mut self, batch: Vec<Operation>) -> Result<Vec<Result<Change, Rejection>>, Failure> {
        self.recent.prune(self.progress.settled.load(Ordering::Acquire));
        let mut revision = self.revision;
        let mut verdicts = Vec::with_capacity(batch.len());
        let mut entries = Vec::with_capacity(batch.len());
        let mut newest = None;
        frame::begin(&mut self.buffer);
        for operation in batch {
            if let Some((other, at)) = &operation.within
                && self.standing(&record::key_prefix(other), &mut newest)? != Some(*at)
            {
                verdicts.push(Err(Rejection::Moved));
                continue;
            }
            let prefix = record::key_prefix(&operation.key);
            let replaced = self.standing(&prefix, &mut newest)?;
            if let Err(rejection) = check(operation.expect, replaced) {
                verdicts.push(Err(rejection));
                continue;
            }
            revision += 1;
            let bytes = operation.object.fill(revision);
            let object = Stored { key: operation.key, revision, bytes, meta: operation.object.meta };
            let change = Change { object: Arc::new(object), deleted: operation.delete };
            frame::push(&mut self.buffer, replaced, |row| record::append(row, &change, &self.encryption));
            self.recent.insert(prefix, revision, change.deleted);
            entries.push(Entry { change: change.clone(), replaced });
            verdicts.push(Ok(change));
        }
        if !entries.is_empty() {
            self.append(entries)?;
        }
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        Ok(verdicts)
    }
}

impl Backend for Embedded {
    fn incarnation(&self) -> &str {
        self.tables.incarnation()
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn compacted(&self) -> u64 {
        self.tables.compacted()
    }

    fn get(&self, key: &Key, at: u64) -> Result<Option<Stored>, Failure> {
        self.settle()?;
        self.tables.get(key, at)
    }

    fn range(
        &self,
        resource: &ResourceKey,
        namespace: Option<&str>,
        at: u64,
    ) -> Result<Vec<Stored>, Failure> {
        self.settle()?;
        self.tables.range(resource, namespace, at)
    }

    fn replay(&self, sink: &mut dyn FnMut(Change)) -> Result<(), Failure> {
        self.settle()?;
        self.tables.replay(sink)
    }

    fn commit(&mut self, batch: Vec<Operation>) -> Result<Vec<Result<Change, Rejection>>, Failure> {
        if self.failed || self.progress.failed.get().is_some() {
            return Err(self.stopped());
        }
        let committed = self.try_commit(batch);
        self.failed = committed.is_err();
        committed
    }

    fn compact(&mut self, to: u64, limit: usize) -> Result<bool, Failure> {
        if to > self.tables.revision() {
            self.settle()?;
        }
        self.tables.compact(to, limit)
    }
}

impl Drop for Embedded {
    /// Takes everything into the tables, and ends the log.
    fn drop(&mut self) {
        if let Some(Handle { jobs, segments, thread }) = self.tabling.take() {
            drop((jobs, segments));
            if thread.join().is_err() {
                tracing::error!("the thread that writes the store's tables has panicked");
            }
        }
    }
}

/// Takes what the log of the last opening holds into the tables.
fn take_over(
    folder: &Path,
    generation: u64,
    tables: &Tables,
    encryption: &Encryption,
) -> Result<(), Failure> {
    let (lost, word) = word(folder).map_err(|error| Failure::Read(Box::new(error)))?;
    let (from, mut entries) = (tables.revision(), Vec::new());
    let recovered = log::recover(folder, generation, from, lost, &mut |revision, replaced, row| {
        let change = record::decode(revision, row, encryption)?;
        entries.push(Entry { change, replaced });
        if entries.len() == RECOVERED {
            tables.apply(&std::mem::take(&mut entries))?;
        }
        Ok(())
    })?;
    tables.apply(&entries)?;
    if recovered.last > from {
        tracing::info!(writes = recovered.last - from, "took over the log of a store that was not closed");
    }
    if let Some(word) = word {
        if lost == Lost::After(recovered.last) {
            tracing::warn!(
                after = recovered.last,
                seen = recovered.seen,
                "writes of the store's log are lost"
            );
            tables.skip_to(recovered.seen + REVISIONS_SKIPPED)?;
        }
        // Said once, it holds once.
        fs::remove_file(word).map_err(|error| Failure::Write(Box::new(error)))?;
    }
    Ok(())
}

/// What an operator says may be lost, and the file in which he says it.
fn word(folder: &Path) -> io::Result<(Lost, Option<PathBuf>)> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let said = name.to_str().and_then(|name| name.strip_prefix(LOSE_AFTER)?.parse().ok());
        if let Some(revision) = said {
            return Ok((Lost::After(revision), Some(entry.path())));
        }
    }
    Ok((Lost::Nothing, None))
}
