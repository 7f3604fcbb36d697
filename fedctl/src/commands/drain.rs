//! `fedctl drain NAME`

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use apimachinery::go_duration;
use federation_core::api::{Cluster, ClusterPlacement, Placement, PlacementSpec};
use kube::{Api, Client};

use super::cordon::{Wanted, set};
use crate::connect::Connection;

/// Pauses between two looks, each of which reads every Placement.
const LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// Options of `fedctl drain`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// The cluster.
    cluster: String,
    /// Returns without waiting until no replicas are left.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until no replicas are left, as 90s or 1h.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = go_duration::seconds)]
    timeout: Duration,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let client = options.connection.client().await?;
    drain(&client, &options.cluster, (!options.no_wait).then_some(options.timeout)).await?;
    println!("cluster/{} {}", options.cluster, if options.no_wait { "draining" } else { "drained" });
    Ok(())
}

/// Starts a drain, and waits until no replica is left on the cluster.
///
/// # Errors
/// When there is no such cluster, or replicas are left after `limit`.
pub(crate) async fn drain(client: &Client, name: &str, limit: Option<Duration>) -> Result<()> {
    set(&Api::<Cluster>::all(client.clone()), name, Wanted::Drained).await?;
    let Some(limit) = limit else { return Ok(()) };
    let start = Instant::now();
    let mut pause = LOOK.0;
    loop {
        let left = with_replicas(client, name).await?;
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > limit {
            bail!(
                "after {} s replicas are left on {name}: {}; `kubectl get placements -A -o yaml` says why, and the drain goes on",
                limit.as_secs(),
                left.join(", ")
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK.1);
    }
}

/// Placements that still have replicas on the cluster.
async fn with_replicas(client: &Client, name: &str) -> Result<Vec<String>> {
    let on = |spec: &PlacementSpec| {
        spec.clusters
            .iter()
            .any(|target| target.name == name && target.replicas.is_some_and(|count| count > 0))
    };
    let placements = Api::<Placement>::all(client.clone()).list(&Default::default()).await?;
    let of_clusters = Api::<ClusterPlacement>::all(client.clone()).list(&Default::default()).await?;
    let namespaced = placements.items.iter().filter(|placement| on(&placement.spec)).map(|placement| {
        format!(
            "{}/{}",
            placement.metadata.namespace.as_deref().unwrap_or_default(),
            placement.spec.template.name
        )
    });
    let cluster_wide = of_clusters
        .items
        .iter()
        .filter(|placement| on(&placement.spec))
        .map(|placement| placement.spec.template.name.clone());
    Ok(namespaced.chain(cluster_wide).collect())
}
