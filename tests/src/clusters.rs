//! The two real clusters.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use real_clusters::{Cluster, Kit, Mode, Network, Site};

use crate::Api;

/// Where the clusters are.
pub const SITES: [Site; 2] = [Site::TAIWAN, Site::TOKYO];
const LOCK: &str = "/run/federation-clusters.lock";
/// By this label a namespace is a test's, and may be removed by the next.
const OURS: &str = "federation-e2e=true";

/// Taiwan and Tokyo, held by one test. The next test waits until this is dropped.
#[derive(Debug)]
pub struct Clusters {
    kit: Kit,
    /// Links and namespaces.
    pub network: Network,
    cache: tempfile::TempDir,
    _held: File,
}

impl Clusters {
    /// Both clusters, whole and healthy, with the network healed. Those that an earlier test brought up are used again: they stay up
    /// until `cargo xtask cluster down`.
    ///
    /// # Errors
    /// When they cannot be brought up; the user must be root.
    pub fn both() -> Result<Self> {
        let held = File::create(LOCK).with_context(|| format!("{LOCK} (real clusters need root)"))?;
        held.lock()?;
        let kit = Kit::ensure()?;
        let clusters =
            Self { kit, network: Network::existing(&SITES), cache: tempfile::tempdir()?, _held: held };
        let healed = SITES.iter().all(|site| {
            clusters.network.heal(*site).is_ok() && clusters.network.rtt(*site, site.rtt_ms).is_ok()
        });
        if !(healed && SITES.iter().all(|site| clusters.healthy(*site))) {
            clusters.bring_up()?;
        }
        for site in SITES {
            clusters.member(site).kubectl(&["delete", "namespace", "-l", OURS, "--wait=false"])?;
        }
        Ok(clusters)
    }

    /// Whether a cluster takes work: its API answers and its node is Ready.
    pub fn healthy(&self, site: Site) -> bool {
        let node = format!("node/{}-node", site.name);
        let conditions = self.member(site).field("default", &node, "/status/conditions");
        conditions.is_ok_and(|conditions| {
            conditions.as_array().is_some_and(|conditions| {
                conditions
                    .iter()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            })
        })
    }

    fn bring_up(&self) -> Result<()> {
        eprintln!("  bringing up the clusters of Taiwan and Tokyo");
        for site in SITES {
            self.cluster(site).down()?;
        }
        Network::up(&self.kit, &SITES)?;
        thread::scope(|scope| {
            let ups = SITES.map(|site| scope.spawn(move || self.cluster(site).up(Mode::Full)));
            ups.into_iter()
                .try_for_each(|up| up.join().unwrap_or_else(|_| bail!("bringing a cluster up panicked")))
        })
    }

    /// Further members, brought up side by side.
    ///
    /// # Errors
    /// When one cannot be brought up.
    pub fn light<const N: usize>(&self, sites: [Site; N]) -> Result<Vec<LightMember>> {
        thread::scope(|scope| {
            let ups = sites.map(|site| scope.spawn(move || LightMember::up(self, site)));
            ups.into_iter()
                .map(|up| up.join().unwrap_or_else(|_| bail!("bringing a cluster up panicked")))
                .collect()
        })
    }

    /// A site's cluster and its processes.
    pub fn cluster(&self, site: Site) -> Cluster {
        Cluster::in_site(&self.kit, site)
    }

    /// A member's own API, by the administrator's kubeconfig.
    pub fn member(&self, site: Site) -> Api {
        let cache: &Path = self.cache.path();
        Api::new(&self.cluster(site).kubeconfig(), &cache.join(site.name))
    }

    /// Taiwan's API and Tokyo's.
    pub fn members(&self) -> [Api; 2] {
        SITES.map(|site| self.member(site))
    }
}

/// A member that is real, but for its nodes: etcd, kube-apiserver and the controllers that an API needs to be whole, in a network
/// namespace of its own behind a link that can be cut. It goes away with this.
#[derive(Debug)]
pub struct LightMember {
    site: Site,
    cluster: Cluster,
    network: Network,
}

impl LightMember {
    fn up(clusters: &Clusters, site: Site) -> Result<Self> {
        let member = Self { site, cluster: clusters.cluster(site), network: clusters.network.clone() };
        member.cluster.down()?;
        member.network.join(&clusters.kit, site)?;
        member.cluster.up(Mode::Api)?;
        Ok(member)
    }
}

impl Drop for LightMember {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.down().and_then(|()| self.network.leave(self.site)) {
            eprintln!("{} is not gone: {error:#}", self.site.name);
        }
    }
}

impl Drop for Clusters {
    fn drop(&mut self) {
        for site in SITES {
            let _ = self.network.heal(site);
            let stop = ["delete", "namespace", "-l", OURS, "--wait=false"];
            let _ = self.member(site).outcome(&stop);
        }
    }
}

/// Waits for a pod's work in tests that start real pods on two busy cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
