//! `fedctl trash`, `fedctl undo NAME…`: what was deleted, and how it comes back.

use anyhow::{Context as _, Result, bail};
use federation_core::api::{Trash, TrashSpec};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::Request;
use kube::{Api, Client};
use serde_json::Value;

use super::output;
use crate::connect::Connection;

/// Options of `fedctl trash`.
#[derive(clap::Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: output::Flag,
}

/// Options of `fedctl undo`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    connection: Connection,
    /// Names of Trash objects, as `fedctl trash` shows them.
    #[arg(required_unless_present = "namespace")]
    names: Vec<String>,
    /// Restores this Namespace and everything of it in the trash.
    #[arg(short, long, conflicts_with = "names")]
    namespace: Option<String>,
}

pub(crate) async fn list(options: List) -> Result<()> {
    let api: Api<Trash> = Api::all(options.connection.client().await?);
    let kept = api.list(&ListParams::default()).await?.items;
    options.output.print(&output::List {
        items: &kept,
        header: ["NAME", "KIND", "NAMESPACE", "OBJECT", "CLUSTERS", "EXPIRES"],
        row: |kept| {
            let TrashSpec { kind, namespace, name: object, clusters, expires, .. } = kept.spec.clone();
            [kept.name().to_owned(), kind, namespace, object, clusters.join(","), expires]
        },
        name: |kept| kept.name().to_owned(),
    })
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let client = options.connection.client().await?;
    let api: Api<Trash> = Api::all(client.clone());
    let mut wanted = Vec::new();
    if let Some(namespace) = &options.namespace {
        let all = api.list(&ListParams::default()).await?.items;
        wanted.extend(all.into_iter().filter(|kept| within(&kept.spec, namespace)));
    }
    for name in &options.names {
        let kept = api.get_opt(name).await?;
        wanted.push(kept.with_context(|| format!("there is no {name:?} in the trash: see `fedctl trash`"))?);
    }
    if wanted.is_empty() {
        bail!("it is not in the trash: see `fedctl trash`");
    }
    // A Namespace before its contents.
    wanted.sort_by_key(|kept| kept.spec.kind != "Namespace");
    let mut left = 0;
    for kept in &wanted {
        let TrashSpec { resource, namespace, name, .. } = &kept.spec;
        let object = format!(
            "{resource}/{name}{}",
            if namespace.is_empty() { String::new() } else { format!(" in {namespace}") }
        );
        // What cannot be brought back stays in the trash, and keeps nothing else there.
        match restore(&client, kept).await {
            Ok(()) => {
                api.delete(kept.name(), &DeleteParams::default()).await?;
                println!("{object} restored");
            }
            Err(error) => {
                left += 1;
                eprintln!("{object} not restored: {error:#}");
            }
        }
    }
    if left > 0 {
        bail!("{left} of {} could not be restored, and stay in the trash: see `fedctl trash`", wanted.len());
    }
    Ok(())
}

fn within(spec: &TrashSpec, namespace: &str) -> bool {
    spec.namespace == namespace || (spec.kind == "Namespace" && spec.name == namespace)
}

async fn restore(client: &Client, kept: &Trash) -> Result<()> {
    let spec = &kept.spec;
    let root = if spec.api_version.contains('/') { "apis" } else { "api" };
    let path = if spec.namespace.is_empty() {
        format!("/{root}/{}/{}", spec.api_version, spec.resource)
    } else {
        format!("/{root}/{}/namespaces/{}/{}", spec.api_version, spec.namespace, spec.resource)
    };
    let mut request =
        Request::new(&path).create(&PostParams::default(), spec.manifest.clone().into_bytes())?;
    // What the server had stored it takes back, whatever rules came since.
    *request.uri_mut() = format!("{path}?trash={}", kept.name()).try_into()?;
    client
        .request::<Value>(request)
        .await
        .with_context(|| format!("{} {} could not be created again", spec.kind, spec.name))?;
    Ok(())
}
