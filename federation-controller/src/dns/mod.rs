//! What zones have besides the balanced names: keys, and records that no Service makes.
//!
//! - `keys` keeps each signed zone's keys in a Secret of namespace federation-system, and takes them from step to step.
//! - `cookies` gives all dns-lbs the same secrets of server cookies.
//! - `records` decides which DNSRecordSets are served, and says so in their status.
//! - `dress` puts both into the zones that `traffic` publishes.

mod cookies;
mod dress;
mod keeper;
mod keys;
mod records;

pub(crate) use dress::Extras;
pub(crate) use keeper::Dns;
