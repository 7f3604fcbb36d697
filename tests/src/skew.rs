//! Clocks that are wrong.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Where Debian's package `libfaketime` puts its library, by architecture.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// The environment in which a process's clock is so many minutes ahead, or behind. Only the time of day: a monotonic clock has no zero that
/// could be wrong, and goes on as it does.
///
/// # Errors
/// When the library is not there: the kit installs it.
pub fn skew(minutes: i32) -> Result<Vec<(String, String)>> {
    let library = LIBRARIES
        .iter()
        .find(|path| Path::new(path).exists())
        .context("libfaketime is not there: install Debian's package faketime")?;
    Ok([
        ("LD_PRELOAD", (*library).to_owned()),
        ("FAKETIME", format!("{minutes:+}m")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec())
}
