//! The controller's flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use apimachinery::go_duration::{seconds, whole_seconds};
use clap::Args;

/// Options of the controller.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The federation's data directory; the controller keeps its state in `controller/` and reads the authority from `pki/`.
    #[arg(long, env = "FEDERATION_DATA_DIR", default_value = "federation")]
    pub data_dir: PathBuf,
    /// Address on which the hub listens for agents and DNS servers.
    #[arg(long, default_value = "127.0.0.1:6444")]
    pub hub_listen: SocketAddr,
    /// Further names and addresses for the hub's certificate, besides `federation-hub`, `localhost` and the listen address. May be repeated.
    #[arg(long)]
    pub hub_name: Vec<String>,
    /// The federation's DNS zone.
    #[arg(long, default_value = "fed.example.test")]
    pub dns_zone: String,
    /// Zone for the names of Multi-Cluster Services (KEP-1645), such as `clusterset.local`: `<service>.<namespace>.svc.<zone>`, with SRV
    /// records of ports. Not served if not given.
    #[arg(long)]
    pub clusterset_zone: Option<String>,
    /// Name server of the zone, as `NAME` or `NAME=ADDRESS[,ADDRESS…]` to publish its addresses, too; `ns1.<zone>` if not given. May be
    /// repeated.
    #[arg(long)]
    pub dns_nameserver: Vec<String>,
    /// Default TTL of DNS answers, in whole seconds.
    #[arg(long, default_value = "5s", value_parser = whole_seconds, value_name = "DURATION")]
    pub dns_ttl: u32,
    /// How long a cluster must have a bad verdict before its replicas are placed elsewhere, as 5m, 1h30m or 500ms.
    #[arg(long, default_value = "300s", value_parser = seconds, value_name = "DURATION")]
    pub evict_after: std::time::Duration,
    /// How long a deleted template can be restored with `fedctl undo`; 0 keeps none.
    #[arg(long, default_value = "24h", value_parser = seconds, value_name = "DURATION")]
    pub trash_grace: std::time::Duration,
    /// Interval of the agents' heartbeats.
    #[arg(long, default_value = "1s", value_parser = seconds, value_name = "DURATION")]
    pub heartbeat: std::time::Duration,
    /// Address for `/metrics`, `/healthz`, `/livez` and `/readyz` over HTTP; not served if not given.
    #[arg(long)]
    pub metrics_listen: Option<SocketAddr>,
    /// DNS resolver for probing load balancers that have a host name instead of an address; if not given, those of /etc/resolv.conf. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub probe_resolver: Vec<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: "federation".into(),
            hub_listen: SocketAddr::from(([127, 0, 0, 1], 6444)),
            hub_name: Vec::new(),
            dns_zone: "fed.example.test".into(),
            clusterset_zone: None,
            dns_nameserver: Vec::new(),
            dns_ttl: 5,
            evict_after: std::time::Duration::from_secs(300),
            trash_grace: std::time::Duration::from_hours(24),
            heartbeat: std::time::Duration::from_secs(1),
            metrics_listen: None,
            probe_resolver: Vec::new(),
        }
    }
}
