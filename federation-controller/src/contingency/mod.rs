//! Contingency plans: made ahead, shipped to agents, and what agents did by them taken in.
//!
//! `plan` makes them, each second where anything changed; `ship` gives each member's part to its session; `adopt` is what happens when an
//! agent comes back that acted while this hub was away. Who decides what is `federation_core::contingency` and `hub_protocol`.

mod adopt;
mod plan;
mod ship;
mod told;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use federation_core::contingency::{Finding, Loss, Takeover};
use federation_core::placement::Defaults;
use federation_runtime::clock::Instant;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;

use crate::act::api::Api;
use crate::act::contingency_log::ActedPlan;
use crate::act::events::Recorder;
use crate::decide::cluster_state::ClusterState;
use crate::epoch::Epochs;
use crate::hub::sessions::Sessions;
use crate::hub::zones::Zones;
use crate::observe::{Key, World};

/// Between two looks whether plans are as they should be.
const EVERY: Duration = Duration::from_secs(1);
/// At least so many times as long as a look took: a tenth of one core at most.
const SHARE: u32 = 9;

/// The plan of one loss.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What is lost.
    pub(crate) loss: Loss,
    /// What becomes of the workloads that it concerns, ordered by key on the wire.
    pub(crate) workloads: Vec<(Key, Arc<str>, Arc<Takeover>)>,
    /// What speaks against it.
    pub(crate) findings: Vec<Finding>,
}

/// Plans, and what was done by them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Contingency(Arc<Inner>);

struct Inner {
    world: World,
    sessions: Sessions,
    recorder: Recorder,
    api: Api,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plans: Arc<Vec<Plan>>,
    council: proto::v1::Council,
    /// Epoch of the newest plans that were shipped to anybody.
    epoch: u64,
    /// By cluster: epoch and digest of what it is to hold.
    shipped: BTreeMap<String, (u64, u64)>,
    memory: HashMap<Key, plan::Remembered>,
    /// By cluster: what its agent did, until decisions have taken it in.
    pending: BTreeMap<String, adopt::Pending>,
    /// Acts that are kept, oldest first.
    acted: Vec<ActedPlan>,
}

/// What the task needs.
pub(crate) struct PlanningContext {
    pub(crate) cluster_state: ClusterState,
    pub(crate) epochs: Epochs,
    pub(crate) zones: Zones,
    pub(crate) defaults: Defaults,
    /// Milliseconds without a word of the hub after which it is away.
    pub(crate) away_ms: u32,
}

impl Contingency {
    pub(crate) fn new(world: World, sessions: Sessions, recorder: Recorder, api: Api) -> Self {
        Self(Arc::new(Inner { world, sessions, recorder, api, state: Mutex::default() }))
    }

    /// Makes and ships plans until `shutdown`.
    pub(crate) async fn run(self, context: Arc<PlanningContext>, shutdown: Shutdown) {
        self.remember_acts().await;
        let mut pause = EVERY;
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tasks::sleep(pause) => {}
            }
            let start = Instant::now();
            let (plans, of) = (self.clone(), context.clone());
            // Thousands of workloads take their time, and nobody else is to wait for them.
            let planned = tasks::blocking(move || plans.plan(&of)).await;
            pause = EVERY.max(start.elapsed() * SHARE);
            if planned {
                self.ship(&context).await;
            }
        }
    }
}
