//! The task that turns the machine.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use federation_core::probe::{Attempt, Ended, Prober, Target};
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

    /// Notified whenever a vote turns, and with the first failure of a row.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    async fn run(self, resolver: Resolver, shutdown: Shutdown) {
        let (tls, asked) = (Tls::default(), resolver.clone());
        let probe = move |target: Arc<Target>| {
            let (tls, resolver) = (tls.clone(), asked.clone());
            async move { attempt(&target, &tls, &resolver).await }
        };
        self.run_with(probe, &resolver, &shutdown).await;
    }

    /// Makes each attempt by `probe`.
    async fn run_with<W>(&self, probe: impl Fn(Arc<Target>) -> W, resolver: &Resolver, shutdown: &Shutdown)
    where
        W: Future<Output = Ended> + Send + 'static,
    {
        let mut flying: JoinSet<(Attempt, Option<Ended>)> = JoinSet::new();
        // Those of one that panicked went with it.
        self.0.prober.lock().abandon(self.now_ms());
        loop {
            let (attempts, wait) = self.poll();
            for next in attempts {
                let work = probe(next.target.clone());
                flying.spawn(async move {
                    let ended = tasks::caught("probe", work).await.inspect_err(|panicked| {
                        tracing::error!(target = ?next.target.key, %panicked, "a probe failed in this prober");
                    });
                    (next, ended.ok())
                });
            }
            let wait = wait.map_or(IDLE, Duration::from_millis);
            tokio::select! {
                () = shutdown.wait() => return,
                Some(ended) = flying.join_next() => match ended {
                    Ok((of, Some(ended))) => self.ended(&of, ended),
                    // A fault of this prober says nothing of the target: all probers may have it at once.
                    Ok((of, None)) => self.0.prober.lock().failed(&of),
                    // They are caught, and nobody aborts them.
                    Err(_) => {}
                },
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

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::{AtomicU32, Ordering};

    use federation_core::probe::{Alone, Check, Key};

    use super::*;

    #[tokio::test]
    async fn a_fault_of_the_prober_is_no_vote_and_what_was_said_before_ages() {
        let target = |cluster: &str| Target {
            key: Key { service: "default/web".into(), cluster: cluster.into() },
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            host: None,
            port: 80,
            check: Check { interval_ms: 100, ..Check::default() },
            alone: Alone::default(),
        };
        let probing = Probing::still(1);
        probing.set_targets(vec![target("taiwan"), target("tokyo"), target("osaka")]);
        // Osaka's probes always fail in this prober; Taiwan's do after they have seen users served.
        let faults = Arc::new(AtomicU32::new(0));
        let probe = {
            let (probing, faults) = (probing.clone(), faults.clone());
            move |target: Arc<Target>| {
                let (probing, faults) = (probing.clone(), faults.clone());
                async move {
                    let cluster = target.key.cluster.as_str();
                    let voted = probing.votes().iter().any(|vote| vote.cluster == "taiwan");
                    if cluster == "osaka" || cluster == "taiwan" && voted {
                        faults.fetch_add(u32::from(cluster == "taiwan"), Ordering::Relaxed);
                        panic!("a fault of the prober");
                    }
                    Ended { outcome: Ok(1000), certificate_not_after: None }
                }
            }
        };
        let (resolver, shutdown) = (Resolver::new(Vec::new()), Shutdown::new());
        let many = async {
            while faults.load(Ordering::Relaxed) < 2 * Check::default().fall + 4 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = probing.run_with(probe, &resolver, &shutdown) => {}
            met = tokio::time::timeout(Duration::from_secs(20), many) => met.expect("it is probed again"),
        }
        let votes = probing.votes();
        let of = |cluster: &str| votes.iter().find(|vote| vote.cluster == cluster);
        let (taiwan, tokyo) = (of("taiwan").expect("it was seen"), of("tokyo").expect("it was seen"));
        assert_eq!((taiwan.state(), taiwan.failures, taiwan.message.as_str()), (v1::ProbeState::Up, 0, ""));
        assert!(taiwan.age_ms > tokyo.age_ms, "{} and {}", taiwan.age_ms, tokyo.age_ms);
        assert_eq!(of("osaka"), None, "nothing was seen of it");
    }
}
