//! The controller without its doors: everything that observes, decides and acts, put together, with neither watches nor sockets.
//!
//! [`Service`](crate::Service) puts watches and the hub around it. A simulation puts itself there, by `harness`: it says what the watches say,
//! carries agents' and DNS servers' messages, answers the writes, and turns the tasks of its thread (`federation_runtime::tasks`).

mod harness;

use std::sync::Arc;
use std::time::Duration;

use federation_core::health;
use federation_core::placement::Defaults;
use federation_core::traffic::NameServer;
use federation_prober::Probing;
use federation_runtime::endpoints::Health as Readiness;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::hub::Config;

use crate::act::api::Api;
use crate::act::clusters::ClusterStatuses;
use crate::act::events::Recorder;
use crate::act::write::Writer;
use crate::contingency::{self, Contingency};
use crate::decide::agent_events::AgentEvents;
use crate::decide::ahead::Ahead;
use crate::decide::cluster_state::ClusterState;
use crate::decide::ledger::Ledger;
use crate::decide::queue::Queue;
use crate::decide::reconcile::Reconciler;
use crate::decide::removal::Gate;
use crate::decide::work;
use crate::dns::Dns;
use crate::drill::Drills;
use crate::epoch::{self, Epochs};
use crate::health::{Followers, Health};
use crate::hub::sessions::Sessions;
use crate::hub::zones::Zones;
use crate::metrics::Metrics;
use crate::observe::reflect::Observer;
use crate::observe::{Key, Wanted, World};
use crate::traffic::{Keeping, Probers, Settings, Traffic, TrafficContext};

pub use harness::{DnsStream, Word};

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
    pub(crate) cluster_state: ClusterState,
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
    pub(crate) agent_events: AgentEvents,
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
        let cluster_state = ClusterState::new(world.clone());
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
        let agent_events = AgentEvents {
            world: world.clone(),
            cluster_state: cluster_state.clone(),
            health: health.clone(),
            ahead,
            sessions: sessions.clone(),
            ledger: ledger.clone(),
            queue: queue.clone(),
            statuses: statuses.clone(),
            cluster_statuses: ClusterStatuses::new(world.clone(), cluster_state.clone(), writer.clone()),
            traffic: traffic.clone(),
            contingency: contingency.clone(),
            recorder: setup.recorder.clone(),
            metrics: metrics.clone(),
            met: Arc::default(),
        };
        let gate = Gate::new(world.clone(), epochs.clone(), metrics.clone());
        let observer = Observer {
            world: world.clone(),
            cluster_state: cluster_state.clone(),
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
            metrics: metrics.clone(),
        };
        let defaults = Defaults { evict_after_ms: setup.evict_after.as_millis() as i64 };
        Ok(Self {
            world,
            cluster_state,
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
            agent_events,
            observer,
            defaults,
            epochs,
            setup,
        })
    }

    /// Starts what decides and acts once the views are whole, with so many workers.
    pub fn start(&self, workers: usize) {
        let shutdown = &self.setup.shutdown;
        let readiness = || self.setup.readiness.clone();
        work::start(self.reconciler(), workers, &readiness(), shutdown);
        let (statuses, ending) = (self.agent_events.cluster_statuses.clone(), shutdown.clone());
        let write = move || statuses.clone().run(ending.clone());
        tasks::spawn(tasks::supervise("cluster-statuses", readiness(), shutdown.clone(), write));
        let (own, health) = (self.setup.probing.clone(), self.health.clone());
        let (judged, ending) = (health.clone(), shutdown.clone());
        let look = move || judged.clone().look(own.clone(), ending.clone());
        tasks::spawn(tasks::supervise("own-votes", readiness(), shutdown.clone(), look));
        let context = Arc::new(self.traffic_context());
        // Answers and verdicts that stand still look as if all were well.
        let (traffic, of, ending) = (self.traffic.clone(), context.clone(), shutdown.clone());
        let decide = move || traffic.clone().run(of.clone(), ending.clone());
        tasks::spawn(tasks::supervise("traffic", readiness(), shutdown.clone(), decide));
        let (traffic, ending) = (self.traffic.clone(), shutdown.clone());
        let tell = move || traffic.clone().tell(context.clone(), ending.clone());
        tasks::spawn(tasks::supervise("traffic-statuses", readiness(), shutdown.clone(), tell));
        let followers = Followers {
            world: self.world.clone(),
            cluster_state: self.cluster_state.clone(),
            epochs: self.epochs.clone(),
            sessions: self.sessions.clone(),
            traffic: self.traffic.clone(),
            statuses: self.agent_events.cluster_statuses.clone(),
            queue: self.queue.clone(),
            recorder: self.setup.recorder.clone(),
            metrics: self.setup.metrics.clone(),
        };
        let ending = shutdown.clone();
        let judge = move || health.clone().run(followers.clone(), ending.clone());
        tasks::spawn(tasks::supervise("verdicts", readiness(), shutdown.clone(), judge));
        let context = Arc::new(contingency::PlanningContext {
            cluster_state: self.cluster_state.clone(),
            epochs: self.epochs.clone(),
            zones: self.zones.clone(),
            defaults: self.defaults,
            away_ms: self.setup.hub.heartbeat_ms.saturating_mul(AWAY).max(AWAY_MIN_MS),
        });
        let (contingency, ending) = (self.contingency.clone(), shutdown.clone());
        let plan = move || contingency.clone().run(context.clone(), ending.clone());
        tasks::spawn(tasks::supervise("contingency", readiness(), shutdown.clone(), plan));
    }

    /// What answers are decided from, and given to.
    pub(crate) fn traffic_context(&self) -> TrafficContext {
        let settings = Settings {
            nameservers: self.setup.nameservers.clone(),
            clusterset: self.setup.clusterset.clone(),
            zone: self.setup.zone.clone(),
            ttl_seconds: self.setup.ttl_seconds.max(1),
            incarnation: self.setup.hub.incarnation.clone(),
            keeping: self.setup.answers.clone(),
        };
        TrafficContext {
            settings,
            world: self.world.clone(),
            cluster_state: self.cluster_state.clone(),
            epochs: self.epochs.clone(),
            zones: self.zones.clone(),
            dns: self.setup.dns.clone(),
            drills: self.drills.clone(),
            probers: Probers {
                health: self.health.clone(),
                own: self.setup.probing.clone(),
                sessions: self.sessions.clone(),
            },
            queue: self.queue.clone(),
            writer: self.writer.clone(),
            recorder: self.setup.recorder.clone(),
            metrics: self.setup.metrics.clone(),
        }
    }

    /// What works on objects.
    pub(crate) fn reconciler(&self) -> Reconciler {
        Reconciler {
            world: self.world.clone(),
            cluster_state: self.cluster_state.clone(),
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
        }
    }
}
