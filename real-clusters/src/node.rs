//! One node: containerd, kubelet, kube-proxy.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::cluster::Cluster;
use crate::control_plane::words;
use crate::kit::Kit;
use crate::process::{quiet, run, wait_until};

const CGROUP_CONTROLLERS: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"];

impl Cluster {
    pub(crate) fn node(&self) -> Result<()> {
        for folder in ["cni", "containerd", "kubelet", "netd"] {
            fs::create_dir_all(self.state.join(folder))?;
        }
        self.container_runtime()?;
        self.cgroups()?;
        self.kubelet()?;
        self.proxy()?;
        let node = format!("/api/v1/nodes/{}-node", self.name);
        wait_until(&format!("{}: node Ready", self.name), Duration::from_secs(120), || {
            let Some(answer) = self.get(&node)? else { return Ok(false) };
            let answer: serde_json::Value = serde_json::from_str(&answer)?;
            let conditions = answer["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions
                .iter()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
        })
        .map(drop)
        .with_context(|| format!("the kubelet's log ends:\n{}", self.processes.log_tail("kubelet")))
    }

    fn container_runtime(&self) -> Result<()> {
        let network = json!({"cniVersion": "0.4.0", "name": self.name, "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
             "ipam": {"type": "host-local", "dataDir": self.path("netd"),
                      "ranges": [[{"subnet": format!("10.10{}.0.0/24", self.index)}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        fs::write(self.state.join("cni/10-bridge.conflist"), serde_json::to_vec(&network)?)?;
        let state = self.state.display();
        // netns_mounts_under_state_dir: else a killed cluster leaves namespaces behind, and the next cluster's pods get their
        // addresses. restrict_oom_score_adj: without CAP_SYS_RESOURCE a negative score cannot be set.
        let config = format!(
            r#"version = 2
root = "{state}/containerd"
state = "{state}/crun"
[grpc]
  address = "{state}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{state}/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/opt"
"#,
            pause = Kit::pause_image(),
        );
        fs::write(self.state.join("containerd.toml"), config)?;
        self.processes
            .start("containerd", &words(&format!("containerd --config {state}/containerd.toml")))?;
        wait_until("containerd", Duration::from_secs(30), || self.ctr_quiet(&["version"]))
            .with_context(|| format!("containerd's log ends:\n{}", self.processes.log_tail("containerd")))?;
        for archive in self.kit.archives() {
            let archive = archive.to_string_lossy().into_owned();
            run(self.ctr(&["images", "import", &archive]).as_mut())?;
        }
        Ok(())
    }

    fn ctr(&self, arguments: &[&str]) -> Box<Command> {
        let mut command = Command::new("timeout");
        command.args(["20", "ctr", "-a", &self.path("containerd.sock"), "-n", "k8s.io"]).args(arguments);
        Box::new(command)
    }

    fn ctr_quiet(&self, arguments: &[&str]) -> Result<bool> {
        quiet(&mut self.ctr(arguments))
    }

    /// Each kubelet gets a cgroup root of its own, or one would remove the other's pods as orphans.
    fn cgroups(&self) -> Result<()> {
        for controller in CGROUP_CONTROLLERS {
            let folder = Path::new("/sys/fs/cgroup").join(controller);
            if folder.exists() {
                fs::create_dir_all(folder.join(&self.name))?;
            }
        }
        let cpuset = Path::new("/sys/fs/cgroup/cpuset");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if cpuset.exists() {
                fs::write(cpuset.join(&self.name).join(file), fs::read(cpuset.join(file))?)?;
            }
        }
        Ok(())
    }

    fn kubelet(&self) -> Result<()> {
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": self.address,
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true},
                               "x509": {"clientCAFile": self.path("pki/ca.crt")}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": self.path("pki/node.crt"), "tlsPrivateKeyFile": self.path("pki/node.key"),
            "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", self.name), "failSwapOn": false,
            "clusterDomain": "cluster.local", "resolvConf": self.path("resolv.conf"), "healthzPort": 10248,
            "makeIPTablesUtilChains": true, "serializeImagePulls": false, "nodeStatusUpdateFrequency": "4s", "syncFrequency": "10s",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "100Mi", "imagefs.available": "100Mi"},
            "imageGCHighThresholdPercent": 100, "enforceNodeAllocatable": ["pods"], "oomScoreAdj": 0, "maxPods": 110,
            "kubeAPIQPS": 50, "kubeAPIBurst": 100,
        });
        fs::write(self.state.join("kubelet.yaml"), serde_json::to_vec_pretty(&config)?)?;
        fs::write(self.state.join("resolv.conf"), "nameserver 10.201.0.2\n")?;
        self.processes.start("kubelet", &words(&format!(
            "{program} --config={state}/kubelet.yaml --kubeconfig={state}/pki/node.conf --root-dir={state}/kubelet \
             --cert-dir={state}/kubelet/pki --hostname-override={name}-node --node-ip={address} --container-runtime=remote \
             --container-runtime-endpoint=unix://{state}/containerd.sock --volume-plugin-dir={state}/volumes \
             --node-labels=topology.kubernetes.io/region={name} --v=2",
            program = self.kit.program("kubelet"), state = self.state.display(), name = self.name, address = self.address,
        )))
    }

    /// The sysctls of connection tracking are read-only outside the first namespace: all zero means hands off.
    fn proxy(&self) -> Result<()> {
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": self.path("pki/proxy.conf")}, "mode": "iptables",
            "clusterCIDR": format!("10.10{}.0.0/16", self.index), "hostnameOverride": format!("{}-node", self.name),
            "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249", "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        });
        fs::write(self.state.join("proxy.yaml"), serde_json::to_vec_pretty(&config)?)?;
        let program = self.kit.program("kube-proxy");
        self.processes.start("proxy", &words(&format!("{program} --config={}", self.path("proxy.yaml"))))
    }

    /// Ends the node with its containers, mounts, devices, packet filter rules and cgroups.
    pub(crate) fn clear_node(&self) -> Result<()> {
        self.processes.stop("kubelet", Duration::from_secs(3))?;
        let listed =
            self.ctr(&["tasks", "ls", "-q"]).output().map(|output| output.stdout).unwrap_or_default();
        for task in String::from_utf8_lossy(&listed).split_whitespace() {
            self.ctr_quiet(&["tasks", "kill", "-s", "9", task])?;
        }
        let listed =
            self.ctr(&["containers", "ls", "-q"]).output().map(|output| output.stdout).unwrap_or_default();
        for container in String::from_utf8_lossy(&listed).split_whitespace() {
            self.ctr_quiet(&["tasks", "rm", "-f", container])?;
            self.ctr_quiet(&["containers", "rm", container])?;
        }
        for name in ["proxy", "containerd"] {
            self.processes.stop(name, Duration::from_secs(3))?;
        }
        // Shims are children of containerd's, known by the socket that they were started for.
        let pattern = format!("containerd-shim-runc-v2.* -address {}", self.path("containerd.sock"));
        quiet(Command::new("pkill").args(["-f", &pattern]))?;
        let prefix = format!(" {}/", self.state.display());
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mut points: Vec<&str> = mounts
            .lines()
            .filter(|line| line.contains(&prefix))
            .filter_map(|line| line.split(' ').nth(1))
            .collect();
        points.sort_unstable();
        for point in points.iter().rev() {
            quiet(Command::new("umount").args(["-l", point]))?;
        }
        for table in ["nat", "filter", "mangle"] {
            self.quiet(&["iptables", "-t", table, "-F"])?;
            self.quiet(&["iptables", "-t", table, "-X"])?;
        }
        self.quiet(&["ip", "link", "del", "cni0"])?;
        for controller in CGROUP_CONTROLLERS.iter().chain(&["unified"]) {
            let folder = format!("/sys/fs/cgroup/{controller}/{}", self.name);
            if Path::new(&folder).exists() {
                quiet(
                    Command::new("find").args([&folder, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]),
                )?;
            }
        }
        Ok(())
    }
}
