//! The controller without its doors: everything that observes, decides and acts, put together, with neither watches nor sockets.
//!
//! [`Service`](crate::Service) puts watches and the hub around it. A simulation puts itself there: it says what the watches say, carries
//! agents' and DNS servers' messages, answers the writes, and turns the tasks of its thread (`federation_runtime::tasks`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use federation_core::health;
use federation_core::placement::Defaults;
use federation_core::traffic::NameServer;
use federation_prober::Probing;
use federation_runtime::endpoints::Health as Readiness;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::hub::Config;
use proto::v1;

use crate::act::api::Api;
use crate::act::clusters::ClusterStatuses;
use crate::act::events::Recorder;
use crate::act::write::Writer;
use crate::contingency::{self, Contingency};
use crate::decide::ahead::Ahead;
use crate::decide::board::Board;
use crate::decide::hear::Ear;
use crate::decide::ledger::Ledger;
use crate::decide::queue::Queue;
use crate::decide::reconcile::Reconciler;
use crate::decide::removal::Gate;
use crate::decide::work;
use crate::dns::Dns;
use crate::drill::Drills;
use crate::epoch::{self, Epochs};
use crate::health::{Followers, Health};
use crate::hub::sessions::{Heard, Sessions};
use crate::hub::zones::{Stream, Zones};
use crate::metrics::Metrics;
use crate::observe::reflect::{Observer, Served};
use crate::observe::watch::Change;
use crate::observe::{KINDS, Key, Wanted, World};
use crate::traffic::{Keeping, Probers, Settings, Surroundings, Traffic};

/// Heartbeats that the hub may leave unanswered before survivors of a loss take it to be away: as many as it waits for an agent's.
const AWAY: u32 = 10;
/// And never less, milliseconds: a controller that restarts takes a few seconds.
const AWAY_MIN_MS: u32 = 3_000;

/// What a controller is told at its start.
pub struct Setup {
    /// Where it writes.
    pub api: Api,
    /// The hub's name, and the store's incarnation with it, for agents.
    pub hub: Config,
    /// See `--dns-zone`.
    pub zone: String,
    /// The zone's servers.
    pub nameservers: Vec<NameServer>,
    /// See `--clusterset-zone`.
    pub clusterset: Option<String>,
    /// Seconds.
    pub ttl_seconds: u32,
    /// Where the last answers are.
    pub answers: Keeping,
    /// See `--evict-after`.
    pub evict_after: Duration,
    /// See `--trash-grace`.
    pub trash_grace: Duration,
    /// What probes from here.
    pub probing: Probing,
    /// Objects of the DNS.
    pub(crate) dns: Dns,
    /// Tells people.
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: Shutdown,
}

/// The controller.
pub struct Machine {
    pub(crate) world: World,
    pub(crate) board: Board,
    pub(crate) sessions: Sessions,
    pub(crate) health: Health,
    pub(crate) traffic: Traffic,
    pub(crate) zones: Zones,
    pub(crate) drills: Drills,
    pub(crate) gate: Gate,
    pub(crate) ledger: Ledger,
    pub(crate) queue: Queue<Key>,
    pub(crate) statuses: Queue<Key>,
    pub(crate) leaving: Queue<String>,
    pub(crate) writer: Writer,
    pub(crate) contingency: Contingency,
    pub(crate) ear: Ear,
    pub(crate) observer: Observer,
    pub(crate) defaults: Defaults,
    pub(crate) epochs: Epochs,
    setup: Setup,
}

impl Machine {
    /// Puts it together. Nothing of it runs before [`Machine::start`].
    ///
    /// # Errors
    /// When no epoch can be taken.
    pub async fn new(setup: Setup) -> Result<Self, epoch::Error> {
        let metrics = &setup.metrics;
        let epochs = Epochs::start(setup.api.clone()).await?;
        let world = World::default();
        let board = Board::new(world.clone());
        let (queue, statuses, leaving) = (Queue::default(), Queue::default(), Queue::default());
        let ledger = Ledger::default();
        let writer = Writer::new(setup.api.clone());
        let sessions = Sessions::new(setup.hub.clone(), metrics.clone());
        sessions.set_epoch(epochs.current());
        let drills = Drills::default();
        let heartbeat_ms = i64::from(setup.hub.heartbeat_ms);
        let health =
            Health::new(health::Options { heartbeat_ms, ..health::Options::default() }, drills.clone());
        let traffic = Traffic::new();
        let ahead = Ahead {
            world: world.clone(),
            epochs: epochs.clone(),
            sessions: sessions.clone(),
            queue: queue.clone(),
            traffic: traffic.clone(),
            recorder: setup.recorder.clone(),
        };
        let zones = Zones::new(
            traffic.clone(),
            health.clone(),
            ahead.clone(),
            metrics.clone(),
            setup.shutdown.clone(),
        );
        let contingency =
            Contingency::new(world.clone(), sessions.clone(), setup.recorder.clone(), setup.api.clone());
        let ear = Ear {
            world: world.clone(),
            board: board.clone(),
            health: health.clone(),
            ahead,
            sessions: sessions.clone(),
            ledger: ledger.clone(),
            queue: queue.clone(),
            statuses: statuses.clone(),
            cluster_statuses: ClusterStatuses::new(world.clone(), board.clone(), writer.clone()),
            traffic: traffic.clone(),
            contingency: contingency.clone(),
            recorder: setup.recorder.clone(),
            metrics: metrics.clone(),
            met: Arc::default(),
        };
        let gate = Gate::new(world.clone(), epochs.clone(), metrics.clone());
        let observer = Observer {
            world: world.clone(),
            board: board.clone(),
            queue: queue.clone(),
            leaving: leaving.clone(),
            health: health.clone(),
            traffic: traffic.clone(),
            drills: drills.clone(),
            sessions: sessions.clone(),
            writer: writer.clone(),
            gate: gate.clone(),
            readiness: setup.readiness.clone(),
            wanted: Wanted::default(),
        };
        let defaults = Defaults { evict_after_ms: setup.evict_after.as_millis() as i64 };
        Ok(Self {
            world,
            board,
            sessions,
            health,
            traffic,
            zones,
            drills,
            gate,
            ledger,
            queue,
            statuses,
            leaving,
            writer,
            contingency,
            ear,
            observer,
            defaults,
            epochs,
            setup,
        })
    }

    /// Starts what decides and acts, once the views are whole.
    pub(crate) fn run(&self, workers: usize) {
        let shutdown = &self.setup.shutdown;
        let reconciler = Reconciler {
            world: self.world.clone(),
            board: self.board.clone(),
            sessions: self.sessions.clone(),
            writer: self.writer.clone(),
            epochs: self.epochs.clone(),
            queue: self.queue.clone(),
            statuses: self.statuses.clone(),
            ledger: self.ledger.clone(),
            gate: self.gate.clone(),
            traffic: self.traffic.clone(),
            drills: self.drills.clone(),
            contingency: self.contingency.clone(),
            recorder: self.setup.recorder.clone(),
            metrics: self.setup.metrics.clone(),
            defaults: self.defaults,
            trash_grace: self.setup.trash_grace,
        };
        work::start(reconciler, workers, shutdown);
        tasks::spawn(self.ear.cluster_statuses.clone().run(shutdown.clone()));
        let settings = Settings {
            nameservers: self.setup.nameservers.clone(),
            clusterset: self.setup.clusterset.clone(),
            zone: self.setup.zone.clone(),
            ttl_seconds: self.setup.ttl_seconds.max(1),
            incarnation: self.setup.hub.incarnation.clone(),
            keeping: self.setup.answers.clone(),
        };
        let (own, health) = (self.setup.probing.clone(), self.health.clone());
        tasks::spawn(health.clone().look(own.clone(), shutdown.clone()));
        let surroundings = Surroundings {
            settings,
            world: self.world.clone(),
            board: self.board.clone(),
            epochs: self.epochs.clone(),
            zones: self.zones.clone(),
            dns: self.setup.dns.clone(),
            drills: self.drills.clone(),
            probers: Probers { health: health.clone(), own, sessions: self.sessions.clone() },
            queue: self.queue.clone(),
            writer: self.writer.clone(),
        };
        tasks::spawn(self.traffic.clone().run(surroundings, shutdown.clone()));
        let followers = Followers {
            world: self.world.clone(),
            board: self.board.clone(),
            epochs: self.epochs.clone(),
            sessions: self.sessions.clone(),
            traffic: self.traffic.clone(),
            statuses: self.ear.cluster_statuses.clone(),
            queue: self.queue.clone(),
            recorder: self.setup.recorder.clone(),
            metrics: self.setup.metrics.clone(),
        };
        tasks::spawn(health.run(followers, shutdown.clone()));
        let planned = contingency::Surroundings {
            board: self.board.clone(),
            epochs: self.epochs.clone(),
            zones: self.zones.clone(),
            defaults: self.defaults,
            away_ms: self.setup.hub.heartbeat_ms.saturating_mul(AWAY).max(AWAY_MIN_MS),
        };
        tasks::spawn(self.contingency.clone().run(planned, shutdown.clone()));
    }
}

/// What the watch of a collection says.
pub enum Word {
    /// An object is there, as it is now.
    Present(Value),
    /// An object is gone; its last known state.
    Gone(Value),
    /// Everything that is there was told.
    Synced,
    /// The watch broke.
    Broken,
}

/// For whoever puts a world of its own around the controller: a simulation.
impl Setup {
    /// What a controller is told that nobody watches. `api` is where it writes; `probing` is turned by its owner.
    pub fn unwatched(api: Api, hub: Config, zone: &str, answers: Keeping, probing: Probing) -> Self {
        Self {
            api,
            hub,
            zone: zone.into(),
            nameservers: vec![NameServer { name: format!("ns1.{zone}."), addresses: Vec::new() }],
            clusterset: None,
            ttl_seconds: 5,
            answers,
            evict_after: Duration::from_secs(10),
            trash_grace: Duration::ZERO,
            probing,
            dns: Dns::without(),
            recorder: Recorder::silent(),
            metrics: Metrics::unread(),
            readiness: Readiness::new(),
            shutdown: Shutdown::new(),
        }
    }
}

/// For whoever puts a world of its own around the controller: a simulation.
impl Machine {
    /// Says which collections are to be told of, by their URL paths, before anything is concluded from what is not there.
    pub fn declare(&self, plurals: &[&str]) -> Vec<String> {
        self.observer.declare(KINDS.iter().filter(|kind| plurals.contains(&kind.plural)))
    }

    /// A watch says something.
    pub fn observe(&self, collection: &str, word: Word) {
        let change = match word {
            Word::Present(object) => Change::Present(object),
            Word::Gone(object) => Change::Gone(object),
            Word::Synced => Change::Synced,
            Word::Broken => Change::Broken,
        };
        self.observer.take(Served::Always, collection, change);
    }

    /// Whether every view is whole.
    pub fn is_synced(&self) -> bool {
        self.world.is_synced()
    }

    /// Starts what decides and acts, with so many workers.
    pub fn start(&self, workers: usize) {
        self.run(workers);
    }

    /// An agent's stream begins; its number.
    pub fn agent_connected(&self, cluster: &str) -> u64 {
        self.sessions.open(cluster)
    }

    /// An agent's stream ended.
    pub fn agent_left(&self, cluster: &str, stream: u64) {
        self.sessions.close(cluster, stream, &self.ear);
    }

    /// An agent says something, or time has passed for its session. False: its stream is to be closed.
    pub fn agent_said(&self, cluster: &str, message: Option<v1::AgentMessage>) -> bool {
        self.sessions.with(cluster, |session, now| match message {
            Some(message) => session.handle_message(now, message),
            None => session.tick(now),
        });
        self.sessions.tell(cluster, self.sessions.stream(cluster), &self.ear) == Heard::All
    }

    /// What an agent is to be told next.
    pub fn to_agent(&self, cluster: &str) -> Option<v1::HubMessage> {
        self.sessions.with(cluster, |session, _| session.poll_transmit())
    }

    /// Whether an agent is known to hold what is wanted, and nothing is on its way to it.
    pub fn is_settled(&self, cluster: &str) -> bool {
        self.sessions.with(cluster, |session, _| session.is_connected() && session.pending() == 0)
    }

    /// A DNS server's stream begins.
    pub fn dns_connected(&self) -> DnsStream {
        DnsStream(self.zones.open("dns".into()))
    }

    /// Why nothing may move.
    pub fn frozen(&self) -> Option<String> {
        self.board.snapshot().frozen.clone()
    }

    /// An operator ends a freeze.
    pub fn thaw(&self) {
        self.health.thaw();
    }

    /// Why nothing is taken away since the store was restored.
    pub fn restored(&self) -> Option<String> {
        self.epochs.restored()
    }

    /// An operator says that what the restored store says is what is wanted.
    pub fn confirm_restored(&self) {
        let (epochs, ear) = (self.epochs.clone(), self.ear.clone());
        tasks::spawn(async move {
            if epochs.confirm().await.is_ok() {
                ear.look_at_all();
            }
        });
    }

    /// The newest epoch.
    pub fn epoch(&self) -> u64 {
        self.epochs.current()
    }

    /// Whether nothing waits to be looked at.
    pub fn is_idle(&self) -> bool {
        self.queue.depth() == 0
    }
}

/// A DNS server's stream, which ends when it is dropped.
pub struct DnsStream(Stream);

impl DnsStream {
    /// The server says something.
    pub fn said(&mut self, message: v1::DnsMessage) {
        self.0.said(message, None);
    }

    /// What the server is to be told now.
    pub fn update(&mut self) -> Option<v1::ZoneUpdate> {
        self.0.next()
    }
}
