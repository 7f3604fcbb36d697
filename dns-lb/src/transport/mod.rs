//! The connection-oriented transports: TCP, TLS, HTTPS and QUIC, on tokio.
//!
//! Each transport has a [`ConnectionLimiter`], which limits its connections, and a [`Responder`], which answers queries with the same function as the
//! UDP threads.

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
