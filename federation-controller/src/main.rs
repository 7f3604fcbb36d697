//! The controller as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use kube::config::{KubeConfigOptions, Kubeconfig};

use federation_controller::{Options, Service, crds, load_authority};
use federation_runtime::endpoints::Metrics;
use federation_runtime::logging::Format;
use federation_runtime::{process, tls};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Observes, decides and acts for a federation of Kubernetes clusters, and is the hub that their agents dial.
#[derive(Parser)]
#[command(name = "federation-controller", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// How to reach the federation's API; `DIR/controller.conf` if not given.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Log format: text or json.
    #[arg(long, default_value = "text")]
    log_format: Format,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the federation's kinds as CustomResourceDefinitions, for a plain kube-apiserver.
    Crds,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Some(Command::Crds)) {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": crds()});
        println!("{list:#}");
        return ExitCode::SUCCESS;
    }
    process::run(arguments.log_format, |shutdown| async move {
        tls::install_provider();
        let file = arguments.kubeconfig.unwrap_or_else(|| arguments.options.data_dir.join("controller.conf"));
        let kubeconfig = Kubeconfig::read_from(&file).with_context(|| format!("read {}", file.display()))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .with_context(|| format!("use {}", file.display()))?;
        let client = kube::Client::try_from(config).context("make a client of the federation's API")?;
        let authority = load_authority(&arguments.options.data_dir)?;
        let service = Service::new(arguments.options, client, authority, Metrics::new(), shutdown).await?;
        service.run_announced().await?;
        Ok(())
    })
}
