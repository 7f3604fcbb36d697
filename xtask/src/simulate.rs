//! `cargo xtask simulate`: the simulation, compiled to run fast.
//!
//! It is a program of its own, since a developer's command must not wait until all parts are compiled.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Compiles and runs it with these words.
pub(crate) fn run(words: &[String]) -> Result<ExitCode> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--profile",
            "simulation",
            "--package",
            "simulation",
            "--bin",
            "simulate",
            "--",
        ])
        .args(words)
        .status()
        .context("run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
