//! The stream of zones to the DNS servers, and which epoch each of them serves.

mod history;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream as Items, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use federation_core::health::Voter;
use federation_runtime::clock::Instant;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::zones;
use proto::v1;

use self::history::{Base, Newest};
use super::identity;
use crate::decide::ahead::Ahead;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::traffic::Traffic;

/// Updates that wait for one dns-lb: one is enough, since a newer update contains the older one.
const UPDATES: usize = 1;
/// Streams of dns-lbs at once, those included that have not said Hello. A federation has a handful; each stream costs a copy of the zones in
/// flight.
const STREAMS: usize = 256;
/// Time within which a dns-lb says Hello: it is the first thing that it sends. Streams without one must not keep the others out.
const HELLO: Duration = Duration::from_secs(10);

/// Maximum number of listen addresses that are kept for one dns-lb.
const ADDRESSES_MAX: usize = 8;
/// Publications whose time is remembered, to compute how far a dns-lb is behind. One that is further behind is shown as at least that far.
const PUBLICATIONS: usize = 256;

/// From this size on the zones are said to be large: half of what a dns-lb takes.
const WARN_FROM: usize = zones::UPDATE_MAX / 2;

/// How long a dns-lb that disconnected still counts.
const MISSED: Duration = Duration::from_secs(600);
/// Time within which DNS servers reconnect to a restarted hub.
const SETTLE: Duration = Duration::from_secs(15);

/// The newest zones, and who serves which epoch. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Zones(Arc<Inner>);

struct Inner {
    newest: watch::Sender<Option<Arc<Newest>>>,
    // Epochs with the time of their publication, oldest first.
    published: Mutex<VecDeque<(u64, Instant)>>,
    streams: Mutex<HashMap<u64, Served>>,
    // DNS servers that went away: they may still answer, with the zones that they have.
    departed: Mutex<HashMap<String, Departed>>,
    started: Instant,
    next_stream: AtomicU64,
    // One permit for each stream that is open.
    admissions: Arc<Semaphore>,
    // Rung whenever an acknowledgement arrives or a stream ends.
    changed: watch::Sender<u64>,
    traffic: Traffic,
    health: Health,
    ahead: Ahead,
    metrics: Metrics,
    shutdown: Shutdown,
}

struct Served {
    instance: String,
    epoch: u64,
    // When it last said so.
    heard: Instant,
    // Where it answers.
    addresses: Vec<SocketAddr>,
    // Where agents may meet.
    meet: Vec<SocketAddr>,
}

/// A DNS server that went away.
#[derive(Clone)]
struct Departed {
    epoch: u64,
    since: Instant,
    meet: Vec<SocketAddr>,
}

/// Whether another process of that DNS server is connected: it has its sockets, and answers in its stead.
fn is_taken_over<'a>(mut connected: impl Iterator<Item = &'a Served>, gone: &Served) -> bool {
    connected.any(|served| served.instance == gone.instance)
}

impl Zones {
    pub(crate) fn new(
        traffic: Traffic,
        health: Health,
        ahead: Ahead,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Self {
        Self(Arc::new(Inner {
            newest: watch::Sender::new(None),
            published: Mutex::default(),
            streams: Mutex::default(),
            departed: Mutex::default(),
            started: Instant::now(),
            next_stream: AtomicU64::new(0),
            admissions: Arc::new(Semaphore::new(STREAMS)),
            changed: watch::Sender::new(0),
            traffic,
            health,
            ahead,
            metrics,
            shutdown,
        }))
    }

    /// Sends zones to every dns-lb, at once. An older epoch than the newest is dropped.
    pub(crate) fn publish(&self, update: v1::ZoneUpdate) {
        self.0.metrics.zone_epoch.set(update.epoch as i64);
        self.measure(zones::size(&update));
        {
            let mut published = self.0.published.lock();
            if published.back().is_none_or(|(newest, _)| *newest < update.epoch) {
                published.push_back((update.epoch, Instant::now()));
            }
            while published.len() > PUBLICATIONS {
                published.pop_front();
            }
        }
        let before = self.0.newest.borrow().clone();
        let next = Arc::new(Newest::after(before.as_deref(), update));
        self.0.newest.send_if_modified(|newest| {
            if newest.as_ref().is_some_and(|newest| newest.whole.epoch >= next.whole.epoch) {
                return false;
            }
            *newest = Some(next);
            true
        });
    }

    /// Says how large the newest zones are, and warns before no dns-lb takes them any more.
    fn measure(&self, octets: usize) {
        let before = self.0.metrics.zone_update_bytes.set(octets as i64);
        if octets > zones::UPDATE_MAX {
            tracing::error!(
                octets,
                most = zones::UPDATE_MAX,
                "the zones are too large: DNS servers get changes of what they have, while those are small enough, and nothing else"
            );
        } else if octets > WARN_FROM && before <= WARN_FROM as i64 {
            tracing::warn!(octets, most = zones::UPDATE_MAX, "the zones are about to become too large");
        }
    }

    /// Whether every known dns-lb serves `epoch` or a newer one. One that went away counts for [`MISSED`], since it may answer
    /// still; and in the first [`SETTLE`] of the hub the answer is no, unless one is connected.
    pub(crate) fn all_serve(&self, epoch: u64) -> bool {
        {
            let mut departed = self.0.departed.lock();
            departed.retain(|_, gone| gone.since.elapsed() < MISSED);
            if departed.values().any(|gone| gone.epoch < epoch) {
                return false;
            }
        }
        let streams = self.0.streams.lock();
        (!streams.is_empty() || self.0.started.elapsed() >= SETTLE)
            && streams.values().all(|served| served.epoch >= epoch)
    }

    /// What is sent to the dns-lbs now; none before the first publication.
    pub(super) fn newest(&self) -> Option<Arc<v1::ZoneUpdate>> {
        self.0.newest.borrow().as_ref().map(|newest| newest.whole.clone())
    }

    /// What each dns-lb serves, those that went away included.
    pub(crate) fn status(&self) -> v1::DnsStatusResponse {
        let published = self.0.published.lock().clone();
        let lag = |served: u64| {
            let missed = published.iter().find(|(epoch, _)| *epoch > served);
            missed.map_or(0, |(_, at)| millis(*at).max(1))
        };
        let server = |instance: &str, connected, epoch, heard| v1::DnsServer {
            instance: instance.to_owned(),
            connected,
            epoch,
            heard_ms_ago: millis(heard),
            lag_ms: lag(epoch),
        };
        let mut servers: BTreeMap<String, v1::DnsServer> = BTreeMap::new();
        for (instance, gone) in self.0.departed.lock().iter() {
            servers.insert(instance.clone(), server(instance, false, gone.epoch, gone.since));
        }
        for served in self.0.streams.lock().values() {
            let now = server(&served.instance, true, served.epoch, served.heard);
            servers.insert(served.instance.clone(), now);
        }
        let newest = published.back();
        v1::DnsStatusResponse {
            epoch: newest.map_or(0, |(epoch, _)| *epoch),
            published_ms_ago: newest.map_or(0, |(_, at)| millis(*at)),
            servers: servers.into_values().collect(),
        }
    }

    /// Told of every acknowledgement.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn served(&self, stream: u64, instance: &str, epoch: u64) {
        let mut streams = self.0.streams.lock();
        let now = Instant::now();
        let served = streams.entry(stream).or_insert_with(|| Served {
            instance: instance.to_owned(),
            epoch: 0,
            heard: now,
            addresses: Vec::new(),
            meet: Vec::new(),
        });
        served.epoch = served.epoch.max(epoch);
        served.heard = now;
        self.0.departed.lock().remove(instance);
        tracing::debug!(instance = served.instance, epoch, "zones served");
        self.0.metrics.dns_sessions.set(streams.len() as i64);
        drop(streams);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// Where the DNS servers answer: one address of each, as far as they say.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let streams = self.0.streams.lock();
        let mut addresses: Vec<SocketAddr> =
            streams.values().filter_map(|served| served.addresses.first()).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// DNS servers where agents may meet, by instance. One that went away is there for [`MISSED`]: the number of voters must not fall when it
    /// may be the survivors' own.
    pub(crate) fn meeting_points(&self) -> BTreeMap<String, Vec<SocketAddr>> {
        let mut points = BTreeMap::new();
        for (instance, gone) in self.0.departed.lock().iter() {
            if gone.since.elapsed() < MISSED {
                points.insert(instance.clone(), gone.meet.clone());
            }
        }
        for served in self.0.streams.lock().values() {
            points.insert(served.instance.clone(), served.meet.clone());
        }
        points.retain(|_, meet| !meet.is_empty());
        points
    }

    /// Whether the DNS servers have had time to dial after the hub's start.
    pub(crate) fn settled(&self) -> bool {
        self.0.started.elapsed() >= SETTLE
    }

    fn opened(&self, stream: u64, hello: &v1::DnsHello, peer: Option<IpAddr>) {
        let seen = |listen: &[String]| -> Vec<SocketAddr> {
            let addresses =
                listen.iter().filter_map(|text| text.parse::<SocketAddr>().ok()).filter_map(|address| {
                    if address.ip().is_unspecified() {
                        Some(SocketAddr::new(peer?, address.port()))
                    } else {
                        Some(address)
                    }
                });
            addresses.take(ADDRESSES_MAX).collect()
        };
        if let Some(served) = self.0.streams.lock().get_mut(&stream) {
            served.addresses = seen(&hello.listen);
            served.meet = seen(&hello.meet);
        }
    }

    /// What a DNS server sees, once it has said who it is.
    fn voted(&self, identity: &str, instance: &str, votes: &[v1::ProbeVote]) {
        if !instance.is_empty() {
            self.0.traffic.measured(instance, votes);
            let voter = Voter::Dns { identity: identity.to_owned(), instance: instance.to_owned() };
            self.0.health.heard(&voter, votes);
        }
    }

    fn gone(&self, stream: u64) {
        let mut streams = self.0.streams.lock();
        if let Some(gone) = streams.remove(&stream)
            && !self.0.shutdown.started()
            && !is_taken_over(streams.values(), &gone)
        {
            let Served { instance, epoch, meet, .. } = gone;
            self.0.departed.lock().insert(instance, Departed { epoch, since: Instant::now(), meet });
        }
        self.0.metrics.dns_sessions.set(streams.len() as i64);
        drop(streams);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// A stream begins, of a dns-lb with that identity.
    pub(crate) fn open(&self, identity: String) -> Stream {
        Stream {
            zones: self.clone(),
            number: self.0.next_stream.fetch_add(1, Ordering::Relaxed),
            newest: self.0.newest.subscribe(),
            identity,
            instance: String::new(),
            base: None,
            pieces: false,
            update_max: zones::UPDATE_MAX,
            is_withheld: false,
            connected: Instant::now(),
        }
    }

    /// Takes one more stream in.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are [`STREAMS`] already.
    fn admit(&self, peer: Option<IpAddr>) -> Result<Admission, Status> {
        let permit = self.0.admissions.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("too many DNS servers are connected"))?;
        Ok(Admission { peer, hello_within: HELLO, _permit: permit })
    }

    /// One stream: the newest zones whenever they change, until either side ends.
    async fn serve(
        self,
        mut inbound: impl Items<Item = Result<v1::DnsMessage, Status>> + Unpin,
        outbound: mpsc::Sender<Result<v1::ZoneUpdate, Status>>,
        identity: String,
        admission: Admission,
    ) {
        let mut stream = self.open(identity);
        let mut silent = pin!(tasks::sleep(admission.hello_within));
        // What is left to send of the last update. Messages are read meanwhile: a dns-lb that waits to send does not read either.
        let mut unsent: VecDeque<v1::ZoneUpdate> = VecDeque::new();
        loop {
            tokio::select! {
                () = self.0.shutdown.wait() => break,
                message = inbound.next() => match message {
                    Some(Ok(message)) => stream.said(message, admission.peer),
                    Some(Err(_)) | None => break,
                },
                () = &mut silent, if stream.base.is_none() => {
                    // An error means that the client is gone, too.
                    let _ = outbound.try_send(Err(Status::deadline_exceeded("no Hello came")));
                    break;
                }
                room = outbound.reserve(), if !unsent.is_empty() => {
                    let Ok(room) = room else { break };
                    if let Some(message) = unsent.pop_front() {
                        room.send(Ok(message));
                    }
                }
                // An update that has begun is sent to its end: pieces of two updates do not fit together.
                changed = stream.newest.changed(), if stream.base.is_some() && unsent.is_empty() => {
                    if changed.is_err() {
                        break;
                    }
                    stream.newest.mark_changed();
                    if let Some(update) = stream.next() {
                        unsent = stream.messages(update).into();
                    }
                }
            }
        }
    }
}

/// A stream that was let in.
struct Admission {
    // Whom it comes from.
    peer: Option<IpAddr>,
    hello_within: Duration,
    _permit: OwnedSemaphorePermit,
}

/// One dns-lb's stream, whatever carries it. It ends when it is dropped.
pub(crate) struct Stream {
    zones: Zones,
    number: u64,
    newest: watch::Receiver<Option<Arc<Newest>>>,
    identity: String,
    instance: String,
    // What it has, as far as changes may be made of it. Nothing is sent before it says hello.
    base: Option<Base>,
    // It takes a large update in pieces.
    pieces: bool,
    // Octets of an update that it takes in pieces.
    update_max: usize,
    // The last update for it was larger than it takes, and was not sent.
    is_withheld: bool,
    connected: Instant,
}

impl Stream {
    /// Takes a message in, from a dns-lb at that address.
    pub(crate) fn said(&mut self, message: v1::DnsMessage, peer: Option<IpAddr>) {
        match message.message {
            Some(v1::dns_message::Message::Hello(hello)) => {
                self.zones.served(self.number, &hello.instance, 0);
                self.zones.opened(self.number, &hello, peer);
                self.zones.0.ahead.server(&hello.instance, hello.epoch, &hello.incarnation);
                self.base = Some(Base::of(&hello));
                self.pieces = hello.pieces;
                self.instance = hello.instance;
                self.newest.mark_changed();
            }
            Some(v1::dns_message::Message::Served(served)) => {
                self.zones.served(self.number, &self.instance, served.epoch);
                if let Some(base) = &mut self.base {
                    base.served(served.epoch);
                }
            }
            Some(v1::dns_message::Message::Votes(votes)) => {
                self.zones.voted(&self.identity, &self.instance, &votes.votes);
            }
            None => {}
        }
    }

    /// What is to be sent now. An update that is larger than this dns-lb takes is not sent: it keeps what it has, and later changes of that
    /// may be small enough.
    pub(crate) fn next(&mut self) -> Option<v1::ZoneUpdate> {
        let base = self.base.as_mut()?;
        if !self.newest.has_changed().unwrap_or(false) {
            return None;
        }
        let update = self.newest.borrow_and_update().as_ref()?.since(base);
        let (octets, most) =
            (zones::size(&update), if self.pieces { self.update_max } else { zones::MESSAGE_MAX });
        let (was_withheld, instance) = (self.is_withheld, &self.instance);
        self.is_withheld = octets > most;
        if self.is_withheld {
            self.zones.0.metrics.zone_updates_withheld.inc();
            if !was_withheld {
                let what_to_do = if self.pieces { "remove hostnames or Services" } else { "update it" };
                tracing::error!(
                    instance,
                    octets,
                    most,
                    what_to_do,
                    "the zones are larger than this DNS server takes: it is not sent them, and keeps what it has"
                );
            }
            return None;
        }
        if was_withheld {
            tracing::info!(instance, octets, "the zones are sent to this DNS server again");
        }
        base.sent(&update);
        Some(update)
    }

    /// An update as this dns-lb takes it.
    fn messages(&self, update: v1::ZoneUpdate) -> Vec<v1::ZoneUpdate> {
        if self.pieces { zones::cut(update, zones::PIECE) } else { vec![update] }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.zones.gone(self.number);
        let seconds = self.connected.elapsed().as_secs();
        tracing::info!(instance = self.instance, seconds, "a DNS server left");
    }
}

/// Milliseconds since then.
fn millis(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[tonic::async_trait]
impl v1::zones_server::Zones for Zones {
    type WatchStream = Pin<Box<dyn Items<Item = Result<v1::ZoneUpdate, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<v1::DnsMessage>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = identity::peer(&request)?;
        let subject = identity::dns(&peer)?;
        let admission = self.admit(request.remote_addr().map(|address| address.ip()))?;
        let (sender, receiver) = mpsc::channel(UPDATES);
        tokio::spawn(self.clone().serve(request.into_inner(), sender, subject.user, admission));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_another_process_has_taken_over_has_not_departed() {
        let served = |instance: &str, epoch| Served {
            instance: instance.into(),
            epoch,
            heard: Instant::now(),
            addresses: Vec::new(),
            meet: Vec::new(),
        };
        // The old process ended before it acknowledged the newest.
        let (gone, next, other) = (served("a", 6), served("a", 7), served("b", 7));
        assert!(is_taken_over([&next, &other].into_iter(), &gone));
        assert!(!is_taken_over([&other].into_iter(), &gone));
    }

    #[tokio::test]
    async fn streams_count_from_the_first_moment_and_not_only_when_they_have_said_hello() {
        let zones = testing::machine().await.zones;
        let mut streams: Vec<Admission> =
            (0..STREAMS).map(|_| zones.admit(None).expect("there is room")).collect();
        let refused = zones.admit(None).err().expect("there is none");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        streams.pop();
        assert!(zones.admit(None).is_ok(), "one has ended");
    }

    #[tokio::test]
    async fn a_stream_that_says_no_hello_is_ended_and_makes_room() {
        let zones = testing::machine().await.zones.clone();
        let admission =
            zones.admit(None).map(|admitted| Admission { hello_within: Duration::ZERO, ..admitted });
        let (sender, mut receiver) = mpsc::channel(UPDATES);
        let silent = futures::stream::pending();
        zones.clone().serve(silent, sender, "dns".into(), admission.expect("there is room")).await;
        let ended = receiver.recv().await.expect("it is told").expect_err("why it ends");
        assert_eq!(ended.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(zones.0.admissions.available_permits(), STREAMS);
    }

    fn message(message: v1::dns_message::Message) -> v1::DnsMessage {
        v1::DnsMessage { message: Some(message) }
    }

    #[tokio::test]
    async fn a_dns_server_is_heard_while_it_does_not_read_and_a_shutdown_waits_for_none() {
        let machine = testing::machine().await;
        let zones = machine.zones.clone();
        zones.publish(large(7));
        let (votes, inbound) = mpsc::channel(1);
        let (outbound, mut pieces) = mpsc::channel(UPDATES);
        let admission = zones.admit(None).expect("there is room");
        let serving = tokio::spawn(zones.clone().serve(
            ReceiverStream::new(inbound),
            outbound,
            "dns".into(),
            admission,
        ));
        let hello = v1::DnsHello { instance: "a".into(), pieces: true, ..v1::DnsHello::default() };
        votes.send(Ok(message(v1::dns_message::Message::Hello(hello)))).await.expect("it is open");
        // It reads nothing before all of its votes are taken, and then one piece of several.
        let heard = async {
            for _ in 0..100 {
                let vote = v1::dns_message::Message::Votes(v1::ProbeVotes::default());
                votes.send(Ok(message(vote))).await.expect("it is open");
            }
            let piece = pieces.recv().await.expect("it is open").expect("a piece");
            assert!(piece.more, "there are several");
            votes.send(Ok(message(v1::dns_message::Message::Served(v1::ZoneServed { epoch: 3 })))).await
        };
        let heard = tokio::time::timeout(Duration::from_secs(20), heard).await;
        heard.expect("the hub reads although its pieces are not read").expect("it is open");
        testing::until(|| zones.status().servers.first().is_some_and(|server| server.epoch == 3)).await;
        // The next piece waits now for a dns-lb that has stopped reading.
        zones.0.shutdown.start();
        let ended = tokio::time::timeout(Duration::from_secs(20), serving).await;
        ended.expect("it ends although pieces are left").expect("it does not panic");
    }

    /// Zones of more than one piece.
    fn large(epoch: u64) -> v1::ZoneUpdate {
        let record = v1::RecordSet { name: "x".repeat(2 * zones::PIECE), ..v1::RecordSet::default() };
        let zone = v1::Zone { records: vec![record], ..v1::Zone::default() };
        v1::ZoneUpdate { epoch, zones: vec![zone], ..v1::ZoneUpdate::default() }
    }

    #[tokio::test]
    async fn the_size_of_the_zones_is_measured_and_large_ones_go_in_pieces_to_who_takes_them() {
        let machine = testing::machine().await;
        machine.zones.publish(large(7));
        assert!(machine.zones.0.metrics.zone_update_bytes.get() > zones::PIECE as i64);
        for pieces in [true, false] {
            let mut stream = machine.zones.open("dns".into());
            let hello = v1::DnsHello { instance: "a".into(), pieces, ..v1::DnsHello::default() };
            let message = Some(v1::dns_message::Message::Hello(hello));
            stream.said(v1::DnsMessage { message }, None);
            let next = stream.next().expect("there is something to send");
            assert_eq!(stream.messages(next).len(), if pieces { 3 } else { 1 });
        }
    }

    #[tokio::test]
    async fn zones_that_are_larger_than_a_dns_server_takes_are_not_sent_and_changes_of_what_it_has_are() {
        let machine = testing::machine().await;
        let withheld = || machine.zones.0.metrics.zone_updates_withheld.get();
        let records = |count: u32| -> Vec<v1::RecordSet> {
            let record = |n| v1::RecordSet { name: format!("name-{n}."), ttl: 5, ..v1::RecordSet::default() };
            (0..count).map(record).collect()
        };
        let publish = |epoch, count| {
            let zone = v1::Zone { origin: ".".into(), records: records(count), ..v1::Zone::default() };
            let incarnation = "store".into();
            machine.zones.publish(v1::ZoneUpdate {
                epoch,
                incarnation,
                zones: vec![zone],
                ..v1::ZoneUpdate::default()
            });
        };
        let opened = || {
            let mut stream = machine.zones.open("dns".into());
            stream.update_max = 1000;
            let hello = v1::DnsHello { changes: true, pieces: true, ..v1::DnsHello::default() };
            stream.said(v1::DnsMessage { message: Some(v1::dns_message::Message::Hello(hello)) }, None);
            stream
        };
        let next = |stream: &mut Stream| stream.next().map(|update| (update.base, update.epoch));
        publish(5, 60);
        let mut early = opened();
        assert_eq!(next(&mut early), Some((0, 5)));
        let served = v1::dns_message::Message::Served(v1::ZoneServed { epoch: 5 });
        early.said(v1::DnsMessage { message: Some(served) }, None);

        // All of it is too large; what has changed is not.
        publish(6, 90);
        let mut late = opened();
        assert_eq!((next(&mut early), withheld()), (Some((5, 6)), 0));
        assert_eq!((next(&mut late), withheld()), (None, 1));
        publish(7, 20);
        assert_eq!((next(&mut late), withheld()), (Some((0, 7)), 1));
    }
}
