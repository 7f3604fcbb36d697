//! The harness of the end-to-end tests: real processes, real Kubernetes, a real network between them.
//!
//! Nothing of the federation is linked in. What is tested is what users run: `fedctl`, `federation-apiserver` and `member-agent`
//! as processes, driven by kubectl, dig and curl.
//!
//! - [`Clusters`]: Taiwan and Tokyo, two real clusters in network namespaces of their own. Brought up once on a machine, used by one
//!   test at a time, healed before each.
//! - [`LightMember`]: an additional member, with a real API and no nodes.
//! - [`Federation`]: `fedctl up` on the wan, with a data directory, ports and DNS zone of its own. [`Federation::kill`] is SIGKILL.
//! - [`DnsServer`]: an additional `dns-lb` process, which can be stopped separately.
//! - [`PlainFederation`]: the controller and dns-lb as processes of their own, over a plain kube-apiserver.
//! - [`Agent`]: a `member-agent` inside a site's network, joined by a one-time token.
//! - [`Api`]: kubectl against the federation or against a member.
//! - [`User`]: a web user in a namespace of its own: dig and curl.
//! - [`skew`]: processes with a wrong clock.
//! - [`eventually`]: waits for a condition.
//!
//! Processes end with the test: each is told by the kernel to die with the thread that started it, so start them from the test's own
//! thread. Their output goes to files, and the ends of these are printed when a test fails.

mod agent;
mod api;
mod clusters;
mod command;
mod dns_server;
mod federation;
pub mod manifests;
mod plain;
mod process;
mod skew;
mod user;
mod wait;

pub use agent::{Agent, Join};
pub use api::Api;
pub use clusters::{Clusters, LightMember, SITES};
pub use command::{Outcome, run};
pub use dns_server::DnsServer;
pub use federation::{Federation, Settings, ZONE};
pub use plain::PlainFederation;
pub use process::{Process, program};
pub use skew::skew;
pub use user::User;
pub use wait::{eventually, holds};
