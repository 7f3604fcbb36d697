//! Runs beside a member cluster: applies what the hub wants here, corrects drift, and reports.
//!
//! ```text
//!   hub ══ gRPC ══▶ link ── Action ──▶ executor ── server-side apply ──▶ member API server
//!                    │ ▲                  │                                   │
//!              store ◀┘ └──── Report ◀────┴──────── watch ◀───────────────────┘
//! ```
//!
//! - [`identity`]: joining with a one-time token, and renewing the certificate.
//! - `link`: one task that owns the [`hub_protocol::agent::Session`] and drives it: messages, timers, outcomes.
//! - `store`: the desired state on disk. An agent that starts without a hub corrects drift from the first second.
//! - `executor`: carries out one job at a time for each object, many objects at once.
//! - `watch`: what the member says back; `drift` compares it with what is wanted.
//! - `meeting`: other voters, at the DNS servers, for when the hub is away.
//! - `vantage`: what web users see from here while a drill runs.
//! - `posts`: Events from the federation on their way into the member; `welcome`: whether the hub ever took this agent in.
//! - `reach`, `events`, `vitals`: how users reach a Service, what happened, how the member is.
//!
//! Everything that decides is a pure function with tests beside it; the modules that do I/O are thin.
//!
//! # Invariants
//! Nothing is deleted but by a Remove that the session let through, and then only an object that carries the federation's mark and
//! the template's uid. The agent writes with server-side apply as field manager `federation` and in no other way, but for
//! taking the marks off.

mod api_watch;
mod discovery;
mod drift;
mod drill_probe;
mod events;
mod executor;
pub mod identity;
mod link;
pub mod manifest;
mod meeting;
mod member;
mod member_health;
mod metrics;
mod options;
mod posts;
mod service;
mod service_addresses;
mod store;
#[cfg(test)]
mod testing;
mod watch;
mod welcome;
mod world;

pub use options::Options;
pub use service::{Error, Service};
