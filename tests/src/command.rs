//! Commands that end by themselves.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// What a command left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit status 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Result<Self> {
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Runs a command that must succeed, and returns its standard output.
///
/// # Errors
/// When it fails; with what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let outcome = Outcome::of(command)?;
    if !outcome.success {
        bail!("{command:?} failed: {}{}", outcome.stdout, outcome.stderr);
    }
    Ok(outcome.stdout)
}
