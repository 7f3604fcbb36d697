//! The API over a real store, in-process: by kube-rs' client and informer, and by raw requests for what a typed client hides.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod access;
mod aggregation;
mod answers;
mod audit;
mod certificates;
mod clients;
mod contract;
mod conversion;
mod crd;
mod decoding;
mod edges;
mod flow;
mod garbage;
mod golden;
mod https;
mod identity;
mod kinds;
mod kubectl;
mod kubectl_access;
mod kubectl_crd;
mod mutations;
mod namespaces;
mod older;
mod paths;
mod pods;
mod policies;
mod proxies;
mod quota;
mod robustness;
mod standards;
mod tokens;
mod watches;
mod webhooks;
mod websockets;
mod world;
