//! Takes in the agents' messages: updates the world, and queues the objects that must be reconciled because of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use federation_core::api::FormerCopy;
use federation_core::health::{Signal, Voter};
use federation_core::membership::Shown;
use federation_runtime::clock;
use hub_protocol::FENCED;
use hub_protocol::hub::Event;
use parking_lot::Mutex;
use proto::v1;
use tonic::Status;

use super::ahead::Ahead;
use super::cluster_state::ClusterState;
use super::ledger::Ledger;
use super::queue::{Priority, Queue};
use crate::act::clusters::ClusterStatuses;
use crate::act::events::Recorder;
use crate::contingency::Contingency;
use crate::health::Health;
use crate::hub::sessions::{Listener, Sessions};
use crate::metrics::{ClusterLabel, Metrics};
use crate::observe::{Key, World};
use crate::traffic::Traffic;

/// Takes in what the agents say.
#[derive(Clone)]
pub(crate) struct AgentEvents {
    pub(crate) world: World,
    pub(crate) cluster_state: ClusterState,
    pub(crate) health: Health,
    pub(crate) ahead: Ahead,
    pub(crate) sessions: Sessions,
    pub(crate) ledger: Ledger,
    pub(crate) queue: Queue<Key>,
    pub(crate) statuses: Queue<Key>,
    pub(crate) cluster_statuses: ClusterStatuses,
    pub(crate) traffic: Traffic,
    pub(crate) contingency: Contingency,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    /// Clusters whose agents have connected to this run of the controller. Bounded by the names that ever joined.
    pub(crate) met: Arc<Mutex<BTreeSet<String>>>,
}

impl Listener for AgentEvents {
    fn heard(&self, cluster: &str, event: Event) {
        match event {
            Event::Connected(hello) => self.connected(cluster, hello),
            // Sent before its cluster left the federation: ignored.
            Event::Heartbeat(_) if self.world.cluster(cluster).is_none() => {}
            Event::Heartbeat(mut heartbeat) => {
                let apis = std::mem::take(&mut heartbeat.apis);
                if !apis.is_empty() && self.cluster_state.serves(cluster, apis) {
                    self.cluster_statuses.now(cluster);
                    self.look_at_all();
                }
                let signal =
                    Signal::Heartbeat { api_ok: heartbeat.api_ok, message: heartbeat.api_message.clone() };
                let votes = std::mem::take(&mut heartbeat.votes);
                self.keep_above(cluster, heartbeat.epoch, true);
                self.cluster_state.heartbeat(cluster, heartbeat);
                self.health.observe(cluster, signal);
                self.health.heard(&Voter::Peer(cluster.to_owned()), &votes);
                self.cluster_statuses.beat(cluster);
            }
            Event::Applied(applied) => self.applied(cluster, &applied),
            Event::Removed(removed) => self.removed(cluster, &removed),
            Event::Status(status) => {
                let Some(key) = self.known(status.key.as_ref(), &status.uid) else { return };
                if self.world.report(&key, cluster, |report| report.status(&status, clock::unix_ms())) {
                    self.statuses.add(key.clone(), Priority::Normal);
                    if federation_core::template::has_replicas(key.kind.kind) {
                        self.queue.add(key, Priority::Normal);
                    }
                }
            }
            Event::Service(state) => {
                let Some(key) = self.known(state.key.as_ref(), &state.uid) else { return };
                if self.world.report(&key, cluster, |report| report.service(&state)) {
                    self.traffic.poke();
                }
            }
            Event::MemberEvent(event) => {
                let Some(key) = event.key.as_ref() else { return };
                if let Some(template) = self.world.template_on_wire(key, &event.uid) {
                    self.recorder.member(&template, &event, cluster);
                }
            }
            Event::Strays { count, some } => {
                self.metrics
                    .strays
                    .get_or_create(&ClusterLabel { cluster: cluster.to_owned() })
                    .set(count as i64);
                if count > 0 {
                    let some: Vec<String> = some.into_iter().map(stray).collect();
                    tracing::warn!(
                        cluster,
                        count,
                        ?some,
                        "a member holds copies that no template wants: they are left alone"
                    );
                }
            }
            Event::Mismatch { ours, theirs } => {
                tracing::info!(cluster, ?ours, ?theirs, "the tables differ: comparing");
            }
            Event::Lapsed { key, .. } => {
                if let Some(key) = Key::from_wire(&key.into()) {
                    self.queue.add(key, Priority::Background);
                }
            }
            // Where nobody keeps it any more it would be probed for ever, and the cluster be judged by that.
            Event::Unlisted { key, uid } => {
                if let Some(key) = Key::from_wire(&key.into())
                    && self.world.unlisted(&key, cluster, &uid)
                {
                    tracing::info!(%key, cluster, "the agent does not hold a Service that is to go: it is not looked at any more");
                    self.traffic.poke();
                }
            }
            Event::Violation(what) => tracing::warn!(cluster, what, "an agent broke the protocol"),
            // The driver of the stream ends it and then calls `left`.
            Event::Lost { .. } => {}
        }
    }

    fn left(&self, cluster: &str) {
        tracing::info!(cluster, "an agent's stream ended");
        self.health.observe(cluster, Signal::SessionLost);
    }

    fn check(&self, shown: &Shown) -> Result<(), Status> {
        self.world.member(shown).map(drop)
    }
}

impl AgentEvents {
    fn connected(&self, cluster: &str, mut hello: v1::Hello) {
        if let Some(acted) = hello.acted.take() {
            // Before what was done is adopted: what is lost still must not be given its share back for its heartbeats.
            self.health.doubt(&acted.clusters);
            self.contingency.acted(cluster, &acted, &self.queue);
        }
        self.world.age_reports(cluster);
        let epoch = hello.epoch.max(hello.plans_epoch);
        let changed = self.cluster_state.hello(cluster, hello);
        let heard_of_us = !self.met.lock().insert(cluster.to_owned());
        self.keep_above(cluster, epoch, heard_of_us);
        self.cluster_statuses.now(cluster);
        if changed {
            self.look_at_all();
        }
    }

    fn keep_above(&self, cluster: &str, newest: u64, heard_of_us: bool) {
        let hello = self.cluster_state.member(cluster).hello.unwrap_or_default();
        self.ahead.agent(cluster, newest, &hello.incarnation, heard_of_us);
    }

    fn applied(&self, cluster: &str, applied: &v1::Applied) {
        self.sessions.answered(cluster);
        let Some(key) = self.known(applied.key.as_ref(), &applied.uid) else { return };
        // The agent holds a newer decision than the store does, which was restored from a backup then: it is decided again, with an epoch
        // above all that agents saw.
        if applied.reason == FENCED && self.world.outdate_decided(&key, applied.epoch) {
            self.queue.add(key.clone(), Priority::Normal);
        }
        if !self.world.report(&key, cluster, |report| report.applied(applied)) {
            return;
        }
        self.statuses.add(key.clone(), Priority::Normal);
        let Some(template) = self.world.template(&key) else { return };
        match applied.result() {
            v1::ApplyResult::Applied => {
                if applied.generation >= federation_core::template::generation(&template.object) {
                    self.metrics.propagation.observe(template.seen.elapsed().as_secs_f64());
                }
                // A cluster that waits to give its copy up may go now that another one has it.
                let someone_goes = self
                    .world
                    .decided(&key)
                    .is_some_and(|decided| decided.spec.clusters.iter().any(|target| target.leaving));
                if someone_goes {
                    self.queue.add(key, Priority::Normal);
                }
            }
            v1::ApplyResult::Refused => {
                let new = self.ledger.with(&key, &applied.uid, |entry| {
                    entry.told.insert(cluster.to_owned(), applied.generation) != Some(applied.generation)
                });
                if new {
                    let message = format!("{cluster}: {}: {}", applied.reason, applied.message);
                    self.recorder.warn(&template, "FailedApply", &message, cluster);
                }
            }
            v1::ApplyResult::Retrying | v1::ApplyResult::Unspecified => {}
        }
    }

    fn removed(&self, cluster: &str, removed: &v1::Removed) {
        let Some(key) = removed.key.as_ref().and_then(Key::from_wire) else { return };
        if removed.result() == v1::RemoveResult::Refused {
            tracing::warn!(%key, cluster, message = removed.message, "an agent refused a removal");
            self.queue.add_after(key, Priority::Background, std::time::Duration::from_secs(5));
            return;
        }
        self.ledger.with_known(&key, &removed.uid, |entry| entry.answered(cluster, removed.epoch));
        let copy = FormerCopy { cluster: cluster.to_owned(), uid: removed.uid.clone() };
        if let Some(present) = self.world.decided(&key).filter(|present| present.spec.former.contains(&copy))
        {
            self.ledger.with_known(&key, &present.spec.template.uid, |entry| {
                entry.released.insert(copy);
            });
        }
        self.world.forget_report(&key, cluster, &removed.uid, removed.epoch);
        self.queue.add(key, Priority::Urgent);
    }

    /// The key of a report about a template that exists with this uid; `None` otherwise.
    fn known(&self, key: Option<&v1::Key>, uid: &str) -> Option<Key> {
        let key = Key::from_wire(key?)?;
        let template = self.world.template(&key)?;
        (&*template.uid == uid).then_some(key)
    }

    /// Decides everything again.
    pub(crate) fn look_at_all(&self) {
        self.ahead.look_at_all();
    }
}

/// For people.
fn stray(item: v1::digest_reply::Item) -> String {
    let v1::Key { kind, namespace, name, .. } = item.key.unwrap_or_default();
    format!("{kind} {namespace}/{name} of uid {}", item.uid)
}
