//! `fedctl gate list|log`, `fedctl confirm ID`: removals that wait for a person, and those that were refused.

use anyhow::{Result, bail};
use federation_core::api::{HeldDecision, HeldRemoval};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::connect::Connection;

/// Commands on the gate that every removal passes.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Lists removals that are held until you decide.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Lists removals that were refused in the last hour, and why.
    Log {
        #[command(flatten)]
        connection: Connection,
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
        Command::List { connection } => list(&connection).await,
        Command::Log { connection } => log(&connection).await,
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

async fn list(connection: &Connection) -> Result<()> {
    let api: Api<HeldRemoval> = Api::all(connection.client().await?);
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(["ID", "CAUSE", "COPIES", "DECISION", "SINCE"]);
    for held in api.list(&ListParams::default()).await? {
        let since = held.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        table.add_row([
            held.name().to_owned(),
            held.spec.cause,
            held.spec.copies.to_string(),
            format!("{:?}", held.spec.decision),
            since.unwrap_or_default(),
        ]);
    }
    println!("{table}");
    Ok(())
}

async fn log(connection: &Connection) -> Result<()> {
    let api: Api<Event> = Api::all(connection.client().await?);
    let refused = ListParams::default().fields("reason=RemovalRefused");
    let mut events = api.list(&refused).await?.items;
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["LAST", "TIMES", "OBJECT", "REFUSAL"]);
    for event in events {
        let object = event.involved_object;
        let (kind, name) = (object.kind.unwrap_or_default(), object.name.unwrap_or_default());
        let namespace = object.namespace.map(|namespace| namespace + "/").unwrap_or_default();
        table.add_row([
            event.last_timestamp.map(|time| time.0.to_string()).unwrap_or_default(),
            event.count.unwrap_or(1).to_string(),
            format!("{kind} {namespace}{name}"),
            event.message.unwrap_or_default(),
        ]);
    }
    println!("{table}");
    Ok(())
}
