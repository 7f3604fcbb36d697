//! Pods out of reach, everything else well.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use federation_tests::{Clusters, DnsServer, Federation, SITES, Settings, eventually, manifests};
use futures::TryStreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher::{self, Event};
use real_clusters::Site;
use tokio::sync::oneshot;

use crate::{Figures, LIMIT, client, ms};

const EVICT_AFTER: Duration = Duration::from_secs(4);
const PORT: u16 = 30099;
/// Between two questions to one DNS server.
const ASK: Duration = Duration::from_millis(3);
/// A site's falls are so far apart that damping does not count them together.
const APART: Duration = Duration::from_secs(45);

struct Stage {
    namespace: String,
    host: String,
    federation: Federation,
    servers: Vec<SocketAddr>,
    clusters: Clusters,
}

/// Measures, in turns at both sites.
pub(crate) fn run(runs: usize) -> Result<()> {
    let clusters = Clusters::both()?;
    let settings = Settings { evict_after: EVICT_AFTER, ..Settings::default() };
    let federation = Federation::start(&settings)?;
    let _agents = federation.join_both(&clusters)?;
    let others: Vec<DnsServer> =
        ["one", "two"].iter().map(|name| federation.dns_server(name)).collect::<Result<_>>()?;
    let servers = [federation.dns_listen].into_iter().chain(others.iter().map(DnsServer::listen)).collect();
    let namespace = manifests::unique("bench");
    let host = format!("web.{namespace}.fed.svc.example.test");
    federation.api().apply(
        &(manifests::namespace(&namespace)
            + &manifests::deployment(&namespace, "web", 4)
            + &manifests::node_port(&namespace, "web", PORT)
            + &manifests::answer_with_all(&namespace, "web")
            + &manifests::weights(&namespace, "Deployment", "web", 1, 1)),
    )?;
    let stage = Stage { namespace, host, federation, servers, clusters };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut figures = Figures::default();
    let mut last = [None, None];
    for number in 0..runs {
        let which = number % 2;
        stage.well();
        if let Some(at) = last[which] {
            thread::sleep(APART.saturating_sub(Instant::elapsed(&at)));
        }
        stage.well();
        last[which] = Some(Instant::now());
        eprintln!("run {} of {runs}: {}", number + 1, SITES[which].name);
        stage.measure(&runtime, SITES[which], SITES[1 - which], &mut figures)?;
    }
    stage.well();
    figures.tell()
}

impl Stage {
    /// Both sites healthy, answered with everywhere, and probed by all.
    fn well(&self) {
        for site in SITES {
            self.federation.wait_for_verdict(site.name, "Healthy");
        }
        eventually("replicas are divided and ready", LIMIT, || {
            let api = self.federation.api();
            let halves = self
                .clusters
                .members()
                .iter()
                .map(|member| member.replicas(&self.namespace, "deployment/web"))
                .collect::<Result<Vec<_>>>()?;
            Ok(halves == [2, 2]
                && api.field(&self.namespace, "deployment/web", "/status/readyReplicas")? == 4)
        });
        eventually("every DNS server answers with both sites", LIMIT, || {
            for server in &self.servers {
                let answer = ask(*server, &self.host)?;
                ensure!(SITES.iter().all(|site| names(&answer, *site)), "{server} does not");
            }
            Ok(true)
        });
        eventually("three probers see both", LIMIT, || {
            let told: serde_json::Value =
                serde_json::from_str(&self.federation.fedctl(&["health", "-o", "json"])?)?;
            let ups = |cluster: &serde_json::Value| {
                let votes = cluster["votes"].as_array().into_iter().flatten();
                votes.filter(|vote| vote["says"] == "Up" && vote["counts"] == true).count()
            };
            let clusters = told["clusters"].as_array().cloned().unwrap_or_default();
            Ok(clusters.len() == 2 && clusters.iter().all(|cluster| ups(cluster) >= 5))
        });
    }

    fn measure(
        &self,
        runtime: &tokio::runtime::Runtime,
        lost: Site,
        other: Site,
        figures: &mut Figures,
    ) -> Result<()> {
        let (verdict, watching) = oneshot::channel();
        let (moved, moving) = oneshot::channel();
        let (ready, mut started) = tokio::sync::mpsc::channel(2);
        runtime.spawn(falls(self.federation.kubeconfig(), lost.name, verdict, ready.clone()));
        let member = self.clusters.member(other).kubeconfig().to_owned();
        runtime.spawn(takes_over(member, self.namespace.clone(), moved, ready));
        for _ in 0..2 {
            runtime.block_on(started.recv()).context("a watch did not start")?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let asking: Vec<_> = self
            .servers
            .iter()
            .map(|server| {
                let (server, host, stop) = (*server, self.host.clone(), stop.clone());
                thread::spawn(move || changed(server, &host, lost, &stop))
            })
            .collect();
        let cut = Filter::insert(lost)?;
        let died = Instant::now();
        let wait = |of| runtime.block_on(async { tokio::time::timeout(LIMIT, of).await });
        let fell = wait(watching).context("no verdict came")??;
        let replaced = wait(moving).context("no replicas came")??;
        let mut answered = Vec::new();
        for asking in asking {
            answered.push(asking.join().map_err(|_| anyhow::anyhow!("a resolver panicked"))??);
        }
        stop.store(true, Ordering::Relaxed);
        drop(cut);
        let last = answered.iter().max().copied().context("there are servers")?;
        figures.add("data plane dead to verdict, ms", ms(died, fell));
        figures.add("verdict to every dns-lb's new answer, ms", ms(fell, last));
        figures.add("data plane dead to every dns-lb's new answer, ms", ms(died, last));
        figures.add("verdict and evictAfter to replicas elsewhere, ms", ms(fell + EVICT_AFTER, replaced));
        Ok(())
    }
}

/// When the federation says that users of the cluster are not served.
async fn falls(
    kubeconfig: std::path::PathBuf,
    cluster: &'static str,
    said: oneshot::Sender<Instant>,
    started: tokio::sync::mpsc::Sender<()>,
) -> Result<()> {
    let kind = GroupVersionKind::gvk("federation.rs", "v1alpha1", "Cluster");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusters");
    let api: Api<DynamicObject> = Api::all_with(client(&kubeconfig).await?, &resource);
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    while let Some(event) = events.try_next().await? {
        match event {
            Event::InitDone => started.send(()).await?,
            Event::Apply(object) | Event::InitApply(object)
                if object.metadata.name.as_deref() == Some(cluster)
                    && object.data["status"]["verdict"] == "DataPlaneDown" =>
            {
                let _ = said.send(Instant::now());
                return Ok(());
            }
            _ => {}
        }
    }
    Ok(())
}

/// When the other member is told to run all.
async fn takes_over(
    kubeconfig: std::path::PathBuf,
    namespace: String,
    said: oneshot::Sender<Instant>,
    started: tokio::sync::mpsc::Sender<()>,
) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client(&kubeconfig).await?, &namespace);
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    while let Some(event) = events.try_next().await? {
        match event {
            Event::InitDone => started.send(()).await?,
            Event::Apply(object) if object.spec.replicas == Some(4) => {
                let _ = said.send(Instant::now());
                return Ok(());
            }
            _ => {}
        }
    }
    Ok(())
}

/// When a DNS server first answers without the site.
fn changed(server: SocketAddr, host: &str, lost: Site, stop: &AtomicBool) -> Result<Instant> {
    let begun = Instant::now();
    loop {
        let answer = ask(server, host)?;
        let at = Instant::now();
        if !names(&answer, lost) {
            return Ok(at);
        }
        ensure!(
            !stop.load(Ordering::Relaxed) && begun.elapsed() < LIMIT,
            "{server} never changed its answer"
        );
        thread::sleep(ASK);
    }
}

/// One question for the addresses of a name.
fn ask(server: SocketAddr, host: &str) -> Result<Vec<u8>> {
    let mut question = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    // A port of its own for each question: servers limit what one client gets.
    let socket = UdpSocket::bind((server.ip(), 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut answer = vec![0; 1500];
    for _ in 0..10 {
        socket.send(&question)?;
        if let Ok(length) = socket.recv(&mut answer) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
    anyhow::bail!("{server} does not answer")
}

/// Whether an answer names the site.
fn names(answer: &[u8], site: Site) -> bool {
    let Ok(IpAddr::V4(address)) = site.address().parse() else { return false };
    let octets = Ipv4Addr::octets(&address);
    answer.windows(4).any(|window| window == octets)
}

/// Packets to the site's pods are lost until this is dropped.
struct Filter(Site);

impl Filter {
    fn insert(site: Site) -> Result<Self> {
        let filter = Self(site);
        filter.iptables("-I")?;
        Ok(filter)
    }

    fn iptables(&self, what: &str) -> Result<()> {
        let status = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.0.name))
            .args(["iptables", "-w", "-t", "mangle", what, "PREROUTING", "-p", "tcp"])
            .args(["--dport", &PORT.to_string(), "-j", "DROP"])
            .status()?;
        ensure!(status.success(), "iptables {what}");
        Ok(())
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let _ = self.iptables("-D");
    }
}
