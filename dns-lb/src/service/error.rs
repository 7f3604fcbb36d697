//! Why a server cannot start, or cannot go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use aws_lc_rs::error::Unspecified;
use federation_runtime::pki;

use crate::answer::INSTANCE_MAX;
use crate::client::DatabaseError;
use crate::hub::DiskError;
use crate::tap::TargetError;
use crate::transfer::KeyError;
use crate::transport::EncryptedError;

/// dns-lb could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be bound.
    #[error("--listen {address}: cannot bind {transport}")]
    Bind {
        /// As given.
        address: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The address where agents meet cannot be bound.
    #[error("--meet-listen {address}: cannot bind")]
    Meet {
        /// As given.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The metrics' address cannot be bound.
    #[error("--metrics-listen {address}: cannot bind")]
    Metrics {
        /// As given.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The zones on disk cannot be used.
    #[error("--data-dir")]
    Disk(#[from] DiskError),
    /// A file of the identity cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The sockets cannot be taken over, or not handed over.
    #[error("--takeover {path}")]
    Takeover {
        /// As given.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The sockets that systemd names are none.
    #[error("LISTEN_FDS")]
    Environment(#[source] io::Error),
    /// The identity cannot be read.
    #[error("--pki")]
    Pki(#[from] pki::Error),
    /// A hub without an identity.
    #[error("--hub needs an identity: give --pki DIR, or --ca, --cert and --key")]
    NoIdentity,
    /// The database of countries cannot be used.
    #[error("--geo-database")]
    Database(#[from] DatabaseError),
    /// Secrets of cookies that are none.
    #[error("--cookie-secret-file {0}: write 1 to 4 lines of 32 hexadecimal digits each")]
    Secrets(PathBuf),
    /// The system's random source failed.
    #[error("cannot generate a cookie secret")]
    Random(#[source] Unspecified),
    /// Keys that are none.
    #[error("--tsig-key-file {path}")]
    Keys {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyError,
    },
    /// A key that is not there.
    #[error("--notify {0}@…: --tsig-key-file has no key of this name")]
    NotifyKey(String),
    /// The instance's name is too long.
    #[error("--instance has {0} octets, more than {INSTANCE_MAX}")]
    Instance(usize),
    /// An encrypted transport cannot be served.
    #[error(transparent)]
    Encrypted(#[from] EncryptedError),
    /// A log of queries or a file of dnstap cannot be opened.
    #[error("--query-log, --dnstap-file")]
    Tap(#[from] TargetError),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A socket failed while serving.
    #[error("a UDP socket failed")]
    Socket(#[source] io::Error),
}
