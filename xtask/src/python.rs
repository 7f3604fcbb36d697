//! The suite of Python's `kubernetes` client, against federation-apiserver.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use real_clusters::Kit;

use crate::bench_api_servers::Own;
use crate::test::command;

/// The port after those of `cargo xtask compat`.
const PORT: u16 = 17_466;
const SUITE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../federation-apiserver/tests/python/client_suite.py");

/// Installs the client beside the kit's programs, where it is not yet.
pub(crate) fn ensure(kit: &Kit) -> Result<PathBuf> {
    let program = PathBuf::from(kit.program("kubectl"));
    let root = program.parent().and_then(Path::parent).context("the kit is in no folder")?.join("python");
    let python = root.join("bin/python");
    let ready = |python: &Path| {
        let found = Command::new(python).args(["-c", "import kubernetes"]).output();
        found.is_ok_and(|output| output.status.success())
    };
    if ready(&python) {
        return Ok(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&root).output();
    if !made.is_ok_and(|output| output.status.success()) {
        // Debian keeps it in a package of its own.
        let words = ["install", "-y", "-qq", "--no-install-recommends", "python3-venv"];
        command(Command::new("apt-get").args(words))?;
        command(Command::new("python3").args(["-m", "venv"]).arg(&root))?;
    }
    command(Command::new(&python).args(["-m", "pip", "install", "-q", "kubernetes"]))
        .context("cannot install the package kubernetes")?;
    Ok(python)
}

/// Runs the suite.
pub(crate) fn run(kit: &Kit) -> Result<()> {
    let python = ensure(kit)?;
    let this = std::env::current_exe()?;
    let program = this.parent().context("xtask is in no folder")?.join("federation-apiserver");
    let directory = tempfile::Builder::new().prefix("python-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let flags = ["--authorization-mode", "RBAC"].map(str::to_owned);
    let own = runtime.block_on(Own::launch(&program, PORT, &flags, directory.path()))?;
    let kubeconfig = own.pki().with_file_name("admin.conf");
    command(Command::new(python).arg(SUITE).arg(kubeconfig))
}
