//! Observe, decide, act; and the hub that agents and dns-lb dial.

pub mod crds;
pub mod tokens;

mod act;
mod decide;
mod epoch;
mod hub;
mod metrics;
mod observe;
mod options;

pub use options::Options;
