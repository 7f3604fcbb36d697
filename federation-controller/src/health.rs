//! The driver of `federation_core::health`: heartbeats and probers' votes in, verdicts with an epoch out, traffic first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use federation_core::api::Verdict;
use federation_core::health::{Change, Options, Outcome, Report, Signal, Verdicts, Vote, Voter, is_bad};
use federation_core::probe::Target;
use federation_prober::Probing;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::{clock, tasks};
use proto::v1;

use crate::act::clusters::ClusterStatuses;
use crate::act::events::Recorder;
use crate::decide::cluster_state::ClusterState;
use crate::decide::queue::{Priority, Queue};
use crate::drill::Drills;
use crate::epoch::{EPOCH_WAIT, Epochs};
use crate::hub::sessions::Sessions;
use crate::metrics::{ClusterLabel, Metrics, VerdictLabel, VoteLabel};
use crate::observe::{Key, World};
use crate::traffic::{AllServed, Traffic};

/// The controller's own prober repeats what it says so often, milliseconds; what the quorum says is told of again so often, too.
const REPEAT_MS: i64 = 1000;
/// Failures in a row that a prober of a cluster has had which is cut off on purpose.
const FAILURES: u32 = 3;
/// Every verdict that there is.
pub(crate) const VERDICTS: [Verdict; 6] = [
    Verdict::Unknown,
    Verdict::Healthy,
    Verdict::HubUnreachable,
    Verdict::ApiDown,
    Verdict::DataPlaneDown,
    Verdict::Partitioned,
];

/// The verdicts' machine, and what turns it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Health {
    verdicts: Arc<Mutex<Verdicts>>,
    turn: Arc<Notify>,
    drills: Drills,
}

/// What a changed verdict is told to.
#[derive(Clone)]
pub(crate) struct Followers {
    pub(crate) world: World,
    pub(crate) cluster_state: ClusterState,
    pub(crate) epochs: Epochs,
    pub(crate) sessions: Sessions,
    pub(crate) traffic: Traffic,
    pub(crate) statuses: ClusterStatuses,
    pub(crate) queue: Queue<Key>,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
}

/// For operators.
pub(crate) struct Told {
    /// Of now, Unix milliseconds.
    pub(crate) now_ms: i64,
    /// By name.
    pub(crate) reports: Vec<(String, Report)>,
    /// Why nothing moves.
    pub(crate) frozen: Option<String>,
    /// What the freeze named.
    pub(crate) frozen_clusters: Vec<String>,
}

/// What followers were told last.
#[derive(Default)]
struct Followed {
    clusters: BTreeSet<String>,
    frozen: Option<String>,
    /// By cluster and Service, whether users are served.
    served: BTreeMap<String, BTreeMap<String, bool>>,
    served_ms: i64,
}

impl Health {
    /// `drills` may cut clusters off: what probers say of those is not what is heard.
    pub(crate) fn new(options: Options, drills: Drills) -> Self {
        let verdicts = Arc::new(Mutex::new(Verdicts::new(options, now_ms())));
        Self { verdicts, turn: Arc::default(), drills }
    }

    /// Something was heard of a cluster. Of one that has left, what was on its way is dropped: taken in anew it would count as one that fell
    /// silent.
    pub(crate) fn observe(&self, cluster: &str, signal: Signal) {
        {
            let mut verdicts = self.verdicts.lock();
            if verdicts.view(cluster).is_none() {
                return;
            }
            verdicts.observe(now_ms(), cluster, signal);
        }
        self.turn.notify_one();
    }

    /// A prober says what it sees. An agent's word on its own cluster is not one from outside, and is dropped.
    pub(crate) fn heard(&self, voter: &Voter, votes: &[v1::ProbeVote]) {
        if votes.is_empty() {
            return;
        }
        let now_ms = now_ms();
        {
            let mut verdicts = self.verdicts.lock();
            for said in votes {
                if !matches!(voter, Voter::Peer(own) if *own == said.cluster) {
                    let vote = federation_prober::vote(said, now_ms);
                    // Who is cut off on purpose is seen by nobody.
                    let vote = match self.drills.isolates(&said.cluster) {
                        Some(loss) => Vote {
                            outcome: Outcome::Down,
                            failures: vote.failures.max(FAILURES),
                            message: loss.message(),
                            ..vote
                        },
                        None => vote,
                    };
                    verdicts.vote(voter, &said.cluster, &said.service, vote);
                }
            }
        }
        self.turn.notify_one();
    }

    /// What is probed from now on; votes on anything else are dropped.
    pub(crate) fn expect(&self, targets: &[Target]) {
        let mut lives: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for target in targets {
            let services = lives.entry(target.key.cluster.clone()).or_default();
            services.insert(target.key.service.clone(), target.check.vote_life_ms());
        }
        self.verdicts.lock().expect_votes(lives);
    }

    /// A Cluster is there, with the verdict that an earlier run left.
    pub(crate) fn restore(&self, cluster: &str, verdict: Verdict, since_ms: i64) {
        self.verdicts.lock().restore(cluster, verdict, since_ms, now_ms());
        self.turn.notify_one();
    }

    /// Survivors took over what ran in these clusters while no hub judged them.
    pub(crate) fn doubt<'a>(&self, clusters: impl IntoIterator<Item = &'a String>) {
        {
            let mut verdicts = self.verdicts.lock();
            for cluster in clusters {
                verdicts.doubt(cluster, now_ms());
            }
        }
        self.turn.notify_one();
    }

    /// Whether there is a verdict of a cluster, if only that nothing is known.
    pub(crate) fn judges(&self, cluster: &str) -> bool {
        self.verdicts.lock().view(cluster).is_some()
    }

    /// A Cluster left.
    pub(crate) fn remove(&self, cluster: &str) {
        self.verdicts.lock().remove(cluster);
        self.turn.notify_one();
    }

    /// Everything that was said, and what followed.
    pub(crate) fn told(&self) -> Told {
        let now_ms = now_ms();
        let verdicts = self.verdicts.lock();
        Told {
            now_ms,
            reports: verdicts.reports(now_ms).map(|(name, report)| (name.to_owned(), report)).collect(),
            frozen: verdicts.frozen().map(str::to_owned),
            frozen_clusters: verdicts.frozen_clusters().to_vec(),
        }
    }

    /// Ends a freeze by an operator's word; what it named.
    pub(crate) fn thaw(&self) -> Option<Vec<String>> {
        let named = self.verdicts.lock().thaw(now_ms());
        self.turn.notify_one();
        named
    }

    /// Lets the controller's own prober vote, until `shutdown`.
    pub(crate) async fn look(self, probing: Probing, shutdown: Shutdown) {
        let mut changes = probing.changes();
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tasks::sleep(Duration::from_millis(REPEAT_MS.unsigned_abs())) => {}
            }
            self.heard(&Voter::Controller, &probing.votes());
        }
    }

    /// Turns the machine until `shutdown`.
    pub(crate) async fn run(self, followers: Followers, shutdown: Shutdown) {
        let mut told = Followed::default();
        loop {
            let (changes, frozen, deadline, known) = {
                let mut verdicts = self.verdicts.lock();
                let changes = verdicts.step(now_ms());
                let known: BTreeSet<String> = verdicts.views().map(|(name, _)| name.to_owned()).collect();
                (changes, verdicts.frozen().map(str::to_owned), verdicts.next_deadline_ms(), known)
            };
            let mut names: BTreeSet<String> = changes.iter().map(|change| change.cluster.clone()).collect();
            // A restored verdict is no change, and must be seen all the same.
            names.extend(known.difference(&told.clusters).cloned());
            for change in &changes {
                say(&followers, change);
            }
            told.clusters = known;
            // A freeze or a thaw moves the time from which every bad verdict counts.
            let all = frozen != told.frozen;
            if all {
                names.clone_from(&told.clusters);
                self.say_frozen(&followers, &names, frozen.as_deref());
            }
            if let Some(reason) = frozen.as_deref().filter(|_| told.frozen.is_none()) {
                // Before anybody hears of users who are not served: zones are decided beside this.
                followers.cluster_state.freeze(reason);
                // After that, so that whoever takes a newer epoch for a permit sees the freeze.
                followers.sessions.void_permits(followers.epochs.current().saturating_add(1));
            }
            self.follow_users(&followers, &mut told, !names.is_empty());
            if !names.is_empty() || all {
                told.frozen.clone_from(&frozen);
                self.follow(&followers, names, frozen).await;
            }
            let wait = deadline.map_or(1000, |deadline| deadline.saturating_sub(now_ms()).clamp(1, 60_000));
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = self.turn.notified() => {}
                () = tasks::sleep(Duration::from_millis(wait as u64)) => {}
            }
        }
    }

    /// What the probers' quorum says of each Service moves its users, whatever becomes of the cluster's verdict.
    fn follow_users(&self, followers: &Followers, told: &mut Followed, turned: bool) {
        let now_ms = now_ms();
        let served: AllServed = self.verdicts.lock().served(now_ms);
        let passing = |services: &BTreeMap<String, federation_core::health::Served>| {
            services.iter().map(|(service, served)| (service.clone(), served.passing)).collect()
        };
        let short = served.iter().map(|(cluster, services)| (cluster.clone(), passing(services))).collect();
        let changed = short != told.served;
        if changed || turned || now_ms.saturating_sub(told.served_ms) >= REPEAT_MS {
            followers.traffic.note_served(served);
            told.served_ms = now_ms;
            self.count_votes(followers, now_ms);
        }
        if changed {
            told.served = short;
            followers.traffic.poke();
        }
    }

    fn count_votes(&self, followers: &Followers, now_ms: i64) {
        let verdicts = self.verdicts.lock();
        for (cluster, report) in verdicts.reports(now_ms) {
            for (says, outcome) in [("up", Outcome::Up), ("down", Outcome::Down)] {
                let says = VoteLabel { cluster: cluster.to_owned(), says };
                let votes = report.votes.iter().filter(|vote| vote.counts && vote.vote.outcome == outcome);
                followers.metrics.votes.get_or_create(&says).set(votes.count() as i64);
            }
        }
    }

    fn say_frozen(&self, followers: &Followers, names: &BTreeSet<String>, frozen: Option<&str>) {
        match frozen {
            Some(reason) => tracing::error!(reason, "frozen: nothing moves"),
            None => tracing::info!("thawed"),
        }
        let named = self.verdicts.lock().frozen_clusters().to_vec();
        for name in names {
            let Some(cluster) = followers.world.cluster(name) else { continue };
            match frozen {
                Some(reason) if named.contains(name) => {
                    followers.recorder.cluster(&cluster, "Warning", "Frozen", reason);
                }
                Some(_) => {}
                None => followers.recorder.cluster(&cluster, "Normal", "Thawed", "things may move again"),
            }
        }
    }

    /// One verdict, one epoch: the zones first, then the replicas.
    async fn follow(&self, followers: &Followers, names: BTreeSet<String>, frozen: Option<String>) {
        // The verdict must not wait for the API: users are sent away with the newest epoch that there is.
        let epoch = followers.epochs.next_within(EPOCH_WAIT).await;
        let changed: Vec<_> = {
            let verdicts = self.verdicts.lock();
            names.iter().filter_map(|name| Some((name.clone(), verdicts.view(name)?, epoch))).collect()
        };
        for (name, view, _) in &changed {
            let label = ClusterLabel { cluster: name.clone() };
            followers.metrics.healthy.get_or_create(&label).set(i64::from(view.verdict == Verdict::Healthy));
            for verdict in VERDICTS {
                let label = VerdictLabel { cluster: name.clone(), verdict: format!("{verdict:?}") };
                followers.metrics.verdict.get_or_create(&label).set(i64::from(view.verdict == verdict));
            }
        }
        followers.metrics.frozen.set(i64::from(frozen.is_some()));
        followers.cluster_state.verdicts(changed, frozen);
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

/// Tells people of a verdict that changed.
fn say(followers: &Followers, change: &Change) {
    tracing::info!(
        cluster = change.cluster,
        from = ?change.from,
        to = ?change.to,
        rule = %change.rule,
        reason = change.reason,
        "verdict changed"
    );
    if change.from == change.to {
        return;
    }
    if is_bad(change.to) && !is_bad(change.from) {
        followers.metrics.falls.get_or_create(&ClusterLabel { cluster: change.cluster.clone() }).inc();
    }
    let Some(cluster) = followers.world.cluster(&change.cluster) else { return };
    let kind = if is_bad(change.to) { "Warning" } else { "Normal" };
    let message = format!("it was {:?}; rule {}: {}", change.from, change.rule, change.reason);
    followers.recorder.cluster(&cluster, kind, &format!("{:?}", change.to), &message);
}

fn now_ms() -> i64 {
    clock::unix_ms()
}
