//! What zones have besides the balanced names: keys, and records that no Service makes.
//!
//! - `keys` keeps each signed zone's keys in a Secret of namespace federation-system, and takes them from step to step.
//! - `records` decides which DNSRecordSets are served, and says so in their status.
//! - `dress` puts both into the zones that `traffic` publishes.

mod dress;
mod keeper;
mod keys;
mod records;

pub(crate) use dress::Extras;
pub(crate) use keeper::Dns;
