//! Zones made ready to answer: every record encoded once when the hub publishes, so that a query costs one lookup and a copy.
//!
//! Records are stored as they go into a message that asks for a name in their zone. Two things vary with the message and are patched
//! in: where the owner's name is (the question, or an alias's target before it), and where the zone's origin is (the tail of the
//! question), which every name within the zone is compressed against.

mod build;
mod denial;
mod encode;
mod picks;
mod referral;
mod snapshot;
mod table;

pub use denial::{Denial, Proof};
pub use encode::{Records, Sink};
pub use picks::{Combination, Picks};
pub use referral::Referral;
pub(crate) use referral::every;
pub use snapshot::{Choices, Node, Pick, Set, Snapshot, Target, ZoneAnswers};
pub use table::{Lookup, Table};
