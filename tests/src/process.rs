//! Processes of the federation.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::eventually;

/// Lines of a log that are printed when a test fails.
const TAIL: usize = 25;

/// A binary of this workspace, from the target folder that the running test is in.
///
/// # Errors
/// When it was not built: `cargo build --workspace` comes before the end-to-end tests.
pub fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().context("this program is in no folder")?;
    // Tests are one level below programs.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    anyhow::ensure!(path.exists(), "{} is not built: run `cargo build --workspace`", path.display());
    Ok(path)
}

/// One running process. It is killed when this is dropped, and by the kernel when the thread that started it ends.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments`, in the network namespace if one is named. Standard output goes to `<folder>/<name>.out`, standard
    /// error to `<folder>/<name>.log`, both anew.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        folder: &Path,
        name: &str,
        namespace: Option<&str>,
        program: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        Self::start_with(folder, name, namespace, program, arguments, &[])
    }

    /// The same with variables in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(
        folder: &Path,
        name: &str,
        namespace: Option<&str>,
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
    ) -> Result<Self> {
        let (output, errors) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.log")));
        // setpriv and nsenter become the program by exec: the pid is the program's.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(namespace) = namespace {
            command.arg("nsenter").arg(format!("--net=/run/netns/{namespace}"));
        }
        let child = command
            .arg(program)
            .args(arguments)
            .env_remove("FEDERATION_DATA_DIR")
            .env_remove("FEDERATION_KUBECONFIG")
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name: name.into(), child, output, errors })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed on standard output so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its line `ready …` on standard output, and returns it.
    ///
    /// # Errors
    /// When it ends before.
    pub fn ready(&mut self, limit: Duration) -> Result<String> {
        let mut line = None;
        let mut ended = None;
        eventually(&format!("{} is ready", self.name), limit, || {
            line = self.output().lines().find(|line| line.starts_with("ready")).map(ToOwned::to_owned);
            ended = self.child.try_wait()?;
            Ok(line.is_some() || ended.is_some())
        });
        line.with_context(|| format!("{} ended ({ended:?}) before it was ready:\n{}", self.name, self.log()))
    }

    /// SIGKILL, at once.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and the status with which it ends within `limit`.
    ///
    /// # Errors
    /// When no signal can be sent.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.end(limit)
    }

    /// The status with which it ends by itself within `limit`.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        eventually(&format!("{} ended", self.name), limit, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        });
        status.context("it ended without a status")
    }

    /// Sends it a signal: `STOP`, `CONT`, `INT`.
    ///
    /// # Errors
    /// When `kill` cannot be run.
    pub fn signal(&self, signal: &str) -> Result<()> {
        crate::run(Command::new("kill").args([format!("-{signal}"), self.pid().to_string()])).map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
            eprintln!("---- the log of {} ends:\n{}", self.name, tail.join("\n"));
        }
    }
}
