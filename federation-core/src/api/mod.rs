//! The kinds of group `federation.rs`, version `v1alpha1`.

mod client_regions;
mod cluster;
mod dns;
mod drill;
mod health_check;
mod placement;
mod policy;
mod resource;
mod safety;
mod service_binding;
mod traffic;

pub mod marks;

pub use client_regions::*;
pub use cluster::*;
pub use dns::*;
pub use drill::*;
pub use health_check::*;
pub use placement::*;
pub use policy::*;
pub use resource::{API_VERSION, GROUP, VERSION};
pub use safety::*;
pub use service_binding::*;
pub use traffic::*;
