//! The last zones, kept through restarts.

use std::io;
use std::path::{Path, PathBuf};

use federation_runtime::files::{self, Access};
use prost::Message as _;
use proto::v1;
use sha2::{Digest, Sha256};

/// What the file starts with; the digit is the format's.
const MAGIC: &[u8; 8] = b"dns-lb 1";
/// SHA-256.
const CHECKSUM: usize = 32;

/// The file `zones` in the data directory: magic, SHA-256 of the rest, the update as it came (protobuf).
#[derive(Clone, Debug)]
pub struct Disk(PathBuf);

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
        Self(directory.join("zones"))
    }

    /// What was kept; none if nothing was yet.
    ///
    /// # Errors
    /// When the file cannot be read, or its checksum is wrong.
    pub fn load(&self) -> Result<Option<v1::ZoneUpdate>, DiskError> {
        let bytes = match std::fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DiskError::Read { path: self.0.clone(), source }),
        };
        let damaged = || DiskError::Damaged { path: self.0.clone() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let (checksum, body) = rest.split_first_chunk::<CHECKSUM>().ok_or_else(damaged)?;
        if Sha256::digest(body).as_slice() != checksum {
            return Err(damaged());
        }
        v1::ZoneUpdate::decode(body).map(Some).map_err(|_| damaged())
    }

    /// Keeps `update`, durably and atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn store(&self, update: &v1::ZoneUpdate) -> Result<(), DiskError> {
        self.store_encoded(&update.encode_to_vec())
    }

    /// Keeps the update that `body` is, durably and atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn store_encoded(&self, body: &[u8]) -> Result<(), DiskError> {
        let bytes = [MAGIC.as_slice(), Sha256::digest(body).as_slice(), body].concat();
        files::replace(&self.0, &bytes, Access::Private)
            .map_err(|source| DiskError::Write { path: self.0.clone(), source })
    }
}
