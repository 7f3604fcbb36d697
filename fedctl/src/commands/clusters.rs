//! `fedctl clusters`

use anyhow::Result;
use federation_core::api::{Cluster, marks};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;

use super::output::{self, word};
use crate::connect::Connection;

/// Options of `fedctl clusters`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: output::Flag,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let api: Api<Cluster> = Api::all(options.connection.client().await?);
    let clusters = api.list(&Default::default()).await?.items;
    options.output.print(&output::List {
        items: &clusters,
        header: [
            "NAME",
            "VERDICT",
            "SCHEDULING",
            "REGION",
            "ZONE",
            "KUBERNETES",
            "OBJECTS",
            "HEARTBEAT",
            "CERTIFICATE",
            "REASON",
        ],
        row,
        name: |cluster| cluster.name().to_owned(),
    })
}

fn row(cluster: &Cluster) -> [String; 10] {
    let now = jiff::Timestamp::now();
    let status = cluster.status.clone().unwrap_or_default();
    let time = |at: Option<&Time>| at.map(|time| time.0);
    [
        cluster.name().to_owned(),
        word(&status.verdict.unwrap_or_default()),
        scheduling(cluster).to_owned(),
        cluster.spec.region.clone(),
        cluster.spec.zone.clone(),
        status.kubernetes_version.clone(),
        status.objects.map(|count| count.to_string()).unwrap_or_default(),
        time(status.last_heartbeat_time.as_ref())
            .map(|at| format!("{}s ago", now.duration_since(at).as_secs()))
            .unwrap_or_default(),
        time(status.certificate_not_after.as_ref())
            .map(|at| format!("{}d left", at.duration_since(now).as_hours() / 24))
            .unwrap_or_default(),
        status.verdict_reason,
    ]
}

fn scheduling(cluster: &Cluster) -> &'static str {
    if cluster.spec.taints.iter().any(|taint| taint.key == marks::DRAIN_TAINT) {
        "Draining"
    } else if cluster.spec.cordoned {
        "Cordoned"
    } else {
        "Open"
    }
}
