//! `cargo xtask bench api`: federation-apiserver beside a real kube-apiserver with etcd.
//!
//! Both run at once on the same disk, and each figure is taken of the one and then of the other, in several rounds, so that what else the
//! machine does falls on both; and nothing is taken of one while the other still works on what it was asked before, as a collector of garbage
//! does. Both are durable: each write is synced to the disk before it is answered, as both do by default. The
//! client shares the machine's cores with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use real_clusters::Kit;
use serde_json::{Value, json};

use crate::bench_api_bare;
use crate::bench_api_client::{applies, creates, creates_in_turn, events, gets, lists};
use crate::bench_api_plain::Media;
use crate::bench_api_servers::{Access, OTHER_PORT, OWN_PORT, Own, Real, Server};
use crate::test::{cargo, command};

/// Objects of the lists.
const OBJECTS: usize = 10_000;
const CLIENTS: usize = 32;
const WATCHERS: usize = 100;
/// Writes whose events are timed.
const WATCHED_WRITES: usize = 40;
/// After this without requests, memory is at rest.
const REST: Duration = Duration::from_secs(5);

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds of which the median counts.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Measures only what has this in its name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Fails if a target is missed.
    #[arg(long)]
    strict: bool,
    /// Measures with what is built.
    #[arg(long, hide = true)]
    built: bool,
    /// Another build of federation-apiserver, to be measured in kube-apiserver's place.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
}

/// What is measured, how it reads, and what part of kube-apiserver's figure it should be.
struct Metric {
    name: &'static str,
    unit: &'static str,
    /// Ours divided by theirs: at least this if more is better, else at most. None where nothing was promised.
    target: Option<f64>,
    more_is_better: bool,
}

const fn at_most(name: &'static str, unit: &'static str, target: f64) -> Metric {
    Metric { name, unit, target: Some(target), more_is_better: false }
}

/// Where "write to event" is among them.
const EVENTS: usize = 5;
const EVENTS_IN_PROTOBUF: usize = 6;

const METRICS: [Metric; 11] = [
    Metric { name: "creates, 32 clients", unit: "1/s", target: Some(8.0), more_is_better: true },
    at_most("create, one at a time, p50", "ms", 0.25),
    at_most("get, p50", "ms", 0.25),
    at_most("list of 10k, p50", "ms", 0.1),
    // Such a list is not looked up in etcd, so kube-apiserver takes half the time. What is left is mostly the bytes: docs/adr/0002-watch-cache.md.
    Metric { name: "list of 10k from cache, p50", unit: "ms", target: None, more_is_better: false },
    at_most("write to event, 100 watchers, p50", "ms", 0.25),
    // As client-go's informers of built-in kinds ask for it.
    Metric { name: "write to event, protobuf, p50", unit: "ms", target: None, more_is_better: false },
    at_most("server-side apply, p50", "ms", 1.0 / 3.0),
    at_most("memory, empty", "MiB", 0.1),
    at_most("memory, 10k objects", "MiB", 1.0 / 6.0),
    at_most("start to ready", "s", 0.05),
];

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let this = std::env::current_exe()?;
    let release =
        this.parent().and_then(Path::parent).context("xtask is in no target folder")?.join("release");
    if !options.built {
        cargo(&[
            "build",
            "--release",
            "-p",
            "federation-apiserver",
            "-p",
            "xtask",
            "--bins",
            "--features",
            "federation-apiserver/jemalloc",
        ])?;
        // The client, too, must be quick.
        let mut measuring = Command::new(release.join("xtask"));
        measuring.args(["bench", "api", "--built", "--rounds", &options.rounds.to_string()]);
        measuring.args(["--only", &options.only]);
        if options.strict {
            measuring.arg("--strict");
        }
        if let Some(other) = &options.against {
            measuring.arg("--against").arg(other);
        }
        return command(&mut measuring);
    }
    let directory = tempfile::Builder::new().prefix("bench-api-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let program = release.join("federation-apiserver");
    let mut missed = 0;
    let mut summary = json!({"bench": "api", "rounds": options.rounds});
    for (title, key, access) in [
        ("as administrator, without audit log", "plain", Access::Plain),
        ("as a user by RBAC, with audit log", "rbac_and_audit", Access::RbacAndAudit),
    ] {
        let figures = runtime.block_on(async {
            let other: Box<dyn Server> = match &options.against {
                Some(other) => Box::new(Own::start(other, OTHER_PORT, access, directory.path()).await?),
                None => Box::new(Real::start(&Kit::ensure()?, access, directory.path()).await?),
            };
            let own = Own::start(&program, OWN_PORT, access, directory.path()).await?;
            measure([&*other, &own], options).await
        })?;
        println!("\n{title}\n{}", heading());
        let wanted = METRICS.iter().zip(figures).filter(|(metric, _)| options.wants(metric));
        for (metric, figures) in wanted {
            let line = Line::new(metric, figures);
            missed += usize::from(!line.met);
            println!("{}", line.text(metric));
            summary[key][metric.name] = line.json();
        }
    }
    if options.wants(&METRICS[EVENTS]) {
        let mut medians = Vec::new();
        for _ in 0..options.rounds {
            let times = bench_api_bare::events(directory.path(), WATCHERS, WATCHED_WRITES);
            medians.push(median(runtime.block_on(times)?));
        }
        let bare = median(medians);
        println!("\n{:<36} {:>12} {bare:>12.2} ms", "the same bytes, bare TCP and sync", "");
        summary["bare_write_to_event_ms"] = bare.into();
    }
    println!("{summary}");
    anyhow::ensure!(!options.strict || missed == 0, "{missed} targets are missed");
    Ok(())
}

impl Options {
    fn wants(&self, metric: &Metric) -> bool {
        metric.name.contains(&self.only)
    }
}

/// The figures of [`METRICS`], theirs and ours. What is not wanted is no number, unless it is made on the way.
async fn measure(servers: [&dyn Server; 2], options: &Options) -> Result<Vec<[f64; 2]>> {
    let rounds = options.rounds;
    let wants = |metric: usize| options.wants(&METRICS[metric]);
    tokio::time::sleep(REST).await;
    let empty = servers.map(|server| memory_mib(&server.pids()));
    let mut samples: Vec<[Vec<f64>; 2]> = vec![Default::default(); 8];
    // What is asked for and listed later is made here.
    let needs_objects = [0, 2, 3, 4, 9].into_iter().any(wants);
    for round in 0..if needs_objects { rounds } else { 0 } {
        for (which, server) in servers.iter().enumerate() {
            settle(servers).await;
            let count = OBJECTS / rounds;
            let path = "/api/v1/namespaces/bench/configmaps";
            samples[0][which].push(creates(server.target(), path, round * count, count, CLIENTS).await?);
        }
    }
    tokio::time::sleep(REST).await;
    let full = servers.map(|server| memory_mib(&server.pids()));
    for round in 0..rounds {
        for (which, server) in servers.iter().enumerate() {
            let target = server.target();
            settle(servers).await;
            let all = "/api/v1/namespaces/bench/configmaps";
            let turns = "/api/v1/namespaces/turns/configmaps";
            let watched = "/api/v1/namespaces/watched/configmaps";
            for metric in (1..=7).filter(|metric| wants(*metric)) {
                let times = match metric {
                    1 => creates_in_turn(target, turns, &format!("t{round}"), 100).await?,
                    2 => gets(target, all, 400).await?,
                    3 => lists(target, all, 3).await?,
                    4 => lists(target, &format!("{all}?resourceVersion=0"), 3).await?,
                    EVENTS | EVENTS_IN_PROTOBUF => {
                        let (prefix, media) = match metric {
                            EVENTS => ("w", Media::Json),
                            _ => ("p", Media::Protobuf),
                        };
                        let prefix = format!("{prefix}{round}");
                        events(target, watched, &prefix, WATCHERS, media, WATCHED_WRITES).await?
                    }
                    _ => applies(target, "/apis/apps/v1/namespaces/turns/deployments", round, 100).await?,
                };
                samples[metric][which].push(median(times));
            }
        }
    }
    let mut figures: Vec<[f64; 2]> = samples.into_iter().map(|both| both.map(median)).collect();
    figures.extend([empty, full, servers.map(Server::started_s)]);
    Ok(figures)
}

/// Waits until neither does anything.
async fn settle(servers: [&dyn Server; 2]) {
    /// So long without a tick of the processor's is at rest.
    const STILL: Duration = Duration::from_millis(100);
    const PATIENCE: u32 = 30;
    let pids: Vec<u32> = servers.iter().flat_map(|server| server.pids()).collect();
    let mut before = ticks(&pids);
    for _ in 0..PATIENCE {
        tokio::time::sleep(STILL).await;
        let now = ticks(&pids);
        if now == before {
            return;
        }
        before = now;
    }
}

/// Hundredths of a second that processes have been at work.
fn ticks(pids: &[u32]) -> u64 {
    let spent = pids.iter().filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything, user and system time are the 12th and 13th.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    });
    spent.sum()
}

/// One metric of both.
struct Line {
    figures: [f64; 2],
    ratio: f64,
    target: Option<f64>,
    met: bool,
}

impl Line {
    fn new(metric: &Metric, figures: [f64; 2]) -> Self {
        let ratio = figures[1] / figures[0];
        let is_met = |target| if metric.more_is_better { ratio >= target } else { ratio <= target };
        let met = metric.target.is_none_or(is_met);
        Self { figures, ratio, target: metric.target, met }
    }

    fn text(&self, metric: &Metric) -> String {
        let told = |ratio: f64| {
            if metric.more_is_better { format!("{ratio:.1} x") } else { format!("1/{:.1}", 1.0 / ratio) }
        };
        let target = self.target.map_or_else(String::new, |target| {
            let sign = if metric.more_is_better { ">=" } else { "<=" };
            format!("{sign} {:<6} {}", told(target), if self.met { "met" } else { "MISSED" })
        });
        format!(
            "{:<36} {:>12.2} {:>12.2} {:<4} {:>8}  {target}",
            metric.name,
            self.figures[0],
            self.figures[1],
            metric.unit,
            told(self.ratio),
        )
    }

    fn json(&self) -> Value {
        json!({"kube": self.figures[0], "own": self.figures[1], "ratio": self.ratio, "target": self.target, "met": self.met})
    }
}

fn heading() -> String {
    format!("{:<36} {:>12} {:>12} {:<4} {:>8}  target", "", "kube+etcd", "federation", "", "ratio")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Resident memory of processes together.
fn memory_mib(pids: &[u32]) -> f64 {
    let kib = pids.iter().filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    });
    kib.sum::<f64>() / 1024.0
}
