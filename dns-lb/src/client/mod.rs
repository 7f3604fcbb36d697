//! Where clients are: from an address to a region, which chooses the answer.

mod prefix;
mod regions;

pub use prefix::{Prefix, PrefixError};
pub use regions::{Region, RegionNames, RegionProblem, Regions};
