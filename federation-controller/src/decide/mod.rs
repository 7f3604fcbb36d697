//! What should be: inputs for the pure functions of `federation-core`, object by object.

pub(crate) mod board;
pub(crate) mod hear;
pub(crate) mod ledger;
pub(crate) mod queue;
pub(crate) mod reconcile;
pub(crate) mod removal;
pub(crate) mod unjoin;
pub(crate) mod work;
