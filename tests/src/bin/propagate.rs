//! `cargo xtask bench propagate`: how fast objects go from the federation's API into two real kube-apiservers, and statuses come back.
//!
//! The control plane is `fedctl up`, the members are control planes without nodes, everything is on loopback: what is measured is the
//! federation and the members' API servers, no network. The last line is JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use federation_tests::{Federation, Join, Process, Settings, manifests, program};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt as _};
use real_clusters::{Cluster, Kit, Mode};
use serde_json::json;
use tokio::sync::mpsc;

/// Objects one at a time.
const SINGLE: usize = 100;
/// ConfigMaps at once.
const BURST: usize = 1000;
/// Divided Deployments at once.
const DEPLOYMENTS: usize = 200;
/// Writers of a burst, as kubebench's.
const WRITERS: usize = 32;
const LIMIT: Duration = Duration::from_secs(600);
/// Looks at memory, two seconds apart, until it counts as at rest whatever it does.
const SETTLES: u32 = 10;
const NAMESPACE: &str = "bench";
/// Jiffies in a second, as /proc shows them on Linux.
const TICKS: f64 = 100.0;

/// Members that go away with this.
struct Members([Cluster; 2]);

impl Members {
    fn up(kit: &Kit) -> Result<Self> {
        let members = Self([
            Cluster::on_loopback(kit, "bench-taiwan", 27100),
            Cluster::on_loopback(kit, "bench-tokyo", 27110),
        ]);
        thread::scope(|scope| {
            let ups = members.0.each_ref().map(|member| {
                scope.spawn(move || {
                    member.down()?;
                    member.up(Mode::ControlPlane)
                })
            });
            ups.into_iter()
                .try_for_each(|up| up.join().unwrap_or_else(|_| bail!("bringing a member up panicked")))
        })?;
        Ok(members)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &self.0 {
            if let Err(error) = member.down() {
                eprintln!("{} is not down: {error:#}", member.name);
            }
        }
    }
}

fn main() -> Result<()> {
    let kit = Kit::ensure()?;
    let ready_ms = exec_to_ready()?;
    eprintln!("bringing up two members without nodes");
    let members = Members::up(&kit)?;
    // Agents and control plane are started by this thread, and die with it.
    let mut federation = Federation::start_on("127.0.0.1", &Settings::default())?;
    let agents = members
        .0
        .iter()
        .zip(["taiwan", "tokyo"])
        .map(|(member, name)| agent(&federation, &member.kubeconfig(), name))
        .collect::<Result<Vec<_>>>()?;
    for name in ["taiwan", "tokyo"] {
        federation.wait_for_verdict(name, "Healthy");
    }
    federation.api().apply(&manifests::namespace(NAMESPACE))?;
    let mut pids = vec![federation.process().pid()];
    pids.extend(agents.iter().map(Process::pid));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut figures = runtime.block_on(measure(&federation.kubeconfig(), &members, &pids))?;
    figures.insert(0, ("from exec to ready, ms, median of 5", ready_ms));
    let width = figures.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &figures {
        println!("{name:<width$}  {value:>9.1}");
    }
    let line: BTreeMap<&str, f64> = figures.into_iter().collect();
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
}

/// The median of five starts on new folders.
fn exec_to_ready() -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let folder = tempfile::tempdir()?;
        let start = Instant::now();
        let mut child = Command::new(program("fedctl")?)
            .args(["up", "--api-listen", "127.0.0.1:0", "--hub-listen", "127.0.0.1:0"])
            .args(["--dns-listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        times.push(start.elapsed());
        child.kill()?;
        child.wait()?;
        ensure!(matches!(read, Some(Ok(_))) && line.starts_with("ready"), "fedctl up said {line:?}");
    }
    Ok(quantile(&mut times, 0.5))
}

fn agent(federation: &Federation, kubeconfig: &Path, name: &str) -> Result<Process> {
    let Join { hub, token, ca_cert_hash } = federation.join_command()?;
    let folder = federation.folder().join(name);
    std::fs::create_dir_all(&folder)?;
    let arguments = [
        "--kubeconfig",
        &kubeconfig.to_string_lossy(),
        "--name",
        name,
        "--hub",
        &hub,
        "--token",
        &token,
        "--ca-cert-hash",
        &ca_cert_hash,
        "--data-dir",
        &folder.to_string_lossy(),
    ]
    .map(ToOwned::to_owned);
    Process::start(&folder, "agent", None, &program("member-agent")?, &arguments)
}

async fn measure(kubeconfig: &Path, members: &Members, pids: &[u32]) -> Result<Vec<(&'static str, f64)>> {
    let federation = client(kubeconfig.to_owned()).await?;
    let [taiwan, tokyo] = &members.0;
    let clients = [client(taiwan.kubeconfig()).await?, client(tokyo.kubeconfig()).await?];
    let maps: Api<ConfigMap> = Api::namespaced(federation.clone(), NAMESPACE);
    let mut seen = Seen::of::<ConfigMap>(&clients);
    let mut figures = Vec::new();

    // The first object waits for its namespace in the members: not what is asked.
    maps.create(&PostParams::default(), &map("first")).await?;
    seen.wait(["first".to_owned()]).await?;
    let at_rest = at_rest_mib(pids).await;
    figures.push(("resident at rest, control plane, MiB", at_rest[0]));
    figures.push(("resident at rest, with both agents, MiB", at_rest.iter().sum()));

    let mut times = Vec::new();
    for number in 0..SINGLE {
        let name = format!("single-{number}");
        let start = Instant::now();
        maps.create(&PostParams::default(), &map(&name)).await?;
        times.push(seen.wait([name]).await?.duration_since(start));
    }
    figures.push(("create to seen in both, p50, ms", quantile(&mut times, 0.5)));
    figures.push(("create to seen in both, p99, ms", quantile(&mut times, 0.99)));

    figures.push(("status back, p50, ms", status_back(&federation, &clients, members).await?));

    let names: Vec<String> = (0..BURST).map(|number| format!("burst-{number}")).collect();
    let (cpu, start) = (cpu_seconds(pids), Instant::now());
    stream::iter(names.iter().map(|name| Ok::<_, kube::Error>(map(name))))
        .try_for_each_concurrent(WRITERS, |map| {
            let maps = maps.clone();
            async move { maps.create(&PostParams::default(), &map).await.map(drop) }
        })
        .await?;
    let last = seen.wait(names).await?;
    figures.push(("1000 ConfigMaps present in both, s", last.duration_since(start).as_secs_f64()));
    // What is written afterwards (Placements' statuses) belongs to the price.
    settle(pids).await;
    figures.push(("processor time for them, s", cpu_seconds(pids) - cpu));

    let mut seen = Seen::of::<Deployment>(&clients);
    let deployments: Api<Deployment> = Api::namespaced(federation, NAMESPACE);
    let names: Vec<String> = (0..DEPLOYMENTS).map(|number| format!("divided-{number}")).collect();
    let start = Instant::now();
    stream::iter(names.iter().map(|name| Ok::<_, anyhow::Error>(name.clone())))
        .try_for_each_concurrent(WRITERS, |name| {
            let deployments = deployments.clone();
            async move {
                deployments.create(&PostParams::default(), &deployment(&name, 2)?).await?;
                Ok(())
            }
        })
        .await?;
    let last = seen.wait(names).await?;
    figures.push(("200 divided Deployments in both, s", last.duration_since(start).as_secs_f64()));
    settle(pids).await;
    let after = resident_mib(pids);
    figures.push(("resident after, control plane, MiB", after[0]));
    figures.push(("resident after, with both agents, MiB", after.iter().sum()));
    Ok(figures)
}

/// From the patch of a member's status to the merged status at the federation, with the member's own controllers held still.
async fn status_back(federation: &Client, clients: &[Client; 2], members: &Members) -> Result<f64> {
    let deployments: Api<Deployment> = Api::namespaced(federation.clone(), NAMESPACE);
    let mut seen = Seen::of::<Deployment>(clients);
    deployments.create(&PostParams::default(), &deployment("status", 1000)?).await?;
    seen.wait(["status".to_owned()]).await?;
    for member in &members.0 {
        member.pause("kcm")?;
    }
    let mut merged = watcher::watcher(deployments, watcher::Config::default()).boxed();
    let [taiwan, _] = clients;
    let member: Api<Deployment> = Api::namespaced(taiwan.clone(), NAMESPACE);
    let generation = member.get("status").await?.metadata.generation;
    let mut times = Vec::new();
    for number in 1..=SINGLE as i32 {
        let status = json!({"status": {
            "observedGeneration": generation, "replicas": 500, "updatedReplicas": 500, "readyReplicas": number, "availableReplicas": number,
        }});
        let start = Instant::now();
        member.patch_status("status", &PatchParams::default(), &Patch::Merge(&status)).await?;
        loop {
            let event = tokio::time::timeout(LIMIT, merged.try_next()).await??.context("the watch ended")?;
            if let Event::Apply(object) | Event::InitApply(object) = event
                && object.name_any() == "status"
                && object.status.and_then(|status| status.ready_replicas) == Some(number)
            {
                break;
            }
        }
        times.push(start.elapsed());
    }
    for member in &members.0 {
        member.resume("kcm")?;
    }
    Ok(quantile(&mut times, 0.5))
}

/// What watches of both members have shown, and when.
struct Seen {
    events: mpsc::UnboundedReceiver<(usize, String, Instant)>,
    there: [BTreeSet<String>; 2],
}

impl Seen {
    /// The queue is bounded by the number of objects that this program makes.
    fn of<K>(clients: &[Client; 2]) -> Self
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + 'static,
    {
        let (sender, events) = mpsc::unbounded_channel();
        for (index, client) in clients.iter().enumerate() {
            let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut watch = watcher::watcher(api, watcher::Config::default()).boxed();
                while let Some(event) = watch.next().await {
                    let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
                    if sender.send((index, object.name_any(), Instant::now())).is_err() {
                        break;
                    }
                }
            });
        }
        Self { events, there: Default::default() }
    }

    /// Waits until all of these are in both, and says when the last was seen.
    async fn wait(&mut self, names: impl IntoIterator<Item = String>) -> Result<Instant> {
        let names: BTreeSet<String> = names.into_iter().collect();
        let mut missing = self.there.each_ref().map(|there| &names - there);
        let mut last = Instant::now();
        while missing.iter().any(|names| !names.is_empty()) {
            let event = tokio::time::timeout(LIMIT, self.events.recv()).await;
            let (index, name, at) =
                event.context("objects are missing in a member")?.context("the watches ended")?;
            if let (Some(missing), Some(there)) = (missing.get_mut(index), self.there.get_mut(index)) {
                if missing.remove(&name) {
                    last = at;
                }
                there.insert(name);
            }
        }
        Ok(last)
    }
}

async fn client(kubeconfig: PathBuf) -> Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    Ok(Client::try_from(kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)?)
}

/// 1 KiB of payload, as the measurements that the figures are compared with.
fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("payload".to_owned(), "x".repeat(1024))])),
        ..ConfigMap::default()
    }
}

fn deployment(name: &str, replicas: i32) -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": "registry.local/site:1"}]},
            },
        },
    }))?)
}

/// Milliseconds.
fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let index = ((times.len() as f64 * part).ceil() as usize).clamp(1, times.len().max(1)) - 1;
    times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// Waits until a second costs less than a twentieth of a processor.
async fn settle(pids: &[u32]) {
    for _ in 0..30 {
        let before = cpu_seconds(pids);
        tokio::time::sleep(Duration::from_secs(1)).await;
        if cpu_seconds(pids) - before < 0.05 {
            return;
        }
    }
}

/// User and system time of the processes, seconds (proc(5): fields 14 and 15 of stat).
fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    pids.iter().filter_map(ticks).sum::<f64>() / TICKS
}

/// Resident memory once nothing changes any more: an allocator gives pages back a second or two after the last request.
async fn at_rest_mib(pids: &[u32]) -> Vec<f64> {
    let mut last = resident_mib(pids);
    for _ in 0..SETTLES {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = resident_mib(pids);
        let still = last.iter().zip(&now).all(|(last, now)| (last - now).abs() < 0.5);
        last = now;
        if still {
            break;
        }
    }
    last
}

fn resident_mib(pids: &[u32]) -> Vec<f64> {
    let resident = |pid: &u32| -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    };
    pids.iter().map(|pid| resident(pid).unwrap_or(0.0)).collect()
}
