//! The connection-oriented transports: TCP, TLS, HTTPS and QUIC, on tokio.
//!
//! Each transport (a *door*) has a [`Gate`], which limits its connections, and a [`Desk`], which answers queries with the same function as the
//! UDP threads.

mod certificate;
mod desk;
mod encrypted;
mod freshness;
mod gate;
mod https;
mod listen;
mod quic;
mod stream;

pub use certificate::{Certificate, CertificateError};
pub use desk::Desk;
pub use encrypted::{Encrypted, EncryptedAddresses, EncryptedError, EncryptedOptions};
pub use freshness::freshness;
pub use gate::{Gate, Limits, Pass};
pub use https::{https, of_parameters};
pub use listen::{adopt, bind, listen};
pub use stream::{Stream, serve};
