//! The thread that writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::dnstap::Encoder;
use super::frames::Frames;
use super::json::Line;
use super::queue::{Counts, ENTRIES, Entry, OutputCounts, Queue, Taps};
use super::target::{Lines, TargetError};
use super::{Sampling, TapOptions};
use crate::metrics::ClusterSlots;

/// How long it sleeps at least, and at most, when there is nothing to write. An entry's way to the disk takes no longer.
const SLEEP_MIN: Duration = Duration::from_millis(1);
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// Entries of a queue that are written before it is the next one's turn: who is flooded does not keep others out.
const BATCH: usize = 64;

/// An output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Lines of JSON.
    Log,
    /// dnstap.
    Dnstap,
}

impl Output {
    /// Both outputs.
    pub const ALL: [Self; 2] = [Self::Log, Self::Dnstap];

    /// As metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Log => "query-log",
            Self::Dnstap => "dnstap",
        }
    }
}

/// The writer, running.
#[derive(Debug)]
pub struct Writer {
    taps: Arc<Taps>,
    ending: Arc<AtomicBool>,
    // None: it was waited for.
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Opens what `options` name, and starts. None: they name nothing.
    ///
    /// # Errors
    /// When a file cannot be opened, or the thread not be started. A socket that nobody listens at is no error.
    pub fn start(
        options: &TapOptions,
        identity: &str,
        clusters: Arc<ClusterSlots>,
    ) -> Result<Option<Self>, TargetError> {
        let Some(sampling) = options.sampling() else { return Ok(None) };
        let log = options.query_log.as_deref().map(Lines::open).transpose()?;
        let dnstap = match (&options.dnstap_file, &options.dnstap_socket) {
            (Some(path), _) => Some(Frames::file(path)?),
            (None, Some(path)) => Some(Frames::socket(path)),
            (None, None) => None,
        };
        let counts: Arc<OutputCounts> = Arc::default();
        let queues: Arc<Mutex<Vec<Queue>>> = Arc::default();
        let ending = Arc::new(AtomicBool::new(false));
        let mut work = WriterThread {
            queues: queues.clone(),
            counts: counts.clone(),
            ending: ending.clone(),
            clusters,
            encoder: Encoder::new(identity),
            line: Line::default(),
            log,
            dnstap,
        };
        let path = options.query_log.clone().or_else(|| options.dnstap_file.clone());
        let failed = |source| TargetError { path: path.unwrap_or_else(|| PathBuf::from("-")), source };
        let thread = std::thread::Builder::new().name("dns-tap".into()).spawn(move || work.run());
        let thread = thread.map_err(failed)?;
        let writer = thread.thread().clone();
        let taps = Arc::new(Taps { sampling, counts, queues, writer });
        Ok(Some(Self { taps, ending, thread: Some(thread) }))
    }

    /// What makes taps.
    pub fn taps(&self) -> &Arc<Taps> {
        &self.taps
    }

    /// Writes what waits, and ends. Blocks.
    pub fn end(mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did there would be nothing left to do.
            let _ = thread.join();
        }
    }

    fn stop(&self) {
        self.ending.store(true, Relaxed);
        self.taps.writer.unpark();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Taps {
    /// What became of what `output` wanted.
    pub fn counts(&self, output: Output) -> &Counts {
        match output {
            Output::Log => &self.counts.log,
            Output::Dnstap => &self.counts.dnstap,
        }
    }

    /// Whether `output` wants anything.
    pub fn wants(&self, output: Output) -> bool {
        let Sampling { log, dnstap } = self.sampling;
        match output {
            Output::Log => log > 0,
            Output::Dnstap => dnstap > 0,
        }
    }
}

struct WriterThread {
    queues: Arc<Mutex<Vec<Queue>>>,
    counts: Arc<OutputCounts>,
    ending: Arc<AtomicBool>,
    clusters: Arc<ClusterSlots>,
    encoder: Encoder,
    line: Line,
    log: Option<Lines>,
    dnstap: Option<Frames>,
}

impl WriterThread {
    fn run(&mut self) {
        let mut sleep = SLEEP_MIN;
        let mut flushed = Instant::now();
        // What was sent before it was set is found in the queues afterwards.
        while !self.ending.load(Relaxed) {
            let some = self.sweep();
            // With always something to write it is flushed too, so that what may be lost is known.
            if some && flushed.elapsed() < SLEEP_MAX {
                sleep = SLEEP_MIN;
                continue;
            }
            if let Some(log) = &mut self.log {
                lose(&self.counts.log, log.flush());
            }
            if let Some(dnstap) = &mut self.dnstap {
                lose(&self.counts.dnstap, dnstap.flush());
            }
            flushed = Instant::now();
            if !some {
                std::thread::park_timeout(sleep);
                sleep = (2 * sleep).min(SLEEP_MAX);
            }
        }
        // Whoever still answers does not keep it from ending.
        for _ in 0..=ENTRIES / BATCH {
            if !self.sweep() {
                break;
            }
        }
        if let Some(log) = &mut self.log {
            lose(&self.counts.log, log.flush());
        }
        if let Some(dnstap) = &mut self.dnstap {
            lose(&self.counts.dnstap, dnstap.end());
        }
    }

    /// Writes what there is, of each queue at most [`BATCH`]. Gives whether there was anything.
    fn sweep(&mut self) -> bool {
        let mut some = false;
        let queues = self.queues.clone();
        for queue in queues.lock().iter() {
            for _ in 0..BATCH {
                let Ok(mut entry) = queue.full.try_recv() else { break };
                some = true;
                self.write(&entry);
                entry.shrink();
                // There is room: it was here before. When nobody is there any more it is not needed.
                let _ = queue.free.try_send(entry);
            }
        }
        some
    }

    fn write(&mut self, entry: &Entry) {
        if entry.log
            && let Some(log) = &mut self.log
        {
            let cluster = entry.cluster.and_then(|slot| self.clusters.cluster(slot));
            log.line(self.line.of(entry, cluster.as_deref()));
            self.counts.log.written.fetch_add(1, Relaxed);
        }
        if entry.dnstap
            && let Some(dnstap) = &mut self.dnstap
        {
            for frame in self.encoder.frames(entry) {
                if dnstap.frame(&frame) {
                    self.counts.dnstap.written.fetch_add(1, Relaxed);
                } else {
                    self.counts.dnstap.dropped.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

/// What was counted as written was not.
fn lose(counts: &Counts, lost: u64) {
    if lost > 0 {
        counts.written.fetch_sub(lost, Relaxed);
        counts.dropped.fetch_add(lost, Relaxed);
    }
}

/// The file that a file is moved to.
pub(super) fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::Transport;
    use crate::tap::Outcome;
    use crate::udp::Rng;

    #[test]
    fn a_queue_that_is_flooded_leaves_the_others_their_turn() {
        let directory = tempfile::tempdir().unwrap();
        let (counts, queues): (Arc<OutputCounts>, Arc<Mutex<Vec<Queue>>>) = Default::default();
        let sampling = Sampling { log: 1, dnstap: 0 };
        let writer = std::thread::current();
        let taps = Taps { sampling, counts: counts.clone(), queues: queues.clone(), writer };
        let mut work = WriterThread {
            queues,
            counts: counts.clone(),
            ending: Arc::default(),
            clusters: Arc::default(),
            encoder: Encoder::new("test-1"),
            line: Line::default(),
            log: Some(Lines::open(&directory.path().join("log")).unwrap()),
            dnstap: None,
        };
        let tap = |transport| taps.tap(transport, None, Rng::new(1));
        let (mut flooded, mut other) = (tap(Transport::Tcp), tap(Transport::Udp));
        let client = ([192, 0, 2, 1], 53).into();
        let long = vec![0; 60_000];
        while let Some(entry) = flooded.query(&long, client) {
            flooded.answer(entry, &long, None, Outcome::Sent);
        }
        let entry = other.query(&[0; 12], client).unwrap();
        other.answer(entry, &[0; 12], None, Outcome::Sent);
        assert!(work.sweep());
        assert_eq!(counts.log.written.load(Relaxed), BATCH as u64 + 1);
        while work.sweep() {}
        assert_eq!(counts.log.written.load(Relaxed), ENTRIES as u64 + 1);
        // What the flood needed is let go.
        let entry = flooded.query(&[], client).unwrap();
        assert!(entry.query.capacity() + entry.answer.capacity() < 3000);
    }
}
