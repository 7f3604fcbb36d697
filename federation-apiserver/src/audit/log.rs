//! The audit log: lines go through a bounded queue to a thread that writes them.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::rotate::{RotatingFile, Rotation};

/// Lines that wait for the disk: kube-apiserver's `--audit-log-batch-buffer-size`. At some 1 KiB for a line this is 10 MiB.
const QUEUE_MAX: usize = 10_000;
/// After a line, the thread lets others come for so long before it looks again: to wake it for each would cost more than the line itself.
const GATHERING: Duration = Duration::from_millis(2);

/// What happens when lines come faster than they can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Requests wait until there is room in the queue: no line is lost.
    #[default]
    Blocking,
    /// Lines that find the queue full are counted and dropped: no request waits.
    Batch,
}

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened for appending.
    #[error("cannot open the audit log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The writer's thread did not start.
    #[error("cannot start the audit log's writer thread")]
    Thread(#[source] io::Error),
}

/// The log. Ends with [`close`](Self::close).
pub struct Log {
    queue: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    mode: Mode,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Appends to a file, made if absent; `-` is standard output, which is never set aside.
    pub fn open(path: &Path, rotation: Rotation, mode: Mode) -> Result<Self, LogError> {
        if path == Path::new("-") {
            return Self::over(Box::new(io::stdout()), mode);
        }
        let file = RotatingFile::open(path, rotation);
        let file = file.map_err(|source| LogError::Open { path: path.to_owned(), source })?;
        Self::start(Sink::File(file), mode)
    }

    /// Writes to anything.
    pub fn over(out: Box<dyn Write + Send>, mode: Mode) -> Result<Self, LogError> {
        Self::start(Sink::Other(BufWriter::with_capacity(64 << 10, out)), mode)
    }

    fn start(out: Sink, mode: Mode) -> Result<Self, LogError> {
        let (queue, lines) = mpsc::channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let thread = thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write(lines, out, &counter))
            .map_err(LogError::Thread)?;
        Ok(Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), mode, lost })
    }

    /// Hands a line over. In blocking mode this waits for room.
    pub async fn send(&self, line: Vec<u8>) {
        // Most often there is room, and nothing to wait for.
        let (queue, line) = match &*self.queue.lock() {
            None => return,
            Some(queue) => match (queue.try_send(line), self.mode) {
                (Ok(()), _) => return,
                (Err(mpsc::error::TrySendError::Full(line)), Mode::Blocking) => (queue.clone(), line),
                (Err(mpsc::error::TrySendError::Full(_)), Mode::Batch) => {
                    return self.lose("the queue is full");
                }
                (Err(mpsc::error::TrySendError::Closed(_)), _) => return self.lose("the writer has ended"),
            },
        };
        if queue.send(line).await.is_err() {
            self.lose("the writer has ended");
        }
    }

    /// Hands a line over from where nothing can wait: a task waits instead.
    pub fn send_detached(self: &Arc<Self>, line: Vec<u8>) {
        let Some(queue) = self.queue.lock().clone() else { return };
        match queue.try_send(line) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(line)) if self.mode == Mode::Blocking => {
                let log = Arc::clone(self);
                tokio::spawn(async move { log.send(line).await });
            }
            Err(_) => self.lose("the queue is full"),
        }
    }

    fn lose(&self, why: &str) {
        // Told once in a thousand: the log of the server must not become the next victim.
        if self.lost.fetch_add(1, Ordering::Relaxed).is_multiple_of(1000) {
            tracing::error!(why, lost = self.lost(), "audit events are being lost");
        }
    }

    /// Lines that were not written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes what waits, and ends the thread.
    pub async fn close(&self) {
        drop(self.queue.lock().take());
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ended = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

enum Sink {
    File(RotatingFile),
    Other(BufWriter<Box<dyn Write + Send>>),
}

impl Sink {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_line(line),
            Self::Other(out) => out.write_all(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Other(out) => out.flush(),
        }
    }
}

fn write(mut lines: mpsc::Receiver<Vec<u8>>, mut out: Sink, lost: &AtomicU64) {
    let mut failing = false;
    while let Some(first) = lines.blocking_recv() {
        thread::sleep(GATHERING);
        let mut next = Some(first);
        while let Some(line) = next.take() {
            let mut result = out.write_line(&line);
            next = lines.try_recv().ok();
            // Whoever follows the file sees a line as soon as no other is at hand.
            if result.is_ok() && next.is_none() {
                result = out.flush();
            }
            match result {
                Ok(()) => failing = false,
                Err(error) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                    if !failing {
                        tracing::error!(%error, "cannot write the audit log; free disk space or fix the path");
                    }
                    failing = true;
                }
            }
        }
    }
    if let Err(error) = out.flush() {
        tracing::error!(%error, "cannot write the end of the audit log");
    }
}
