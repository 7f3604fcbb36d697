//! `cargo xtask bench WHAT`: builds in release, and measures.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::test::{cargo, command};
use crate::{bench_api, bench_dns, bench_failover};

/// What can be measured.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// The API server beside a real kube-apiserver with etcd: writes, reads, watches, memory, start. Needs root.
    Api(bench_api::Options),
    /// From the federation's API into two real kube-apiservers, and back. Needs root and a quiet machine.
    Propagate,
    /// The demo's failovers, ten times: from the failure to the verdict, to DNS, to users, to replicas; failed requests of drains. Then pods
    /// out of reach in a real cluster (needs root), and a member with thousands of workloads.
    Failover(bench_failover::Options),
    /// dns-lb beside an echo server and other DNS servers from Debian: answers per second, CPU time per answer, latencies, memory.
    Dns(bench_dns::Options),
    /// dns-lb under several kinds of abuse: how legitimate clients are served meanwhile, and its memory.
    Abuse {
        /// Datagrams of each kind.
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
    },
}

/// Measures.
pub(crate) fn run(what: &Bench) -> Result<()> {
    match what {
        Bench::Api(options) => bench_api::run(options),
        Bench::Failover(options) => bench_failover::run(options),
        Bench::Dns(options) => bench_dns::run(options),
        Bench::Abuse { count } => {
            let qps = bench_dns::engine("abuse")?;
            command(Command::new(qps).args(["run", &count.to_string()]))
        }
        Bench::Propagate => {
            cargo(&[
                "build",
                "--release",
                "-p",
                "fedctl",
                "-p",
                "member-agent",
                "-p",
                "federation-tests",
                "--bins",
                "--features",
                "fedctl/jemalloc,member-agent/jemalloc",
            ])?;
            // Not `cargo run -p`: another choice of packages is another choice of features, and builds everything again.
            let this = std::env::current_exe()?;
            let target = this.parent().and_then(Path::parent).context("xtask is in no target folder")?;
            command(&mut Command::new(target.join("release/propagate")))
        }
    }
}
