//! One sandbox member with its agent, as a process.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use federation_runtime::endpoints::{Health, Metrics};
use federation_runtime::pki::SpkiPin;
use federation_runtime::shutdown::Shutdown;
use kube::Client;
use sandbox::Workloads;

/// Options of the member.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The cluster's name.
    #[arg(long)]
    name: String,
    /// The cluster's addresses are 127.INDEX.x.y.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=126))]
    index: u8,
    #[arg(long, default_value = "")]
    region: String,
    #[arg(long)]
    hub: String,
    #[arg(long, env = "FEDERATION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[arg(long)]
    ca_cert_hash: Option<SpkiPin>,
    #[arg(long)]
    data_dir: PathBuf,
    /// Milliseconds from a pod's creation to its readiness.
    #[arg(long, default_value_t = 300)]
    start_delay_ms: u64,
}

pub(crate) async fn run(options: Options, shutdown: Shutdown) -> Result<()> {
    let health = Health::new();
    let api = federation_apiserver::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        // There are no nodes that could forward them.
        service_node_port_range: None,
        endpoint_scope: federation_apiserver::EndpointScope::Any,
        ..federation_apiserver::Options::new(&options.data_dir)
    };
    let api = federation_apiserver::Service::start(api, health.clone(), Metrics::new(), &shutdown)
        .await
        .context("the sandbox's API server")?;
    let (url, client) = (api.url().to_owned(), Client::new(api.server().service(), "default"));
    let api = tokio::spawn(api.run(shutdown.clone()));
    while !health.is_ready() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let workloads = Workloads::new(
        client.clone(),
        sandbox::Options {
            cluster: options.name.clone(),
            index: options.index,
            start_delay: Duration::from_millis(options.start_delay_ms),
            grace: Duration::from_millis(1500),
        },
    );
    let workloads = tokio::spawn(workloads.run(shutdown.token()));
    let agent = member_agent::Options {
        kubeconfig: None,
        name: options.name,
        hub: options.hub,
        token: options.token,
        ca_cert_hash: options.ca_cert_hash,
        data_dir: options.data_dir.join("agent"),
        region: options.region,
        zone: String::new(),
        provider: "sandbox".into(),
        labels: Vec::new(),
        metrics_listen: None,
        probe_resolver: Vec::new(),
        accept_new_hub: false,
    };
    let agent = tokio::spawn(member_agent::Service::new(agent).with_client(client).run(shutdown.clone()));
    println!("ready {url}");
    tokio::select! {
        ended = api => ended?.context("the sandbox's API server"),
        ended = workloads => ended?.context("the sandbox's workloads"),
        ended = agent => ended?.context("the sandbox's agent"),
    }
}
