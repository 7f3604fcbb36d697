//! DNSSEC: signatures made when zones are compiled, not when a query arrives; but for compact denial, where a zone wants it.
//!
//! - [`Key`]: a zone's combined signing key, ECDSA P-256 (RFC 6605).
//! - [`Signatures`]: makes the RRSIGs of record sets, and keeps them as long as the sets stay as they are, so that an update costs only
//!   the signatures of what it changed, and equal sets share one.
//! - [`Online`]: signs, in a zone with compact denial, that a name does not exist, when one asks for it; so many times a second.
//! - [`Window`]: from when until when a signature counts.
//! - [`NextNames`]: the order of a zone's names, in which a name that is not there is found between two that are (RFC 4034 section 6.1).
//!
//! Every dns-lb with the same zones makes the same signatures, octet for octet: nonces follow from key and content (RFC 6979), times from
//! content and a clock of days. So it does not matter which server a resolver asks, nor whether one was restarted.

mod key;
mod names;
mod online;
mod signatures;
mod types;
mod window;

pub use key::{Key, KeyError};
pub use names::{NameKey, NextNames};
pub use online::{Nonexistence, Online};
pub use signatures::{Digest, Made, RecordsOf, Signatures};
pub use types::type_bitmap;
pub use window::{VALIDITY_DEFAULT, VALIDITY_MIN, Window};

/// How a signed zone is signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Signing {
    /// Never empty. All are published.
    pub keys: Vec<Key>,
    /// Seconds that a signature counts.
    pub validity: u32,
    /// Signatures a second for compact denial of existence (RFC 9824); 0: nonexistence is proven by the chain alone.
    pub compact: u32,
}
