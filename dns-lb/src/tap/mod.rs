//! The query log and dnstap.
//!
//! ```text
//!  UDP thread ──► Tap ══ bounded, a queue for each ══► writer (a thread) ──► lines of JSON
//!  connections──► Tap ══                        ══►                   └──► dnstap: file, socket
//! ```
//!
//! A thread that answers takes an empty [`Entry`] from its queue, copies the message into it, and sends it to the writer: no lock, no
//! allocation, no waiting. If none is empty, because the writer is behind, the message is dropped and counted. Everything else is done by
//! the writer.

mod dnstap;
mod frames;
mod json;
mod queue;
mod target;
mod writer;

pub use queue::{Counts, Entry, Outcome, Sampling, Tap, Taps};
pub use target::TargetError;
pub use writer::{Output, Writer};

use std::path::PathBuf;

/// Query log and dnstap.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct TapOptions {
    /// Query log, one JSON object per line; - for standard error. If the file is moved away, a new one is created.
    #[arg(long, value_name = "FILE")]
    pub query_log: Option<PathBuf>,
    /// Log a random sample of one in N queries.
    #[arg(long, value_name = "N", default_value = "1")]
    pub query_log_sample: Option<std::num::NonZeroU32>,
    /// File for dnstap messages (Frame Streams); an existing file is moved to FILE.old.
    #[arg(long, value_name = "FILE", conflicts_with = "dnstap_socket")]
    pub dnstap_file: Option<PathBuf>,
    /// Unix socket of a dnstap receiver, such as fstrm_capture. The connection is retried until it works.
    #[arg(long, value_name = "PATH")]
    pub dnstap_socket: Option<PathBuf>,
    /// Send a random sample of one in N queries to dnstap.
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
