//! Zones for secondaries: transfers out (RFC 5936), only to those that may (TSIG, RFC 8945, or by address), and NOTIFY (RFC 1996).
//!
//! A secondary gives everybody the same answer. So it gets the view of a client that is nowhere: of each set the tier that answers, all of
//! it, though we would pick from it by weight or by client; of alias sets the heaviest target, for a name has one (RFC 2181 section
//! 10.1). What is withdrawn everywhere is not there, and the proofs of a signed zone say so too.
//!
//! There is no history of changes: IXFR is answered with the whole zone, as RFC 1995 section 4 allows, or with the SOA alone if the client
//! has it already.

mod image;
mod notify;
mod transfers;
mod tsig;

pub use image::Image;
pub use notify::{Notify, NotifyError, notify};
pub use transfers::{Special, Transfer, Transfers};
pub use tsig::{Key, KeyError, Keys, Session};
pub(crate) use tsig::{Opened, header, open};
