//! One turn of the session's task: carries out what the session says, sends, and takes in what came.

use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_runtime::errors::Chain;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::Key;
use hub_protocol::agent::{Action, Persist};
use parking_lot::Mutex;
use proto::v1;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::Link;
use super::beside::{self, Connection, Input, ask, dialled, open, renew};
use crate::drill_probe::DrillProbe;
use crate::events;
use crate::executor::Job;
use crate::identity::Membership;
use crate::manifest::Wanted;
use crate::meeting::Meetings;
use crate::posts::Posts;
use crate::store;
use crate::world::Report;

/// Longest time between two turns, milliseconds.
const TURN_MS: u64 = 60_000;

/// What the session's task keeps from one turn to the next.
pub(super) struct Turn {
    link: Link,
    start: Instant,
    inputs: mpsc::Sender<Input>,
    /// Everything that runs beside this task, and ends with it. Each kind is bounded: one attempt to dial, one question about a drill, one
    /// meeting with each server.
    pub(super) beside: JoinSet<()>,
    posts: Posts,
    meetings: Meetings,
    drill_probe: DrillProbe,
    // Tells a new stream's words from an old one's.
    attempt: u64,
    connection: Option<Connection>,
    // Found no room in the stream yet.
    waiting: Option<v1::AgentMessage>,
    // Asks about the drill that cuts this agent off.
    asking: Option<AbortHandle>,
}

impl Turn {
    pub(super) fn new(
        link: Link,
        inputs: mpsc::Sender<Input>,
        renewed: mpsc::Sender<Membership>,
        shutdown: &Shutdown,
    ) -> Self {
        let mut beside = JoinSet::new();
        let newest = Arc::new(Mutex::new(link.membership.clone()));
        let (directory, hub) = (link.directory.clone(), link.hub.clone());
        let renew = move || renew(newest.clone(), directory.clone(), hub.clone(), renewed.clone());
        // A certificate that nobody renews ends the membership within a month, without a word before.
        beside.spawn(tasks::supervise("renewal", link.health.clone(), shutdown.clone(), renew));
        let posts = Posts::start(link.member.clone(), link.metrics.clone(), &mut beside);
        Self {
            link,
            start: Instant::now(),
            inputs,
            beside,
            posts,
            meetings: Meetings::default(),
            drill_probe: DrillProbe::default(),
            attempt: 0,
            connection: None,
            waiting: None,
            asking: None,
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Carries out what the session says: what is to be written first, with one fsync for all of it.
    pub(super) fn carry_out(&mut self) -> Result<(), store::Error> {
        let mut batch = Vec::new();
        let mut actions = Vec::new();
        while let Some(action) = self.link.session.poll_action() {
            match action {
                Action::Persist(persist) => batch.push(persist),
                other => actions.push(other),
            }
        }
        if !batch.is_empty() {
            self.link.persist(batch)?;
        }
        for action in actions {
            self.act(action);
        }
        let connected = self.link.session.is_connected();
        self.link.metrics.connected.set(i64::from(connected));
        self.link.metrics.objects.set(self.link.session.desired().digest().objects.into());
        if connected {
            self.link.welcome.came();
        }
        Ok(())
    }

    fn act(&mut self, action: Action) {
        let link = &mut self.link;
        match action {
            // Written before the others are carried out.
            Action::Persist(_) => {}
            Action::Connect => {
                self.attempt += 1;
                let dial = link.dial(self.attempt, self.inputs.clone());
                beside::run(&mut self.beside, dialled(dial, self.attempt, self.inputs.clone()));
            }
            Action::Disconnect { reason } => {
                tracing::warn!(hub = %link.hub, %reason, "the stream to the hub is given up");
                self.drop_stream();
                self.link.session.disconnected(self.now(), rand::random());
            }
            Action::Apply(entry) => {
                if let Some(wanted) = link.world.held(&entry.key) {
                    link.executor.submit(Job::Apply { wanted, drift: false });
                }
            }
            Action::Delete { key, uid, epoch } => link.executor.submit(Job::Delete { key, uid, epoch }),
            Action::Unmark { key, uid, epoch } => link.executor.submit(Job::Unmark { key, uid, epoch }),
            Action::PostEvent { id, regarding, event } => {
                if let Some((path, event)) = events::to_post(&id, &regarding, &event) {
                    self.posts.add(path, event);
                }
            }
            Action::Isolate { drill } => {
                tracing::warn!(drill, "cut off on purpose");
                self.ask_no_more();
                let (membership, hub) = (self.link.membership.clone(), self.link.hub.clone());
                let ask = ask(membership, hub, drill, self.inputs.clone());
                self.asking = Some(beside::run(&mut self.beside, ask));
            }
            Action::Rejoin { drill } => {
                tracing::info!(drill, "not cut off any more");
                self.ask_no_more();
            }
            Action::Freeze { reason } => {
                tracing::error!(%reason, "removals are frozen");
                link.metrics.frozen.set(1);
            }
            Action::Thaw => {
                tracing::info!("removals are possible again");
                link.metrics.frozen.set(0);
            }
            Action::Void { before } => {
                tracing::warn!(before, "the federation froze: removals that were permitted before are void");
                link.world.void(before);
            }
            Action::Meet { word, servers } => self.meet(&word, servers),
            Action::Agreed(agreement) => tracing::warn!(?agreement, "without the hub"),
            Action::Acted { reason } => {
                tracing::warn!(reason, "the hub is away: more is run here");
                link.metrics.acts.inc();
            }
            Action::Look(order) => {
                if let Some(telling) = self.drill_probe.look(order, &link.membership, &link.hub) {
                    beside::run(&mut self.beside, telling);
                }
            }
            Action::Probe(probes) => link.probing.set_targets(federation_prober::targets(&probes)),
        }
    }

    fn drop_stream(&mut self) {
        self.connection = None;
        self.waiting = None;
    }

    fn ask_no_more(&mut self) {
        if let Some(former) = self.asking.take() {
            former.abort();
        }
    }

    /// Leaves the word at each of these servers.
    fn meet(&mut self, word: &v1::Word, servers: Vec<v1::MeetingPoint>) {
        for server in servers {
            let (meetings, membership) = (self.meetings.clone(), self.link.membership.clone());
            let (word, inputs) = (word.clone(), self.inputs.clone());
            beside::run(&mut self.beside, async move {
                if let Some(words) = meetings.meet(&membership, &server, word).await {
                    // An error means that the agent is ending.
                    let _ = inputs.send(Input::Met { instance: server.instance, words }).await;
                }
            });
        }
    }

    /// Sends as much as the stream takes.
    pub(super) fn send(&mut self) {
        let Some(stream) = &self.connection else { return };
        while let Some(message) = self.waiting.take().or_else(|| self.link.session.poll_transmit()) {
            if let Err(mpsc::error::TrySendError::Full(message)) = stream.up.try_send(message) {
                self.waiting = Some(message);
                break;
            }
        }
    }

    /// When the next turn is due at the latest.
    pub(super) fn wake(&self) -> Instant {
        let deadline = self.link.session.next_deadline().unwrap_or(u64::MAX);
        self.start + Duration::from_millis(deadline.min(self.now() + TURN_MS))
    }

    /// The stream, if a message waits for room in it.
    pub(super) fn awaited_room(&self) -> Option<mpsc::Sender<v1::AgentMessage>> {
        self.connection.as_ref().map(|stream| stream.up.clone()).filter(|_| self.waiting.is_some())
    }

    pub(super) fn take_input(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Dialled { attempt, facts, result } if attempt == self.attempt => {
                if let Some(facts) = facts {
                    self.link.session.set_facts(now, facts);
                }
                match result {
                    Ok(channel) => {
                        tracing::debug!(hub = %self.link.hub, "connected");
                        self.link.metrics.connect();
                        self.waiting = None;
                        self.connection = Some(open(channel, attempt, self.inputs.clone()));
                        self.link.session.connected(now, uuid::Uuid::new_v4().to_string());
                    }
                    Err(reason) => {
                        tracing::warn!(hub = %self.link.hub, %reason, "the hub cannot be reached");
                        self.link.welcome.failed(&reason);
                        self.link.session.disconnected(now, rand::random());
                    }
                }
            }
            Input::Message { attempt, message } if self.is_open(attempt) => {
                self.link.session.handle_message(now, message);
            }
            Input::Closed { attempt, end } if self.is_open(attempt) => {
                self.drop_stream();
                let link = &mut self.link;
                link.welcome.failed(&end.reason);
                if end.refused {
                    tracing::error!(hub = %link.hub, reason = end.reason, "the hub refuses this agent; it is asked again now and then");
                    link.session.refused(now, rand::random());
                } else {
                    tracing::warn!(hub = %link.hub, reason = end.reason, "the stream to the hub ended");
                    link.session.disconnected(now, rand::random());
                }
            }
            Input::Held { drill, lease_ms } => self.link.session.held(now, &drill, lease_ms),
            Input::Met { instance, words } => self.link.session.met(now, &instance, words),
            // Of a stream that is over.
            Input::Dialled { .. } | Input::Message { .. } | Input::Closed { .. } => {}
        }
    }

    /// Whether the stream of this attempt is the present one.
    fn is_open(&self, attempt: u64) -> bool {
        self.connection.as_ref().is_some_and(|stream| stream.attempt == attempt)
    }

    pub(super) fn take_report(&mut self, report: Report) {
        let now = self.now();
        let session = &mut self.link.session;
        match report {
            Report::Applied(applied) => {
                if applied.result() == v1::ApplyResult::Refused {
                    tracing::warn!(
                        key = %Key::from(applied.key.clone().unwrap_or_default()),
                        reason = applied.reason, message = applied.message, "the member refused a manifest"
                    );
                }
                session.applied(now, applied);
            }
            Report::Withdrawn { key, uid, epoch, outcome } => session.withdrawn(&key, &uid, epoch, outcome),
            Report::Status(status) => session.status(status),
            Report::Service(service) => session.service(service),
            Report::Event(event) => session.event(event),
            Report::Vitals(vitals) => session.set_vitals(now, vitals),
            Report::Facts(facts) => session.set_facts(now, facts),
        }
    }

    /// The certificate was renewed.
    pub(super) fn renewed(&mut self, membership: Membership) {
        let peer = membership.peer();
        self.link.membership = membership;
        if let Ok(peer) = peer {
            self.link.not_after.send_replace(peer.not_after);
        }
    }

    /// What this agent sees of other members.
    pub(super) fn pass_votes(&mut self) {
        self.link.session.set_votes(self.now(), self.link.probing.votes());
    }

    /// Time has passed.
    pub(super) fn tick(&mut self) {
        self.link.session.tick(self.now());
    }
}

impl Link {
    /// Writes to disk, and then tells the others what is wanted.
    fn persist(&mut self, batch: Vec<Persist>) -> Result<(), store::Error> {
        let mut write = || {
            self.store.append(&batch)?;
            if self.store.is_bloated() { self.store.compact(self.session.desired()) } else { Ok(()) }
        };
        match tokio::runtime::Handle::current().runtime_flavor() {
            // An fsync takes milliseconds: the other tasks go on meanwhile.
            RuntimeFlavor::MultiThread => tokio::task::block_in_place(write)?,
            _ => write()?,
        }
        for persist in batch {
            match persist {
                Persist::Put(entry) => self.world.put(Arc::new(Wanted::new(entry))),
                Persist::Forget(key) => self.world.forget(&key),
                Persist::Meta { .. } | Persist::Plans(_) => {}
            }
        }
        Ok(())
    }

    fn dial(&self, attempt: u64, inputs: mpsc::Sender<Input>) -> impl Future<Output = ()> + Send + use<> {
        let (membership, hub, discovery) =
            (self.membership.clone(), self.hub.clone(), self.discovery.clone());
        async move {
            let (answer, channel) = tokio::join!(discovery.facts(), membership.dial(&hub));
            let facts = answer.map(|(facts, _)| facts);
            let result = channel.map_err(|error| Chain(&error).to_string());
            // An error means that the agent is ending.
            let _ = inputs.send(Input::Dialled { attempt, facts, result }).await;
        }
    }
}
