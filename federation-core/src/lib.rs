//! The federation's own API types and every decision, pure.
//!
//! No clock, no I/O, no randomness: time comes in as an argument, and the live controller, a dry run, an explanation and the
//! tests all call the same functions. Each decision carries the reasons for what it decided.
//!
//! - [`api`]: the kinds of group `federation.rs/v1alpha1`, and the marks that the federation leaves on objects.
//! - [`template`]: the view of a user's object that decisions are made from.
//! - [`select`]: which objects are federated, and which policy decides for one.
//! - [`planner`]: dividing replicas over clusters (Kubernetes Federation v1's planner, with one defect fixed).
//! - [`placement`]: which clusters an object goes to, and why.
//! - [`contingency`]: what survivors take over at each loss, computed ahead.
//! - [`render`]: the manifest of a template for one member.
//! - [`health`]: one verdict per cluster from everybody's votes, with hysteresis and a mass-failure interlock.
//! - [`probe`]: what is probed, when, and the resulting votes.
//! - [`traffic`]: zones from services' states, verdicts and policies.
//! - [`dns`]: names and records, from presentation format to the wire.
//! - [`dnssec`]: the zones' keys and their rollover.
//! - [`drill`]: rehearsals of a cluster's loss: pre-flight checks, state machine, results.
//! - [`gate`]: the one function that permits a removal.
//! - [`trash`]: deleted templates that can be restored.
//! - [`status`]: merging the members' statuses into the template's.
//! - [`membership`]: which certificates belong to members.
//! - [`events`]: which of the members' events reach the federation.
//! - [`labels`]: label selectors.

pub mod api;
pub mod contingency;
pub mod dns;
pub mod dnssec;
pub mod drill;
pub mod events;
pub mod gate;
pub mod health;
pub mod labels;
pub mod membership;
pub mod placement;
pub mod planner;
pub mod probe;
pub mod render;
pub mod select;
pub mod status;
pub mod template;
pub mod traffic;
pub mod trash;
