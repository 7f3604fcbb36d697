//! The controller's doors for whoever puts a world of its own around it, without watches and sockets: a simulation, and tests.

use std::collections::BTreeSet;
use std::time::Duration;

use federation_core::traffic::NameServer;
use federation_prober::Probing;
use federation_runtime::endpoints::Health as Readiness;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::hub::Config;
use proto::v1;
use serde_json::Value;

use super::{Machine, Setup};
use crate::act::api::Api;
use crate::act::events::Recorder;
use crate::dns::Dns;
use crate::hub::sessions::Heard;
use crate::hub::zones::Stream;
use crate::metrics::Metrics;
use crate::observe::KINDS;
use crate::observe::reflect::Served;
use crate::observe::watch::Change;
use crate::traffic::Keeping;

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

    /// An agent's stream begins; its number.
    pub fn agent_connected(&self, cluster: &str) -> u64 {
        self.sessions.open(cluster)
    }

    /// An agent's stream ended.
    pub fn agent_left(&self, cluster: &str, stream: u64) {
        self.sessions.close(cluster, stream, &self.agent_events);
    }

    /// An agent says something, or time has passed for its session. False: its stream is to be closed.
    pub fn agent_said(&self, cluster: &str, message: Option<v1::AgentMessage>) -> bool {
        self.sessions.with(cluster, |session, now| match message {
            Some(message) => session.handle_message(now, message),
            None => session.tick(now),
        });
        self.sessions.tell(cluster, self.sessions.stream(cluster), &self.agent_events) == Heard::All
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

    /// Addresses that users of a name may be given, by the newest zones; `None` before there are any.
    pub fn addresses(&self, name: &str) -> Option<BTreeSet<String>> {
        let zones = self.zones.newest()?;
        let records = zones.zones.iter().flat_map(|zone| &zone.records);
        let tiers = records
            .filter(|record| record.name == name && record.r#type == "A")
            .flat_map(|record| record.tiers.iter().chain(record.variants.iter().flat_map(|it| &it.tiers)));
        let choices = tiers.flat_map(|tier| &tier.choices).filter(|choice| choice.weight > 0);
        Some(choices.flat_map(|choice| choice.data.iter().cloned()).collect())
    }

    /// Why nothing may move.
    pub fn frozen(&self) -> Option<String> {
        self.cluster_state.snapshot().frozen.clone()
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
        let (epochs, agent_events) = (self.epochs.clone(), self.agent_events.clone());
        tasks::spawn(async move {
            if epochs.confirm().await.is_ok() {
                agent_events.look_at_all();
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
