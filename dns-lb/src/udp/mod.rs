//! UDP: one thread and one socket per core and address, batched system calls, no async.

mod mmsg;
mod socket;
mod worker;

pub use mmsg::{BATCH, Batch};
pub use socket::{bind, is_wildcard};
pub use worker::{Dice, Worker};
