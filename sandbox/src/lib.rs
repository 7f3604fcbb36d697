//! Member clusters without Kubernetes: for the demo and for fast tests, never presented as Kubernetes.
//!
//! A sandbox is the federation's own API server library over a throw-away store, with the least of workload controllers beside
//! it, and real HTTP servers where Kubernetes has pods: each pod serves on a loopback address of its own, and each Service of
//! type LoadBalancer listens on another and forwards connections to the ready pods. What a member agent needs of a cluster is
//! all there: server-side apply, watches, statuses, Endpoints, Events' objects, nodes. What is not: scheduling, images, volumes,
//! networks, probes other than "the server listens".
//!
//! - [`plan`]: pure: from what the API holds to what should be written next.
//! - [`Workloads`]: watches, plans, writes; runs the servers.

mod objects;
pub mod plan;
mod proxy;
mod server;
mod workloads;

pub use workloads::{Error, Options, Workloads};
