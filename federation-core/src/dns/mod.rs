//! Names and records of the DNS, as zones hold them: read from presentation format, written to the wire.
//!
//! Shared by whoever takes records from users (admission, `fedctl dns import`, the controller) and whoever serves them, so that what was
//! accepted once is never refused later.

mod data;
mod kind;
mod master;
mod name;
mod svcb;
mod text;

pub use data::{Data, DataError};
pub use kind::Type;
pub use master::{Entry, MasterError, parse as parse_master};
pub use name::{Name, NameError};
pub use svcb::SvcbError;

/// Records in one set: 1,024 addresses are 28 KiB, under half of what TCP carries in one message.
pub const RECORDS_MAX: usize = 1024;
/// Octets of presentation format in one set. With [`RECORDS_MAX`] headers it stays under the 64 KiB of one message.
pub const TEXT_MAX: usize = 32 << 10;
/// The longest name on the wire, with its final zero (RFC 1035 section 2.3.4).
pub const NAME_MAX: usize = 255;
/// Most labels that a name of [`NAME_MAX`] octets can have, without the root.
pub const LABELS_MAX: usize = 127;
