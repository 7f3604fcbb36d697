//! `fedctl drill list`, `fedctl drill stop ID`.

use std::time::Duration;

use anyhow::{Result, bail};
use federation_core::api::FailoverDrill;
use federation_core::drill::stage;
use federation_runtime::shutdown::Shutdown;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::commands::output::{self, word};
use crate::connect::Connection;

/// Between two looks at a drill that ends.
const LOOK: Duration = Duration::from_millis(200);

/// Options of `fedctl drill list`.
#[derive(clap::Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: output::Flag,
}

/// Options of `fedctl drill stop`.
#[derive(clap::Args, Debug)]
pub(crate) struct Stop {
    #[command(flatten)]
    connection: Connection,
    /// The ID from `fedctl drill list`.
    id: String,
}

pub(super) async fn list(options: List) -> Result<()> {
    let api: Api<FailoverDrill> = Api::all(options.connection.client().await?);
    let mut drills = api.list(&ListParams::default()).await?.items;
    drills.sort_by_key(|drill| drill.metadata.creation_timestamp.as_ref().map(|time| time.0));
    options.output.print(&output::List {
        items: &drills,
        header: ["ID", "LOSE", "APP", "SCOPE", "PHASE", "RECOVERED", "STARTED", "REASON"],
        row,
        name: |drill| drill.name().to_owned(),
    })
}

fn row(drill: &FailoverDrill) -> [String; 8] {
    let status = drill.status.clone().unwrap_or_default();
    let recovered = status.stages.iter().find(|stage| stage.name == stage::RECOVERED);
    let phase = match drill.spec.schedule.as_str() {
        "" => word(&status.phase),
        _ if drill.spec.suspend => "Suspended".to_owned(),
        schedule => schedule.to_owned(),
    };
    [
        drill.name().to_owned(),
        drill.spec.lose.join(","),
        drill.spec.app.key(),
        word(&drill.spec.scope),
        phase,
        recovered.map(|stage| format!("{} ms", stage.after_ms)).unwrap_or_default(),
        status.start_time.map(|time| format!("{:.0}", time.0)).unwrap_or_default(),
        status.message,
    ]
}

pub(super) async fn stop(options: Stop, shutdown: Shutdown) -> Result<()> {
    let api: Api<FailoverDrill> = Api::all(options.connection.client().await?);
    let Some(drill) = api.get_opt(&options.id).await? else {
        bail!("there is no drill {:?}: see `fedctl drill list`", options.id);
    };
    if !drill.spec.schedule.is_empty() {
        bail!(
            "{} is a schedule: `kubectl delete failoverdrill {}` ends it, spec.suspend rests it",
            options.id,
            options.id
        );
    }
    let patch = json!({"spec": {"stop": true}});
    api.patch(&options.id, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    loop {
        let Some(drill) = api.get_opt(&options.id).await? else { bail!("the drill was deleted meanwhile") };
        let status = drill.status.unwrap_or_default();
        if status.phase.is_over() {
            println!("failoverdrill/{} {}: {}", options.id, word(&status.phase), status.message);
            return Ok(());
        }
        tokio::select! {
            () = shutdown.wait() => bail!("it is being stopped; nobody waits for its end any more"),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
