//! Deciding: collects the inputs for the pure functions of `federation-core`, object by object.

pub(crate) mod ahead;
pub(crate) mod board;
mod handout;
pub(crate) mod hear;
mod later;
pub(crate) mod ledger;
mod moves;
mod parting;
pub(crate) mod queue;
pub(crate) mod reconcile;
mod recover;
pub(crate) mod removal;
mod round;
pub(crate) mod unjoin;
pub(crate) mod work;
