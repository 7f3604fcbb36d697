//! Regions of clients: maps an address to the region that selects the answer.

mod database;
mod map;
mod place;
mod regions;

pub use database::{Database, DatabaseError, prefixes};
pub use federation_core::traffic::{Prefix, PrefixError};
pub use map::{ClientMap, Located};
pub use place::{Place, Subnet};
pub use regions::{Region, RegionNames, RegionProblem, Regions};
