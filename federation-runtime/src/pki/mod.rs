//! The federation's certificate authority and the identities that it issues.
//!
//! All keys are ECDSA P-256. Nothing here talks to the network.

mod authority;
mod clients;
mod error;
mod identity;
mod peer;
mod pin;
mod sign;
mod subject;

pub use authority::{Authority, LIFE_OF_AGENTS, LIFE_OF_PARTS};
pub use clients::ClientUsages;
pub use error::Error;
pub use identity::{Identity, Request};
pub use peer::Peer;
pub use pin::{PinError, SpkiPin};
pub use sign::{ALGORITHM, verify};
pub use subject::{DNS_NAME, HUB_NAME, Subject};
