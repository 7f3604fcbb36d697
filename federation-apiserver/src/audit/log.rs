//! The audit log: lines wait in a bounded buffer for a thread that writes them.

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

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::rotate::{RotatingFile, Rotation};

/// Lines that wait for the disk: kube-apiserver's `--audit-log-batch-buffer-size`. At some 1 KiB for a line this is 10 MiB.
const QUEUE_MAX: usize = 10_000;
/// How long the thread lets lines come before it looks: to wake it for each would cost more than the line itself.
const GATHERING: Duration = Duration::from_millis(2);
/// After so many looks in vain, a tenth of a second, the thread sleeps until a line comes. Until then no request has to wake it.
const LOOKS: u32 = 50;

/// Bytes of the room for lines that are kept for the next ones.
const KEPT_BYTES: usize = 1 << 20;

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
    shared: Arc<Shared>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    mode: Mode,
}

/// What requests and the thread share.
struct Shared {
    waiting: Mutex<Waiting>,
    /// A line came while the thread was asleep, or the log is closed.
    news: Condvar,
    /// The thread took what waited.
    room: Notify,
    lost: AtomicU64,
}

/// Lines that nobody has written yet, one behind the other: to hand each over as an allocation of its own would have one thread make it and
/// another give it back.
#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    lines: usize,
    /// The thread waits to be woken.
    asleep: bool,
    closed: bool,
    /// The thread ended, and nobody had told it to.
    ended: bool,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    Yes,
    Full,
    Closed,
    Ended,
}

impl Shared {
    fn queue(&self, line: &[u8]) -> Queued {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Queued::Closed;
        }
        if waiting.ended {
            return Queued::Ended;
        }
        if waiting.lines >= QUEUE_MAX {
            return Queued::Full;
        }
        waiting.text.extend_from_slice(line);
        waiting.lines += 1;
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.news.notify_one();
        }
        Queued::Yes
    }

    /// Waits for lines, and takes all that have come. False once the log is closed and nothing is left.
    fn take(&self, text: &mut Vec<u8>) -> bool {
        let mut waiting = self.waiting.lock();
        let mut looks = 0;
        loop {
            if !waiting.closed {
                self.news.wait_for(&mut waiting, GATHERING);
            }
            if waiting.lines > 0 {
                break;
            }
            if waiting.closed {
                return false;
            }
            looks += 1;
            if looks == LOOKS {
                waiting.asleep = true;
                self.news.wait(&mut waiting);
                (waiting.asleep, looks) = (false, 0);
            }
        }
        std::mem::swap(&mut waiting.text, text);
        waiting.lines = 0;
        drop(waiting);
        self.room.notify_waiters();
        true
    }

    /// Takes no more lines.
    fn close(&self) {
        self.waiting.lock().closed = true;
        self.news.notify_one();
        self.room.notify_waiters();
    }

    fn lose(&self, why: &str) {
        // Told once in a thousand: the log of the server must not become the next victim.
        let before = self.lost.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(1000) {
            tracing::error!(why, lost = before + 1, "audit events are being lost");
        }
    }
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
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            news: Condvar::new(),
            room: Notify::new(),
            lost: AtomicU64::new(0),
        });
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write(&own, out))
            .map_err(LogError::Thread)?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), mode })
    }

    /// Hands a line over. In blocking mode this waits for room.
    pub async fn send(&self, line: Vec<u8>) {
        loop {
            // Made before the look, so that it hears of room that comes after it.
            let room = self.shared.room.notified();
            match self.shared.queue(&line) {
                Queued::Yes | Queued::Closed => return,
                Queued::Ended => return self.shared.lose("the writer has ended"),
                Queued::Full if self.mode == Mode::Batch => return self.shared.lose("the queue is full"),
                Queued::Full => room.await,
            }
        }
    }

    /// Hands a line over from where nothing can wait: a task waits instead.
    pub fn send_detached(self: &Arc<Self>, line: Vec<u8>) {
        match (self.shared.queue(&line), self.mode) {
            (Queued::Yes | Queued::Closed, _) => {}
            (Queued::Full, Mode::Blocking) => {
                let log = Arc::clone(self);
                tokio::spawn(async move { log.send(line).await });
            }
            (Queued::Ended, _) => self.shared.lose("the writer has ended"),
            (Queued::Full, Mode::Batch) => self.shared.lose("the queue is full"),
        }
    }

    /// Lines that were not written.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes what waits, and ends the thread.
    pub async fn close(&self) {
        self.shared.close();
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

impl Drop for Log {
    /// A log that nobody closed writes what waits, and ends its thread.
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn write(shared: &Shared, mut out: Sink) {
    // However it ends, nobody may wait for it.
    let _ended = Ended(shared);
    let (mut failing, mut text) = (false, Vec::new());
    while shared.take(&mut text) {
        // An event is written without line breaks in it.
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let mut result = out.write_line(line);
            // Whoever follows the file sees a line as soon as no other is at hand.
            if result.is_ok() && lines.peek().is_none() {
                result = out.flush();
            }
            match result {
                Ok(()) => failing = false,
                Err(error) => {
                    shared.lost.fetch_add(1, Ordering::Relaxed);
                    if !failing {
                        tracing::error!(%error, "cannot write the audit log; free disk space or fix the path");
                    }
                    failing = true;
                }
            }
        }
        text.clear();
        // After a burst, or a large object, its room is given back.
        text.shrink_to(KEPT_BYTES);
    }
    if let Err(error) = out.flush() {
        tracing::error!(%error, "cannot write the end of the audit log");
    }
}

/// Takes no more lines when the thread ends.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().ended = true;
        self.0.room.notify_waiters();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt as _;

    use super::*;

    /// Shows what is written, once it may be.
    struct Gate {
        open: mpsc::Receiver<()>,
        seen: mpsc::Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _closed = self.open.recv();
            let _gone = self.seen.send(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn mk_log(mode: Mode) -> (Log, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let ((gate, open), (seen, written)) = (mpsc::channel(), mpsc::channel());
        (Log::over(Box::new(Gate { open, seen }), mode).unwrap(), gate, written)
    }

    /// Fills the queue while the thread is kept at its first line.
    async fn fill(log: &Log) {
        log.send(b"first\n".to_vec()).await;
        while log.shared.waiting.lock().lines > 0 {
            tokio::task::yield_now().await;
        }
        for number in 0..QUEUE_MAX {
            log.send(format!("{number}\n").into_bytes()).await;
        }
    }

    #[tokio::test]
    async fn lines_are_written_in_order_and_none_is_lost() {
        let (log, gate, written) = mk_log(Mode::Blocking);
        fill(&log).await;
        let last = log.send(b"last\n".to_vec());
        tokio::pin!(last);
        assert!((&mut last).now_or_never().is_none(), "there is no room");
        drop(gate);
        last.await;
        log.close().await;
        log.send(b"late\n".to_vec()).await;
        let all: String = written.iter().collect();
        let numbers = (0..QUEUE_MAX).map(|number| number.to_string());
        let wanted: Vec<String> =
            [String::from("first")].into_iter().chain(numbers).chain(["last".into()]).collect();
        assert_eq!(all.lines().collect::<Vec<_>>(), wanted);
        assert_eq!(log.lost(), 0);
    }

    #[tokio::test]
    async fn a_line_wakes_the_thread_that_sleeps() {
        let (log, gate, written) = mk_log(Mode::Blocking);
        drop(gate);
        for number in 0..2 {
            while !log.shared.waiting.lock().asleep {
                tokio::task::yield_now().await;
            }
            let line = format!("{number}\n");
            log.send(line.clone().into_bytes()).await;
            assert_eq!(written.recv().unwrap(), line);
        }
        log.close().await;
    }

    #[tokio::test]
    async fn in_batch_mode_nobody_waits_and_what_is_lost_is_counted() {
        let (log, gate, written) = mk_log(Mode::Batch);
        fill(&log).await;
        log.send(b"too much\n".to_vec()).await;
        drop(gate);
        log.close().await;
        assert_eq!(log.lost(), 1);
        drop(log);
        let all: String = written.iter().collect();
        assert_eq!(all.lines().count(), QUEUE_MAX + 1);
    }
}
