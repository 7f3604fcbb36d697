//! The wire between hub, agents and dns-lb, generated from `proto/federation/v1/federation.proto`.
//!
//! Messages here are wire types: domain types live in `federation-core`, and conversions stand where a message
//! enters or leaves a part.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::use_self
)]

/// Package `federation.v1`.
pub mod v1 {
    tonic::include_proto!("federation.v1");
}
