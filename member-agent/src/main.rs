//! The member agent as a process.

use std::process::ExitCode;

use clap::Parser as _;
use federation_runtime::{logging::Format, process};
use member_agent::{Options, Service};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs beside a member cluster: applies what the federation wants here, corrects drift, and reports.
#[derive(clap::Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Log format: text or json.
    #[arg(long, default_value = "text", env = "FEDERATION_LOG_FORMAT")]
    log_format: Format,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    process::run(cli.log_format, async move |shutdown| Ok(Service::new(cli.options).run(shutdown).await?))
}
