//! The agent's flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use federation_runtime::pki::SpkiPin;

/// How an agent finds its member and its hub.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Kubeconfig of the member cluster; if not given, the service account of the agent's pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this cluster in the federation.
    #[arg(long)]
    pub name: String,
    /// Address of the hub.
    #[arg(long, value_name = "HOST:PORT")]
    pub hub: String,
    /// One-time token for the first start; not needed once the agent has a certificate.
    #[arg(long, env = "FEDERATION_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Hash of the federation's CA, as `fedctl token create --print-join-command` prints it.
    #[arg(long, value_name = "sha256:HEX")]
    pub ca_cert_hash: Option<SpkiPin>,
    /// Directory for the agent's certificate and desired state.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Region of this cluster; used only when joining.
    #[arg(long, default_value = "")]
    pub region: String,
    /// Zone of this cluster; used only when joining.
    #[arg(long, default_value = "")]
    pub zone: String,
    /// Provider of this cluster, for example a cloud's name; used only when joining.
    #[arg(long, default_value = "")]
    pub provider: String,
    /// Label for the Cluster object; used only when joining. May be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Address for /metrics, /healthz, /livez and /readyz over HTTP; not served if not given.
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// DNS resolver for probing load balancers that have a host name instead of an address; if not given, those of /etc/resolv.conf. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub probe_resolver: Vec<SocketAddr>,
    /// Accept a hub with a different store than before. Without this flag the agent refuses removals from it.
    #[arg(long)]
    pub accept_new_hub: bool,
}

impl Options {
    pub(crate) fn profile(&self) -> proto::v1::ClusterProfile {
        proto::v1::ClusterProfile {
            region: self.region.clone(),
            zone: self.zone.clone(),
            provider: self.provider.clone(),
            labels: self.labels.iter().cloned().collect::<BTreeMap<_, _>>().into_iter().collect(),
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("{text:?} is not a label: write KEY=VALUE")),
    }
}
