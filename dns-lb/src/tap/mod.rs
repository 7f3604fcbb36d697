//! What was asked and answered, for the operator: a query log, and dnstap.
//!
//! ```text
//!  UDP thread ──► Tap ══ bounded, a lane for each ══► writer (a thread) ──► lines of JSON
//!  doors      ──► Tap ══                        ══►                   └──► dnstap: file, socket
//! ```
//!
//! Whoever answers takes an empty [`Entry`] from its lane, copies the octets, and sends it: no lock, no allocation, no waiting. When
//! there is no empty one, because the writer is behind, the entry is dropped and counted. All else is the writer's.

mod dnstap;
mod frames;
mod json;
mod lane;
mod target;
mod writer;

pub use lane::{Counts, Entry, Fate, Sampling, Tap, Taps};
pub use target::TargetError;
pub use writer::{Output, Writer};

use std::path::PathBuf;

/// Where queries and answers are written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct TapOptions {
    /// File of a log of queries: a line of JSON for each. `-` is standard error. A file that is moved away is begun anew.
    #[arg(long, value_name = "FILE")]
    pub query_log: Option<PathBuf>,
    /// One in so many queries is logged, by chance.
    #[arg(long, value_name = "N", default_value = "1")]
    pub query_log_sample: Option<std::num::NonZeroU32>,
    /// File of dnstap messages (Frame Streams); one that is there is moved to FILE.old.
    #[arg(long, value_name = "FILE", conflicts_with = "dnstap_socket")]
    pub dnstap_file: Option<PathBuf>,
    /// Unix socket that takes dnstap messages, as fstrm_capture makes it. Connected to again and again.
    #[arg(long, value_name = "PATH")]
    pub dnstap_socket: Option<PathBuf>,
    /// One in so many queries is told by dnstap, by chance.
    #[arg(long, value_name = "N", default_value = "1")]
    pub dnstap_sample: Option<std::num::NonZeroU32>,
}

impl TapOptions {
    /// How often each output wants a query; none where there is nothing to write to.
    pub fn sampling(&self) -> Option<Sampling> {
        let every = |wanted: bool, sample: Option<std::num::NonZeroU32>| {
            if wanted { sample.map_or(1, std::num::NonZeroU32::get) } else { 0 }
        };
        let log = every(self.query_log.is_some(), self.query_log_sample);
        let dnstap = every(self.dnstap_file.is_some() || self.dnstap_socket.is_some(), self.dnstap_sample);
        (log > 0 || dnstap > 0).then_some(Sampling { log, dnstap })
    }
}
