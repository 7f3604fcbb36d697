//! `fedctl join NAME`

use anyhow::Result;
use federation_runtime::shutdown::Shutdown;
use member_agent::Service;

/// Options of `fedctl join`: the agent's, with the cluster's name as a positional argument.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The cluster's name in the federation.
    #[arg(value_parser = super::cluster_name)]
    cluster: String,
    /// Kubeconfig of the member cluster; if not given, the service account of the pod that this runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// Address of the federation's hub.
    #[arg(long, value_name = "HOST:PORT", value_parser = super::init::address)]
    hub: String,
    /// The one-time token; not needed once joined.
    #[arg(long, env = "FEDERATION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Hash of the federation's CA, from the join command.
    #[arg(long, value_name = "sha256:HEX")]
    ca_cert_hash: Option<federation_runtime::pki::SpkiPin>,
    /// Directory for the agent's certificate and desired state; `agent-NAME` if not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
    /// Region, for example asia-east.
    #[arg(long, default_value = "")]
    region: String,
    /// Zone inside the region.
    #[arg(long, default_value = "")]
    zone: String,
    /// Provider of the cluster, for example a cloud's name.
    #[arg(long, default_value = "")]
    provider: String,
    /// Label for the Cluster object; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Address for /metrics, /healthz, /livez and /readyz over HTTP; not served if not given.
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<std::net::SocketAddr>,
    /// DNS resolver for probing load balancers that have a host name instead of an address; if not given, those of /etc/resolv.conf. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    probe_resolver: Vec<std::net::SocketAddr>,
    /// Accept a hub with a different store than before. Without this flag the agent refuses removals from it.
    #[arg(long)]
    accept_new_hub: bool,
}

impl Options {
    fn agent(self) -> Result<member_agent::Options> {
        let mut labels = Vec::new();
        for label in &self.labels {
            let Some((key, value)) = label.split_once('=') else {
                anyhow::bail!("--label {label:?} must be KEY=VALUE");
            };
            labels.push((key.to_owned(), value.to_owned()));
        }
        let data_dir = self.data_dir.unwrap_or_else(|| format!("agent-{}", self.cluster).into());
        Ok(member_agent::Options {
            kubeconfig: self.kubeconfig,
            name: self.cluster,
            hub: self.hub,
            token: self.token,
            ca_cert_hash: self.ca_cert_hash,
            data_dir,
            region: self.region,
            zone: self.zone,
            provider: self.provider,
            labels,
            metrics_listen: self.metrics_listen,
            probe_resolver: self.probe_resolver,
            accept_new_hub: self.accept_new_hub,
        })
    }
}

pub(crate) async fn run(options: Options, shutdown: Shutdown) -> Result<()> {
    Ok(Service::new(options.agent()?).run(shutdown).await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn agent(line: &str) -> member_agent::Options {
        Line::try_parse_from(line.split(' ')).unwrap().options.agent().unwrap()
    }

    #[test]
    fn what_a_frozen_agent_asks_for_can_be_given() {
        assert!(!agent("join taiwan --hub hub:6444").accept_new_hub);
        let told = agent("join taiwan --hub hub:6444 --accept-new-hub --label tier=one");
        assert!(told.accept_new_hub);
        let refused = |line: &str| Line::try_parse_from(line.split(' ')).err().unwrap().to_string();
        assert!(refused("join Taiwan_1 --hub hub:6444").contains("must be a DNS label"));
        assert!(refused("join taiwan --hub https://hub:6444").contains("must be a host and a port"));
        assert_eq!((told.name.as_str(), told.labels), ("taiwan", vec![("tier".into(), "one".into())]));
    }
}
