//! A federation whose API is a plain kube-apiserver.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use real_clusters::{Cluster, Kit, Mode, Network};

use crate::Api;
use crate::agent::Join;
use crate::command::run;
use crate::federation::{ZONE, free_ports};
use crate::process::{Process, program};
use crate::user::User;
use crate::wait::eventually;

const START: Duration = Duration::from_secs(30);
/// Ports from here on are the plain API server's.
const PORTS: u16 = 27200;

/// `federation-controller` and `dns-lb`, each a process of its own, over a kube-apiserver that has the federation's kinds as
/// CustomResourceDefinitions. No `federation-apiserver`.
#[derive(Debug)]
pub struct PlainFederation {
    _dns: Process,
    _controller: Process,
    host: Host,
    folder: tempfile::TempDir,
    hub: SocketAddr,
    dns_listen: SocketAddr,
}

/// The plain API server; it goes away with this.
#[derive(Debug)]
struct Host(Cluster);

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("the plain API server is not down: {error:#}");
        }
    }
}

impl PlainFederation {
    /// Starts everything where the sites can reach it, and waits until it is ready.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start() -> Result<Self> {
        let host = Host(Cluster::on_loopback(&Kit::ensure()?, "plain", PORTS));
        host.0.down()?;
        host.0.up(Mode::Api)?;
        let folder = tempfile::Builder::new().prefix("plain-").tempdir()?;
        let api = Api::new(&host.0.kubeconfig(), &folder.path().join("kubectl"));

        let crds = run(Command::new(program("federation-controller")?).arg("crds"))?;
        api.apply(&crds)?;
        api.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;

        let data_dir = folder.path().join("data");
        run(Command::new(program("fedctl")?).args(["init", "--data-dir"]).arg(&data_dir))?;
        let [hub, dns_listen, _] = free_ports(Network::HERE)?;
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let data_dir = data_dir.to_string_lossy();
        let mut controller = words(&["--data-dir", &data_dir, "--hub-listen", &hub.to_string()]);
        controller.extend(words(&["--kubeconfig", &host.0.kubeconfig().to_string_lossy()]));
        controller.extend(words(&["--dns-zone", ZONE, "--dns-ttl", "1"]));
        let mut controller = Process::start(
            folder.path(),
            "controller",
            None,
            &program("federation-controller")?,
            &controller,
        )?;
        controller.ready(START)?;
        let mut dns = words(&["--listen", &dns_listen.to_string(), "--hub", &hub.to_string()]);
        dns.extend(words(&["--pki", &format!("{data_dir}/pki"), "--data-dir", &data_dir]));
        let dns = Process::start(folder.path(), "dns-lb", None, &program("dns-lb")?, &dns)?;
        Ok(Self { _dns: dns, _controller: controller, host, folder, hub, dns_listen })
    }

    /// Where tests may keep files: removed with the federation.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The plain API, as its administrator.
    pub fn api(&self) -> Api {
        Api::new(&self.host.0.kubeconfig(), &self.folder.path().join("kubectl"))
    }

    /// A web user whose resolver is this federation's DNS server.
    pub fn user(&self) -> User {
        User::new(self.dns_listen)
    }

    /// A new one-time token with all that a cluster needs to join.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn join_command(&self) -> Result<Join> {
        let mut command = Command::new(program("fedctl")?);
        command.args(["token", "create", "--print-join-command", "--hub", &self.hub.to_string()]);
        Join::parse(&run(command.arg("--kubeconfig").arg(self.host.0.kubeconfig()))?)
            .context("fedctl token create")
    }

    /// Waits until the verdict on a cluster is Healthy.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn wait_until_healthy(&self, cluster: &str) {
        let name = format!("clusters.federation.rs/{cluster}");
        eventually(&format!("{cluster} is Healthy"), START, || {
            Ok(self.api().field("default", &name, "/status/verdict")? == "Healthy")
        });
    }
}
