//! Zones made ready to answer: every record encoded once when the hub publishes, so that a query costs one lookup and a copy.
//!
//! Records are stored as they go into a message that asks for a name in their zone. Two things vary with the message and are patched
//! in: where the owner's name is (the question, or an alias's target before it), and where the zone's origin is (the tail of the
//! question), which every name within the zone is compressed against.

//!
//! A snapshot is made from the one before it and the zones that are to be served: what has not changed is shared, so that an update costs
//! what it changes, and the memory of one snapshot.

mod build;
mod chain;
mod change;
mod compact;
mod denial;
mod encode;
mod node;
mod parallel;
mod picks;
mod records;
mod referral;
mod snapshot;
mod table;

pub use chain::Chain;
pub use compact::Compact;
pub use denial::{Denial, Proof};
pub use encode::{Encoder, Records, Sink, Stored};
pub use picks::{Combination, Picks};
pub use records::RecordsRef;
pub use referral::Referral;
pub(crate) use referral::every;
pub use snapshot::{Alias, Choice, Node, Pick, Set, Snapshot, Typed, ZoneAnswers};
pub use table::{Lookup, Table};
