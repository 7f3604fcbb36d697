//! What every part of the federation needs to run: identities, TLS, logs, metrics, health endpoints and shutdown.
//!
//! A part is built as `Options` (clap arguments) → `Service::run(self, shutdown)`. Its binary calls
//! [`process::run`], and `fedctl up` runs several services under one [`shutdown::Shutdown`].
//!
//! - [`pki`]: the federation's certificate authority and the identities that it issues; see docs/ARCHITECTURE.md for the
//!   subjects.
//! - [`tls`]: rustls configurations made from them.
//! - [`kubeconfig`]: the file that kubectl reads.
//! - [`endpoints`]: `/metrics`, `/healthz`, `/livez`, `/readyz`.
//! - `deadline`, with the feature `kube`: time limits for requests to a Kubernetes API.
//! - [`clock`]: the time, for code that also runs in the simulation.
//! - [`tasks`]: spawning and supervising tasks, for code that also runs in the simulation.
//! - [`pages`]: returning the program's own memory pages after the start.
//! - [`logging`], [`process`], [`shutdown`], [`files`], [`errors`].

pub mod clock;
#[cfg(feature = "kube")]
pub mod deadline;
pub mod endpoints;
pub mod errors;
pub mod files;
pub mod kubeconfig;
pub mod logging;
pub mod pages;
pub mod pki;
pub mod process;
pub mod shutdown;
pub mod tasks;
pub mod tls;
mod usage;
