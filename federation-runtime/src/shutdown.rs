//! Shutdown: one token that everything watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled once, when the process is asked to end. Cheap to clone; children end with their parent.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that only [`Shutdown::start`] starts.
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that SIGTERM or SIGINT starts. A second signal ends the process at once, with status 130.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let started = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("asked to end: draining");
            started.start();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(130);
        });
        Ok(shutdown)
    }

    /// Starts the shutdown.
    pub fn start(&self) {
        self.0.cancel();
    }

    /// Whether the shutdown has started.
    pub fn started(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the shutdown starts.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// A shutdown of its own that also starts with this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// The token itself, for libraries that take one.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }
}
