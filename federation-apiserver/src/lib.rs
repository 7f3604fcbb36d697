//! HTTP API over a durable store: Kubernetes' API for a control plane without nodes.

pub mod cache;
pub mod deletion;
pub mod housekeeping;
pub mod store;
