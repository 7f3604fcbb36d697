//! The task that turns the machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use federation_core::probe::{Attempt, Ended, Failure, Prober, Target};
use federation_runtime::clock::Instant;
use federation_runtime::endpoints::Health;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use parking_lot::Mutex;
use proto::v1;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::attempt::attempt;
use crate::resolve::Resolver;
use crate::tls::Tls;
use crate::wire;

/// Without targets nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// A prober that runs. Cheap to clone.
#[derive(Clone)]
pub struct Probing(Arc<Inner>);

struct Inner {
    prober: Mutex<Prober>,
    started: Instant,
    // The targets were replaced.
    replaced: Notify,
    version: watch::Sender<u64>,
}

impl Probing {
    /// A prober without targets, which runs until `shutdown`. `seed` spreads the probes of many probers; `resolvers` are asked for the addresses of
    /// targets that are names, those of the machine if there are none. While it has panicked `health` says so. Within a tokio runtime.
    pub fn start(seed: u64, resolvers: Vec<SocketAddr>, health: Health, shutdown: Shutdown) -> Self {
        let probing = Self::still(seed);
        let (turned, resolver, ending) = (probing.clone(), Resolver::new(resolvers), shutdown.clone());
        let turn = move || turned.clone().run(resolver.clone(), ending.clone());
        tokio::spawn(tasks::supervise("prober", health, shutdown, turn));
        probing
    }

    /// A prober without sockets: whoever has it makes the attempts that [`Probing::poll`] asks for, and says how they [`ended`](Probing::ended).
    pub fn still(seed: u64) -> Self {
        Self(Arc::new(Inner {
            prober: Mutex::new(Prober::new(seed)),
            started: Instant::now(),
            replaced: Notify::new(),
            version: watch::Sender::new(0),
        }))
    }

    /// The attempts that are due, and the milliseconds till the next is.
    pub fn poll(&self) -> (Vec<Attempt>, Option<u64>) {
        let now_ms = self.now_ms();
        let mut prober = self.0.prober.lock();
        let attempts = prober.poll(now_ms);
        let wait = |deadline: i64| deadline.saturating_sub(now_ms).max(1).unsigned_abs();
        (attempts, prober.next_deadline_ms().map(wait))
    }

    /// Probes these from now on, in place of those before. What is known of a target stays if its check does.
    pub fn set_targets(&self, targets: Vec<Target>) {
        let now_ms = self.now_ms();
        let dropped = {
            let mut prober = self.0.prober.lock();
            prober.set_targets(now_ms, targets);
            prober.dropped()
        };
        if dropped > 0 {
            tracing::warn!(dropped, "more targets than one prober takes: the rest is not probed");
        }
        self.0.replaced.notify_one();
    }

    /// What is seen of every target that was probed, with the ages of now.
    pub fn votes(&self) -> Vec<v1::ProbeVote> {
        let now_ms = self.now_ms();
        self.0.prober.lock().votes().map(|(key, vote)| wire::said(key, vote, now_ms)).collect()
    }

    /// The targets whose users are not served, as far as is seen from here.
    pub fn down(&self) -> Vec<Arc<Target>> {
        let prober = self.0.prober.lock();
        let down = |target: &&Arc<Target>| {
            prober
                .vote(&target.key)
                .is_some_and(|vote| vote.outcome == federation_core::health::Outcome::Down)
        };
        prober.targets().filter(down).cloned().collect()
    }

    /// Rings whenever a vote turns, and with the first failure of a row.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    async fn run(self, resolver: Resolver, shutdown: Shutdown) {
        let tls = Tls::default();
        let mut flying: JoinSet<(Attempt, Ended)> = JoinSet::new();
        // Those of one that panicked went with it.
        self.0.prober.lock().abandon(self.now_ms());
        loop {
            let (attempts, wait) = self.poll();
            for next in attempts {
                let (tls, resolver) = (tls.clone(), resolver.clone());
                flying.spawn(async move {
                    // A target that is never told of again would keep the vote that it had.
                    let ended = tasks::caught("probe", attempt(&next.target, &tls, &resolver)).await;
                    let ended = ended.unwrap_or_else(|panicked| {
                        tracing::error!(target = ?next.target.key, %panicked, "a probe failed in this prober");
                        let outcome = Err(Failure::Silence(format!("the prober failed: {panicked}")));
                        Ended { outcome, certificate_not_after: None }
                    });
                    (next, ended)
                });
            }
            let wait = wait.map_or(IDLE, Duration::from_millis);
            tokio::select! {
                () = shutdown.wait() => return,
                Some(ended) = flying.join_next() => {
                    if let Ok((of, ended)) = ended {
                        self.ended(&of, ended);
                    }
                }
                () = self.0.replaced.notified() => {
                    let hosts = self.0.prober.lock().targets().filter_map(|target| target.host.clone()).collect();
                    resolver.keep(&hosts);
                    self.ring();
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// An attempt ended.
    pub fn ended(&self, attempt: &Attempt, ended: Ended) {
        let now_ms = self.now_ms();
        self.0.prober.lock().ended(now_ms, attempt, ended);
        self.ring();
    }

    fn ring(&self) {
        let version = self.0.prober.lock().version();
        self.0.version.send_if_modified(|last| std::mem::replace(last, version) != version);
    }
}
