//! DNSSEC as far as it is decided by the controller: which keys a zone has, and what its parent is to know of them.
//!
//! Signatures are made by each dns-lb, deterministically (docs/adr). Here is no secret: [`Keys`] holds whatever its user gives it.

mod key;
mod roll;

pub use key::{ALGORITHM, DIGEST, FLAGS, PublicKey};
pub use roll::{Keys, MARGIN_MS, Next, Now, Step};
