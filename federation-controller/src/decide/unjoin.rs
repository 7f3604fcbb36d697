//! Clusters that leave the federation: does what is left to do, and then removes our finalizer.

use std::time::Duration;

use kube::Client;

use federation_runtime::shutdown::Shutdown;

use super::cluster_state::{ClusterState, Unjoin};
use super::queue::{Priority, Queue};
use crate::hub::enrollment::drop_cluster_finalizer;
use crate::observe::{Key, World};

/// Progress is looked at this often: a look reads every decision, so that looking at each copy that goes would be quadratic.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Sees clusters off.
#[derive(Clone)]
pub(crate) struct UnjoinController {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) cluster_state: ClusterState,
    pub(crate) queue: Queue<Key>,
    pub(crate) clusters: Queue<String>,
}

impl UnjoinController {
    /// Works until `shutdown`.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let controller = &self;
        let look = |name: String| async move {
            if let Err(error) = controller.see_off(&name).await {
                tracing::warn!(%error, cluster = name, "a cluster could not be seen off: again soon");
                controller.clusters.add_after(name, Priority::Normal, LOOK_AGAIN);
            }
        };
        self.clusters.work("unjoin", &shutdown, look).await;
    }

    async fn see_off(&self, name: &str) -> Result<(), kube::Error> {
        let Some(cluster) = self.world.cluster(name) else { return Ok(()) };
        let Some(mode) = Unjoin::of(&cluster) else { return Ok(()) };
        // Nothing is concluded from what may be half of the decisions.
        if !self.world.is_complete() {
            self.clusters.add_after(name.to_owned(), Priority::Normal, LOOK_AGAIN);
            return Ok(());
        }
        let mut holding = 0_usize;
        let mut running = 0_usize;
        for key in self.world.decided_keys() {
            let Some(decided) = self.world.decided(&key) else { continue };
            if let Some(target) = decided.spec.clusters.iter().find(|target| target.name == name) {
                holding += 1;
                running +=
                    usize::from(target.replicas.is_some_and(|replicas| replicas > 0) || !target.leaving);
            }
        }
        let done = match mode {
            Unjoin::Forget => true,
            Unjoin::Detach => holding == 0,
            Unjoin::Drain => {
                if running == 0 && self.cluster_state.emptied(name) {
                    for key in self.world.decided_keys() {
                        self.queue.add(key, Priority::Normal);
                    }
                }
                holding == 0
            }
        };
        if done {
            tracing::info!(cluster = name, ?mode, "a cluster left the federation");
            return drop_cluster_finalizer(&self.client, &cluster).await;
        }
        tracing::debug!(cluster = name, ?mode, holding, running, "a cluster is leaving");
        self.clusters.add_after(name.to_owned(), Priority::Normal, LOOK_AGAIN);
        Ok(())
    }
}
