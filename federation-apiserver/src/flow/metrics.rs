//! What the metrics tell of the priority levels: read when somebody asks.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use super::{Classifier, UNCLASSED, Waiters, recompute_shares, seats::LevelState, wake};
use crate::store::Storage;

/// The name of a metric, what it tells, and how it is read.
type Told = (&'static str, &'static str, fn(&LevelState) -> usize);

const TOLD: [Told; 5] = [
    ("nominal_limit_seats", "Requests of a level that may be at work at a time", |level| level.nominal),
    ("lower_limit_seats", "Those of them that other levels cannot borrow", |level| level.least),
    ("upper_limit_seats", "Those with what the level may borrow", |level| level.most),
    ("current_executing_seats", "Requests of a level that are at work", |level| level.used),
    ("current_inqueue_requests", "Requests of a level that wait", |level| level.waiting),
];

/// The levels of a store.
pub(super) struct LevelMetrics {
    pub(super) seats: Arc<Mutex<Waiters>>,
    pub(super) classes: Arc<Classifier>,
    pub(super) storage: Storage,
}

impl std::fmt::Debug for LevelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Levels")
    }
}

impl LevelMetrics {
    fn now(&self) -> Vec<LevelState> {
        self.classes.renew(&self.storage);
        let (next, mut levels) = {
            let mut seats = self.seats.lock();
            (recompute_shares(&mut seats, &self.classes), seats.level_states())
        };
        wake(&self.seats, next);
        levels.retain(|level| *level.name != *UNCLASSED);
        levels.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        levels
    }
}

impl Collector for LevelMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let levels = self.now();
        for (name, help, read) in TOLD {
            let name = format!("apiserver_flowcontrol_{name}");
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for level in &levels {
                let labels = [("priority_level", &*level.name)];
                let count = i64::try_from(read(level)).unwrap_or(i64::MAX);
                metric.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
        Ok(())
    }
}
