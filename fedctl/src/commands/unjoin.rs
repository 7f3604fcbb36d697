//! `fedctl unjoin NAME --mode detach|drain|forget`

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use federation_core::api::Cluster;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::existing;
use crate::connect::Connection;

/// Options of `fedctl unjoin`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// The cluster.
    cluster: String,
    /// What becomes of the copies in it.
    #[arg(long, value_enum)]
    mode: Mode,
    /// Seconds to wait until the cluster is out.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The copies stay and go on serving; the federation forgets them.
    Detach,
    /// Users and replicas move away first; then the copies are removed, through the gate.
    Drain,
    /// For a cluster that is gone for good: forgotten at once, nothing in it is touched.
    Forget,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let client = options.connection.client().await?;
    let limit = Duration::from_secs(options.timeout);
    let api: Api<Cluster> = Api::all(client.clone());
    existing(&api, &options.cluster).await?;
    if options.mode == Mode::Drain {
        super::drain::drain(&client, &options.cluster, Some(limit)).await?;
    }
    let mode = match options.mode {
        Mode::Detach => "detach",
        Mode::Drain => "drain",
        Mode::Forget => "forget",
    };
    let patch = json!({"metadata": {"annotations": {federation_controller::UNJOIN_MODE: mode}}});
    api.patch(&options.cluster, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    api.delete(&options.cluster, &DeleteParams::default()).await?;
    let start = Instant::now();
    while api.get_opt(&options.cluster).await?.is_some() {
        if start.elapsed() > limit {
            bail!(
                "{} is not out after {} s: if it is gone for good, use --mode forget, which touches nothing in it",
                options.cluster,
                limit.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("cluster/{} left ({mode})", options.cluster);
    Ok(())
}
