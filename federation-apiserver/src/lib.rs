//! HTTP API over a durable store: Kubernetes' API for a control plane without nodes.
//!
//! One request's way, each step a module of its own name:
//!
//! ```text
//! serve (TLS, HTTP) → server → auth (who, may they) → http (what is asked, in which form)
//!       → verbs (decode → default → prepare → validate → own → commit) → store → encode
//! ```
//!
//! - [`registry`] is the table of kinds; [`Kind`](registry::Kind) says everything that the verbs must know of one, and
//!   `kinds/` holds the rows. Adding a kind adds a row.
//! - [`crd`] lets CustomResourceDefinitions add rows while the server runs.
//! - [`store`] and [`cache`] keep objects as the bytes that are sent; [`deletion`] decides what a delete means;
//!   [`housekeeping`] are the controllers without which a control plane that runs alone does not work.
//! - [`ApiServer::service`] is the whole API as one tower service: `kube::Client` takes it without a socket.
//!
//! Kept on purpose: fields that no schema knows are warned of, or refused if the client asks for that, but not dropped, so
//! that a member newer than the federation gets them. Cluster IPs and node ports are this API's own,
//! and stable; members allocate theirs. Left out on purpose: pods, which run in members.

mod admission;
mod aggregate;
pub mod allocation;
pub mod audit;
pub mod auth;
pub mod cache;
pub mod crd;
pub mod deletion;
mod discovery;
mod encode;
mod flow;
mod hooks;
pub mod housekeeping;
pub mod http;
mod kinds;
mod metrics;
mod openapi;
mod outbound;
pub mod registry;
mod serve;
mod server;
mod service;
pub mod store;
mod uid;
mod validation;
mod verbs;
mod version;
mod wire;

pub use aggregate::Checker;
pub use server::{ApiServer, Handler, Others, Parts};
pub use service::{KindTable, Options, Service};
pub use verbs::Leading;
