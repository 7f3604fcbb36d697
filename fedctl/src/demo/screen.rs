//! Live progress: one line that is rewritten on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::users::Log;

/// The demo's voice, on standard error.
#[derive(Clone)]
pub(crate) struct Screen {
    begun: Instant,
    terminal: bool,
    // Whether the last thing written was the live line.
    live: Arc<Mutex<bool>>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), terminal: std::io::stderr().is_terminal(), live: Arc::default() }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        let mut live = self.live.lock();
        let clear = if *live { "\r\x1b[2K" } else { "" };
        *live = false;
        eprintln!("{clear}{:6.2}s  {text}", self.begun.elapsed().as_secs_f64());
    }

    /// A heading.
    pub(crate) fn chapter(&self, text: &str) {
        self.say(&if self.terminal { format!("\x1b[1m{text}\x1b[0m") } else { format!("== {text}") });
    }

    /// Shows how the users fare until `stop`: four times a second on a terminal, every two seconds elsewhere.
    pub(crate) fn follow(&self, log: Log, stop: CancellationToken) {
        let screen = self.clone();
        tokio::spawn(async move {
            let period = if screen.terminal { Duration::from_millis(250) } else { Duration::from_secs(2) };
            let mut last = Instant::now();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(period) => {}
                }
                let fetches = log.since(last);
                last = Instant::now();
                let count = |cluster: &str| {
                    fetches.iter().filter(|fetch| fetch.outcome.as_deref() == Ok(cluster)).count()
                };
                let failed = fetches.iter().filter(|fetch| fetch.outcome.is_err()).count();
                let text = format!(
                    "users: {:3} from taiwan, {:3} from tokyo, {failed:3} failed",
                    count("taiwan"),
                    count("tokyo")
                );
                if screen.terminal {
                    *screen.live.lock() = true;
                    eprint!("\r\x1b[2K{:6.2}s  {text}", screen.begun.elapsed().as_secs_f64());
                    // Standard error is not buffered; a failure to write shows nothing and harms nothing.
                    let _ = std::io::stderr().flush();
                } else {
                    screen.say(&text);
                }
            }
        });
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}
