//! `cargo xtask bench failover`: the demo's story again and again, and what its failovers took.
//!
//! Each run starts a federation and two sandbox members as processes, drains one under load, and kills it with SIGKILL under load. A
//! hundred users, ten requests a second each, resolve by DNS and fetch by HTTP throughout.
//!
//! Then, by `tests/src/bin/failover`: pods that are out of reach in one of two real clusters whose API is well, and a sandbox member with
//! thousands of workloads that is killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::test::cargo;

/// How much is measured.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs; medians and worst cases are told.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Web users, ten requests a second each.
    #[arg(long, default_value_t = 100)]
    users: u16,
    /// Seconds of a bad verdict after which replicas are planned elsewhere, in the demo.
    #[arg(long, default_value_t = 5)]
    evict_after: u32,
    /// Workloads of the member that is killed with thousands; 0 leaves that out.
    #[arg(long, default_value_t = 5000)]
    workloads: usize,
    /// How often that is measured.
    #[arg(long, default_value_t = 10)]
    workload_runs: usize,
    /// Leaves out what needs root and real clusters.
    #[arg(long)]
    no_clusters: bool,
}

/// One figure: its name, where it stands in a run's figures, its unit.
struct Figure {
    name: &'static str,
    of: fn(&Value, f64) -> Option<f64>,
}

fn at(run: &Value, pointer: &str) -> Option<f64> {
    run.pointer(pointer)?.as_f64()
}

/// Milliseconds from one moment to another.
fn between(run: &Value, from: &str, to: &str) -> Option<f64> {
    Some((at(run, to)? - at(run, from)?) * 1000.0)
}

const FIGURES: [Figure; 8] = [
    Figure { name: "killed to verdict, ms", of: |run, _| Some(at(run, "/kill/verdict_s")? * 1000.0) },
    Figure {
        name: "verdict to changed DNS answer, ms",
        of: |run, _| between(run, "/kill/verdict_s", "/kill/dns_s").map(|ms| ms.max(0.0)),
    },
    Figure {
        name: "killed to the users' last failure, ms",
        of: |run, _| Some(at(run, "/kill/users_s")? * 1000.0),
    },
    Figure {
        name: "verdict and evictAfter to manifests in the other cluster, ms",
        of: |run, evict_after| {
            Some(between(run, "/kill/verdict_s", "/kill/applied_s")? - evict_after * 1000.0)
        },
    },
    Figure {
        name: "manifests to ready replicas, ms",
        of: |run, _| between(run, "/kill/applied_s", "/kill/replicas_s"),
    },
    Figure { name: "drain: requests", of: |run, _| at(run, "/chapters/planned drain/requests") },
    Figure { name: "drain: failed requests", of: |run, _| at(run, "/chapters/planned drain/failures") },
    Figure { name: "drain to empty, ms", of: |run, _| Some(at(run, "/drain/replicas_s")? * 1000.0) },
];

/// Measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    cargo(&[
        "build",
        "--release",
        "-p",
        "fedctl",
        "-p",
        "member-agent",
        "-p",
        "dns-lb",
        "-p",
        "federation-tests",
        "--bins",
    ])?;
    let this = std::env::current_exe()?;
    let release =
        this.parent().and_then(Path::parent).context("xtask is in no target folder")?.join("release");
    let fedctl = release.join("fedctl");
    let folder = std::env::temp_dir().join(format!("bench-failover-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let told: Result<Vec<Value>> = (1..=options.runs)
        .map(|number| {
            eprintln!("run {number} of {}", options.runs);
            one(&fedctl, options, &folder.join(format!("{number}.json")))
        })
        .collect();
    std::fs::remove_dir_all(&folder)?;
    let told = told?;
    let mut line = tell(&told, f64::from(options.evict_after));
    let broken: Vec<String> = told.iter().zip(1..).filter_map(|(run, number)| broken(run, number)).collect();
    let runs = options.runs.to_string();
    if !options.no_clusters && options.runs > 0 {
        line.extend(further(&release, &["dataplane", &runs])?);
    }
    if options.workloads > 0 {
        let words = ["many", &options.workloads.to_string(), &options.workload_runs.to_string()];
        line.extend(further(&release, &words)?);
    }
    println!("{}", Value::Object(line));
    ensure!(
        broken.is_empty(),
        "the story did not hold in {} of {runs} runs: {}",
        broken.len(),
        broken.join("; ")
    );
    Ok(())
}

/// What did not hold in a run; the others' figures are told nevertheless.
fn broken(run: &Value, number: usize) -> Option<String> {
    let promises = run["broken"].as_array().filter(|promises| !promises.is_empty())?;
    let promises: Vec<&str> = promises.iter().filter_map(Value::as_str).collect();
    Some(format!("run {number}: {}", promises.join(", ")))
}

/// Runs `failover` with these words, shows its table, and gives its figures.
fn further(release: &Path, words: &[&str]) -> Result<Map<String, Value>> {
    let output = Command::new(release.join("failover")).args(words).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "failover {words:?}: {}\n{text}", output.status);
    let (table, line) = text.trim_end().rsplit_once('\n').context("it printed no table")?;
    println!("{table}");
    Ok(serde_json::from_str(line)?)
}

fn one(fedctl: &Path, options: &Options, figures: &PathBuf) -> Result<Value> {
    let status = Command::new(fedctl)
        .args(["demo", "--pause", "1500ms"])
        .args(["--users", &options.users.to_string(), "--evict-after", &options.evict_after.to_string()])
        .arg("--figures")
        .arg(figures)
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("{} cannot be run", fedctl.display()))?;
    let text = std::fs::read_to_string(figures).context("the demo wrote no figures")?;
    let run: Value = serde_json::from_str(&text)?;
    ensure!(status.success() || broken(&run, 0).is_some(), "the demo failed: {status}");
    Ok(run)
}

fn tell(runs: &[Value], evict_after: f64) -> Map<String, Value> {
    let mut line = Map::new();
    let width = FIGURES.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
    println!("{:<width$}  {:>9}  {:>9}  {:>9}", "", "median", "least", "most");
    for figure in &FIGURES {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| (figure.of)(run, evict_after)).collect();
        values.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (values.first(), values.last()) else { continue };
        let median = values[values.len() / 2];
        println!("{:<width$}  {median:>9.0}  {least:>9.0}  {most:>9.0}", figure.name);
        line.insert(figure.name.into(), json!({"median": median, "most": most}));
    }
    line
}
