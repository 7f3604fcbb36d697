//! The API server as a process of its own.

use clap::Parser;
use federation_apiserver::{Options, Service};
use federation_runtime::{
    endpoints::{Health, Metrics},
    logging::Format,
    process,
};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The federation's API server.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Log format: text or json.
    #[arg(long, default_value = "text")]
    log_format: Format,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    process::run(arguments.log_format, |shutdown| async move {
        let service = Service::start(arguments.options, Health::new(), Metrics::new(), &shutdown).await?;
        service.run_announced(shutdown).await
    })
}
