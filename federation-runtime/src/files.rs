//! Atomic replacement of files, and private files and directories.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mode 0600.
    Private,
    /// Mode 0644.
    Public,
}

/// Replaces `path` with `content` atomically and durably: temporary file, fsync, rename, fsync of the directory. Creates the parent
/// directory if it does not exist.
pub fn replace(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}", std::process::id()));
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // On a full disk, most likely: what is left of it is in the way. If it cannot be removed, the next one takes its place.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(parent)?.sync_all()
}

/// Creates a directory with mode 0700, and its parents. The mode of an existing directory is changed.
pub fn private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Opens a file with mode 0600, regardless of the umask. The mode of an existing file is changed.
pub fn open_private(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let file = options.clone().mode(0o600).open(path)?;
    // A pipe or a device is not ours to close.
    if file.metadata()?.is_file() {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_private_is_so_also_where_it_was_open_before() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a");
        let file = directory.join("log");
        fs::create_dir(&directory).unwrap();
        fs::write(&file, "what was there").unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        private_directory(&directory).unwrap();
        open_private(&file, OpenOptions::new().append(true).create(true)).unwrap();
        open_private(&directory.join("new"), OpenOptions::new().append(true).create(true)).unwrap();
        assert_eq!((mode(&directory), mode(&file), mode(&directory.join("new"))), (0o700, 0o600, 0o600));
        assert_eq!(fs::read_to_string(&file).unwrap(), "what was there");
    }
}
