//! Files that lines are written to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Octets that are written together.
const TOGETHER: usize = 64 * 1024;
/// How often it is looked whether a file was moved away.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct TargetError {
    /// Which.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Where lines go.
pub(super) struct Lines {
    // None: standard error.
    path: Option<PathBuf>,
    out: Box<dyn Write + Send>,
    inode: Option<u64>,
    waiting: Vec<u8>,
    // How many lines that is.
    lines: u64,
    // Lines that could not be written since it was last asked.
    lost: u64,
    looked: Instant,
    failing: bool,
}

impl Lines {
    /// At the end of the file `path`; `-` is standard error.
    pub(super) fn open(path: &Path) -> Result<Self, TargetError> {
        let file = (path != Path::new("-")).then(|| append(path));
        let file = file.transpose().map_err(|source| TargetError { path: path.into(), source })?;
        let inode = file.as_ref().map(|(_, inode)| *inode);
        let named = file.is_some().then(|| path.to_owned());
        let out: Box<dyn Write + Send> = match file {
            Some((file, _)) => Box::new(file),
            None => Box::new(io::stderr()),
        };
        let waiting = Vec::with_capacity(TOGETHER);
        Ok(Self {
            path: named,
            out,
            inode,
            waiting,
            lines: 0,
            lost: 0,
            looked: Instant::now(),
            failing: false,
        })
    }

    /// One more.
    pub(super) fn line(&mut self, line: &[u8]) {
        self.waiting.extend_from_slice(line);
        self.waiting.push(b'\n');
        self.lines += 1;
        if self.waiting.len() >= TOGETHER {
            self.write();
        }
    }

    /// Writes what waits. Gives how many lines were lost.
    pub(super) fn flush(&mut self) -> u64 {
        if !self.waiting.is_empty() {
            self.write();
        }
        std::mem::take(&mut self.lost)
    }

    fn write(&mut self) {
        self.follow();
        match self.out.write_all(&self.waiting) {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.lost += self.lines;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the log of queries cannot be written");
                }
            }
        }
        self.waiting.clear();
        self.lines = 0;
    }

    /// Begins the file anew if it was moved away.
    fn follow(&mut self) {
        let Some(path) = self.path.as_deref().filter(|_| self.looked.elapsed() >= CHECK_INTERVAL) else {
            return;
        };
        self.looked = Instant::now();
        if std::fs::metadata(path).ok().map(|found| found.ino()) == self.inode {
            return;
        }
        match append(path) {
            Ok((file, inode)) => (self.out, self.inode) = (Box::new(file), Some(inode)),
            Err(error) => tracing::error!(%error, "the log of queries cannot be begun anew"),
        }
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let inode = file.metadata()?.ino();
    Ok((file, inode))
}
