//! `cargo xtask compat`: the same requests to a real kube-apiserver and to federation-apiserver, and what differs in the answers.
//!
//! The cases are data: `xtask/compat/*.yaml`. Answers are freed of what no two servers share (uids, times, resource versions, generated
//! names) and compared: status code, headers that matter, bodies, watch streams. What may differ stands in
//! `xtask/compat/differences.yaml`, each rule with its reason; any other difference, and any rule that nothing needs, fails the command.
//!
//! Both servers answer in part from caches that follow the store, and controllers write beside the requests. Cases wait for what they can
//! see of it, but what they cannot see may still come in another order on a busy machine: a case that differs is run once more, on servers
//! that were started anew, and what differs then counts. What does not come again is told, and passes.

mod cases;
mod compare;
mod document;
mod normal;
mod rules;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use real_clusters::{Cluster, Kit, Mode};

use crate::bench_api_servers::{Own, administrator};
use cases::Case;
use compare::Difference;
use rules::Rules;

/// Ports of the real cluster; the federation's API server takes the one after its five.
const PORT: u16 = 17_460;
const OWN_PORT: u16 = PORT + 5;
/// Cases at a time: most of each is waiting.
const CONCURRENT: usize = 6;

/// What is compared, and what is made of it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Cases whose name contains this.
    #[arg(default_value = "")]
    filter: String,
    /// Writes docs/COMPATIBILITY.md.
    #[arg(long)]
    write: bool,
    /// Prints the differences that a rule is needed for; `*` for anything.
    #[arg(long, value_name = "RULE")]
    show: Option<String>,
    /// Another kube-apiserver than the one of the kit.
    #[arg(long, value_name = "PROGRAM")]
    kube_apiserver: Option<PathBuf>,
    /// Another federation-apiserver than the one that was built with this command.
    #[arg(long, value_name = "PROGRAM")]
    federation_apiserver: Option<PathBuf>,
}

/// Compares with the kit's server and what is built.
pub(crate) fn check() -> Result<()> {
    run(&Options {
        filter: String::new(),
        write: false,
        show: None,
        kube_apiserver: None,
        federation_apiserver: None,
    })
}

/// Compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = cases::load(&root.join("compat"))?;
    let rules = Rules::load(&root.join("compat/differences.yaml"))?;
    let chosen: Vec<Case> = all.into_iter().filter(|case| case.name.contains(&options.filter)).collect();
    ensure!(!chosen.is_empty(), "no case has {:?} in its name", options.filter);
    let own = match &options.federation_apiserver {
        Some(program) => program.clone(),
        None => {
            let this = std::env::current_exe()?;
            this.parent().context("xtask is in no folder")?.join("federation-apiserver")
        }
    };
    ensure!(own.exists(), "{} is not built: cargo build -p federation-apiserver", own.display());
    let kit = Kit::ensure()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let cases: Vec<&Case> = chosen.iter().collect();
    let found = runtime.block_on(compare(&kit, &own, options.kube_apiserver.as_deref(), &cases))?;
    let mut judged = rules.judge(&found, options.show.as_deref());
    let again;
    if !judged.unlisted.is_empty() {
        let doubtful: BTreeSet<&str> =
            judged.unlisted.iter().map(|difference| difference.case.as_str()).collect();
        let cases: Vec<&Case> = chosen.iter().filter(|case| doubtful.contains(case.name.as_str())).collect();
        again = runtime.block_on(compare(&kit, &own, options.kube_apiserver.as_deref(), &cases))?;
        let lasting = rules.judge(&again, None).unlisted;
        for difference in &judged.unlisted {
            if lasting.iter().all(|other| other.case != difference.case) {
                println!("not again: {difference}");
            }
        }
        judged.unlisted = lasting;
    }
    for difference in judged.shown.iter().chain(&judged.unlisted) {
        println!("{difference}");
    }
    let requests: usize = chosen.iter().map(|case| case.steps.len()).sum();
    println!(
        "{} cases, {requests} requests: {} differences by {} rules, {} unlisted",
        chosen.len(),
        judged.used.iter().sum::<usize>(),
        judged.used.iter().filter(|count| **count > 0).count(),
        judged.unlisted.len()
    );
    if !judged.unlisted.is_empty() {
        bail!("mend them, or list them with their reason in xtask/compat/differences.yaml");
    }
    if options.filter.is_empty() {
        let idle = rules.idle(&judged.used);
        ensure!(idle.is_empty(), "rules that nothing needs any more: {}", idle.join(", "));
        let text = document::text(&chosen, &rules, &judged.used);
        let path = root.join("../docs/COMPATIBILITY.md");
        if options.write {
            std::fs::write(&path, text)?;
        } else {
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            ensure!(kept == text, "docs/COMPATIBILITY.md is not up to date: cargo xtask compat --write");
        }
    }
    Ok(())
}

/// Runs the cases on both servers.
async fn compare(kit: &Kit, own: &Path, program: Option<&Path>, cases: &[&Case]) -> Result<Vec<Difference>> {
    let directory = tempfile::Builder::new().prefix("compat-").tempdir()?;
    let mut cluster = Cluster::on_loopback(kit, "compat", PORT);
    if let Some(program) = program {
        cluster = cluster.with_apiserver(program);
    }
    let real = Up::start(cluster)?;
    let flags = ["--authorization-mode", "RBAC"].map(str::to_owned);
    let own = Own::launch(own, OWN_PORT, &flags, directory.path()).await?;
    let targets = [administrator(&real.0.state().join("pki"), PORT)?, administrator(&own.pki(), OWN_PORT)?];
    let targets = &targets;
    let found: Vec<Vec<Difference>> = stream::iter(cases)
        .map(|&case| async move {
            let [real, own] = targets;
            let same = BTreeMap::new();
            let both = tokio::try_join!(run::run(case, real, &case.kube), run::run(case, own, &same));
            anyhow::Ok(match both {
                Ok((real, own)) => compare::compare(case, &real, &own),
                Err(error) => vec![Difference::stuck(case, &error)],
            })
        })
        .buffered(CONCURRENT)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// A cluster that goes down with this.
struct Up(Cluster);

impl Up {
    fn start(cluster: Cluster) -> Result<Self> {
        cluster.down()?;
        cluster.up(Mode::Api)?;
        Ok(Self(cluster))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.down();
    }
}
