//! `fedctl drill run|list|stop|report`: a cluster's loss, rehearsed and measured.

mod list;
mod report;
mod run;

use anyhow::Result;
use federation_runtime::shutdown::Shutdown;

/// Commands on drills.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Simulates the loss of clusters, shows the effects, and restores: when the time is up, when the hypothesis breaks, on Ctrl-C, and when this
    /// command or the hub dies. The exit status tells whether the hypothesis held.
    Run(run::Options),
    /// Lists drills and schedules.
    List(list::List),
    /// Prints the report of a drill, or verifies a report file.
    Report(report::Options),
    /// Ends a drill, and waits until everything is restored.
    Stop(list::Stop),
}

pub(crate) async fn command(command: Command, shutdown: Shutdown) -> Result<()> {
    match command {
        Command::Run(options) => run::run(options, shutdown).await,
        Command::List(options) => list::list(options).await,
        Command::Report(options) => report::report(options).await,
        Command::Stop(options) => list::stop(options, shutdown).await,
    }
}
