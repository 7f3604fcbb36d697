//! `fedctl unjoin NAME --mode detach|drain|forget`

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use apimachinery::go_duration;
use clap::ValueEnum;
use federation_core::api::{Cluster, Placement};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
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
    /// What happens to the copies in the cluster.
    #[arg(long, value_enum)]
    mode: Mode,
    /// Continues although exclusive workloads (at most one cluster at a time) run there. They are not stopped, and another cluster starts them
    /// at once: use it only if the cluster is dead, or you have stopped them by hand.
    #[arg(long)]
    abandon_exclusive: bool,
    /// How long to wait until the cluster has left, as 90s or 1h.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = go_duration::seconds)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The copies stay and keep serving, unmanaged.
    Detach,
    /// Users and replicas move away first; then the copies are removed, through the gate.
    Drain,
    /// For a cluster that is gone for good: it is forgotten at once, and nothing in it is touched.
    Forget,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let client = options.connection.client().await?;
    let limit = options.timeout;
    let api: Api<Cluster> = Api::all(client.clone());
    existing(&api, &options.cluster).await?;
    if options.mode != Mode::Drain && !options.abandon_exclusive {
        let placements: Api<Placement> = Api::all(client.clone());
        let running = exclusive(&placements.list(&ListParams::default()).await?.items, &options.cluster);
        if !running.is_empty() {
            bail!(
                "{} runs exclusive workloads: {}. They would keep running there while another cluster starts them. Move them first with --mode drain, or, if the cluster is dead or you have stopped them there, use --abandon-exclusive",
                options.cluster,
                running.join(", ")
            );
        }
    }
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
                "{} has not left after {} s: if it is gone for good, use --mode forget, which touches nothing in it",
                options.cluster,
                limit.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("cluster/{} left ({mode})", options.cluster);
    Ok(())
}

/// What may run in one cluster at a time and is to run in this one, as `Kind namespace/name`.
fn exclusive(placements: &[Placement], cluster: &str) -> Vec<String> {
    let runs = |placement: &&Placement| {
        placement.spec.lease.is_some()
            && placement
                .spec
                .clusters
                .iter()
                .any(|target| target.name == cluster && target.replicas != Some(0))
    };
    let name = |placement: &Placement| {
        let namespace = placement.metadata.namespace.as_deref().unwrap_or_default();
        format!("{} {namespace}/{}", placement.spec.template.kind, placement.spec.template.name)
    };
    placements.iter().filter(runs).map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn placement(name: &str, exclusive: bool, taiwan: i64) -> Placement {
        let lease = exclusive.then(|| json!({"leaseMs": 5000, "endingMs": 2000}));
        serde_json::from_value(json!({
            "apiVersion": "federation.rs/v1alpha1",
            "kind": "Placement",
            "metadata": {"name": format!("deployments.apps.{name}"), "namespace": "shop"},
            "spec": {
                "template": {"kind": "Deployment", "name": name},
                "clusters": [{"name": "taiwan", "replicas": taiwan}, {"name": "tokyo", "replicas": 1 - taiwan}],
                "lease": lease,
            },
        }))
        .expect("it is a Placement")
    }

    #[test]
    fn what_runs_there_and_may_run_nowhere_else_holds_the_cluster_back() {
        let placements =
            [placement("web", false, 1), placement("ledger", true, 1), placement("scheduler", true, 0)];
        assert_eq!(exclusive(&placements, "taiwan"), ["Deployment shop/ledger"]);
        assert_eq!(exclusive(&placements, "tokyo"), ["Deployment shop/scheduler"]);
        assert!(exclusive(&placements, "osaka").is_empty());
    }
}
