//! Probing whether users are served: what is probed ([`Target`], made by [`targets`]), and when ([`Prober`]).
//!
//! Pure: the prober says what to try and is told how that ended. Who does the input and output is the crate `prober`, in the controller and
//! in every DNS server; what the probers say becomes votes in [`crate::health`].

mod alone;
mod peers;
mod prober;
mod target;
mod targets;

pub use alone::withdrawn;
pub use peers::{PEERS_MAX, peers};
pub use prober::{Attempt, BLIP_MS, Ended, Failure, GAP_MS, IN_FLIGHT_MAX, Prober, TARGETS_MAX};
pub use target::{Alone, Check, Get, Key, Protocol, Target};
pub use targets::{ProbedService, Reached, may_be_probed, targets};

#[cfg(test)]
mod tests;
