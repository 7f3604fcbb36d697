//! Logs, by `tracing`, on standard error: standard output belongs to data.

use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;

/// How often it is tried whether log lines go out, and after what time without one that did they are stuck: kube-apiserver's times.
const TRIED: Duration = Duration::from_secs(60);
const STUCK: Duration = Duration::from_secs(120);

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is not a log format: use text or json")),
        }
    }
}

/// Starts logging. The filter is `RUST_LOG`'s, else `default_filter`, in `tracing_subscriber`'s syntax. A second call in one
/// process changes nothing.
pub fn init(format: Format, default_filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that a subscriber is set already, which is what was asked for.
    let _ = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
}

/// When a line is known to have gone out last; nothing is known before somebody asks.
static LAST: Mutex<Option<Instant>> = Mutex::new(None);

/// Whether log lines go out. From the first question on a thread tries it each minute, since a line to somebody who does not read holds up
/// whoever writes it for as long.
pub fn flows() -> bool {
    let mut last = LAST.lock();
    let known = match *last {
        Some(known) => known,
        None => {
            let now = Instant::now();
            if std::thread::Builder::new().name("log-check".into()).spawn(try_for_ever).is_ok() {
                *last = Some(now);
            }
            now
        }
    };
    known.elapsed() < STUCK
}

fn try_for_ever() {
    loop {
        std::thread::sleep(TRIED);
        // Whoever is stuck within a line holds the lock.
        let _ = std::io::stderr().lock().flush();
        *LAST.lock() = Some(Instant::now());
    }
}
