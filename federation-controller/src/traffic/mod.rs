//! The driver of `federation_core::traffic`: zones from what is seen, pushed at once, kept on disk.
//!
//! - `driver` decides whenever poked, and at the moment that the last decision named.
//! - `views` makes the inputs from what is observed; `wire` the messages; `kept` is the file that survives a restart.
//! - `leaving` knows when a cluster has been left by its users; `status` tells the policies, and removes switches that expired.

mod driver;
mod kept;
mod leaving;
mod status;
mod views;
pub(crate) mod wire;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use federation_core::traffic::{NameServer, Places, TrafficDecision};

use crate::act::write::Writer;
use crate::decide::board::Board;
use crate::decide::queue::Queue;
use crate::dns::Dns;
use crate::epoch::Epochs;
use crate::hub::zones::Zones;
use crate::observe::{Key, World};

use leaving::Leaving;

/// What the operator says of the zone.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) zone: String,
    pub(crate) nameservers: Vec<NameServer>,
    pub(crate) ttl_seconds: u32,
    pub(crate) incarnation: String,
    pub(crate) file: PathBuf,
}

/// The driver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Traffic(Arc<Inner>);

struct Inner {
    poke: Notify,
    leaving: Mutex<Leaving>,
    last: Mutex<Option<Arc<Published>>>,
}

/// A decision that was published.
pub(crate) struct Published {
    pub(crate) epoch: u64,
    pub(crate) decision: TrafficDecision,
    pub(crate) places: Arc<Places>,
}

/// What the driver reads, and whom it tells.
pub(crate) struct Surroundings {
    pub(crate) settings: Settings,
    pub(crate) world: World,
    pub(crate) board: Board,
    pub(crate) epochs: Epochs,
    pub(crate) zones: Zones,
    pub(crate) dns: Dns,
    pub(crate) queue: Queue<Key>,
    pub(crate) writer: Writer,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { poke: Notify::new(), leaving: Mutex::default(), last: Mutex::default() }))
    }

    /// Something that answers are made from changed.
    pub(crate) fn poke(&self) {
        self.0.poke.notify_one();
    }

    /// The last decision; none before the first.
    pub(crate) fn last(&self) -> Option<Arc<Published>> {
        self.0.last.lock().clone()
    }
}
