//! Zones to the dns-lbs, and what each of them serves back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use federation_runtime::shutdown::Shutdown;
use proto::v1;

use super::identity;
use crate::metrics::Metrics;
use crate::traffic::Traffic;

/// Updates that wait for one dns-lb: one, since a whole newer update replaces an older one.
const UPDATES: usize = 1;
/// Streams of dns-lbs at once. A federation has a handful; each stream costs a copy of the zones in flight.
const STREAMS: usize = 256;

/// Doors of one dns-lb that are kept.
const DOORS: usize = 8;
/// Publications whose time is remembered, to tell how far a dns-lb is behind: one that is further behind is that far at least.
const PUBLICATIONS: usize = 256;

/// A dns-lb that went away is waited for this long.
const MISSED: Duration = Duration::from_secs(600);
/// dns-lbs dial a restarted hub within this time.
const SETTLE: Duration = Duration::from_secs(15);

/// The newest zones, and who serves which epoch. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Zones(Arc<Inner>);

struct Inner {
    newest: watch::Sender<Option<Arc<v1::ZoneUpdate>>>,
    // Epochs with the time of their publication, oldest first.
    published: Mutex<VecDeque<(u64, Instant)>>,
    streams: Mutex<HashMap<u64, Served>>,
    // DNS servers that went away: they may still answer, with the zones that they have.
    departed: Mutex<HashMap<String, (u64, Instant)>>,
    started: Instant,
    next_stream: AtomicU64,
    // Rung whenever an acknowledgement arrives or a stream ends.
    changed: watch::Sender<u64>,
    traffic: Traffic,
    metrics: Metrics,
    shutdown: Shutdown,
}

struct Served {
    instance: String,
    epoch: u64,
    // When it last said so.
    heard: Instant,
    // Where it answers.
    doors: Vec<SocketAddr>,
}

impl Zones {
    pub(crate) fn new(traffic: Traffic, metrics: Metrics, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner {
            newest: watch::Sender::new(None),
            published: Mutex::default(),
            streams: Mutex::default(),
            departed: Mutex::default(),
            started: Instant::now(),
            next_stream: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            traffic,
            metrics,
            shutdown,
        }))
    }

    /// Sends zones to every dns-lb, at once. An older epoch than the newest is dropped.
    pub(crate) fn publish(&self, update: v1::ZoneUpdate) {
        self.0.metrics.zone_epoch.set(update.epoch as i64);
        {
            let mut published = self.0.published.lock();
            if published.back().is_none_or(|(newest, _)| *newest < update.epoch) {
                published.push_back((update.epoch, Instant::now()));
            }
            while published.len() > PUBLICATIONS {
                published.pop_front();
            }
        }
        self.0.newest.send_if_modified(|newest| {
            if newest.as_ref().is_some_and(|newest| newest.epoch >= update.epoch) {
                return false;
            }
            *newest = Some(Arc::new(update));
            true
        });
    }

    /// Whether every known dns-lb serves `epoch` or a newer one. One that went away counts for [`MISSED`], since it may answer
    /// still; and in the first [`SETTLE`] of the hub the answer is no, unless one is connected.
    pub(crate) fn all_serve(&self, epoch: u64) -> bool {
        {
            let mut departed = self.0.departed.lock();
            departed.retain(|_, (_, since)| since.elapsed() < MISSED);
            if departed.values().any(|(served, _)| *served < epoch) {
                return false;
            }
        }
        let streams = self.0.streams.lock();
        (!streams.is_empty() || self.0.started.elapsed() >= SETTLE)
            && streams.values().all(|served| served.epoch >= epoch)
    }

    /// Connected dns-lbs.
    pub(crate) fn connected(&self) -> usize {
        self.0.streams.lock().len()
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
        for (instance, (epoch, since)) in self.0.departed.lock().iter() {
            servers.insert(instance.clone(), server(instance, false, *epoch, *since));
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
            doors: Vec::new(),
        });
        served.epoch = served.epoch.max(epoch);
        served.heard = now;
        self.0.departed.lock().remove(instance);
        tracing::debug!(instance = served.instance, epoch, "zones served");
        self.0.metrics.dns_sessions.set(streams.len() as i64);
        drop(streams);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// Where the DNS servers answer: one door of each, as far as they say.
    pub(crate) fn doors(&self) -> Vec<SocketAddr> {
        let streams = self.0.streams.lock();
        let mut doors: Vec<SocketAddr> =
            streams.values().filter_map(|served| served.doors.first()).copied().collect();
        doors.sort_unstable();
        doors.dedup();
        doors
    }

    fn opened(&self, stream: u64, listen: &[String], peer: Option<IpAddr>) {
        let doors = listen.iter().filter_map(|text| text.parse::<SocketAddr>().ok()).filter_map(|door| {
            if door.ip().is_unspecified() { Some(SocketAddr::new(peer?, door.port())) } else { Some(door) }
        });
        if let Some(served) = self.0.streams.lock().get_mut(&stream) {
            served.doors = doors.take(DOORS).collect();
        }
    }

    fn gone(&self, stream: u64) {
        let mut streams = self.0.streams.lock();
        if let Some(gone) = streams.remove(&stream)
            && !self.0.shutdown.started()
        {
            self.0.departed.lock().insert(gone.instance, (gone.epoch, Instant::now()));
        }
        self.0.metrics.dns_sessions.set(streams.len() as i64);
        drop(streams);
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// One stream: the newest zones whenever they change, until either side ends.
    async fn serve(
        self,
        mut inbound: Streaming<v1::DnsMessage>,
        outbound: mpsc::Sender<Result<v1::ZoneUpdate, Status>>,
        peer: Option<IpAddr>,
    ) {
        let stream = self.0.next_stream.fetch_add(1, Ordering::Relaxed);
        let mut newest = self.0.newest.subscribe();
        newest.mark_changed();
        let mut instance = String::new();
        let connected = Instant::now();
        loop {
            tokio::select! {
                () = self.0.shutdown.wait() => break,
                message = inbound.message() => match message {
                    Ok(Some(v1::DnsMessage { message: Some(message) })) => match message {
                        v1::dns_message::Message::Hello(hello) => {
                            instance = hello.instance;
                            self.served(stream, &instance, 0);
                            self.opened(stream, &hello.listen, peer);
                        }
                        v1::dns_message::Message::Served(served) => self.served(stream, &instance, served.epoch),
                        v1::dns_message::Message::Votes(votes) => self.0.traffic.measured(&instance, &votes.votes),
                    },
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                },
                changed = newest.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let update = newest.borrow_and_update().clone();
                    if let Some(update) = update
                        && outbound.send(Ok(update.as_ref().clone())).await.is_err()
                    {
                        break;
                    }
                }
            }
        }
        self.gone(stream);
        tracing::info!(instance, seconds = connected.elapsed().as_secs(), "a DNS server left");
    }
}

/// Milliseconds since then.
fn millis(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[tonic::async_trait]
impl v1::zones_server::Zones for Zones {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::ZoneUpdate, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<v1::DnsMessage>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = identity::peer(&request)?;
        identity::dns(&peer)?;
        if self.connected() >= STREAMS {
            return Err(Status::resource_exhausted("too many DNS servers are connected"));
        }
        let (sender, receiver) = mpsc::channel(UPDATES);
        let from = request.remote_addr().map(|address| address.ip());
        tokio::spawn(self.clone().serve(request.into_inner(), sender, from));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
