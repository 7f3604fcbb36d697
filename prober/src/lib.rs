//! Probes whether users are served: the input and output around `federation_core::probe`, which says what is tried when and what is
//! said of it.
//!
//! The controller, every agent and every DNS server has one [`Probing`]: it is given targets ([`targets`] reads the hub's list) and says
//! what it sees ([`Probing::votes`]); [`Probing::changes`] is notified when that should be told at once.
//!
//! - `driver` turns the machine; `attempt` makes one probe of all addresses of a target.
//! - `http`, `grpc` and `tls` are what is spoken; `wire` the messages.
//! - `resolve` finds the addresses of load balancers that say a name; `question` is what it asks.
//!
//! A probe opens a connection of its own, asks once, and closes it: what users' first connections meet.

mod attempt;
mod driver;
mod grpc;
mod http;
mod question;
mod resolve;
mod tls;
mod wire;

pub use driver::Probing;
pub use wire::{probe, targets, vote};
