//! `cargo xtask simulate`: the simulation, whose crates are compiled to run fast (`profile.dev.package` in Cargo.toml).
//!
//! It is a program of its own, since a developer's command must not wait until all parts are compiled.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::test::cargo;

/// The program, which is built beside this one.
pub(crate) fn program() -> Result<PathBuf> {
    Ok(std::env::current_exe().context("find this program")?.with_file_name("simulate"))
}

/// Compiles and runs it with these words.
pub(crate) fn run(words: &[String]) -> Result<ExitCode> {
    // With the choice of features of everything else, so that nothing is compiled twice.
    cargo(&["build", "--quiet", "--workspace", "--bin", "simulate", "--test", "simulation"])?;
    let status = Command::new(program()?).args(words).status().context("run it")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
