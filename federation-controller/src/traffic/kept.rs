//! The file that keeps the last answers over restarts.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use federation_core::traffic::{Latency, Memory};
use federation_runtime::files::{self, Access};
use parking_lot::Mutex;

/// The file's content.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(flatten)]
    pub(super) memory: Memory,
    #[serde(default)]
    pub(super) latency: Latency,
    /// Every origin that ever had records.
    #[serde(default)]
    pub(super) origins: BTreeSet<String>,
}

/// Where it is kept.
#[derive(Clone, Debug)]
pub enum Keeping {
    /// In a file.
    File(PathBuf),
    /// In memory: a simulation's disk.
    Memory(Arc<Mutex<Vec<u8>>>),
}

impl Kept {
    pub(super) fn load(from: &Keeping) -> Self {
        let bytes = match from {
            Keeping::File(file) => std::fs::read(file).unwrap_or_default(),
            Keeping::Memory(bytes) => bytes.lock().clone(),
        };
        if bytes.is_empty() {
            return Self::default();
        }
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, ?from, "the last answers could not be read: starting without");
            Self::default()
        })
    }

    pub(super) fn save(&self, to: &Keeping) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        match to {
            Keeping::File(file) => {
                if let Err(error) = files::replace(file, &bytes, Access::Private) {
                    tracing::warn!(%error, file = %file.display(), "the last answers could not be kept");
                }
            }
            Keeping::Memory(kept) => *kept.lock() = bytes,
        }
    }
}
