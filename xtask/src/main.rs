//! Developer commands: `cargo xtask <command>`.

mod cluster;
mod codegen;
mod vectors_planner;

use std::path::PathBuf;

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
    /// Real Kubernetes clusters by hand: `up [--control-plane] taiwan tokyo`, `down`, `status`, `cut`, `heal`, `kubeconfig`.
    Cluster(Words),
    /// Regenerates the data files of kube-schema: `openapi`, `protobuf`, `fixtures`.
    Codegen(Words),
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
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Cluster(Words { words }) => cluster::run(&words),
        Command::Codegen(Words { words }) => codegen::run(&words),
        Command::Vectors(Vectors::Planner { file }) => vectors_planner::run(&file),
    }
}
