//! The directory of a demo's data, and what becomes of it at the end.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// Where the demo's data is.
pub(crate) enum Directory {
    /// Named by the user, and never removed.
    Given(PathBuf),
    /// Removed at the end, unless there is a reason to look at it.
    Temporary(TempDir),
}

impl Directory {
    /// The directory that the user named, else a temporary one.
    ///
    /// # Errors
    /// When no temporary directory can be made.
    pub(crate) fn new(given: Option<PathBuf>) -> Result<Self> {
        Ok(match given {
            Some(path) => Self::Given(path),
            None => Self::Temporary(tempfile::Builder::new().prefix("federation-demo-").tempdir()?),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }

    /// Leaves the directory when the demo ended so. A temporary one stays if the user wants it, or if the demo failed: the parts' logs in it
    /// say why. One that the user interrupted has not failed.
    ///
    /// # Errors
    /// The demo's own, with the path of what was left.
    pub(crate) fn leave(self, keep: bool, interrupted: bool, ended: Result<()>) -> Result<()> {
        let stays = keep || (ended.is_err() && !interrupted);
        let path = match self {
            Self::Given(_) if interrupted => return ended,
            Self::Given(path) => path,
            Self::Temporary(directory) if stays => directory.keep(),
            Self::Temporary(_) => return ended,
        };
        ended.with_context(|| format!("the demo failed; its data and logs are in {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    /// What is left of a temporary directory, and what is said.
    fn left(keep: bool, interrupted: bool, ended: Result<()>) -> (bool, PathBuf, String) {
        let directory = Directory::new(None).expect("a directory");
        let path = directory.path().to_owned();
        std::fs::write(path.join("log"), "why").expect("written");
        let said = directory.leave(keep, interrupted, ended).err().map(|error| format!("{error:#}"));
        let is_there = path.join("log").exists();
        if is_there {
            std::fs::remove_dir_all(&path).expect("removed");
        }
        (is_there, path, said.unwrap_or_default())
    }

    #[test]
    fn a_demo_that_failed_leaves_its_logs_and_says_where() {
        let (is_there, path, said) = left(false, false, Err(anyhow!("it did not hold")));
        assert!(is_there && said.contains(&path.display().to_string()), "{said}");
        assert!(said.ends_with("it did not hold"), "{said}");
    }

    #[test]
    fn a_demo_that_held_or_was_interrupted_leaves_nothing() {
        assert!(!left(false, false, Ok(())).0);
        let (is_there, _, said) = left(false, true, Err(anyhow!("interrupted")));
        assert_eq!((is_there, said.as_str()), (false, "interrupted"));
    }

    #[test]
    fn what_is_to_be_kept_is_kept_and_a_failure_is_one_all_the_same() {
        let (is_there, _, said) = left(true, true, Ok(()));
        assert_eq!((is_there, said.as_str()), (true, ""));
        let (is_there, _, said) = left(true, true, Err(anyhow!("it did not hold")));
        assert!(is_there && said.ends_with("it did not hold"), "{said}");
    }

    #[test]
    fn a_directory_that_the_user_named_is_never_removed() {
        let outer = tempfile::tempdir().expect("a directory");
        let directory = Directory::new(Some(outer.path().to_owned())).expect("it is given");
        assert!(directory.leave(false, false, Ok(())).is_ok() && outer.path().exists());
    }
}
