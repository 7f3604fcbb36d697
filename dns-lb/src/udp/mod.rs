//! UDP: one thread and one socket per core and address, batched system calls, no async.

mod limit;
mod mmsg;
mod restart;
mod socket;
mod worker;

pub use limit::{Limit, Limiter, Verdict};
pub use mmsg::{BATCH, Batch};
pub use restart::restarted;
pub use socket::{adopt, bind, is_wildcard};
pub use worker::{Clock, Rng, Worker};
