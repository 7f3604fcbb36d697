//! The last zones, kept through restarts.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::clock::Instant;
use federation_runtime::files::{self, Access};
use hub_protocol::zones;
use parking_lot::Mutex;
use prost::Message as _;
use proto::v1;
use sha2::{Digest, Sha256};

/// What the file starts with; the digit is the format's.
const MAGIC: &[u8; 8] = b"dns-lb 1";
/// SHA-256.
const CHECKSUM: usize = 32;
/// Length and checksum of a change.
const HEAD: usize = 4 + CHECKSUM;
/// Changes are kept beside the whole until they are as large as this, or as half the whole: then the whole is written anew, so that a
/// change costs what it is, twice at most, and a start reads little more than the zones.
const CHANGES_MIN: u64 = 1 << 20;

/// A whole update is asked for no more often than this where changes could not be written: it may not fit either.
const RETRY: Duration = Duration::from_secs(60);

/// The files `zones` and `zones.changes` in the data directory. The first: magic, SHA-256 of the rest, a whole update (protobuf). The
/// second: for each change since, how many octets it has (4, the highest first), its SHA-256, and the change (protobuf). A change that
/// was being written when the machine went down is none. Beside them `zones.date`, which serials do not go back behind.
#[derive(Clone, Debug)]
pub struct Disk {
    whole: PathBuf,
    changes: PathBuf,
    date: PathBuf,
    tail: Arc<Mutex<Tail>>,
    // In place of the files.
    memory: Option<Memory>,
}

/// Where the changes end.
#[derive(Debug, Default)]
struct Tail {
    // Octets of the changes that are wholly there; none as long as that is not known.
    written: Option<u64>,
    // What could not be written, and stands in front of what is written next: a change fits only what came before it.
    missed: Vec<u8>,
    // More than is remembered could not be.
    lost: bool,
    // When a whole update was asked for last, because of that.
    asked: Option<Instant>,
}

/// What a disk in memory holds.
pub type Memory = Arc<Mutex<Option<v1::ZoneUpdate>>>;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Changes before this one could not be written.
    #[error(
        "{path} is behind what is served, as it could not be written for too long, until everything is sent anew"
    )]
    Behind {
        /// Where.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error("{path} is damaged: remove it to start without zones, until the hub sends them")]
    Damaged {
        /// Where.
        path: PathBuf,
    },
}

impl Disk {
    /// In `directory`, which need not exist yet.
    pub fn new(directory: &Path) -> Self {
        let [whole, changes, date] =
            ["zones", "zones.changes", "zones.date"].map(|name| directory.join(name));
        Self { whole, changes, date, tail: Arc::default(), memory: None }
    }

    /// In memory: a simulation's.
    pub fn in_memory(memory: Memory) -> Self {
        let [whole, changes, date] = <[PathBuf; 3]>::default();
        Self { whole, changes, date, tail: Arc::default(), memory: Some(memory) }
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// What was kept; none if nothing was yet.
    ///
    /// # Errors
    /// When a file cannot be read, or a checksum is wrong.
    pub fn load(&self) -> Result<Option<v1::ZoneUpdate>, DiskError> {
        if let Some(memory) = &self.memory {
            return Ok(memory.lock().clone());
        }
        let Some(bytes) = read(&self.whole)? else { return Ok(None) };
        let damaged = || DiskError::Damaged { path: self.whole.clone() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let (checksum, body) = rest.split_first_chunk::<CHECKSUM>().ok_or_else(damaged)?;
        if Sha256::digest(body).as_slice() != checksum {
            return Err(damaged());
        }
        let mut update = v1::ZoneUpdate::decode(body).map_err(|_| damaged())?;
        drop(bytes);
        for change in self.changes(&read(&self.changes)?.unwrap_or_default())?.0 {
            // One that does not fit is older than the whole, or newer than one that could not be written.
            zones::apply(&mut update, &change);
        }
        Ok(Some(update))
    }

    /// The changes that `bytes` are, and how many of them are whole.
    fn changes(&self, bytes: &[u8]) -> Result<(Vec<v1::ZoneUpdate>, u64), DiskError> {
        let damaged = || DiskError::Damaged { path: self.changes.clone() };
        let (mut changes, mut rest) = (Vec::new(), bytes);
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
            let (length, checksum) = head.split_at(4);
            let length = length.iter().fold(0, |length, &octet| length << 8 | usize::from(octet));
            let Some((body, behind)) = behind.split_at_checked(length) else { break };
            if Sha256::digest(body).as_slice() != checksum {
                // The last one may have been half written; before it there was time.
                if behind.is_empty() {
                    break;
                }
                return Err(damaged());
            }
            changes.push(v1::ZoneUpdate::decode(body).map_err(|_| damaged())?);
            rest = behind;
        }
        Ok((changes, (bytes.len() - rest.len()) as u64))
    }

    /// Keeps `update`, durably and atomically: a whole one in place of everything, a change behind what there is.
    ///
    /// What could not be written is written with the next change, which would not fit without it.
    ///
    /// # Errors
    /// When a file cannot be written, or what there is cannot be read.
    pub fn store(&self, update: &v1::ZoneUpdate) -> Result<(), DiskError> {
        if let Some(memory) = &self.memory {
            match &mut *memory.lock() {
                Some(whole) if update.base > 0 => {
                    // As with the files: one that does not fit is none.
                    zones::apply(whole, update);
                }
                kept => *kept = Some(update.clone()),
            }
            return Ok(());
        }
        let mut tail = self.tail.lock();
        if update.base == 0 {
            let replaced = self.replace(update);
            tail.lost |= replaced.is_err();
            replaced?;
            return self.forget_changes(&mut tail);
        }
        if tail.lost {
            return Err(DiskError::Behind { path: self.whole.clone() });
        }
        let body = update.encode_to_vec();
        let length = (body.len() as u32).to_be_bytes();
        let mut bytes = std::mem::take(&mut tail.missed);
        bytes.extend([&length, Sha256::digest(&body).as_slice(), &body].concat());
        let changes = match self.append(&bytes, &mut tail.written) {
            Ok(changes) => changes,
            Err(error) => {
                if bytes.len() as u64 <= CHANGES_MIN {
                    tail.missed = bytes;
                } else {
                    tail.lost = true;
                }
                return Err(error);
            }
        };
        let whole = std::fs::metadata(&self.whole).map_or(0, |file| file.len());
        if changes <= CHANGES_MIN.max(whole / 2) {
            return Ok(());
        }
        let Some(update) = self.load()? else { return Ok(()) };
        self.replace(&update)?;
        self.forget_changes(&mut tail)
    }

    /// Whether what is kept is older than what is served, and no change can mend that.
    pub(crate) fn is_behind(&self) -> bool {
        self.tail.lock().lost
    }

    /// Whether everything is to be asked for, since no change can be kept before it is there: where the disk was full for longer than changes are
    /// remembered. So told once in a while only.
    pub(crate) fn wants_whole(&self) -> bool {
        let mut tail = self.tail.lock();
        if !tail.lost || tail.asked.is_some_and(|asked| asked.elapsed() < RETRY) {
            return false;
        }
        tail.asked = Some(Instant::now());
        true
    }

    /// The quarter of a day, since 1970, that serials were last counted up to: see [`crate::zone::Zones::on`]. None if that is not known.
    pub(crate) fn date(&self) -> Option<u32> {
        std::fs::read_to_string(&self.date).ok()?.trim().parse().ok()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn keep_date(&self, quarter: u32) -> Result<(), DiskError> {
        if self.is_in_memory() {
            return Ok(());
        }
        files::replace(&self.date, format!("{quarter}\n").as_bytes(), Access::Private)
            .map_err(|source| DiskError::Write { path: self.date.clone(), source })
    }

    /// Writes changes behind those that are there; where they end.
    fn append(&self, bytes: &[u8], written: &mut Option<u64>) -> Result<u64, DiskError> {
        let failed = |source| DiskError::Write { path: self.changes.clone(), source };
        let from = match written.take() {
            Some(from) => from,
            None => self.changes(&read(&self.changes)?.unwrap_or_default())?.1,
        };
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let mut file = options.open(&self.changes).map_err(failed)?;
        // What was half written before is overwritten.
        file.set_len(from).map_err(failed)?;
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        if from == 0
            && let Some(directory) = self.changes.parent()
        {
            // The file may be new.
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        }
        let end = from + bytes.len() as u64;
        *written = Some(end);
        Ok(end)
    }

    fn replace(&self, update: &v1::ZoneUpdate) -> Result<(), DiskError> {
        let body = update.encode_to_vec();
        let bytes = [MAGIC.as_slice(), Sha256::digest(&body).as_slice(), &body].concat();
        files::replace(&self.whole, &bytes, Access::Private)
            .map_err(|source| DiskError::Write { path: self.whole.clone(), source })
    }

    /// The whole has been written. Changes that are there still when the machine goes down now are older, and do not fit it.
    fn forget_changes(&self, tail: &mut Tail) -> Result<(), DiskError> {
        *tail = Tail::default();
        match std::fs::remove_file(&self.changes) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::Write { path: self.changes.clone(), source: error })
            }
            _ => {
                tail.written = Some(0);
                Ok(())
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DiskError::Read { path: path.into(), source }),
    }
}
