//! The two servers that `cargo xtask bench api` compares, as plain processes on the same disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use federation_runtime::pki::{Authority, Identity, LIFE_OF_PARTS, Subject};
use real_clusters::{Cluster, Kit, Mode};
use serde_json::json;

use crate::bench_api_client::{Client, Target};

const PATIENCE: Duration = Duration::from_secs(30);
/// Ports of the real cluster; the federation's API server takes the one after its five.
const PORT: u16 = 17_443;
pub(crate) const OWN_PORT: u16 = PORT + 5;
/// Of another build of it, if one is measured in kube-apiserver's place.
pub(crate) const OTHER_PORT: u16 = PORT + 6;

/// Whether requests pass roles and an audit log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The administrator, and no log.
    Plain,
    /// A user with a role by RBAC, and each request in an audit log with its metadata.
    RbacAndAudit,
}

/// A server that is ready.
pub(crate) trait Server {
    /// The processes that it is made of.
    fn pids(&self) -> Vec<u32>;
    fn target(&self) -> &Target;
    /// Seconds from start to ready, with an empty store.
    fn started_s(&self) -> f64;
}

/// etcd and kube-apiserver.
pub(crate) struct Real {
    cluster: Cluster,
    target: Target,
    started_s: f64,
}

impl Real {
    pub(crate) async fn start(kit: &Kit, access: Access, directory: &Path) -> Result<Self> {
        let flags = match access {
            Access::Plain => Vec::new(),
            Access::RbacAndAudit => audit_flags(directory, "kube")?,
        };
        let cluster = Cluster::on_loopback(kit, "bench-api", PORT).with_apiserver_flags(&flags);
        cluster.down()?;
        let start = Instant::now();
        cluster.up(Mode::Server)?;
        let started_s = start.elapsed().as_secs_f64();
        let target = target(&cluster.state().join("pki"), PORT, access).await?;
        Ok(Self { cluster, target, started_s })
    }
}

impl Server for Real {
    fn pids(&self) -> Vec<u32> {
        ["etcd", "apiserver"].iter().filter_map(|name| self.cluster.pid(name)).collect()
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn started_s(&self) -> f64 {
        self.started_s
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.cluster.down();
    }
}

/// federation-apiserver.
pub(crate) struct Own {
    process: Child,
    data: PathBuf,
    target: Option<Target>,
    started_s: f64,
}

impl Own {
    pub(crate) async fn start(program: &Path, port: u16, access: Access, directory: &Path) -> Result<Self> {
        let mut flags = Vec::new();
        if access == Access::RbacAndAudit {
            flags = audit_flags(directory, &format!("own-{port}"))?;
            flags.extend(["--authorization-mode", "RBAC"].map(str::to_owned));
        }
        let mut own = Self::launch(program, port, &flags, directory).await?;
        own.target = Some(target(&own.pki(), port, access).await?);
        Ok(own)
    }

    /// Starts it with an empty store, and waits until it is ready.
    pub(crate) async fn launch(
        program: &Path,
        port: u16,
        flags: &[String],
        directory: &Path,
    ) -> Result<Self> {
        let data: PathBuf = directory.join(format!("own-{port}"));
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data)?;
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(&data).args(["--listen", &format!("127.0.0.1:{port}")]).args(flags);
        let log = fs::File::create(directory.join(format!("own-{port}.log")))?;
        let start = Instant::now();
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut own = Self { process, data, target: None, started_s: 0.0 };
        while !is_ready(&own.pki(), port).await {
            if start.elapsed() > PATIENCE || own.process.try_wait()?.is_some() {
                let log = fs::read_to_string(directory.join(format!("own-{port}.log"))).unwrap_or_default();
                bail!("federation-apiserver does not become ready:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        own.started_s = start.elapsed().as_secs_f64();
        Ok(own)
    }

    /// The folder of its identities.
    pub(crate) fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }
}

async fn is_ready(pki: &Path, port: u16) -> bool {
    let Ok(administrator) = administrator(pki, port) else { return false };
    let Ok(mut client) = Client::connect(&administrator).await else { return false };
    client.get("/readyz").await.is_ok()
}

impl Server for Own {
    fn pids(&self) -> Vec<u32> {
        vec![self.process.id()]
    }

    #[allow(clippy::expect_used)]
    fn target(&self) -> &Target {
        self.target.as_ref().expect("a server that was given out is ready")
    }

    fn started_s(&self) -> f64 {
        self.started_s
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The administrator of a server on this machine, by the folder of its identities.
pub(crate) fn administrator(pki: &Path, port: u16) -> Result<Target> {
    Ok(Target {
        address: format!("127.0.0.1:{port}"),
        ca_pem: fs::read_to_string(pki.join("ca.crt"))?,
        identity: Identity::load(pki, "admin")?,
    })
}

/// Makes the namespaces, and the user that requests come from.
async fn target(pki: &Path, port: u16, access: Access) -> Result<Target> {
    let administrator = administrator(pki, port)?;
    let mut client = Client::connect(&administrator).await?;
    for name in ["bench", "turns", "watched"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        client.create("/api/v1/namespaces", &namespace).await?;
    }
    if access == Access::Plain {
        return Ok(administrator);
    }
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "bench"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "bench"}],
    });
    client.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await?;
    let subject = Subject { user: "bench".into(), groups: vec!["bench".into()], uid: String::new() };
    let identity = Authority::load(pki)?.issue(&subject, &[], LIFE_OF_PARTS)?;
    Ok(Target { identity, ..administrator })
}

fn audit_flags(directory: &Path, name: &str) -> Result<Vec<String>> {
    let policy = directory.join("audit.yaml");
    fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")?;
    let log = directory.join(format!("{name}-audit.log"));
    Ok(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
    ])
}
