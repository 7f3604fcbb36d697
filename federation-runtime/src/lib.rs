//! What every part of the federation needs to run, whatever it does: identities, TLS, logs, metrics, health endpoints
//! and an orderly end.
//!
//! A part is built as `Options` (clap arguments) → `Service::run(self, shutdown)`. Its binary calls
//! [`process::run`], and `fedctl up` runs several services under one [`shutdown::Shutdown`].
//!
//! - [`pki`]: the federation's certificate authority and the identities that it issues; see docs/ARCHITECTURE.md for the
//!   subjects.
//! - [`tls`]: rustls configurations made from them.
//! - [`kubeconfig`]: the file that kubectl reads.
//! - [`endpoints`]: `/metrics`, `/healthz`, `/livez`, `/readyz`.
//! - `deadline`, with the feature `kube`: requests to a Kubernetes API that end.
//! - [`clock`]: what time it is, for parts that a simulation runs too.
//! - [`tasks`]: small tasks that are started on the way.
//! - [`pages`]: what the start of a program alone has needed of it.
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
