//! dns-lb as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use dns_lb::Options;
use federation_runtime::{logging::Format, process};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The authoritative DNS server of the federation.
#[derive(Parser)]
#[command(name = "dns-lb", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Log format: text or json.
    #[arg(long, default_value = "text")]
    log_format: Format,
}

fn main() -> ExitCode {
    let Arguments { options, log_format } = Arguments::parse();
    process::run(log_format, |shutdown| async { Ok(dns_lb::run(options, shutdown).await?) })
}
