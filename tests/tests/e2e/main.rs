//! The federation as its users meet it, on two real Kubernetes clusters.
//!
//! Each test has the machine for itself, a federation of its own with both clusters joined where it needs them, and a namespace of a
//! unique name. The letters in the modules' headings are those of the list of proofs that the project asks of itself.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod clients;
mod clocks;
mod contingency;
mod demo;
mod dns;
mod drift;
mod drills;
mod durability;
mod failover;
mod flapping;
mod follow;
mod gate;
mod health;
mod join;
mod mass;
mod partition;
mod paused;
mod plain;
mod restart;
mod spread;
mod statuses;
mod unjoin;

use std::time::Duration;

use federation_tests::{Agent, Api, Clusters, Federation, SITES, Settings, manifests};

/// For what takes no pod's work: applying, removing, correcting.
const SOON: Duration = Duration::from_secs(20);
/// For what takes real pods' work.
const PODS: Duration = Duration::from_secs(60);

/// Both clusters, a federation that both have joined, and a namespace.
struct World {
    namespace: String,
    agents: [Agent; 2],
    federation: Federation,
    clusters: Clusters,
}

impl World {
    fn joined(what: &str) -> anyhow::Result<Self> {
        Self::joined_with(what, &Settings::default())
    }

    fn joined_with(what: &str, settings: &Settings) -> anyhow::Result<Self> {
        let clusters = Clusters::both()?;
        let federation = Federation::start(settings)?;
        let agents = federation.join_both(&clusters)?;
        let namespace = manifests::unique(what);
        federation.api().apply(&manifests::namespace(&namespace))?;
        Ok(Self { namespace, agents, federation, clusters })
    }

    fn api(&self) -> Api {
        self.federation.api()
    }

    /// The members with their names, Taiwan first.
    fn members(&self) -> [(&'static str, Api); 2] {
        SITES.map(|site| (site.name, self.clusters.member(site)))
    }

    /// Waits until an object is in both members.
    #[track_caller]
    fn in_both(&self, name: &str) {
        for (site, member) in self.members() {
            federation_tests::eventually(&format!("{name} is in {site}"), SOON, || {
                member.has(&self.namespace, name)
            });
        }
    }

    /// Waits until an object is in neither member.
    #[track_caller]
    fn in_neither(&self, name: &str) {
        for (site, member) in self.members() {
            federation_tests::eventually(&format!("{name} is gone from {site}"), SOON, || {
                Ok(!member.has(&self.namespace, name)?)
            });
        }
    }

    /// Replicas that the members were told to run: Taiwan's, Tokyo's.
    fn replicas(&self, name: &str) -> anyhow::Result<[i64; 2]> {
        let [(_, taiwan), (_, tokyo)] = self.members();
        Ok([taiwan.replicas(&self.namespace, name)?, tokyo.replicas(&self.namespace, name)?])
    }

    /// Waits until replicas are divided so.
    #[track_caller]
    fn divided(&self, name: &str, wanted: [i64; 2]) {
        let mut seen = [0; 2];
        federation_tests::eventually(&format!("{name} is divided {wanted:?}"), SOON, || {
            seen = self.replicas(name)?;
            anyhow::ensure!(seen == wanted, "it is divided {seen:?}");
            Ok(true)
        });
    }

    /// Waits until a Deployment or ReplicaSet has so many ready replicas, as the federation says.
    #[track_caller]
    fn ready(&self, name: &str, wanted: i64) {
        federation_tests::eventually(&format!("{wanted} replicas of {name} are ready"), PODS, || {
            let ready = self.api().field(&self.namespace, name, "/status/readyReplicas")?;
            anyhow::ensure!(ready == wanted, "{ready} are");
            Ok(true)
        });
    }

    /// The name by which users know a Service.
    fn host(&self, service: &str) -> String {
        format!("{service}.{}.fed.svc.example.test", self.namespace)
    }
}
