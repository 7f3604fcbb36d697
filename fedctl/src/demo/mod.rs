//! The story of the federation, on one machine, without Kubernetes: *Taiwan alone → Taiwan and Tokyo → Tokyo alone*, first by a
//! planned drain, then by killing Taiwan outright, with web users who resolve the one name and fetch throughout.
//!
//! The control plane runs in this process, as under `fedctl up`; each member is a process of its own, so that killing one is a
//! real SIGKILL. Nothing is staged: users resolve by DNS queries to dns-lb, honour the TTL and fetch over HTTP from the members.

mod apply;
mod directory;
mod member;
mod report;
mod screen;
mod story;
mod users;
mod watch;

pub use story::{Options, run};
