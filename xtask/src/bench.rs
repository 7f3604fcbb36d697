//! `cargo xtask bench propagate`: builds in release, and measures.

use anyhow::Result;

use crate::test::cargo;

/// What can be measured.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// From the federation's API into two real kube-apiservers, and back. Needs root and a quiet machine.
    Propagate,
}

/// Measures.
pub(crate) fn run(what: &Bench) -> Result<()> {
    match what {
        Bench::Propagate => {
            cargo(&[
                "build",
                "--release",
                "-p",
                "fedctl",
                "-p",
                "member-agent",
                "-p",
                "federation-tests",
                "--bins",
            ])?;
            cargo(&["run", "--quiet", "--release", "-p", "federation-tests", "--bin", "propagate"])
        }
    }
}
