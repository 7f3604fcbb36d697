//! Developer commands: `cargo xtask <command>`.

mod bench;
mod bench_api;
mod bench_api_bare;
mod bench_api_client;
mod bench_api_plain;
mod bench_api_servers;
mod bench_dns;
mod bench_dns_peers;
mod bench_failover;
mod cluster;
mod codegen;
mod compat;
mod fuzz;
mod python;
mod simulate;
mod test;
mod tidy;
mod vectors;
mod vectors_planner;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a benchmark.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Real Kubernetes clusters by hand: `up [--control-plane] taiwan tokyo`, `down`, `status`, `cut`, `heal`, `kubeconfig`.
    Cluster(Words),
    /// Runs the test suite of Python's kubernetes client against federation-apiserver.
    Clients,
    /// Regenerates the data files of kube-schema: `openapi`, `protobuf`, `fixtures`.
    Codegen(Words),
    /// Sends the same requests to a real kube-apiserver and to federation-apiserver, and lists the differences.
    Compat(compat::Options),
    /// Sends random input to everything that reads what others sent: `--seconds N`, `--only NAME`, `--seed N`.
    Fuzz(fuzz::Options),
    /// Simulates the whole federation with thousands of seeds: `--seeds N`, `--seed N`, `--mutations`.
    Simulate(Words),
    /// Runs everything that CI runs: format, lints, tidy, and all tests, including those on real clusters.
    Test(test::Options),
    /// Checks the rules of docs/ARCHITECTURE.md that neither the compiler nor clippy checks.
    Tidy,
    /// Checks a file of vectors: prints `N passed of M`, and fails unless all pass.
    #[command(subcommand)]
    Vectors(Vectors),
}

/// What the command reads by itself.
#[derive(clap::Args)]
struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

#[derive(Subcommand)]
enum Vectors {
    /// The replica planner.
    Planner {
        /// A file in the format of federation-core/testdata/planner.json.
        file: PathBuf,
    },
    /// Strategic merge patches.
    StrategicMerge {
        /// A file of vectors.
        file: PathBuf,
    },
    /// Server-side apply: merging and field ownership.
    StructuredMerge {
        /// A file of vectors.
        file: PathBuf,
    },
    /// Server-side apply: validation against the schema.
    StructuredValidate {
        /// A file of vectors.
        file: PathBuf,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Bench(what) => bench::run(&what)?,
        Command::Clients => python::run(&real_clusters::Kit::ensure()?)?,
        Command::Cluster(Words { words }) => cluster::run(&words)?,
        Command::Codegen(Words { words }) => codegen::run(&words)?,
        Command::Compat(options) => compat::run(&options)?,
        Command::Fuzz(options) => fuzz::run(&options)?,
        Command::Simulate(Words { words }) => return simulate::run(&words),
        Command::Test(options) => test::run(&options)?,
        Command::Tidy => tidy::run()?,
        Command::Vectors(Vectors::Planner { file }) => vectors_planner::run(&file)?,
        Command::Vectors(Vectors::StrategicMerge { file }) => return engine("strategic-merge", &file),
        Command::Vectors(Vectors::StructuredMerge { file }) => return engine("structured-merge", &file),
        Command::Vectors(Vectors::StructuredValidate { file }) => {
            return engine("structured-validate", &file);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn engine(which: &str, file: &Path) -> anyhow::Result<ExitCode> {
    vectors::run(&[which.to_owned(), file.display().to_string()])
}
