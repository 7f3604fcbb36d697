//! A log file that is set aside when it is large: kube-apiserver's `--audit-log-maxsize`, `-maxbackup` and `-maxage`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use federation_runtime::files;
use jiff::Timestamp;

/// When a file is set aside, and which of those are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which a new file is begun; 0 for never.
    pub size_max: u64,
    /// Files kept besides the present one; 0 for all.
    pub backups_max: usize,
    /// How long they are kept; zero for ever.
    pub age_max: Duration,
}

/// The file, and those before it.
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: Rotation,
    out: BufWriter<File>,
    size: u64,
}

impl RotatingFile {
    /// Appends to a file, made if absent.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), rotation, out: BufWriter::with_capacity(64 << 10, file), size })
    }

    /// Writes one line, to a new file if the present one is full.
    pub(super) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.rotation.size_max > 0 && self.size > 0 && self.size + length > self.rotation.size_max {
            self.rotate()?;
        }
        self.out.write_all(line)?;
        self.size += length;
        Ok(())
    }

    /// Lets readers see what was written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    #[expect(clippy::disallowed_methods, reason = "it is compared with the times of files")]
    fn rotate(&mut self) -> io::Result<()> {
        self.out.flush()?;
        fs::rename(&self.path, self.backup(Timestamp::now()))?;
        self.out = BufWriter::with_capacity(64 << 10, open(&self.path)?);
        self.size = 0;
        // A file that cannot be removed, or that somebody else has, is no reason to lose a line.
        if let Err(error) = self.prune(SystemTime::now()) {
            tracing::warn!(%error, "older audit logs could not be removed");
        }
        Ok(())
    }

    /// `audit-2026-01-02T03-04-05.000.log`, as kube-apiserver names them. Sorts by time.
    fn backup(&self, now: Timestamp) -> PathBuf {
        let (stem, extension) = self.parts();
        let time = format!("{now:.3}").replace(':', "-");
        self.path.with_file_name(format!("{stem}-{}{extension}", time.trim_end_matches('Z')))
    }

    fn parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let extension = text(self.path.extension()).map_or_else(String::new, |text| format!(".{text}"));
        (text(self.path.file_stem()).unwrap_or_default(), extension)
    }

    /// Removes the files that are too many or too old.
    fn prune(&self, now: SystemTime) -> io::Result<()> {
        let (stem, extension) = self.parts();
        let prefix = format!("{stem}-");
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut backups: Vec<PathBuf> = fs::read_dir(folder.unwrap_or_else(|| Path::new(".")))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name =
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                // `2026-01-02T03-04-05.000` between stem and extension: nothing else of the folder is touched.
                name.strip_prefix(&prefix)
                    .and_then(|rest| rest.strip_suffix(&extension))
                    .is_some_and(|time| time.len() == 23 && time.as_bytes().get(10) == Some(&b'T'))
            })
            .collect();
        backups.sort();
        let keep = if self.rotation.backups_max == 0 { backups.len() } else { self.rotation.backups_max };
        let surplus = backups.len().saturating_sub(keep);
        for (place, path) in backups.iter().enumerate() {
            let age = fs::metadata(path)?.modified().ok().and_then(|time| now.duration_since(time).ok());
            let old = !self.rotation.age_max.is_zero() && age.is_some_and(|age| age > self.rotation.age_max);
            if place < surplus || old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Bodies of requests may be inside, so nobody else reads it, as with kube-apiserver.
fn open(path: &Path) -> io::Result<File> {
    files::open_private(path, OpenOptions::new().append(true).create(true))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        fs::write(&path, "of an earlier version\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let rotation = Rotation { size_max: 0, backups_max: 0, age_max: Duration::ZERO };
        RotatingFile::open(&path, rotation).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_file_is_set_aside_whole_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let other = folder.path().join("audit-notes.log");
        fs::write(&other, "mine").unwrap();
        let rotation = Rotation { size_max: 20, backups_max: 2, age_max: Duration::ZERO };
        let mut file = RotatingFile::open(&path, rotation).unwrap();
        for number in 0..8 {
            file.write_line(format!("line {number:03}\n").as_bytes()).unwrap();
            // Names tell milliseconds.
            std::thread::sleep(Duration::from_millis(2));
        }
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 006\nline 007\n");
        let mut backups: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|found| *found != path && *found != other)
            .collect();
        backups.sort();
        let texts: Vec<_> = backups.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, ["line 002\nline 003\n", "line 004\nline 005\n"]);
        assert!(other.exists());
    }
}
