//! etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::cluster::{Cluster, Mode};

/// Without nodeipam, which would hold everything up for 10 s.
const ALL_CONTROLLERS: &str = "*,-nodeipam,-cloud-node-lifecycle,-route,-service";
const API_CONTROLLERS: &str = "namespace,garbagecollector,serviceaccount,serviceaccount-token";

impl Cluster {
    pub(crate) fn control_plane(&self, mode: Mode) -> Result<()> {
        fs::create_dir_all(self.state.join("etcd"))?;
        self.processes.start("etcd", &self.etcd())?;
        let mut apiserver = self.apiserver();
        apiserver.extend_from_slice(&self.apiserver_flags);
        self.processes.start("apiserver", &apiserver)?;
        self.wait_for("API server ready", "apiserver", Duration::from_secs(90), "/readyz", "ok")?;
        let controllers = match mode {
            Mode::Server => return Ok(()),
            Mode::Api => API_CONTROLLERS,
            Mode::ControlPlane | Mode::Full => ALL_CONTROLLERS,
        };
        self.processes.start("kcm", &self.controller_manager(controllers))?;
        if mode != Mode::Api {
            self.processes.start("scheduler", &self.scheduler())?;
        }
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        self.wait_for("default service account", "kcm", Duration::from_secs(90), account, "ServiceAccount")
    }

    fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        words(&format!(
            "etcd --name {name} --data-dir {data} --listen-client-urls {client} --advertise-client-urls {client} \
             --listen-peer-urls {peer} --initial-advertise-peer-urls {peer} --initial-cluster {name}={peer}",
            name = self.name,
            data = self.path("etcd"),
        ))
    }

    fn apiserver(&self) -> Vec<String> {
        let pki = self.path("pki");
        // Without a namespace there is no service network, and no node to reach by its addresses.
        let endpoints = if self.namespace.is_some() { "" } else { "--endpoint-reconciler-type=none" };
        words(&format!(
            "{program} --etcd-servers=http://127.0.0.1:{etcd} --bind-address={address} --advertise-address={address} --secure-port={api} \
             --tls-cert-file={pki}/apiserver.crt --tls-private-key-file={pki}/apiserver.key --client-ca-file={pki}/ca.crt \
             --kubelet-preferred-address-types=InternalIP --kubelet-client-certificate={pki}/admin.crt --kubelet-client-key={pki}/admin.key \
             --service-account-key-file={pki}/sa.crt --service-account-signing-key-file={pki}/sa.key \
             --service-account-issuer=https://kubernetes.default.svc --requestheader-client-ca-file={pki}/ca.crt \
             --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User \
             --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
             --proxy-client-cert-file={pki}/front.crt --proxy-client-key-file={pki}/front.key \
             --service-cluster-ip-range=10.11{index}.0.0/16 --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
             --allow-privileged=true --profiling=false {endpoints}",
            program = self.apiserver_program,
            etcd = self.ports.etcd,
            address = self.address,
            api = self.ports.api,
            index = self.index,
        ))
    }

    /// The CNI's own range needs no node CIDR.
    fn controller_manager(&self, controllers: &str) -> Vec<String> {
        let pki = self.path("pki");
        words(&format!(
            "{program} --kubeconfig={pki}/kcm.conf --authentication-kubeconfig={pki}/kcm.conf --authorization-kubeconfig={pki}/kcm.conf \
             --bind-address=127.0.0.1 --port=0 --secure-port={port} --cert-dir={state} --service-account-private-key-file={pki}/sa.key \
             --root-ca-file={pki}/ca.crt --cluster-signing-cert-file={pki}/ca.crt --cluster-signing-key-file={pki}/ca.key \
             --use-service-account-credentials --controllers={controllers} --allocate-node-cidrs=false \
             --cluster-cidr=10.10{index}.0.0/16 --service-cluster-ip-range=10.11{index}.0.0/16 --leader-elect=false --kube-api-qps=200 \
             --kube-api-burst=400 --node-monitor-grace-period=20s --node-monitor-period=2s --profiling=false",
            program = self.kit.program("kube-controller-manager"),
            port = self.ports.controller_manager,
            state = self.path("kcm"),
            index = self.index,
        ))
    }

    fn scheduler(&self) -> Vec<String> {
        let pki = self.path("pki");
        words(&format!(
            "{program} --kubeconfig={pki}/sched.conf --authentication-kubeconfig={pki}/sched.conf --authorization-kubeconfig={pki}/sched.conf \
             --bind-address=127.0.0.1 --port=0 --secure-port={port} --cert-dir={state} --leader-elect=false --profiling=false",
            program = self.kit.program("kube-scheduler"),
            port = self.ports.scheduler,
            state = self.path("sched"),
        ))
    }
}

pub(crate) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(ToOwned::to_owned).collect()
}
