//! What there is: one watch for each kind, and everything that was seen in memory.

pub mod kinds;
pub(crate) mod report;
pub(crate) mod template;
pub(crate) mod watch;
mod world;

pub use kinds::{KINDS, Key, Kind};
pub(crate) use report::{Report, Reports};
pub(crate) use template::Template;
pub(crate) use world::{Clusters, Decided, World};
