//! A federation: `fedctl up`.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};
use real_clusters::Network;

use crate::Api;
use crate::agent::{Agent, Join};
use crate::clusters::{Clusters, PATIENCE, SITES};
use crate::command::{Outcome, run};
use crate::dns_server::DnsServer;
use crate::process::{Process, program};
use crate::user::User;
use crate::wait::eventually;

/// The DNS zone of every test's federation.
pub const ZONE: &str = "fed.example.test";
const START: Duration = Duration::from_secs(30);

/// What a test may choose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bad verdict until replicas are planned elsewhere.
    pub evict_after: Duration,
    /// Life of DNS answers, seconds.
    pub dns_ttl: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { evict_after: Duration::from_secs(5), dns_ttl: 1 }
    }
}

/// `fedctl up` on the wan, with everything in a folder of its own.
#[derive(Debug)]
pub struct Federation {
    process: Process,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    /// Where the API listens.
    pub api_listen: SocketAddr,
    /// Where agents dial in.
    pub hub_listen: SocketAddr,
    /// Where DNS is answered.
    pub dns_listen: SocketAddr,
}

impl Federation {
    /// Starts one where the sites can reach it, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(settings: &Settings) -> Result<Self> {
        Self::start_on(Network::HERE, settings)
    }

    /// Starts one on the address.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_on(address: &str, settings: &Settings) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("federation-").tempdir()?;
        let [api_listen, hub_listen, dns_listen] = free_ports(address)?;
        let data_dir = folder.path().join("data");
        let arguments: Vec<String> = [
            "up",
            "--data-dir",
            &data_dir.to_string_lossy(),
            "--api-listen",
            &api_listen.to_string(),
            "--hub-listen",
            &hub_listen.to_string(),
            "--dns-listen",
            &dns_listen.to_string(),
            "--dns-zone",
            ZONE,
            "--dns-ttl",
            &settings.dns_ttl.to_string(),
            "--evict-after",
            &settings.evict_after.as_secs().to_string(),
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        let mut process = Process::start(folder.path(), "fedctl", None, &program("fedctl")?, &arguments)?;
        process.ready(START)?;
        Ok(Self { process, arguments, folder, api_listen, hub_listen, dns_listen })
    }

    /// Where tests may keep files: removed with the federation.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `DIR/admin.conf`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("data/admin.conf")
    }

    /// The federated API as its administrator.
    pub fn api(&self) -> Api {
        Api::new(&self.kubeconfig(), &self.folder.path().join("kubectl"))
    }

    /// A web user whose resolver is this federation's DNS server.
    pub fn user(&self) -> User {
        User::new(self.dns_listen)
    }

    /// A DNS server more, with a certificate and so a vote of its own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn dns_server(&self, instance: &str) -> Result<DnsServer> {
        self.dns_server_with(instance, &[])
    }

    /// The same, with variables in its environment.
    ///
    /// # Errors
    /// When it does not start.
    pub fn dns_server_with(&self, instance: &str, environment: &[(String, String)]) -> Result<DnsServer> {
        let data = self.folder.path().join("data");
        let mut init = Command::new(program("fedctl")?);
        run(init.arg("init").arg("--data-dir").arg(&data).args(["--dns-server", instance]))?;
        DnsServer::start(self.folder.path(), instance, self.hub_listen, &data.join("pki"), environment)
    }

    /// `fedctl` against this federation, as a process that goes on, with variables in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn fedctl_process(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Result<Process> {
        let mut words: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        words.extend(["--kubeconfig".into(), self.kubeconfig().to_string_lossy().into_owned()]);
        Process::start_with(self.folder.path(), name, None, &program("fedctl")?, &words, environment)
    }

    /// A DNS server that does not fall with the hub, where agents meet while the hub is away; and a web user whose resolver it is.
    ///
    /// # Errors
    /// When it does not start.
    pub fn meeting_server(&self, instance: &str) -> Result<(Process, User)> {
        let [meet, _, listen] = free_ports(Network::HERE)?;
        let data_dir = self.folder.path().join(instance);
        let arguments: Vec<String> = [
            "--instance",
            instance,
            "--listen",
            &listen.to_string(),
            "--meet-listen",
            &meet.to_string(),
            "--hub",
            &self.hub_listen.to_string(),
            "--pki",
            &self.folder.path().join("data/pki").to_string_lossy(),
            "--data-dir",
            &data_dir.to_string_lossy(),
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        let mut process =
            Process::start(self.folder.path(), instance, None, &program("dns-lb")?, &arguments)?;
        process.ready(START)?;
        Ok((process, User::new(listen)))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGKILL: nothing is drained, nothing said goodbye to.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same folder and ports.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process =
            Process::start(self.folder.path(), "fedctl", None, &program("fedctl")?, &self.arguments)?;
        self.process.ready(START).map(drop)
    }

    /// SIGTERM; it must end by itself.
    ///
    /// # Errors
    /// When no signal can be sent.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.terminate(START)
    }

    /// Runs `fedctl` against this federation, whatever comes of it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn fedctl_outcome(&self, arguments: &[&str]) -> Result<Outcome> {
        Outcome::of(&mut self.fedctl_command(arguments)?)
    }

    /// Runs `fedctl` against this federation, which must succeed. Returns what it printed.
    ///
    /// # Errors
    /// When it does not.
    pub fn fedctl(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.fedctl_command(arguments)?)
    }

    fn fedctl_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("fedctl")?);
        command.args(arguments).arg("--kubeconfig").arg(self.kubeconfig()).current_dir(self.folder.path());
        Ok(command)
    }

    /// A new one-time token with all that a cluster needs to join.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn join_command(&self) -> Result<Join> {
        Join::parse(&self.fedctl(&["token", "create", "--print-join-command"])?)
    }

    /// Joins Taiwan and Tokyo, and waits until both are Healthy.
    ///
    /// # Errors
    /// When an agent cannot be started.
    pub fn join_both(&self, clusters: &Clusters) -> Result<[Agent; 2]> {
        let [taiwan, tokyo] = SITES.map(|site| Agent::join(self, clusters, site));
        let agents = [taiwan?, tokyo?];
        for site in SITES {
            self.wait_for_verdict(site.name, "Healthy");
        }
        Ok(agents)
    }

    /// The verdict on a cluster; empty if there is none.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn verdict(&self, cluster: &str) -> Result<String> {
        let verdict =
            self.api().field("default", &format!("clusters.federation.rs/{cluster}"), "/status/verdict")?;
        Ok(verdict.as_str().unwrap_or_default().to_owned())
    }

    /// Waits for a verdict.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn wait_for_verdict(&self, cluster: &str, verdict: &str) -> Duration {
        eventually(&format!("{cluster} is {verdict}"), PATIENCE, || Ok(self.verdict(cluster)? == verdict))
    }
}

/// Ports for the API, the hub and DNS, the last free for UDP and TCP. They are let go before they are used, so all are taken at once, and
/// the kernel does not give one out again soon.
pub(crate) fn free_ports(address: &str) -> Result<[SocketAddr; 3]> {
    let api = TcpListener::bind((address, 0)).with_context(|| format!("{address} is not here"))?;
    let hub = TcpListener::bind((address, 0))?;
    for _ in 0..16 {
        let dns = TcpListener::bind((address, 0))?;
        if UdpSocket::bind(dns.local_addr()?).is_ok() {
            return Ok([api.local_addr()?, hub.local_addr()?, dns.local_addr()?]);
        }
    }
    anyhow::bail!("no port of {address} is free for both UDP and TCP")
}
