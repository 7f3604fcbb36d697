//! The driver of `federation_core::traffic`: zones from what is seen, pushed at once, kept on disk.
//!
//! - `driver` decides whenever poked, and at the moment that the last decision named.
//! - `views` makes the inputs from what is observed; `wire` the messages; `kept` is the file that survives a restart.
//! - `probed` says what is probed, and tells the probers.
//! - `turns` tells of clusters that come into answers, or go.
//! - `drain` knows when a cluster has been left by its users; `status` tells the policies, and removes switches that expired.

mod drain;
mod driver;
mod kept;
mod probed;
mod status;
mod turns;
mod views;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use proto::v1;

use federation_core::api::TrafficPolicy;
use federation_core::health::Served;
use federation_core::traffic::{Latency, NameServer, Places, Sample, TrafficDecision};
use federation_runtime::clock;

use crate::act::events::Recorder;
use crate::act::write::Writer;
use crate::decide::cluster_state::ClusterState;
use crate::decide::queue::Queue;
use crate::dns::Dns;
use crate::drill::Drills;
use crate::epoch::Epochs;
use crate::hub::zones::Zones;
use crate::metrics::Metrics;
use crate::observe::{Key, World};

use drain::DrainTracker;
pub use kept::Keeping;
pub(crate) use probed::Probers;
use turns::Turns;

/// What the probers' quorum says, by cluster and Service.
pub(crate) type AllServed = BTreeMap<String, BTreeMap<String, Served>>;

/// What the operator says of the zone.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) zone: String,
    /// The zone of Multi-Cluster Services, if there is one.
    pub(crate) clusterset: Option<String>,
    pub(crate) nameservers: Vec<NameServer>,
    pub(crate) ttl_seconds: u32,
    pub(crate) incarnation: String,
    pub(crate) keeping: Keeping,
}

/// The driver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Traffic(Arc<Inner>);

struct Inner {
    poke: Notify,
    // The newest epoch that a DNS server is known to serve, whoever gave it: it takes nothing older.
    above: AtomicU64,
    // A decision waits to be told to the API.
    published: Notify,
    drains: Mutex<DrainTracker>,
    last: Mutex<Option<Arc<Published>>>,
    turns: Mutex<Turns>,
    latency: Mutex<Latency>,
    served: Mutex<Arc<AllServed>>,
}

/// A decision that was published.
pub(crate) struct Published {
    pub(crate) epoch: u64,
    /// When it was decided, Unix milliseconds.
    pub(crate) at_ms: i64,
    pub(crate) decision: TrafficDecision,
    /// That it was made from.
    pub(crate) policies: Arc<Vec<TrafficPolicy>>,
    pub(crate) places: Arc<Places>,
    /// By cluster.
    pub(crate) regions: BTreeMap<String, String>,
}

/// What the driver reads, and whom it tells.
pub(crate) struct TrafficContext {
    pub(crate) settings: Settings,
    pub(crate) world: World,
    pub(crate) cluster_state: ClusterState,
    pub(crate) epochs: Epochs,
    pub(crate) zones: Zones,
    pub(crate) dns: Dns,
    pub(crate) drills: Drills,
    pub(crate) probers: Probers,
    pub(crate) queue: Queue<Key>,
    pub(crate) writer: Writer,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            poke: Notify::new(),
            above: AtomicU64::new(0),
            published: Notify::new(),
            drains: Mutex::default(),
            last: Mutex::default(),
            turns: Mutex::default(),
            latency: Mutex::default(),
            served: Mutex::default(),
        }))
    }

    /// Something that answers are made from changed.
    pub(crate) fn poke(&self) {
        self.0.poke.notify_one();
    }

    /// A DNS server serves zones of this epoch: if those published last are older, they are published anew.
    pub(crate) fn above(&self, served: u64) {
        if self.0.above.fetch_max(served, Ordering::SeqCst) < served {
            self.poke();
        }
    }

    /// What the probers' quorum says now.
    pub(crate) fn note_served(&self, served: AllServed) {
        *self.0.served.lock() = Arc::new(served);
    }

    fn all_served(&self) -> Arc<AllServed> {
        self.0.served.lock().clone()
    }

    /// The last decision; none before the first.
    pub(crate) fn last(&self) -> Option<Arc<Published>> {
        self.0.last.lock().clone()
    }

    /// A DNS server measured what users of its region see. It is a vantage of a region only if a ClientRegions says so.
    pub(crate) fn measured(&self, instance: &str, votes: &[v1::ProbeVote]) {
        let Some(last) = self.last() else { return };
        let Some(from) = last.places.region_of_vantage(instance) else { return };
        let now_ms = clock::unix_ms();
        let up = |vote: &&v1::ProbeVote| vote.state == i32::from(v1::ProbeState::Up) && vote.rtt_micros > 0;
        let mut turned = false;
        {
            let mut latency = self.0.latency.lock();
            for vote in votes.iter().filter(up) {
                if let Some(to) = last.regions.get(&vote.cluster).filter(|to| !to.is_empty()) {
                    turned |= latency.observe(Sample { from, to, rtt_us: vote.rtt_micros }, now_ms);
                }
            }
        }
        if turned {
            self.poke();
        }
    }
}
