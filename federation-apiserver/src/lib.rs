//! HTTP API over a durable store: Kubernetes' API for a control plane without nodes.
//!
//! The path of one request; each step is a module:
//!
//! ```text
//! serve (TLS, HTTP) → server → auth (who, may they) → http (what is asked, in which form)
//!       → verbs (decode → default → prepare → validate → own → commit) → store → encode
//! ```
//!
//! - `registry` is the table of kinds; a `Kind` describes everything that the verbs must know about one, and `kinds/` has the rows.
//! - `crd` lets CustomResourceDefinitions add rows while the server runs.
//! - [`store`] and `cache` keep objects as the bytes that are sent; `deletion` decides what a delete means; [`housekeeping`] has the
//!   controllers that a control plane needs.
//! - [`ApiServer::service`] is the whole API as one tower service: `kube::Client` takes it without a socket.
//!
//! Deliberately kept: unknown fields cause a warning, or an error if the client asks for one, but are not dropped, so that members newer than
//! the federation get them. Cluster IPs and node ports are allocated by this API and stable; members allocate their own. Deliberately absent:
//! pods, which run in members.

mod admission;
mod aggregate;
mod allocation;
pub mod audit;
pub mod auth;
mod cache;
mod compactor;
mod crd;
mod deletion;
mod discovery;
mod encode;
mod flow;
pub mod housekeeping;
mod http;
mod kinds;
mod long_work;
mod metrics;
mod openapi;
mod outbound;
mod post_start_hooks;
mod registry;
mod serve;
mod server;
mod service;
pub mod store;
mod uid;
mod validation;
mod verbs;
mod version;
mod wire;

pub use aggregate::AvailabilityController;
pub use allocation::{Network, PortRange, Ranges};
pub use server::{ApiServer, Handler, Parts, RemoteServers};
pub use service::{KindTable, Options, Service};
pub use verbs::EndpointScope;

/// What this crate's own tests need beside its interface.
#[doc(hidden)]
pub mod testing {
    pub use crate::{cache::Bounds, http::Body};
}
