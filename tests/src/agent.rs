//! A member agent inside a site.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use real_clusters::Site;

use crate::clusters::Clusters;
use crate::federation::Federation;
use crate::process::{Process, program};

/// What `fedctl token create --print-join-command` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Where the hub is.
    pub hub: String,
    /// The one-time token.
    pub token: String,
    /// Hash of the federation's authority.
    pub ca_cert_hash: String,
}

impl Join {
    /// Reads the flags out of the printed command.
    ///
    /// # Errors
    /// When one is missing.
    pub fn parse(command: &str) -> Result<Self> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let flag = |name: &str| {
            let at = words.iter().position(|word| *word == name);
            at.and_then(|at| words.get(at + 1))
                .map(ToString::to_string)
                .with_context(|| format!("{name} is missing in {command:?}"))
        };
        Ok(Self { hub: flag("--hub")?, token: flag("--token")?, ca_cert_hash: flag("--ca-cert-hash")? })
    }
}

/// A `member-agent` process.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    folder: PathBuf,
    site: Site,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Agent {
    /// Joins a site's cluster under the site's name, with a new token. Does not wait.
    ///
    /// # Errors
    /// When no token can be made or the process not be started.
    pub fn join(federation: &Federation, clusters: &Clusters, site: Site) -> Result<Self> {
        Self::join_with(federation.folder(), clusters, site, site.name, &federation.join_command()?)
    }

    /// Joins a site's cluster under a name, with what the test says. What the agent keeps is in a new folder inside `folder`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn join_with(
        folder: &Path,
        clusters: &Clusters,
        site: Site,
        name: &str,
        join: &Join,
    ) -> Result<Self> {
        Self::join_in(folder, clusters, site, name, join, &[])
    }

    /// The same with variables in its environment.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn join_in(
        folder: &Path,
        clusters: &Clusters,
        site: Site,
        name: &str,
        join: &Join,
        environment: &[(String, String)],
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("agent-").tempdir_in(folder)?.keep();
        let arguments: Vec<String> = [
            "--kubeconfig",
            &clusters.cluster(site).kubeconfig().to_string_lossy(),
            "--name",
            name,
            "--hub",
            &join.hub,
            "--token",
            &join.token,
            "--ca-cert-hash",
            &join.ca_cert_hash,
            "--data-dir",
            &folder.to_string_lossy(),
            "--region",
            site.name,
            "--zone",
            "a",
            "--label",
            &format!("site={}", site.name),
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        let environment = environment.to_vec();
        let process = start(&folder, site, &arguments, &environment)?;
        Ok(Self { process, folder, site, arguments, environment })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on what it kept on disk. The token is used up by then, and not needed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = start(&self.folder, self.site, &self.arguments, &self.environment)?;
        Ok(())
    }
}

fn start(
    folder: &Path,
    site: Site,
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<Process> {
    let name = format!("agent-{}", site.name);
    Process::start_with(folder, &name, Some(site.name), &program("member-agent")?, arguments, environment)
}
