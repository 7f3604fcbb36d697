//! A DNS server of its own, beside the one of the federation's process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::process::{Process, program};
use crate::user::User;

const START: Duration = Duration::from_secs(30);

/// A `dns-lb` process.
#[derive(Debug)]
pub struct DnsServer {
    process: Process,
    listen: SocketAddr,
    metrics: SocketAddr,
}

impl DnsServer {
    /// Starts one with the name `instance`, and waits until it serves the hub's zones.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(
        folder: &Path,
        instance: &str,
        hub: SocketAddr,
        pki: &Path,
        environment: &[(String, String)],
    ) -> Result<Self> {
        let [metrics, _, listen] = crate::federation::free_ports(&hub.ip().to_string())?;
        let data = folder.join(format!("dns-{instance}"));
        let identity =
            |suffix: &str| pki.join(format!("dns-lb-{instance}.{suffix}")).to_string_lossy().into_owned();
        let arguments: Vec<String> = [
            "--listen",
            &listen.to_string(),
            "--hub",
            &hub.to_string(),
            "--ca",
            &pki.join("ca.crt").to_string_lossy(),
            "--cert",
            &identity("crt"),
            "--key",
            &identity("key"),
            "--data-dir",
            &data.to_string_lossy(),
            "--instance",
            instance,
            "--metrics-listen",
            &metrics.to_string(),
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        let name = format!("dns-{instance}");
        let mut process =
            Process::start_with(folder, &name, None, &program("dns-lb")?, &arguments, environment)?;
        process.ready(START)?;
        Ok(Self { process, listen, metrics })
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where it answers.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// A web user whose resolver is this server.
    pub fn user(&self) -> User {
        User::new(self.listen)
    }

    /// The value of one of its metrics, written as in the exposition: with labels if it has some.
    ///
    /// # Errors
    /// When it does not answer, or has no such metric.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let text = run(Command::new("curl")
            .args(["-sSf", "--max-time", "2"])
            .arg(format!("http://{}/metrics", self.metrics)))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("there is no metric {name}"))?.trim().parse().context("it is no number")
    }
}
