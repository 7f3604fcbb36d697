//! The one task that owns the session: feeds it messages, time and outcomes, and does what it says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_prober::Probing;
use federation_runtime::endpoints::Health;
use federation_runtime::errors::Chain;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::MESSAGE_LIMIT;
use hub_protocol::agent::{Action, Facts, Persist, Session};
use parking_lot::Mutex;
use proto::v1::{self, agent_client::AgentClient};
use tokio::runtime::RuntimeFlavor;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use crate::discovery::Discovery;
use crate::events;
use crate::executor::{Executor, Job};
use crate::identity::Membership;
use crate::manifest::Wanted;
use crate::meeting::Meetings;
use crate::member::Member;
use crate::metrics::Metrics;
use crate::posts::Posts;
use crate::store::{self, Store};
use crate::vantage::Vantage;
use crate::welcome::Welcome;
use crate::world::{Report, World};

/// Messages between the session and the stream, each way. Downwards at most a window of 512 manifests of a few KiB is under way, so this
/// is slack for the reader; upwards the session coalesces what finds no room.
const MESSAGES: usize = 128;
/// Inputs taken in before the session's actions are carried out: one fsync serves them all.
const BATCH: usize = 256;
/// Interval at which votes about other members are passed to the session; changed votes are passed at once.
const VOTES_EVERY: Duration = Duration::from_secs(1);
/// Interval at which an isolated agent asks whether its drill goes on.
const ASK: Duration = Duration::from_millis(500);

/// What the connection's tasks tell this one. `attempt` tells a new stream's words from an old one's.
enum Input {
    Dialled { attempt: u64, facts: Option<Facts>, result: Result<Channel, String> },
    Message { attempt: u64, message: v1::HubMessage },
    Closed { attempt: u64, end: End },
    Held { drill: String, lease_ms: Option<u64> },
    Met { instance: String, words: Vec<v1::Word> },
}

/// How a stream ended.
struct End {
    reason: String,
    // Refused for a reason that only a person can change.
    refused: bool,
}

impl End {
    fn of(status: &tonic::Status) -> Self {
        let refused = matches!(
            status.code(),
            Code::PermissionDenied | Code::FailedPrecondition | Code::Unauthenticated
        );
        Self { reason: status.message().to_owned(), refused }
    }
}

struct Connection {
    attempt: u64,
    up: mpsc::Sender<v1::AgentMessage>,
    reader: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Everything that the session's task needs.
pub(crate) struct Link {
    pub(crate) session: Session,
    pub(crate) store: Store,
    pub(crate) world: Arc<World>,
    pub(crate) executor: Executor,
    pub(crate) member: Member,
    pub(crate) discovery: Arc<Discovery>,
    pub(crate) hub: String,
    pub(crate) directory: PathBuf,
    pub(crate) membership: Membership,
    pub(crate) not_after: watch::Sender<i64>,
    pub(crate) probing: Probing,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) welcome: Welcome,
}

impl Link {
    /// Runs until `shutdown`, or until the desired state cannot be written.
    pub(crate) async fn run(
        mut self,
        mut reports: mpsc::Receiver<Report>,
        shutdown: Shutdown,
    ) -> Result<(), store::Error> {
        let start = Instant::now();
        let now = || start.elapsed().as_millis() as u64;
        let (inputs_in, mut inputs) = mpsc::channel(MESSAGES);
        let (renewed_in, mut renewed) = mpsc::channel(1);
        // Everything that runs beside this loop, and ends with it. Each kind is bounded: one attempt to dial, one question about a drill, one
        // meeting with each server.
        let mut beside = JoinSet::new();
        let newest = Arc::new(Mutex::new(self.membership.clone()));
        let (directory, hub) = (self.directory.clone(), self.hub.clone());
        let renew = move || renew(newest.clone(), directory.clone(), hub.clone(), renewed_in.clone());
        // A certificate that nobody renews ends the membership within a month, without a word before.
        beside.spawn(tasks::supervise("renewal", self.health.clone(), shutdown.clone(), renew));
        let meetings = Meetings::default();
        let vantage = Vantage::default();
        let posts = Posts::start(self.member.clone(), self.metrics.clone(), &mut beside);
        let mut connection: Option<Connection> = None;
        let mut turned = self.probing.changes();
        let mut look = tokio::time::interval(VOTES_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking: Option<AbortHandle> = None;
        let mut attempt = 0;
        let mut waiting: Option<v1::AgentMessage> = None;
        loop {
            // Out: what there is to do, one fsync for all of it.
            let mut batch = Vec::new();
            let mut actions = Vec::new();
            while let Some(action) = self.session.poll_action() {
                match action {
                    Action::Persist(persist) => batch.push(persist),
                    other => actions.push(other),
                }
            }
            if !batch.is_empty() {
                self.persist(batch)?;
            }
            for action in actions {
                match action {
                    // Done above.
                    Action::Persist(_) => {}
                    Action::Connect => {
                        attempt += 1;
                        beside.spawn(self.dial(attempt, inputs_in.clone()));
                    }
                    Action::Disconnect { reason } => {
                        tracing::warn!(hub = %self.hub, %reason, "the stream to the hub is given up");
                        connection = None;
                        waiting = None;
                        self.session.disconnected(now(), rand::random());
                    }
                    Action::Apply(entry) => {
                        if let Some(wanted) = self.world.held(&entry.key) {
                            self.executor.submit(Job::Apply { wanted, drift: false });
                        }
                    }
                    Action::Delete { key, uid, epoch } => {
                        self.executor.submit(Job::Delete { key, uid, epoch });
                    }
                    Action::Unmark { key, uid, epoch } => {
                        self.executor.submit(Job::Unmark { key, uid, epoch });
                    }
                    Action::PostEvent { id, regarding, event } => {
                        if let Some((path, event)) = events::to_post(&id, &regarding, &event) {
                            posts.add(path, event);
                        }
                    }
                    Action::Isolate { drill } => {
                        tracing::warn!(drill, "cut off on purpose");
                        if let Some(former) = asking.take() {
                            former.abort();
                        }
                        let (membership, hub) = (self.membership.clone(), self.hub.clone());
                        asking = Some(beside.spawn(ask(membership, hub, drill, inputs_in.clone())));
                    }
                    Action::Rejoin { drill } => {
                        tracing::info!(drill, "not cut off any more");
                        if let Some(former) = asking.take() {
                            former.abort();
                        }
                    }
                    Action::Freeze { reason } => {
                        tracing::error!(%reason, "removals are frozen");
                        self.metrics.frozen.set(1);
                    }
                    Action::Thaw => {
                        tracing::info!("removals are possible again");
                        self.metrics.frozen.set(0);
                    }
                    Action::Void { before } => {
                        tracing::warn!(
                            before,
                            "the federation froze: removals that were permitted before are void"
                        );
                        self.world.void(before);
                    }
                    Action::Meet { word, servers } => {
                        for server in servers {
                            let (meetings, membership) = (meetings.clone(), self.membership.clone());
                            let (word, inputs) = (word.clone(), inputs_in.clone());
                            beside.spawn(async move {
                                if let Some(words) = meetings.meet(&membership, &server, word).await {
                                    // An error means that the agent is ending.
                                    let _ =
                                        inputs.send(Input::Met { instance: server.instance, words }).await;
                                }
                            });
                        }
                    }
                    Action::Agreed(agreement) => tracing::warn!(?agreement, "without the hub"),
                    Action::Acted { reason } => {
                        tracing::warn!(reason, "the hub is away: more is run here");
                        self.metrics.acts.inc();
                    }
                    Action::Look(order) => {
                        if let Some(telling) = vantage.look(order, &self.membership, &self.hub) {
                            beside.spawn(telling);
                        }
                    }
                    Action::Probe(probes) => {
                        self.probing.set_targets(federation_prober::targets(&probes));
                    }
                }
            }
            self.metrics.connected.set(i64::from(self.session.is_connected()));
            self.metrics.objects.set(self.session.desired().digest().objects.into());
            if self.session.is_connected() {
                self.welcome.came();
            }

            // Up: as much as the stream takes.
            if let Some(stream) = &connection {
                while let Some(message) = waiting.take().or_else(|| self.session.poll_transmit()) {
                    if let Err(mpsc::error::TrySendError::Full(message)) = stream.up.try_send(message) {
                        waiting = Some(message);
                        break;
                    }
                }
            }

            // In: one input, and then what else is there already.
            let deadline = self.session.next_deadline();
            let wake = start + Duration::from_millis(deadline.unwrap_or(u64::MAX / 2).min(now() + 60_000));
            let room = connection.as_ref().map(|stream| stream.up.clone()).filter(|_| waiting.is_some());
            tokio::select! {
                () = shutdown.wait() => break,
                Some(input) = inputs.recv() => {
                    self.take_input(now(), input, attempt, &mut connection, &mut waiting, &inputs_in);
                    for _ in 0..BATCH {
                        let Ok(input) = inputs.try_recv() else { break };
                        self.take_input(now(), input, attempt, &mut connection, &mut waiting, &inputs_in);
                    }
                }
                Some(report) = reports.recv() => {
                    self.take_report(now(), report);
                    for _ in 0..BATCH {
                        let Ok(report) = reports.try_recv() else { break };
                        self.take_report(now(), report);
                    }
                }
                Some(membership) = renewed.recv() => {
                    let peer = membership.peer();
                    self.membership = membership;
                    if let Ok(peer) = peer {
                        self.not_after.send_replace(peer.not_after);
                    }
                }
                Some(()) = permit(room) => {}
                Some(ended) = beside.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "what ran beside the session panicked");
                    }
                }
                Ok(()) = turned.changed() => self.session.set_votes(now(), self.probing.votes()),
                _ = look.tick() => self.session.set_votes(now(), self.probing.votes()),
                () = sleep_until(wake.into()) => {}
            }
            self.session.tick(now());
        }
        Ok(())
    }

    fn take_input(
        &mut self,
        now: u64,
        input: Input,
        attempt: u64,
        connection: &mut Option<Connection>,
        waiting: &mut Option<v1::AgentMessage>,
        inputs: &mpsc::Sender<Input>,
    ) {
        match input {
            Input::Dialled { attempt: of, facts, result } if of == attempt => {
                if let Some(facts) = facts {
                    self.session.set_facts(now, facts);
                }
                match result {
                    Ok(channel) => {
                        tracing::debug!(hub = %self.hub, "connected");
                        self.metrics.connect();
                        *waiting = None;
                        *connection = Some(open(channel, attempt, inputs.clone()));
                        self.session.connected(now, uuid::Uuid::new_v4().to_string());
                    }
                    Err(reason) => {
                        tracing::warn!(hub = %self.hub, %reason, "the hub cannot be reached");
                        self.welcome.failed(&reason);
                        self.session.disconnected(now, rand::random());
                    }
                }
            }
            Input::Message { attempt: of, message }
                if connection.as_ref().is_some_and(|stream| stream.attempt == of) =>
            {
                self.session.handle_message(now, message);
            }
            Input::Closed { attempt: of, end }
                if connection.as_ref().is_some_and(|stream| stream.attempt == of) =>
            {
                self.welcome.failed(&end.reason);
                *connection = None;
                *waiting = None;
                if end.refused {
                    tracing::error!(hub = %self.hub, reason = end.reason, "the hub refuses this agent; it is asked again now and then");
                    self.session.refused(now, rand::random());
                } else {
                    tracing::warn!(hub = %self.hub, reason = end.reason, "the stream to the hub ended");
                    self.session.disconnected(now, rand::random());
                }
            }
            Input::Held { drill, lease_ms } => self.session.held(now, &drill, lease_ms),
            Input::Met { instance, words } => self.session.met(now, &instance, words),
            // Of a stream that is over.
            _ => {}
        }
    }

    fn take_report(&mut self, now: u64, report: Report) {
        match report {
            Report::Applied(applied) => {
                if applied.result() == v1::ApplyResult::Refused {
                    tracing::warn!(
                        key = %hub_protocol::Key::from(applied.key.clone().unwrap_or_default()),
                        reason = applied.reason, message = applied.message, "the member refused a manifest"
                    );
                }
                self.session.applied(now, applied);
            }
            Report::Withdrawn { key, uid, epoch, outcome } => {
                self.session.withdrawn(&key, &uid, epoch, outcome);
            }
            Report::Status(status) => self.session.status(status),
            Report::Service(service) => self.session.service(service),
            Report::Event(event) => self.session.event(event),
            Report::Vitals(vitals) => self.session.set_vitals(now, vitals),
            Report::Facts(facts) => self.session.set_facts(now, facts),
        }
    }

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

async fn permit(up: Option<mpsc::Sender<v1::AgentMessage>>) -> Option<()> {
    up?.reserve_owned().await.ok().map(drop)
}

/// Opens the stream. The Hello is queued before the hub answers, so neither side waits for the other.
fn open(channel: Channel, attempt: u64, inputs: mpsc::Sender<Input>) -> Connection {
    let (up, out) = mpsc::channel(MESSAGES);
    let reader = tokio::spawn(async move {
        let mut client = AgentClient::new(channel)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let end = match client.session(ReceiverStream::new(out)).await {
            Err(status) => End::of(&status),
            Ok(response) => {
                let mut stream = response.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            if inputs.send(Input::Message { attempt, message }).await.is_err() {
                                return;
                            }
                        }
                        Ok(None) => break End { reason: "the hub closed it".into(), refused: false },
                        Err(status) => break End::of(&status),
                    }
                }
            }
        };
        // An error means that the agent is ending.
        let _ = inputs.send(Input::Closed { attempt, end }).await;
    });
    Connection { attempt, up, reader }
}

/// Asks the hub whether a drill goes on, until this task is ended. No answer is none: the lease lapses.
async fn ask(membership: Membership, hub: String, drill: String, inputs: mpsc::Sender<Input>) {
    let mut client: Option<AgentClient<Channel>> = None;
    loop {
        tokio::time::sleep(ASK).await;
        if client.is_none() {
            client = membership.dial(&hub).await.ok().map(AgentClient::new);
        }
        let Some(open) = &mut client else { continue };
        match open.hold(v1::HoldRequest { drill: drill.clone() }).await {
            Ok(reply) => {
                let reply = reply.into_inner();
                let lease_ms = reply.held.then_some(u64::from(reply.lease_ms));
                if inputs.send(Input::Held { drill: drill.clone(), lease_ms }).await.is_err() {
                    return;
                }
            }
            Err(_) => client = None,
        }
    }
}

/// Renews the certificate after two thirds of its life, and tries again each minute until that works.
async fn renew(
    newest: Arc<Mutex<Membership>>,
    directory: PathBuf,
    hub: String,
    renewed: mpsc::Sender<Membership>,
) {
    loop {
        let membership = newest.lock().clone();
        let renew_at = membership.peer().map_or(0, |peer| peer.renew_at());
        let wait = renew_at - jiff::Timestamp::now().as_second();
        // In steps, because a machine that slept does not count the time.
        tokio::time::sleep(Duration::from_secs(wait.clamp(1, 60) as u64)).await;
        if wait > 60 {
            continue;
        }
        match membership.renew(&directory, &hub).await {
            Ok(fresh) => {
                tracing::info!("the certificate was renewed");
                *newest.lock() = fresh.clone();
                if renewed.send(fresh).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = %Chain(&error),
                    "the certificate could not be renewed; trying again in a minute"
                );
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
}
