//! `fedctl join NAME`

use anyhow::Result;
use federation_runtime::shutdown::Shutdown;
use member_agent::Service;

/// Options of `fedctl join`: the agent's, with the name as a word.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The cluster's name in the federation.
    cluster: String,
    /// Kubeconfig of the member cluster; in a pod, its service account if not given.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// Where the federation's hub listens.
    #[arg(long, value_name = "HOST:PORT")]
    hub: String,
    /// The one-time token; not needed once joined.
    #[arg(long, env = "FEDERATION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Hash of the federation's authority, as the join command has it.
    #[arg(long, value_name = "sha256:HEX")]
    ca_cert_hash: Option<federation_runtime::pki::SpkiPin>,
    /// Where the agent keeps its certificate and its desired state; `agent-NAME` if not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
    /// Region, for example asia-east.
    #[arg(long, default_value = "")]
    region: String,
    /// Zone inside the region.
    #[arg(long, default_value = "")]
    zone: String,
    /// Who runs the cluster.
    #[arg(long, default_value = "")]
    provider: String,
    /// A label of the Cluster object.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Where /metrics, /healthz, /livez and /readyz are served.
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<std::net::SocketAddr>,
}

pub(crate) async fn run(options: Options, shutdown: Shutdown) -> Result<()> {
    let mut labels = Vec::new();
    for label in &options.labels {
        let Some((key, value)) = label.split_once('=') else {
            anyhow::bail!("--label {label:?} must be KEY=VALUE");
        };
        labels.push((key.to_owned(), value.to_owned()));
    }
    let data_dir = options.data_dir.unwrap_or_else(|| format!("agent-{}", options.cluster).into());
    let agent = member_agent::Options {
        kubeconfig: options.kubeconfig,
        name: options.cluster,
        hub: options.hub,
        token: options.token,
        ca_cert_hash: options.ca_cert_hash,
        data_dir,
        region: options.region,
        zone: options.zone,
        provider: options.provider,
        labels,
        metrics_listen: options.metrics_listen,
        accept_new_hub: false,
    };
    Ok(Service::new(agent).run(shutdown).await?)
}
