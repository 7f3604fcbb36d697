//! Processes that outlive the command that started them, known by pid files.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Processes of one cluster, under `<state>/pid`, `<state>/cmd` and `<state>/log`.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    state: PathBuf,
    namespace: Option<String>,
}

impl Processes {
    pub(crate) fn new(state: &Path, namespace: Option<&str>) -> Self {
        Self { state: state.to_owned(), namespace: namespace.map(ToOwned::to_owned) }
    }

    /// Starts a process in the background, and remembers how.
    pub(crate) fn start(&self, name: &str, command: &[String]) -> Result<()> {
        for folder in ["pid", "cmd", "log"] {
            fs::create_dir_all(self.state.join(folder))?;
        }
        fs::write(self.state.join("cmd").join(name), serde_json::to_vec(command)?)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.state.join("log").join(format!("{name}.log")))?;
        let mut child = self.command(command)?;
        let child = child
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the command that brings clusters up is not for the clusters.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        fs::write(self.state.join("pid").join(name), child.id().to_string())?;
        Ok(())
    }

    /// Starts a process again as it was started before.
    pub(crate) fn restart(&self, name: &str) -> Result<()> {
        let command = fs::read(self.state.join("cmd").join(name))
            .with_context(|| format!("{name} was never started"))?;
        self.start(name, &serde_json::from_slice::<Vec<String>>(&command)?)
    }

    /// A command inside the cluster's network namespace. `ip netns exec` would remount /sys and hide the cgroups from the
    /// kubelet, so nsenter.
    pub(crate) fn command(&self, command: &[String]) -> Result<Command> {
        let (program, arguments) = command.split_first().context("an empty command")?;
        Ok(match &self.namespace {
            Some(namespace) => {
                let mut wrapped = Command::new("nsenter");
                wrapped.arg(format!("--net=/run/netns/{namespace}")).arg(program).args(arguments);
                wrapped
            }
            None => {
                let mut plain = Command::new(program);
                plain.args(arguments);
                plain
            }
        })
    }

    /// Sends a signal (`KILL`, `TERM`, `STOP`, `CONT`) to the process of that name. `false` if it is not running.
    pub(crate) fn signal(&self, name: &str, signal: &str) -> Result<bool> {
        let Some(pid) = self.pid(name) else { return Ok(false) };
        quiet(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()))
    }

    /// The pid of a running process that this state folder started. A pid that was used again by a stranger is not it.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.state.join("pid").join(name)).ok()?.trim().parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command: Vec<String> =
            serde_json::from_slice(&fs::read(self.state.join("cmd").join(name)).ok()?).ok()?;
        let last = command.last()?;
        String::from_utf8_lossy(&line).contains(last.as_str()).then_some(pid)
    }

    /// Ends a process: TERM, and KILL after `grace`.
    pub(crate) fn stop(&self, name: &str, grace: Duration) -> Result<()> {
        if !self.signal(name, "TERM")? {
            return Ok(());
        }
        let gone = wait_until("", grace, || Ok(!self.running(name)));
        if gone.is_err() {
            self.signal(name, "KILL")?;
        }
        Ok(())
    }

    fn running(&self, name: &str) -> bool {
        self.pid(name).is_some_and(|pid| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
                !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
            })
        })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.state.join("pid")) else { return Vec::new() };
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The end of a process's log, for error messages.
    pub(crate) fn log_tail(&self, name: &str) -> String {
        let log = fs::read_to_string(self.state.join("log").join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// Runs a command; its output is in the error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command for its status alone.
pub(crate) fn quiet(command: &mut Command) -> Result<bool> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    Ok(status.success())
}

/// Asks `condition` every 50 ms until it holds.
///
/// # Errors
/// When it does not hold within `limit`, or fails.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    loop {
        if condition()? {
            return Ok(start.elapsed());
        }
        if start.elapsed() > limit {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
