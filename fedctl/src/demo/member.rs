//! One sandbox member as a process of its own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// What a member is told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: &'static str,
    pub(crate) index: u8,
    pub(crate) region: &'static str,
    pub(crate) hub: String,
    pub(crate) data_dir: PathBuf,
}

/// A running member. Dropped, it is killed.
pub(crate) struct Member {
    child: Child,
    /// The member's own kubeconfig.
    pub(crate) kubeconfig: PathBuf,
}

impl Member {
    /// Starts a member and waits until its API answers. `join`: token and CA hash, for the first start.
    pub(crate) async fn start(settings: &Settings, join: Option<(String, String)>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("sandbox-member")
            .args([
                "--name",
                settings.name,
                "--index",
                &settings.index.to_string(),
                "--region",
                settings.region,
            ])
            .args(["--hub", &settings.hub])
            .arg("--data-dir")
            .arg(&settings.data_dir);
        if let Some((token, hash)) = join {
            command.args(["--ca-cert-hash", &hash]).env("FEDERATION_TOKEN", token);
        }
        std::fs::create_dir_all(&settings.data_dir)?;
        let log = std::fs::File::options().create(true).append(true).open(settings.data_dir.join("log"))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a member process")?;
        let output = child.stdout.take().context("a member's output is a pipe")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
        match line {
            Ok(Ok(Some(line))) if line.starts_with("ready") => {}
            _ => bail!(
                "{} did not become ready; its log is {}",
                settings.name,
                settings.data_dir.join("log").display()
            ),
        }
        // The pipe must not fill.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, kubeconfig: settings.data_dir.join("admin.conf") })
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}
