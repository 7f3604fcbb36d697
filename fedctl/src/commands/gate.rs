//! `fedctl gate list|log`, `fedctl confirm ID`: removals that wait for a person, and those that were refused.

use anyhow::{Result, bail};
use federation_core::api::{HeldDecision, HeldRemoval};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use super::output::{self, word};
use crate::connect::Connection;

/// Commands on the gate that every removal passes.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Lists removals that are held until you decide.
    List {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: output::Flag,
    },
    /// Lists removals that were refused in the last hour, and why.
    Log {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: output::Flag,
    },
}

/// Options of `fedctl confirm`.
#[derive(clap::Args, Debug)]
pub(crate) struct Confirm {
    #[command(flatten)]
    connection: Connection,
    /// The ID from `fedctl gate list`.
    id: String,
    /// Leaves the copies in the members, unmanaged, instead of removing them.
    #[arg(long)]
    release: bool,
}

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::List { connection, output } => list(&connection, output).await,
        Command::Log { connection, output } => log(&connection, output).await,
    }
}

pub(crate) async fn confirm(options: Confirm) -> Result<()> {
    let api: Api<HeldRemoval> = Api::all(options.connection.client().await?);
    if api.get_opt(&options.id).await?.is_none() {
        bail!("there is no hold {:?}: see `fedctl gate list`", options.id);
    }
    let decision = if options.release { HeldDecision::Release } else { HeldDecision::Remove };
    let patch = json!({"spec": {"decision": decision}});
    let held = api.patch(&options.id, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let what = if options.release { "released" } else { "removed" };
    println!("{}: {} copies are being {what}", held.spec.cause, held.spec.copies);
    Ok(())
}

async fn list(connection: &Connection, output: output::Flag) -> Result<()> {
    let api: Api<HeldRemoval> = Api::all(connection.client().await?);
    let held = api.list(&ListParams::default()).await?.items;
    output.print(&output::List {
        items: &held,
        header: ["ID", "CAUSE", "COPIES", "DECISION", "SINCE"],
        row: |held| {
            let since = held.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
            [
                held.name().to_owned(),
                held.spec.cause.clone(),
                held.spec.copies.to_string(),
                word(&held.spec.decision),
                since.unwrap_or_default(),
            ]
        },
        name: |held| held.name().to_owned(),
    })
}

async fn log(connection: &Connection, output: output::Flag) -> Result<()> {
    let api: Api<Event> = Api::all(connection.client().await?);
    let refused = ListParams::default().fields("reason=RemovalRefused");
    let mut events = api.list(&refused).await?.items;
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    output.print(&output::List {
        items: &events,
        header: ["LAST", "TIMES", "OBJECT", "REFUSAL"],
        row: |event| {
            [
                event.last_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
                event.count.unwrap_or(1).to_string(),
                object(event),
                event.message.clone().unwrap_or_default(),
            ]
        },
        name: |event| event.metadata.name.clone().unwrap_or_default(),
    })
}

/// What an event is about, as `Kind namespace/name`.
fn object(event: &Event) -> String {
    let object = &event.involved_object;
    let namespace = object.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{} {namespace}{}", text(&object.kind), text(&object.name))
}
