//! The connection-oriented transports: TCP, TLS, HTTPS and QUIC, on tokio.
//!
//! Each transport has a [`ConnectionLimiter`], which limits its connections, and a [`Responder`], which answers queries with the same function as the
//! UDP threads.

use std::io;

use federation_runtime::tasks;

mod certificate;
mod encrypted;
mod freshness;
mod handler;
mod https;
mod limiter;
mod listen;
mod quic;
mod responder;
mod stream;

pub use certificate::{Certificate, CertificateError};
pub use encrypted::{Encrypted, EncryptedAddresses, EncryptedError, EncryptedOptions};
pub use freshness::freshness;
pub use handler::Handler;
pub use https::{https, of_parameters};
pub use limiter::{ConnectionLimiter, ConnectionPermit, Limits};
pub use listen::{adopt, bind, listen};
pub use responder::Responder;
pub use stream::serve;

/// How failures of listeners and of what they serve are counted.
const PART: &str = "door";

/// Serves one connection to its end. A panic is counted, and ends no other.
async fn to_the_end(served: impl Future<Output = io::Result<()>>) {
    match tasks::caught(PART, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended"),
        Err(panicked) => tracing::error!(%panicked, "a connection was lost"),
    }
}
