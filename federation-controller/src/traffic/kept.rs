//! What is kept over restarts, so that a restart never forgets the last answers.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use federation_core::traffic::{Latency, Memory};
use federation_runtime::files::{self, Access};

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

impl Kept {
    pub(super) fn load(file: &Path) -> Self {
        match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, file = %file.display(), "the last answers could not be read: starting without");
                Self::default()
            }),
            Err(_) => Self::default(),
        }
    }

    pub(super) fn save(&self, file: &Path) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        if let Err(error) = files::replace(file, &bytes, Access::Private) {
            tracing::warn!(%error, file = %file.display(), "the last answers could not be kept");
        }
    }
}
