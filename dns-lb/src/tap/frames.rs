//! Frame Streams, as dnstap's readers take them: each frame has its length before it; a length of 0 announces a control frame.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::target::TargetError;
use super::writer::old;

/// What the frames are.
const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";
/// Octets of the longest control frame that there may be.
const CONTROL_MAX: u32 = 512;
/// How long the other side may take for a control frame, and for what is written to it.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How long after a failure the socket is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Octets that are written together.
const TOGETHER: usize = 64 * 1024;

const ACCEPT: u32 = 1;
const START: u32 = 2;
const STOP: u32 = 3;
const READY: u32 = 4;
const FINISH: u32 = 5;
/// The one field of control frames.
const CONTENT_TYPE: u32 = 1;

/// Where frames go.
pub(super) struct Frames {
    to: To,
    // Frames that were taken and not yet flushed: lost when the stream breaks.
    waiting: u64,
    lost: u64,
    failing: bool,
}

enum To {
    File(BufWriter<std::fs::File>),
    Socket { path: PathBuf, stream: Option<BufWriter<UnixStream>>, tried: Option<Instant> },
}

impl Frames {
    /// To the file `path`, begun anew.
    pub(super) fn file(path: &Path) -> Result<Self, TargetError> {
        let failed = |source| TargetError { path: path.into(), source };
        if path.exists() {
            std::fs::rename(path, old(path)).map_err(failed)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
        let mut file = BufWriter::with_capacity(TOGETHER, file);
        file.write_all(&control(START, true)).map_err(failed)?;
        Ok(Self { to: To::File(file), waiting: 0, lost: 0, failing: false })
    }

    /// To whoever listens at the socket `path`, whenever it does.
    pub(super) fn socket(path: &Path) -> Self {
        let to = To::Socket { path: path.into(), stream: None, tried: None };
        Self { to, waiting: 0, lost: 0, failing: false }
    }

    /// One more. False: nobody takes it.
    pub(super) fn frame(&mut self, frame: &[u8]) -> bool {
        let written = match self.out() {
            Some(out) => {
                out.write_all(&(frame.len() as u32).to_be_bytes()).and_then(|()| out.write_all(frame))
            }
            None => return false,
        };
        self.waiting += u64::from(written.is_ok());
        let taken = written.is_ok();
        self.ended(written);
        taken
    }

    /// Writes what waits. Gives how many frames were lost that were taken.
    pub(super) fn flush(&mut self) -> u64 {
        let flushed = self.open().map_or(Ok(()), Write::flush);
        let done = flushed.is_ok();
        self.ended(flushed);
        if done {
            self.waiting = 0;
        }
        std::mem::take(&mut self.lost)
    }

    /// Says that there will be no more, and waits for the other side to have taken everything.
    pub(super) fn end(&mut self) -> u64 {
        let ended = match self.open() {
            None => Ok(()),
            Some(out) => out.write_all(&control(STOP, false)).and_then(|()| out.flush()),
        };
        let ended = ended.and_then(|()| match &mut self.to {
            To::Socket { stream: Some(stream), .. } => expect(stream.get_mut(), FINISH),
            _ => Ok(()),
        });
        self.ended(ended);
        std::mem::take(&mut self.lost)
    }

    fn open(&mut self) -> Option<&mut dyn Write> {
        match &mut self.to {
            To::File(file) => Some(file),
            To::Socket { stream, .. } => stream.as_mut().map(|stream| -> &mut dyn Write { stream }),
        }
    }

    /// The same, connected if that may be.
    fn out(&mut self) -> Option<&mut dyn Write> {
        if let To::Socket { path, stream: stream @ None, tried } = &mut self.to
            && tried.is_none_or(|tried| tried.elapsed() >= RETRY)
        {
            *tried = Some(Instant::now());
            match connect(path) {
                Ok(connected) => {
                    *stream = Some(BufWriter::with_capacity(TOGETHER, connected));
                    self.failing = false;
                    tracing::info!(path = %path.display(), "dnstap is connected");
                }
                Err(error) if !self.failing => {
                    self.failing = true;
                    tracing::warn!(%error, path = %path.display(), "nobody takes dnstap's messages");
                }
                Err(_) => {}
            }
        }
        self.open()
    }

    fn ended(&mut self, outcome: io::Result<()>) {
        let Err(error) = outcome else { return };
        self.lost += std::mem::take(&mut self.waiting);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "dnstap's messages cannot be written");
        }
        if let To::Socket { stream, tried, .. } = &mut self.to {
            *tried = Some(Instant::now());
            if let Some(broken) = stream.take() {
                // Not flushed once more when it is dropped.
                drop(broken.into_parts());
            }
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(&control(READY, true))?;
    expect(&mut stream, ACCEPT)?;
    stream.write_all(&control(START, true))?;
    Ok(stream)
}

fn control(kind: u32, content: bool) -> Vec<u8> {
    let mut frame = kind.to_be_bytes().to_vec();
    if content {
        frame.extend_from_slice(&CONTENT_TYPE.to_be_bytes());
        frame.extend_from_slice(&(CONTENT.len() as u32).to_be_bytes());
        frame.extend_from_slice(CONTENT);
    }
    let mut octets = vec![0; 4];
    octets.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    octets.extend_from_slice(&frame);
    octets
}

/// Reads a control frame of this kind; one that names contents must name ours.
fn expect(stream: &mut UnixStream, kind: u32) -> io::Result<()> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    let [escape, length] = [0, 4].map(|at| {
        let octets = head.get(at..at + 4).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        u32::from_be_bytes(octets)
    });
    if escape != 0 || !(4..=CONTROL_MAX).contains(&length) {
        return Err(wrong("not a control frame"));
    }
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame)?;
    let content = frame.get(4..).unwrap_or_default();
    if frame.first_chunk().copied().map(u32::from_be_bytes) != Some(kind) {
        return Err(wrong("another control frame than expected"));
    }
    if !content.is_empty() && !content.windows(CONTENT.len()).any(|window| window == CONTENT) {
        return Err(wrong("the other side takes no dnstap"));
    }
    Ok(())
}
