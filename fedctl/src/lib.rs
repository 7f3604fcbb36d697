//! The federation's command line.
//!
//! - `init`, `up`: make a federation, run all its parts in one process.
//! - `token`, `join`, `clusters`, `cordon`, `uncordon`, `drain`, `failback`, `unjoin`: members.
//! - `health`, `unfreeze`: verdicts, and every vote that they follow from.
//! - `plans`: what survivors do at each loss while the hub is away, and what they did.
//! - `traffic`, `dns`: switches by hand, and why users get the answers that they get.
//! - `drill`: rehearsals of a cluster's loss.
//! - `demo`: the whole story on one machine, without Kubernetes.
//!
//! Data goes to standard output, talk to standard error. [`parts`] assembles the parts, [`connect`] finds the federation's API, and each
//! noun has a module under `commands`.

mod commands;
pub mod connect;
pub mod demo;
#[cfg(test)]
mod documented;
pub mod parts;
mod sandbox_member;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use federation_runtime::logging::{self, Format};
use federation_runtime::process;

#[derive(Parser)]
#[command(
    name = "fedctl",
    version,
    about = "Kubernetes clusters in several places behind one API and one name"
)]
struct Cli {
    /// How log lines look: text or json.
    #[arg(long, global = true, default_value = "text", env = "FEDERATION_LOG_FORMAT")]
    log_format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the certificate authority and the administrator's kubeconfig of a new federation.
    Init(commands::init::Options),
    /// Runs every part in one process: API server, controller with its hub, DNS server.
    Up(Box<parts::UpOptions>),
    /// One-time tokens with which clusters join.
    #[command(subcommand)]
    Token(commands::token::Command),
    /// Joins a cluster and runs its agent. Run it where the member's API server can be reached.
    Join(commands::join::Options),
    /// Lists the member clusters.
    Clusters(commands::clusters::Options),
    /// Lets nothing new be placed on a cluster; what is there stays.
    Cordon(commands::cordon::Options),
    /// Lets a cluster that was lost, and is well again, have its shares back where policies wait for that word.
    Failback(commands::failback::Options),
    /// Undoes cordon and drain.
    Uncordon(commands::cordon::Options),
    /// Moves users, then replicas, away from a cluster, losing no request.
    Drain(commands::drain::Options),
    /// Signed zones, and records from zone files.
    #[command(subcommand)]
    Dns(commands::dns::Command),
    /// Takes a cluster out of the federation.
    Unjoin(commands::unjoin::Options),
    /// Removals that wait for a person, and those that were refused.
    #[command(subcommand)]
    Gate(commands::gate::Command),
    /// Decides what becomes of removals that are held.
    Confirm(commands::gate::Confirm),
    /// Lists what was deleted and can be brought back.
    Trash(commands::undo::List),
    /// Brings back what was deleted.
    Undo(commands::undo::Options),
    /// Switches clusters in the answers by hand, and shows why they are in them or not.
    #[command(subcommand)]
    Traffic(commands::traffic::Command),
    /// Rehearses the loss of a cluster, and measures what users notice.
    #[command(subcommand)]
    Drill(commands::drill::Command),
    /// Shows what is said of each cluster's health, by whom, and the verdict that follows.
    Health(commands::health::Options),
    /// Ends a freeze: what is down is down, and may move.
    Unfreeze(commands::health::Unfreeze),
    /// What survivors take over at each loss, computed ahead, and what they did by it while the hub was away.
    Plans(commands::plans::Options),
    /// Tells the story on this machine: Taiwan alone, Taiwan and Tokyo, Tokyo alone; drained, then killed.
    Demo(demo::Options),
    /// A sandbox member with its agent, for the demo and for tests.
    #[command(hide = true)]
    SandboxMember(sandbox_member::Options),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.log_format;
    match cli.command {
        Command::Up(options) => process::run(format, async |shutdown| parts::up(*options, shutdown).await),
        Command::Join(options) => {
            process::run(format, async |shutdown| commands::join::run(options, shutdown).await)
        }
        Command::SandboxMember(options) => {
            process::run(format, async |shutdown| sandbox_member::run(options, shutdown).await)
        }
        Command::Demo(options) => {
            // The demo's own lines are what people look at.
            logging::init(format, "off");
            process::run(format, async |shutdown| demo::run(options, shutdown).await)
        }
        Command::Drill(command) => {
            logging::init(format, "warn");
            process::run(format, async |shutdown| commands::drill::command(command, shutdown).await)
        }
        command => {
            logging::init(format, "warn");
            process::run(format, async |_| simple(command).await)
        }
    }
}

async fn simple(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(options) => commands::init::run(&options),
        Command::Token(command) => commands::token::run(command).await,
        Command::Clusters(options) => commands::clusters::run(options).await,
        Command::Cordon(options) => commands::cordon::run(options, commands::cordon::Wanted::Cordoned).await,
        Command::Failback(options) => commands::failback::run(options).await,
        Command::Uncordon(options) => commands::cordon::run(options, commands::cordon::Wanted::Open).await,
        Command::Drain(options) => commands::drain::run(options).await,
        Command::Unjoin(options) => commands::unjoin::run(options).await,
        Command::Gate(command) => commands::gate::run(command).await,
        Command::Confirm(options) => commands::gate::confirm(options).await,
        Command::Trash(options) => commands::undo::list(options).await,
        Command::Undo(options) => commands::undo::run(options).await,
        Command::Traffic(command) => commands::traffic::run(command).await,
        Command::Dns(command) => commands::dns::run(command).await,
        Command::Health(options) => commands::health::run(options).await,
        Command::Plans(options) => commands::plans::run(options).await,
        Command::Unfreeze(options) => commands::health::unfreeze(options).await,
        Command::Drill(_)
        | Command::Up(_)
        | Command::Join(_)
        | Command::Demo(_)
        | Command::SandboxMember(_) => Ok(()),
    }
}
