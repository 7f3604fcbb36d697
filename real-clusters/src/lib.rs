//! Real Kubernetes clusters of plain processes on one Debian machine, with a network between them.
//!
//! For tests and benchmarks: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and (for a whole cluster)
//! containerd, kubelet and kube-proxy, each cluster in a network namespace of its own, with real pods that serve HTTP.
//!
//! - [`Kit`]: what the machine needs: Debian packages, the Kubernetes binaries (from a cache, or built from Debian's source
//!   package), container images made here.
//! - [`Network`]: namespaces `wan`, one for each site, and `user`; links with delay and a cut switch.
//! - [`Cluster`]: one cluster: up, down, and its processes killed, started, paused, resumed.
//!
//! Everything needs root, touches only what it made itself, and ends only processes that it started, by pid.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use real_clusters::{Cluster, Kit, Mode, Network, Site};
//! let kit = Kit::ensure()?;
//! let network = Network::up(&kit, &[Site::TAIWAN, Site::TOKYO])?;
//! let taiwan = Cluster::in_site(&kit, Site::TAIWAN);
//! taiwan.up(Mode::Full)?;
//! network.cut(Site::TAIWAN)?;
//! # Ok(()) }
//! ```

mod cluster;
mod control_plane;
mod image;
mod kit;
mod network;
mod node;
mod process;

pub use cluster::{Cluster, Mode};
pub use kit::Kit;
pub use network::{Network, Site};
pub use process::wait_until;
