//! dns-lb from outside: packets, the hub, the disk.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod abuse;
mod changes;
mod clients;
mod compact;
mod connections;
mod counters;
mod delegation;
mod differential;
mod dnssec;
mod drill;
mod encrypted;
mod fence;
mod fuzz;
mod hub;
mod incremental;
mod packets;
mod secondary;
mod sockets;
mod support;
mod takeover;
mod tap;
