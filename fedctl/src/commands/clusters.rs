//! `fedctl clusters`

use anyhow::Result;
use clap::ValueEnum;
use federation_core::api::{Cluster, marks};
use kube::Api;

use crate::connect::Connection;

/// Options of `fedctl clusters`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
    Name,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let api: Api<Cluster> = Api::all(options.connection.client().await?);
    let clusters = api.list(&Default::default()).await?;
    match options.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&clusters)?),
        Output::Name => clusters.items.iter().for_each(|cluster| println!("{}", cluster.name())),
        Output::Table => println!("{}", table(&clusters.items)),
    }
    Ok(())
}

fn table(clusters: &[Cluster]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header([
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
    ]);
    let now = jiff::Timestamp::now();
    for cluster in clusters {
        let status = cluster.status.clone().unwrap_or_default();
        let time = |at: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| at.map(|time| time.0);
        table.add_row([
            cluster.name().to_owned(),
            status.verdict.map_or_else(|| "Unknown".into(), |verdict| format!("{verdict:?}")),
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
        ]);
    }
    table
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
