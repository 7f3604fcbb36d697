//! Observing: one watch for each kind, and everything that was seen, in memory.

mod follow;
mod freshness;
pub(crate) mod kinds;
pub(crate) mod reflect;
pub(crate) mod report;
mod selected;
mod shelf;
pub(crate) mod template;
mod untaken;
pub(crate) mod watch;
mod world;

pub(crate) use kinds::{CLUSTER, KINDS, Key, Kind};
pub(crate) use report::{Report, Reports};
pub(crate) use selected::Wanted;
pub(crate) use template::Template;
pub(crate) use world::{Decided, Workloads, World};
