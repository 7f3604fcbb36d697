//! The driver of `federation_core::drill`: looks, steps, writes, and takes clusters away for as long as a drill runs.
//!
//! - `driver` is the one loop; `facts` makes what it looks at; `loss` is what decisions are told; `vantage` says what users look at, and from where.
//! - `calendar` makes drills of schedules.

mod calendar;
mod driver;
mod facts;
mod loss;
mod vantage;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::Notify;

use federation_core::api::{DrillScope, DrillUsers, FailoverDrill};
use federation_core::drill::bounded;
use federation_core::placement::Defaults;
use federation_runtime::pki::Authority;

use crate::decide::cluster_state::ClusterState;
use crate::decide::queue::Queue;
use crate::hub::sessions::Sessions;
use crate::hub::zones::Zones;
use crate::observe::{Key, World};
use crate::traffic::Traffic;

pub(crate) use loss::Loss;

/// Agents and DNS servers that hear nothing of the hub for so long give back by themselves what a drill took, milliseconds.
pub(crate) const LEASE_MS: u32 = 5000;

/// Drills, and what they take away. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Drills(Arc<Inner>);

#[derive(Default)]
struct Inner {
    // As the API holds them, by name.
    objects: Mutex<BTreeMap<String, Arc<FailoverDrill>>>,
    loss: ArcSwapOption<Loss>,
    // What agents saw: by cluster, the drill and the figures.
    seen: Mutex<BTreeMap<String, (String, DrillUsers)>>,
    changed: Notify,
}

/// What the driver looks at, and whom it tells.
pub(crate) struct DrillContext {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) cluster_state: ClusterState,
    pub(crate) sessions: Sessions,
    pub(crate) traffic: Traffic,
    pub(crate) zones: Zones,
    pub(crate) queue: Queue<Key>,
    pub(crate) defaults: Defaults,
    /// Signs what drills came to.
    pub(crate) authority: Arc<Authority>,
    /// The federation's DNS zone.
    pub(crate) zone: String,
}

impl Drills {
    /// A drill is there, or changed.
    pub(crate) fn put(&self, drill: FailoverDrill) {
        self.0.objects.lock().insert(drill.name().to_owned(), Arc::new(drill));
        self.0.changed.notify_one();
    }

    /// A drill is gone.
    pub(crate) fn remove(&self, name: &str) {
        self.0.objects.lock().remove(name);
        self.0.changed.notify_one();
    }

    /// What a drill takes away now.
    pub(crate) fn loss(&self) -> Option<Arc<Loss>> {
        self.0.loss.load_full()
    }

    /// The drill that cuts a cluster off now.
    pub(crate) fn isolates(&self, cluster: &str) -> Option<Arc<Loss>> {
        self.loss().filter(|loss| {
            loss.scope == DrillScope::Isolate && loss.clusters.iter().any(|name| name == cluster)
        })
    }

    /// A cluster's agent says what its users saw of a drill that runs.
    pub(crate) fn saw(&self, cluster: &str, drill: &str, users: DrillUsers) {
        if self
            .loss()
            .is_some_and(|loss| loss.drill == drill && !loss.clusters.iter().any(|lost| lost == cluster))
        {
            self.0.seen.lock().insert(cluster.to_owned(), (drill.to_owned(), bounded(users)));
        }
    }

    /// What the agents of these clusters saw of a drill.
    fn seen(&self, drill: &str, agents: &[String]) -> Vec<(String, DrillUsers)> {
        let seen = self.0.seen.lock();
        let of = |cluster: &String| {
            let (_, users) = seen.get(cluster).filter(|(of, _)| of == drill)?;
            Some((cluster.clone(), users.clone()))
        };
        agents.iter().filter_map(of).collect()
    }

    fn objects(&self) -> Vec<Arc<FailoverDrill>> {
        self.0.objects.lock().values().cloned().collect()
    }
}
