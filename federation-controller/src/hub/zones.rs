//! The zones for the DNS servers, and which epoch each of them serves.
//!
//! - `history` remembers what led to the newest zones.
//! - `stream` is one DNS server's stream, whatever carries it.
//! - `serve` takes streams in by gRPC.

mod history;
mod serve;
mod stream;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use federation_core::health::Voter;
use federation_runtime::clock::Instant;
use federation_runtime::shutdown::Shutdown;
use hub_protocol::zones;
use proto::v1;

use self::history::Newest;
use self::serve::STREAMS;
pub(crate) use self::stream::Stream;
use crate::decide::ahead::Ahead;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::traffic::Traffic;

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
    pub(crate) fn newest(&self) -> Option<Arc<v1::ZoneUpdate>> {
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
}

/// Milliseconds since then.
fn millis(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
