//! The driver of `federation_core::health`: heartbeats in, verdicts with an epoch out, traffic first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use federation_core::api::Verdict;
use federation_core::health::{Options, Signal, Verdicts};
use federation_runtime::shutdown::Shutdown;

use crate::act::clusters::ClusterStatuses;
use crate::decide::board::Board;
use crate::decide::queue::{Priority, Queue};
use crate::epoch::Epochs;
use crate::hub::sessions::Sessions;
use crate::metrics::{ClusterLabel, Metrics};
use crate::observe::{Key, World};
use crate::traffic::Traffic;

/// The verdicts' machine, and what turns it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Health {
    verdicts: Arc<Mutex<Verdicts>>,
    turn: Arc<Notify>,
}

/// What a changed verdict is told to.
pub(crate) struct Followers {
    pub(crate) world: World,
    pub(crate) board: Board,
    pub(crate) epochs: Epochs,
    pub(crate) sessions: Sessions,
    pub(crate) traffic: Traffic,
    pub(crate) statuses: ClusterStatuses,
    pub(crate) queue: Queue<Key>,
    pub(crate) metrics: Metrics,
}

impl Health {
    pub(crate) fn new(options: Options) -> Self {
        Self { verdicts: Arc::new(Mutex::new(Verdicts::new(options, now_ms()))), turn: Arc::default() }
    }

    /// Something was heard of a cluster.
    pub(crate) fn observe(&self, cluster: &str, signal: Signal) {
        self.verdicts.lock().observe(now_ms(), cluster, signal);
        self.turn.notify_one();
    }

    /// A Cluster is there, with the verdict that an earlier run left.
    pub(crate) fn restore(&self, cluster: &str, verdict: Verdict, since_ms: i64) {
        self.verdicts.lock().restore(cluster, verdict, since_ms, now_ms());
        self.turn.notify_one();
    }

    /// A Cluster left.
    pub(crate) fn remove(&self, cluster: &str) {
        self.verdicts.lock().remove(cluster);
        self.turn.notify_one();
    }

    /// Turns the machine until `shutdown`.
    pub(crate) async fn run(self, followers: Followers, shutdown: Shutdown) {
        let mut told: BTreeSet<String> = BTreeSet::new();
        let mut was_frozen: Option<String> = None;
        loop {
            let (changes, frozen, deadline, known) = {
                let mut verdicts = self.verdicts.lock();
                let changes = verdicts.step(now_ms());
                let known: Vec<String> = verdicts.views().map(|(name, _)| name.to_owned()).collect();
                (changes, verdicts.frozen().map(str::to_owned), verdicts.next_deadline_ms(), known)
            };
            let mut names: BTreeSet<String> = changes.iter().map(|change| change.cluster.clone()).collect();
            // A restored verdict is no change, and must be seen all the same.
            names.extend(known.iter().filter(|name| !told.contains(*name)).cloned());
            for change in &changes {
                tracing::info!(
                    cluster = change.cluster,
                    from = ?change.from,
                    to = ?change.to,
                    reason = change.reason,
                    "verdict changed"
                );
            }
            told = known.into_iter().collect();
            // A freeze or a thaw moves the time from which every bad verdict counts.
            let all = frozen != was_frozen;
            if all {
                names.clone_from(&told);
                match &frozen {
                    Some(reason) => tracing::error!(reason, "frozen: nothing moves"),
                    None => tracing::info!("thawed"),
                }
            }
            if !names.is_empty() || all {
                was_frozen.clone_from(&frozen);
                self.follow(&followers, names, frozen).await;
            }
            let wait = deadline.map_or(1000, |deadline| deadline.saturating_sub(now_ms()).clamp(1, 60_000));
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.turn.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(wait as u64)) => {}
            }
        }
    }

    /// One verdict, one epoch: the zones first, then the replicas.
    async fn follow(&self, followers: &Followers, names: BTreeSet<String>, frozen: Option<String>) {
        let epoch = match followers.epochs.next().await {
            Ok(epoch) => epoch,
            Err(error) => {
                // The verdict must not wait for the API: users are sent away with the newest epoch that there is.
                tracing::warn!(%error, "no new epoch for a verdict: the last one is used");
                followers.epochs.current()
            }
        };
        let changed: Vec<_> = {
            let verdicts = self.verdicts.lock();
            names.iter().filter_map(|name| Some((name.clone(), verdicts.view(name)?, epoch))).collect()
        };
        for (name, view, _) in &changed {
            let label = ClusterLabel { cluster: name.clone() };
            followers.metrics.healthy.get_or_create(&label).set(i64::from(view.verdict == Verdict::Healthy));
        }
        followers.metrics.frozen.set(i64::from(frozen.is_some()));
        followers.board.verdicts(changed, frozen);
        followers.traffic.poke();
        followers.sessions.set_epoch(epoch);
        for name in &names {
            followers.statuses.now(name);
        }
        for key in followers.world.keys() {
            followers.queue.add(key, Priority::Normal);
        }
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
