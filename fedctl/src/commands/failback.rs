//! `fedctl failback NAME`: lets a recovered cluster take its shares back.

use anyhow::Result;
use federation_core::api::{Cluster, marks};
use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::existing;
use crate::connect::Connection;

/// Options.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// The cluster.
    cluster: String,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let api: Api<Cluster> = Api::all(options.connection.client().await?);
    existing(&api, &options.cluster).await?;
    let patch = json!({"metadata": {"annotations": {marks::FAILBACK: Timestamp::now().to_string()}}});
    api.patch(&options.cluster, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    println!(
        "cluster/{} may take back its shares of workloads with `failback: {{mode: Manual}}`",
        options.cluster
    );
    Ok(())
}
