//! Deciding: collects the inputs for the pure functions of `federation-core`, object by object.

pub(crate) mod agent_events;
pub(crate) mod ahead;
pub(crate) mod cluster_state;
mod delay_queue;
mod distribute;
mod initial_sync;
pub(crate) mod ledger;
mod moves;
pub(crate) mod queue;
pub(crate) mod reconcile;
mod recover;
pub(crate) mod removal;
mod trash;
pub(crate) mod unjoin;
mod unread;
mod withdraw;
pub(crate) mod work;
