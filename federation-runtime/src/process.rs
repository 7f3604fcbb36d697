//! Running a part as a process.

use std::future::Future;
use std::process::ExitCode;

use crate::logging::{self, Format};
use crate::shutdown::Shutdown;

/// Runs one part as a process: logging, the TLS provider, a runtime, signals. An error is printed with its causes, and
/// the status is 1.
pub fn run<F, Fut>(format: Format, service: F) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    logging::init(format, "info");
    crate::tls::install_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        service(shutdown).await
    });
    // Blocking work that hangs must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
