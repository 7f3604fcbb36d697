//! One Kubernetes cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use federation_runtime::pki::{Authority, Identity, LIFE_OF_PARTS, Subject};

use crate::kit::Kit;
use crate::network::{Site, state_root};
use crate::process::{Processes, quiet, wait_until};

/// How much of a cluster there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// etcd and kube-apiserver alone: an API that nothing acts on, for measuring.
    Server,
    /// etcd, kube-apiserver, and a kube-controller-manager that does no more than an API needs to be whole: namespaces, garbage
    /// collection, service accounts. Nothing acts on workloads.
    Api,
    /// etcd, kube-apiserver, kube-controller-manager, kube-scheduler.
    ControlPlane,
    /// And one node: containerd, kubelet, kube-proxy.
    Full,
}

/// Ports of a control plane. Fixed inside a namespace, free ones on loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) etcd: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) controller_manager: u16,
    pub(crate) scheduler: u16,
}

/// One cluster of plain processes.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    pub(crate) kit: Kit,
    pub(crate) state: PathBuf,
    pub(crate) address: String,
    pub(crate) index: u8,
    pub(crate) ports: Ports,
    pub(crate) namespace: Option<String>,
    pub(crate) processes: Processes,
    pub(crate) apiserver_flags: Vec<String>,
    pub(crate) apiserver_program: String,
}

impl Cluster {
    /// The cluster of a site, in the site's network namespace.
    pub fn in_site(kit: &Kit, site: Site) -> Self {
        let ports =
            Ports { api: 6443, etcd: 2379, etcd_peer: 2380, controller_manager: 10257, scheduler: 10259 };
        Self::new(kit, site.name, site.address(), site.index, ports, Some(site.name))
    }

    /// A control plane without nodes on loopback, with ports from `base` to `base + 4`.
    pub fn on_loopback(kit: &Kit, name: &str, base: u16) -> Self {
        let ports = Ports {
            api: base,
            etcd: base + 1,
            etcd_peer: base + 2,
            controller_manager: base + 3,
            scheduler: base + 4,
        };
        Self::new(kit, name, "127.0.0.1".into(), 9, ports, None)
    }

    fn new(kit: &Kit, name: &str, address: String, index: u8, ports: Ports, namespace: Option<&str>) -> Self {
        let state = state_root().join(name);
        let processes = Processes::new(&state, namespace);
        Self {
            name: name.into(),
            kit: kit.clone(),
            state,
            address,
            index,
            ports,
            namespace: namespace.map(ToOwned::to_owned),
            processes,
            apiserver_flags: Vec::new(),
            apiserver_program: kit.program("kube-apiserver"),
        }
    }

    /// The same with further flags for kube-apiserver.
    #[must_use]
    pub fn with_apiserver_flags(mut self, flags: &[String]) -> Self {
        self.apiserver_flags.extend_from_slice(flags);
        self
    }

    /// The same with another kube-apiserver than the kit's.
    #[must_use]
    pub fn with_apiserver(mut self, program: &Path) -> Self {
        self.apiserver_program = program.to_string_lossy().into_owned();
        self
    }

    /// The process id of one of its running processes.
    pub fn pid(&self, process: &str) -> Option<u32> {
        self.processes.pid(process)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("pki/admin.conf")
    }

    /// URL of the API server.
    pub fn server(&self) -> String {
        format!("https://{}:{}", self.address, self.ports.api)
    }

    /// Brings the cluster up and waits until it can take work: API ready, default service account there and, if full, the node Ready.
    ///
    /// # Errors
    /// When a process does not start or something is not ready in its time; with the end of its log.
    pub fn up(&self, mode: Mode) -> Result<()> {
        fs::create_dir_all(&self.state)?;
        self.certificates()?;
        self.control_plane(mode)?;
        if mode == Mode::Full {
            self.node()?;
        }
        Ok(())
    }

    /// Ends every process of the cluster and removes what it left.
    ///
    /// # Errors
    /// When a command cannot be run.
    pub fn down(&self) -> Result<()> {
        if self.processes.names().iter().any(|name| name == "containerd") {
            self.clear_node()?;
        }
        for name in ["scheduler", "kcm", "apiserver", "etcd"] {
            self.processes.stop(name, Duration::from_secs(3))?;
        }
        let _ = fs::remove_dir_all(&self.state);
        Ok(())
    }

    /// `kill -9` of one process: etcd, apiserver, kcm, scheduler, containerd, kubelet or proxy.
    ///
    /// # Errors
    /// When `kill` cannot be run.
    pub fn kill(&self, process: &str) -> Result<bool> {
        self.processes.signal(process, "KILL")
    }

    /// Starts a killed process again, as before.
    ///
    /// # Errors
    /// When it was never started.
    pub fn start(&self, process: &str) -> Result<()> {
        self.processes.restart(process)
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When `kill` cannot be run.
    pub fn pause(&self, process: &str) -> Result<bool> {
        self.processes.signal(process, "STOP")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When `kill` cannot be run.
    pub fn resume(&self, process: &str) -> Result<bool> {
        self.processes.signal(process, "CONT")
    }

    /// A line for each process: name, pid and resident memory.
    pub fn status(&self) -> String {
        let mut names = self.processes.names();
        names.sort();
        names.iter().fold(String::new(), |text, name| {
            let line = match self.processes.pid(name) {
                Some(pid) => {
                    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                    let rss =
                        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("").trim();
                    format!("{name} pid {pid} rss {rss}")
                }
                None => format!("{name} not running"),
            };
            text + &line + "\n"
        })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.state.join(name).to_string_lossy().into_owned()
    }

    fn certificates(&self) -> Result<()> {
        let pki = self.state.join("pki");
        if pki.join("admin.conf").exists() {
            return Ok(());
        }
        let authority = Authority::load_or_create(&pki)?;
        let service_accounts = authority.issue(&subject("service-accounts", &[]), &[], LIFE_OF_PARTS)?;
        service_accounts.store(&pki, "sa")?;
        let names: Vec<String> = [
            self.address.as_str(),
            "127.0.0.1",
            &format!("10.11{}.0.1", self.index),
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ]
        .map(ToOwned::to_owned)
        .to_vec();
        authority.issue(&subject("kube-apiserver", &[]), &names, LIFE_OF_PARTS)?.store(&pki, "apiserver")?;
        authority.issue(&subject("front-proxy-client", &[]), &[], LIFE_OF_PARTS)?.store(&pki, "front")?;
        let node = format!("{}-node", self.name);
        let users = [
            ("kcm", subject("system:kube-controller-manager", &[]), vec![]),
            ("sched", subject("system:kube-scheduler", &[]), vec![]),
            ("proxy", subject("system:kube-proxy", &[]), vec![]),
            (
                "node",
                subject(&format!("system:node:{node}"), &["system:nodes"]),
                vec![node, self.address.clone()],
            ),
            ("admin", Subject::admin(), vec![]),
        ];
        for (file, subject, names) in users {
            let identity: Identity = authority.issue(&subject, &names, LIFE_OF_PARTS)?;
            identity.store(&pki, file)?;
            federation_runtime::kubeconfig::write(
                &pki.join(format!("{file}.conf")),
                &self.server(),
                &authority.certificate_pem,
                file,
                &identity,
            )?;
        }
        Ok(())
    }

    /// Asks the API server for a path as the administrator.
    pub(crate) fn get(&self, path: &str) -> Result<Option<String>> {
        let output = Command::new("curl")
            .args([
                "-sf",
                "--max-time",
                "5",
                "--cacert",
                &self.path("pki/ca.crt"),
                "--cert",
                &self.path("pki/admin.crt"),
            ])
            .args(["--key", &self.path("pki/admin.key"), &format!("{}{path}", self.server())])
            .output()
            .context("cannot run curl")?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    pub(crate) fn wait_for(
        &self,
        what: &str,
        process: &str,
        limit: Duration,
        path: &str,
        wanted: &str,
    ) -> Result<()> {
        wait_until(&format!("{}: {what}", self.name), limit, || {
            Ok(self.get(path)?.is_some_and(|answer| answer.contains(wanted)))
        })
        .map(drop)
        .with_context(|| format!("the log of {process} ends:\n{}", self.processes.log_tail(process)))
    }

    pub(crate) fn quiet(&self, command: &[&str]) -> Result<bool> {
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        quiet(&mut self.processes.command(&command)?)
    }

    /// The folder of this cluster's state.
    pub fn state(&self) -> &Path {
        &self.state
    }
}

fn subject(user: &str, groups: &[&str]) -> Subject {
    Subject {
        user: user.into(),
        groups: groups.iter().map(ToString::to_string).collect(),
        uid: String::new(),
    }
}
