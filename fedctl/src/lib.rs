//! The federation's command line.
//!
//! - `init`, `up`: create a federation; run all its parts in one process.
//! - `token`, `join`, `clusters`, `cordon`, `uncordon`, `drain`, `failback`, `unjoin`: members.
//! - `health`, `unfreeze`: verdicts, and the votes behind them.
//! - `plans`: what surviving clusters take over at each loss while the hub is away, and what they did.
//! - `traffic`, `dns`: manual overrides of DNS answers, and explanations of them.
//! - `gate`, `confirm`, `trash`, `undo`: removals that wait for a decision, and deleted objects.
//! - `drill`: rehearsals of a cluster's loss.
//! - `demo`: a federation with two sandbox members on this machine, without Kubernetes.
//!
//! Data goes to standard output, messages to standard error. [`parts`] assembles the parts, [`connect`] finds the federation's API, and
//! each noun has a module under `commands`.

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
    /// Log format: text or json.
    #[arg(long, global = true, default_value = "text", env = "FEDERATION_LOG_FORMAT")]
    log_format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Creates the certificate authority and the administrator's kubeconfig of a new federation.
    Init(commands::init::Options),
    /// Runs every part in one process: API server, controller with its hub, DNS server.
    Up(Box<parts::UpOptions>),
    /// Manages the one-time tokens with which clusters join.
    #[command(subcommand)]
    Token(commands::token::Command),
    /// Joins a cluster and runs its agent. Run it where the member's API server can be reached.
    Join(commands::join::Options),
    /// Lists the member clusters.
    Clusters(commands::clusters::Options),
    /// Stops new placements on a cluster; what is there stays.
    Cordon(commands::cordon::Options),
    /// Gives a recovered cluster its shares back, where policies wait for an operator (failback mode Manual).
    Failback(commands::failback::Options),
    /// Reverts cordon and drain.
    Uncordon(commands::cordon::Options),
    /// Moves users, then replicas, away from a cluster without losing a request.
    Drain(commands::drain::Options),
    /// Explains DNS answers, signs zones, and imports zone files.
    #[command(subcommand)]
    Dns(commands::dns::Command),
    /// Removes a cluster from the federation.
    Unjoin(commands::unjoin::Options),
    /// Lists removals that wait for a decision, and those that were refused.
    #[command(subcommand)]
    Gate(commands::gate::Command),
    /// Decides about removals that are held.
    Confirm(commands::gate::Confirm),
    /// Lists deleted objects that can be restored.
    Trash(commands::undo::List),
    /// Restores deleted objects.
    Undo(commands::undo::Options),
    /// Overrides by hand which clusters DNS answers with, and shows why each is answered or not.
    #[command(subcommand)]
    Traffic(commands::traffic::Command),
    /// Rehearses the loss of a cluster and measures what users notice.
    #[command(subcommand)]
    Drill(commands::drill::Command),
    /// Shows each cluster's verdict, the rule that decided, and every vote.
    Health(commands::health::Options),
    /// Ends a freeze: confirms that the clusters are really down, so that users and replicas may move. Also confirms a restored store.
    Unfreeze(commands::health::Unfreeze),
    /// Shows what surviving clusters take over at each loss, and what they did while the hub was away.
    Plans(commands::plans::Options),
    /// Runs the demo on this machine: Taiwan alone, Taiwan and Tokyo, Tokyo alone; by a drain, then by a kill.
    Demo(demo::Options),
    /// A sandbox member with its agent, for the demo and for tests.
    #[command(hide = true)]
    SandboxMember(sandbox_member::Options),
}

/// What is logged by commands that end by themselves: a request that fails is in their error.
const TALK: &str = "warn,kube_client=off";

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
            logging::init(format, TALK);
            process::run(format, async |shutdown| commands::drill::command(command, shutdown).await)
        }
        command => {
            logging::init(format, TALK);
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
