//! The agents' sessions: one pure machine for each cluster, and the task that drives its stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use federation_core::membership::Shown;
use federation_runtime::clock::Instant;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::Key;
use hub_protocol::hub::{Config, Desired, Event, Session, Withdrawal};
use proto::v1;

use crate::metrics::Metrics;

/// Messages on their way into one stream: a quarter of the session's window, so that the window, not this queue, holds Applies back.
pub(super) const OUTBOUND: usize = 128;

/// How long to try to tell an agent why it is disconnected.
const FAREWELL: Duration = Duration::from_secs(1);

/// Receives the agents' messages. Called without any lock held, and never from two streams of one cluster at once.
pub(crate) trait Listener: Send + Sync + 'static {
    /// An agent's word.
    fn heard(&self, cluster: &str, event: Event);
    /// The stream is gone.
    fn left(&self, cluster: &str);
    /// Whether who shows this is a member still.
    ///
    /// # Errors
    /// What to tell it if not.
    fn check(&self, shown: &Shown) -> Result<(), Status>;
}

/// Every member's session. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Inner>);

struct Inner {
    members: RwLock<HashMap<String, Arc<Member>>>,
    config: Config,
    started: Instant,
    complete: std::sync::atomic::AtomicBool,
    epoch: AtomicU64,
    forgotten: AtomicU64,
    metrics: Metrics,
}

struct Member {
    // When this session was made, on the clock of `now`.
    made: u64,
    session: Mutex<Session>,
    // Something may be ready for sending, or this stream was replaced.
    wake: Notify,
    // Number of the stream that is served; an older stream's task ends when it sees a newer number.
    stream: AtomicU64,
    // When the agent last said what became of an object, milliseconds since the start.
    answered: AtomicU64,
    // Rises when the Cluster object has changed: whose stream it is, is looked at again then.
    changes: AtomicU64,
}

impl Member {
    /// Does something with the session, if it is this stream's still: a newer one's words and answers are not an older one's.
    fn own<T>(&self, stream: u64, act: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let mut session = self.session.lock();
        (self.stream.load(Ordering::SeqCst) == stream).then(|| act(&mut session))
    }
}

impl Sessions {
    pub(crate) fn new(config: Config, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            members: RwLock::default(),
            config,
            started: Instant::now(),
            complete: false.into(),
            epoch: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            metrics,
        }))
    }

    fn now(&self) -> u64 {
        self.0.started.elapsed().as_millis() as u64
    }

    fn member(&self, cluster: &str) -> Arc<Member> {
        if let Some(member) = self.0.members.read().get(cluster) {
            return member.clone();
        }
        let mut members = self.0.members.write();
        members
            .entry(cluster.to_owned())
            .or_insert_with(|| {
                let mut session = Session::new(self.0.config.clone());
                session.set_epoch(self.0.epoch.load(Ordering::SeqCst));
                if self.0.complete.load(Ordering::SeqCst) {
                    session.desired_complete();
                }
                Arc::new(Member {
                    made: self.now(),
                    session: Mutex::new(session),
                    wake: Notify::new(),
                    stream: AtomicU64::new(0),
                    answered: AtomicU64::new(0),
                    changes: AtomicU64::new(0),
                })
            })
            .clone()
    }

    /// Changes a session, or asks it something, at the present time of the sessions' clock.
    pub(crate) fn with<T>(&self, cluster: &str, change: impl FnOnce(&mut Session, u64) -> T) -> T {
        let member = self.member(cluster);
        let answer = change(&mut member.session.lock(), self.now());
        member.wake.notify_one();
        answer
    }

    /// Wants an object in a member.
    pub(crate) fn desire(&self, cluster: &str, desired: Desired) {
        self.with(cluster, |session, _| session.set_desired(desired));
    }

    /// Removes a member's copy, with the gate's permit. Asked again while pending: no new request, unless the last permit is void. One that is
    /// new is noted before the agent can answer it.
    pub(crate) fn remove(
        &self,
        cluster: &str,
        key: Key,
        uid: &str,
        epoch: u64,
        permit: v1::Permit,
        note: impl FnOnce(),
    ) {
        self.with(cluster, |session, _| {
            if session.withdrawal(&key).is_none_or(|pending| pending.how == Withdrawal::Lapsed) {
                note();
                session.request_removal(key, uid.to_owned(), epoch, permit);
            }
        });
    }

    /// Whether a removal of the copy is permitted, and the agent has not answered yet.
    pub(crate) fn is_removing(&self, cluster: &str, key: &Key, uid: &str) -> bool {
        self.is_withdrawing(cluster, key, uid, Withdrawal::Removal)
    }

    /// Whether the agent may have given the copy up already, by a permit that is good, or lapsed since, or by a release.
    pub(crate) fn may_be_gone(&self, cluster: &str, key: &Key, uid: &str) -> bool {
        let member = self.0.members.read().get(cluster).cloned();
        member.is_some_and(|member| member.session.lock().may_be_gone(key, uid))
    }

    /// Whether the copy is being released, and the agent has not answered yet.
    pub(crate) fn is_releasing(&self, cluster: &str, key: &Key, uid: &str) -> bool {
        self.is_withdrawing(cluster, key, uid, Withdrawal::Release)
    }

    fn is_withdrawing(&self, cluster: &str, key: &Key, uid: &str, how: Withdrawal) -> bool {
        let member = self.0.members.read().get(cluster).cloned();
        member.is_some_and(|member| {
            let session = member.session.lock();
            session.withdrawal(key).is_some_and(|pending| pending.uid == uid && pending.how == how)
        })
    }

    /// Permits of older epochs are void: the federation froze. What was not answered yet is to be permitted anew.
    pub(crate) fn void_permits(&self, before: u64) {
        for member in self.0.members.read().values() {
            member.session.lock().void_permits(before);
            member.wake.notify_one();
        }
    }

    /// Leaves a member's copy without the federation's marks. A removal of it that the agent has not answered gives way. A new request is noted
    /// before the agent can answer it.
    pub(crate) fn release(&self, cluster: &str, key: Key, uid: &str, epoch: u64, note: impl FnOnce()) {
        self.with(cluster, |session, _| {
            let may = session.withdrawal(&key).is_none_or(|pending| match pending.how {
                Withdrawal::Release => false,
                Withdrawal::Removal => pending.uid == uid,
                Withdrawal::Lapsed => true,
            });
            if may {
                note();
                session.release(key, uid.to_owned(), epoch);
            }
        });
    }

    /// A copy may stay as it is: a release of it that its agent was not told of is taken back.
    pub(crate) fn take_back_release(&self, cluster: &str, key: &Key, uid: &str) {
        if let Some(member) = self.0.members.read().get(cluster) {
            member.session.lock().take_back_release(key, uid);
        }
    }

    /// Delivers an Event that was posted to the federation.
    pub(crate) fn deliver(&self, cluster: &str, event: v1::DeliverEvent) {
        self.with(cluster, |session, _| session.deliver_event(event));
    }

    /// What a member's agent is to probe.
    pub(crate) fn probe(&self, cluster: &str, probes: Vec<v1::Probe>) {
        self.with(cluster, |session, _| session.set_probes(probes));
    }

    /// The contingency plans of a member, whole.
    pub(crate) fn set_plans(&self, cluster: &str, plans: v1::Plans) {
        self.with(cluster, |session, now| session.set_plans(now, plans));
    }

    /// What a member's agent did by plans is in what it is to hold.
    pub(crate) fn set_adopted(&self, cluster: &str, revision: u64) {
        self.with(cluster, |session, _| session.set_adopted(revision));
    }

    /// Cuts a member's agent off, for a drill.
    pub(crate) fn isolate(&self, cluster: &str, drill: &str, lease_ms: u32) {
        self.with(cluster, |session, _| session.isolate(drill, lease_ms));
    }

    /// Has a member's agent look at an application as users do, for a drill.
    pub(crate) fn look(&self, cluster: &str, look: v1::Look) {
        self.with(cluster, |session, _| session.look(look));
    }

    /// Everything that is wanted was given: what agents hold besides are strays.
    pub(crate) fn complete(&self) {
        self.0.complete.store(true, Ordering::SeqCst);
        let members: Vec<_> = self.0.members.read().values().cloned().collect();
        for member in members {
            member.session.lock().desired_complete();
            member.wake.notify_one();
        }
    }

    /// Whether everything that is wanted was given.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.complete.load(Ordering::SeqCst)
    }

    /// The newest epoch, told to agents with each acknowledgement.
    pub(crate) fn set_epoch(&self, epoch: u64) {
        self.0.epoch.fetch_max(epoch, Ordering::SeqCst);
        for member in self.0.members.read().values() {
            member.session.lock().set_epoch(epoch);
        }
    }

    /// The store's incarnation, as agents are told it.
    pub(crate) fn incarnation(&self) -> &str {
        &self.0.config.incarnation
    }

    /// Whether a cluster's agent has said on its present connection what it holds.
    pub(crate) fn is_compared(&self, cluster: &str) -> bool {
        self.0.members.read().get(cluster).is_some_and(|member| member.session.lock().is_compared())
    }

    /// Whether a cluster's agent has ever said to this hub what it holds.
    pub(crate) fn has_told(&self, cluster: &str) -> bool {
        self.0.members.read().get(cluster).is_some_and(|member| member.session.lock().has_told())
    }

    /// What a cluster's agent says that it holds of an object, where that is not what it is to hold.
    pub(crate) fn claim(&self, cluster: &str, key: &Key) -> Option<v1::digest_reply::Item> {
        self.0.members.read().get(cluster)?.session.lock().claim(key).cloned()
    }

    /// Whether a cluster's agent says that it holds nothing of an object, and nothing was asked of it since.
    pub(crate) fn holds_none(&self, cluster: &str, key: &Key) -> bool {
        self.0.members.read().get(cluster).is_some_and(|member| member.session.lock().holds_none(key))
    }

    /// The same, and it was not sent any on its present connection either.
    pub(crate) fn is_without(&self, cluster: &str, key: &Key) -> bool {
        self.0.members.read().get(cluster).is_some_and(|member| member.session.lock().is_without(key))
    }

    /// Whether a cluster's agent is connected.
    pub(crate) fn is_connected(&self, cluster: &str) -> bool {
        self.0.members.read().get(cluster).is_some_and(|member| member.session.lock().is_connected())
    }

    /// A cluster's agent said what became of an object.
    pub(crate) fn answered(&self, cluster: &str) {
        if let Some(member) = self.0.members.read().get(cluster) {
            member.answered.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Whether a cluster's agent said within a while what became of some object.
    pub(crate) fn answered_within(&self, cluster: &str, within: Duration) -> bool {
        self.0.members.read().get(cluster).is_some_and(|member| {
            u128::from(self.now().saturating_sub(member.answered.load(Ordering::Relaxed)))
                < within.as_millis()
        })
    }

    /// By cluster: milliseconds since its agent's leases were last renewed. One that this session has not renewed may have been by an earlier
    /// one, of this hub or the hub before it, up to the moment that this one was made.
    pub(crate) fn silent_ms(&self) -> BTreeMap<String, i64> {
        let now = self.now();
        let members = self.0.members.read();
        let silent =
            |member: &Member| now.saturating_sub(member.session.lock().leased_at().unwrap_or(member.made));
        members
            .iter()
            .map(|(name, member)| (name.clone(), i64::try_from(silent(member)).unwrap_or(i64::MAX)))
            .collect()
    }

    /// Ends a cluster's stream: its agent may dial again.
    pub(crate) fn restart(&self, cluster: &str) {
        if let Some(member) = self.0.members.read().get(cluster) {
            member.stream.fetch_add(1, Ordering::SeqCst);
            member.session.lock().disconnected();
            member.wake.notify_one();
        }
    }

    /// Forgets a cluster, and ends its stream.
    pub(crate) fn forget(&self, cluster: &str) {
        self.0.metrics.forget(cluster);
        let removed = self.0.members.write().remove(cluster);
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
        if let Some(member) = removed {
            member.stream.fetch_add(1, Ordering::SeqCst);
            member.wake.notify_one();
        }
    }

    /// How many clusters were forgotten so far. What was given to a session before the last of these may be in none.
    pub(crate) fn forgotten(&self) -> u64 {
        self.0.forgotten.load(Ordering::SeqCst)
    }

    /// The Cluster object is another one than before, or says other things: an agent that is no member any more is sent away at once.
    pub(crate) fn look_again(&self, cluster: &str) {
        let member = self.0.members.read().get(cluster).cloned();
        if let Some(member) = member {
            member.changes.fetch_add(1, Ordering::SeqCst);
            member.wake.notify_one();
        }
    }

    /// Drives one stream until it ends, is replaced by a newer one of the same agent, its agent is no member any more, or the hub ends.
    pub(super) async fn drive(
        self,
        shown: Shown,
        inbound: Streaming<v1::AgentMessage>,
        outbound: mpsc::Sender<Result<v1::HubMessage, Status>>,
        listener: Arc<dyn Listener>,
        shutdown: Shutdown,
    ) {
        let cluster = shown.cluster.clone();
        let stream = self.open(&cluster);
        let talk = self.talk(stream, shown, inbound, &outbound, &*listener, shutdown);
        // A stream that was given up without a word would count as one that is there.
        if let Err(panicked) = tasks::caught("session", talk).await {
            tracing::error!(cluster, %panicked, "an agent's stream ends");
            let _ = outbound.try_send(Err(Status::internal("the hub could not go on with this stream")));
        }
        self.close(&cluster, stream, &*listener);
    }

    async fn talk(
        &self,
        stream: u64,
        shown: Shown,
        mut inbound: Streaming<v1::AgentMessage>,
        outbound: &mpsc::Sender<Result<v1::HubMessage, Status>>,
        listener: &dyn Listener,
        shutdown: Shutdown,
    ) {
        let cluster = shown.cluster.clone();
        let member = self.member(&cluster);
        let mut looked = None;
        loop {
            // A newer stream owns the session now: nothing of it may be touched from here.
            if member.stream.load(Ordering::SeqCst) != stream {
                // The woken task may have been this one instead of the newer stream's.
                member.wake.notify_one();
                let gone = "this agent was replaced by a newer connection, or its cluster has left the federation or is another one now";
                let _ = outbound.try_send(Err(Status::aborted(gone)));
                break;
            }
            // At the start too: it may have changed since the agent was let in.
            let changes = member.changes.load(Ordering::SeqCst);
            if looked.replace(changes) != Some(changes)
                && let Err(refusal) = listener.check(&shown)
            {
                tracing::warn!(cluster, reason = refusal.message(), "an agent is sent away");
                let _ = tokio::time::timeout(FAREWELL, outbound.send(Err(refusal))).await;
                break;
            }
            if self.tell(&cluster, stream, listener) == Heard::Lost {
                break;
            }
            let mut full = false;
            loop {
                let Ok(room) = outbound.try_reserve() else {
                    full = true;
                    break;
                };
                match member.own(stream, Session::poll_transmit).flatten() {
                    Some(message) => room.send(Ok(message)),
                    None => break,
                }
            }
            let deadline = member.session.lock().next_deadline();
            let pause = deadline.map_or(Duration::from_secs(1), |deadline| {
                Duration::from_millis(deadline.saturating_sub(self.now()).max(1))
            });
            tokio::select! {
                () = shutdown.wait() => break,
                message = inbound.next() => match message {
                    Some(Ok(message)) => {
                        member.own(stream, |session| session.handle_message(self.now(), message));
                    }
                    Some(Err(_)) | None => break,
                },
                () = member.wake.notified() => {}
                room = outbound.reserve(), if full => {
                    if room.is_err() {
                        break;
                    }
                }
                () = tokio::time::sleep(pause) => {
                    member.own(stream, |session| session.tick(self.now()));
                }
            }
        }
    }

    /// A stream of a cluster's agent begins, and ends any older one; its number.
    pub(crate) fn open(&self, cluster: &str) -> u64 {
        let member = self.member(cluster);
        let stream = member.stream.fetch_add(1, Ordering::SeqCst) + 1;
        member.wake.notify_waiters();
        member.own(stream, |session| session.reconnected(self.now()));
        self.0.metrics.sessions.inc();
        stream
    }

    /// Number of the stream that is served.
    pub(crate) fn stream(&self, cluster: &str) -> u64 {
        self.member(cluster).stream.load(Ordering::SeqCst)
    }

    /// Tells the listener what the agent said on this stream. It is called without the session's lock: it may ask the session for something.
    pub(crate) fn tell(&self, cluster: &str, stream: u64, listener: &dyn Listener) -> Heard {
        // Whose cluster was forgotten meanwhile says nothing more.
        let Some(member) = self.0.members.read().get(cluster).cloned() else { return Heard::Lost };
        let mut heard = Heard::All;
        loop {
            match member.own(stream, Session::poll_event).flatten() {
                None => return heard,
                Some(Event::Lost { since_ms }) => {
                    let silent_ms = self.now().saturating_sub(since_ms);
                    tracing::warn!(cluster, silent_ms, "an agent fell silent");
                    heard = Heard::Lost;
                }
                Some(event) => listener.heard(cluster, event),
            }
        }
    }

    /// A stream ended, unless a newer one owns the session now.
    pub(crate) fn close(&self, cluster: &str, stream: u64, listener: &dyn Listener) {
        self.0.metrics.sessions.dec();
        // Of a cluster that has left there is no session any more.
        let member = self.0.members.read().get(cluster).cloned();
        if member.is_some_and(|member| member.own(stream, Session::disconnected).is_some()) {
            listener.left(cluster);
        }
    }
}

/// Whether a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// What was said was told.
    All,
    /// The agent fell silent: the stream is to be closed.
    Lost,
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use tonic::codec::{DecodeBuf, Decoder};

    use super::*;
    use crate::testing;

    /// Of an agent that says nothing.
    struct Silent;

    impl Decoder for Silent {
        type Item = v1::AgentMessage;
        type Error = Status;

        fn decode(&mut self, _: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
            Ok(None)
        }
    }

    /// Fails, and knows whose streams are gone.
    #[derive(Default)]
    struct Fails(Mutex<Vec<String>>);

    impl Listener for Fails {
        fn heard(&self, _: &str, _: Event) {}

        fn left(&self, cluster: &str) {
            self.0.lock().push(cluster.to_owned());
        }

        fn check(&self, _: &Shown) -> Result<(), Status> {
            panic!("it cannot be looked at")
        }
    }

    #[tokio::test]
    async fn a_stream_at_which_something_panics_ends_with_a_word_to_both_sides() {
        let sessions = testing::machine().await.sessions;
        let shown = Shown { cluster: "taiwan".into(), uid: "u".into(), signed_s: 0 };
        let (outbound, mut told) = mpsc::channel(1);
        let inbound = Streaming::new_empty(Silent, tonic::body::Body::empty());
        let listener = Arc::new(Fails::default());
        sessions.clone().drive(shown, inbound, outbound, listener.clone(), Shutdown::new()).await;
        let status = told.recv().await.expect("a word").expect_err("it is refused");
        assert_eq!((status.code(), told.recv().await.is_none()), (tonic::Code::Internal, true));
        assert_eq!(
            (&**listener.0.lock(), sessions.is_connected("taiwan")),
            (&["taiwan".to_owned()][..], false)
        );
    }

    #[tokio::test]
    async fn what_is_asked_of_an_agent_is_noted_once_and_before_it_can_answer() {
        let sessions = testing::machine().await.sessions;
        let noted = Mutex::new(Vec::new());
        let key = |name: &str| Key { resource: "configmaps".into(), name: name.into(), ..Key::default() };
        let note = |what: &'static str| {
            // Whoever hears the agent waits for this.
            assert!(sessions.member("taiwan").session.try_lock().is_none(), "{what}");
            noted.lock().push(what);
        };
        sessions.with("taiwan", Session::reconnected);
        for _ in 0..2 {
            let permit = v1::Permit::default();
            sessions.remove("taiwan", key("a"), "u", 5, permit, || note("a removal"));
            sessions.release("taiwan", key("b"), "u", 6, || note("a release"));
        }
        assert_eq!(*noted.lock(), ["a removal", "a release"]);
    }
}
