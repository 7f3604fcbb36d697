//! The federation as a whole, without Kubernetes: API server, controller, agents, DNS server and two sandbox members in one process.
//!
//! Each test has a federation of its own on loopback, in a temporary directory, and waits for conditions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bindings;
mod clusters;
mod contingency;
mod cookies;
mod dnssec;
mod drills;
mod events;
mod failures;
mod federation;
mod fencing;
mod gate;
mod harm;
mod health;
mod health_cli;
mod joining;
mod kinds;
mod link;
mod objects;
mod restored;
mod speed;
mod traffic;
