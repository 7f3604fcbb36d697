//! What can go wrong with certificates.

use std::path::PathBuf;

/// What went wrong with a key, a certificate or a file of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Making or signing failed.
    #[error("cannot make a key or certificate")]
    Make(#[from] rcgen::Error),
    /// A file holds something else than it should.
    #[error("{path} holds no {what}: restore it from a backup ({message})")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A PEM or DER text is not what it should be.
    #[error("{what} cannot be read: {message}")]
    Parse {
        /// What was being read.
        what: &'static str,
        /// Why not.
        message: String,
    },
    /// The key on disk is another certificate's, and the pair that was being written is not there.
    #[error(
        "{}/{name}.key is not the key of {name}.crt: restore the pair; or remove both and get another (for a member: `fedctl unjoin` and join again)", directory.display()
    )]
    Mismatch {
        /// Where.
        directory: PathBuf,
        /// Of the files, without `.crt` and `.key`.
        name: String,
    },
    /// A client asked for a certificate that would pass for somebody else's.
    #[error("certificates for {name:?} are reserved and cannot be requested")]
    Reserved {
        /// The user or group.
        name: String,
    },
    /// Only one half of the authority is on disk. Making a new one would lock every member out.
    #[error("{present} exists but {absent} does not: restore it, or remove both to start a new federation")]
    HalfAuthority {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        absent: PathBuf,
    },
}
