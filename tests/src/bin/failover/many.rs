//! A member with thousands of workloads dies.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use federation_tests::{Api, Federation, Join, Process, Settings, eventually, manifests, program};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use serde_json::json;

use crate::{Figures, LIMIT, client, ms};

const EVICT_AFTER: Duration = Duration::from_secs(5);
const NAMESPACE: &str = "many";
const WRITERS: usize = 32;
/// The members' pods never become ready: their number is measured, not a thousand web servers on one machine.
const NEVER_MS: &str = "3600000";

/// Measures.
pub(crate) fn run(count: usize, runs: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut figures = Figures::default();
    for number in 0..runs {
        eprintln!("run {} of {runs}", number + 1);
        one(&runtime, count, &mut figures)?;
    }
    figures.tell()
}

struct Member {
    process: Process,
    kubeconfig: PathBuf,
}

fn member(federation: &Federation, name: &str, index: u8) -> Result<Member> {
    let Join { hub, token, ca_cert_hash } = federation.join_command()?;
    let folder = federation.folder().join(name);
    std::fs::create_dir_all(&folder)?;
    let arguments = [
        "sandbox-member",
        "--name",
        name,
        "--index",
        &index.to_string(),
        "--hub",
        &hub,
        "--token",
        &token,
        "--ca-cert-hash",
        &ca_cert_hash,
        "--start-delay-ms",
        NEVER_MS,
        "--data-dir",
        &folder.to_string_lossy(),
    ]
    .map(ToOwned::to_owned);
    let mut process = Process::start(&folder, "member", None, &program("fedctl")?, &arguments)?;
    process.ready(LIMIT)?;
    Ok(Member { process, kubeconfig: folder.join("admin.conf") })
}

fn one(runtime: &tokio::runtime::Runtime, count: usize, figures: &mut Figures) -> Result<()> {
    let settings = Settings { evict_after: EVICT_AFTER, ..Settings::default() };
    let federation = Federation::start_on("127.0.0.1", &settings)?;
    let mut taiwan = member(&federation, "taiwan", 41)?;
    federation.wait_for_verdict("taiwan", "Healthy");
    federation.api().apply(&manifests::namespace(NAMESPACE))?;
    let begun = Instant::now();
    runtime.block_on(create(&federation.kubeconfig(), count))?;
    let seen = runtime.block_on(all_there(&taiwan.kubeconfig, count))?;
    figures.add("created at the hub to all in one member, ms", ms(begun, seen));

    // It joins when all is placed: with rebalance off nothing of it moves.
    let tokyo = member(&federation, "tokyo", 42)?;
    federation.wait_for_verdict("tokyo", "Healthy");
    let api = Api::new(&tokyo.kubeconfig, &federation.folder().join("kubectl-tokyo"));
    eventually("the namespace is in Tokyo", LIMIT, || api.has("default", &format!("namespace/{NAMESPACE}")));
    eventually("everything is at rest", LIMIT, || at_rest(&federation));

    let fell = runtime.block_on(async {
        let kubeconfig = tokyo.kubeconfig.clone();
        let arriving = tokio::spawn(async move { all_there(&kubeconfig, count).await });
        let killed = Instant::now();
        taiwan.process.kill()?;
        let verdict = loop {
            if federation.verdict("taiwan")? != "Healthy" {
                break Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let arrived = arriving.await??;
        anyhow::Ok((killed, verdict, arrived))
    })?;
    let (killed, verdict, arrived) = fell;
    figures.add("killed to verdict, ms", ms(killed, verdict));
    figures.add("verdict and evictAfter to all workloads elsewhere, ms", ms(verdict + EVICT_AFTER, arrived));
    Ok(())
}

/// The control plane does next to nothing for a second.
fn at_rest(federation: &Federation) -> Result<bool> {
    let ticks = || -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", federation.pid()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Ok(field(11) + field(12))
    };
    let before = ticks()?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(ticks()? - before < 20)
}

async fn create(kubeconfig: &std::path::Path, count: usize) -> Result<()> {
    let api: kube::Api<Deployment> = kube::Api::namespaced(client(kubeconfig).await?, NAMESPACE);
    stream::iter((0..count).map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(WRITERS, |number| {
            let api = api.clone();
            async move {
                let name = format!("w{number}");
                let object: Deployment = serde_json::from_value(json!({
                    "metadata": {"name": name},
                    "spec": {
                        "replicas": 1, "selector": {"matchLabels": {"app": name}},
                        "template": {
                            "metadata": {"labels": {"app": name}},
                            "spec": {"containers": [{"name": "web", "image": "registry.local/site:1"}]},
                        },
                    },
                }))?;
                api.create(&PostParams::default(), &object).await?;
                Ok(())
            }
        })
        .await
}

/// When a member holds so many Deployments that it is told to run.
async fn all_there(kubeconfig: &std::path::Path, count: usize) -> Result<Instant> {
    let api: kube::Api<Deployment> = kube::Api::namespaced(client(kubeconfig).await?, NAMESPACE);
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    let mut there = BTreeSet::new();
    while there.len() < count {
        let event = tokio::time::timeout(LIMIT * 5, events.try_next()).await;
        let event = event.with_context(|| format!("{} of {count} came", there.len()))??;
        if let Some(Event::Apply(object) | Event::InitApply(object)) = event
            && object.spec.replicas == Some(1)
        {
            there.insert(object.name_any());
        }
    }
    Ok(Instant::now())
}
