//! `fedctl cordon NAME` and `fedctl uncordon NAME`

use anyhow::Result;
use federation_core::api::{Cluster, Taint, TaintEffect, marks};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::existing;
use crate::connect::Connection;

/// Options of both.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// The cluster.
    cluster: String,
}

/// What a cluster is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything.
    Open,
    /// Nothing new.
    Cordoned,
    /// Nothing: what is there moves away.
    Drained,
}

pub(crate) async fn run(options: Options, wanted: Wanted) -> Result<()> {
    let api: Api<Cluster> = Api::all(options.connection.client().await?);
    set(&api, &options.cluster, wanted).await?;
    let done = if wanted == Wanted::Open { "uncordoned" } else { "cordoned" };
    println!("cluster/{} {done}", options.cluster);
    Ok(())
}

/// Writes what a cluster is to take. Taints that others set stay.
///
/// # Errors
/// When there is no such cluster, somebody else changed it at the same time, or the write fails.
pub(crate) async fn set(api: &Api<Cluster>, name: &str, wanted: Wanted) -> Result<()> {
    let cluster = existing(api, name).await?;
    let mut taints = cluster.spec.taints.clone();
    taints.retain(|taint| taint.key != marks::DRAIN_TAINT);
    if wanted == Wanted::Drained {
        taints.push(Taint {
            key: marks::DRAIN_TAINT.into(),
            value: String::new(),
            effect: TaintEffect::NoExecute,
        });
    }
    let patch = json!({
        "metadata": {"resourceVersion": cluster.metadata.resource_version},
        "spec": {"cordoned": wanted != Wanted::Open, "taints": taints},
    });
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}
