//! Observe, decide, act; and the hub that agents and dns-lb dial.
//!
//! ```text
//!            watches                pure functions of federation-core               writes
//!  API ───▶ observe/ ──keys──▶ queue ──▶ decide/ ───────────────────────────▶ act/ ───▶ API
//!             ▲ reports                      │ desired state, removals with a permit
//!             └───────── hub/ ◀──────────────┘
//!                     │      ▲
//!             Apply, Remove  heartbeats, statuses, Events          zones ▶ dns-lb ▶ acknowledgements
//! ```
//!
//! - `observe/` keeps what is there: one list and watch for each federated kind, and the members' reports.
//! - `decide/` builds the inputs of `federation_core`'s pure functions, one object at a time, from a queue that holds
//!   each key once. It keeps nothing that cannot be found anew.
//! - `act/` writes finalizers, Placements, statuses and Events, at most 64 writes at once.
//! - `hub/` is the gRPC server: enrolment, one session for each agent, zones for each dns-lb.
//! - `health` and `traffic` drive the verdicts and the zones: traffic moves first, replicas later.
//! - [`machine`] is all of that without watches and sockets, which a simulation puts around it in its own way.
//!
//! **The controller may be killed anywhere.** The finalizer and the Placement are durable before a member hears of an object; a
//! cluster stays in the Placement until its agent has said that the copy is gone; epochs are taken in blocks whose
//! end is durable first. Everything else is found anew from the API's objects and the agents' digests.
//!
//! ```no_run
//! # async fn example(options: federation_controller::Options, client: kube::Client) -> anyhow::Result<()> {
//! use federation_runtime::{endpoints::Metrics, shutdown::Shutdown};
//! let shutdown = Shutdown::on_signals()?;
//! let authority = federation_controller::load_authority(&options.data_dir)?;
//! let service = federation_controller::Service::new(options, client, authority, Metrics::new(), shutdown).await?;
//! println!("ready hub={}", service.hub_address());
//! service.run().await?;
//! # Ok(())
//! # }
//! ```

pub mod announce;
pub mod machine;
pub mod tokens;

mod act;
mod contingency;
mod crds;
mod decide;
mod dns;
mod drill;
mod epoch;
mod health;
mod hub;
mod metrics;
mod observe;
mod options;
mod service;
#[cfg(test)]
mod testing;
mod traffic;

pub use act::api::{Api, Direct};
pub use crds::crds;
pub use decide::cluster_state::UNJOIN_MODE;
pub use hub::enrollment::CLUSTER_FINALIZER;
pub use options::Options;
pub use service::{Error, Service, load_authority};
pub use traffic::Keeping;
