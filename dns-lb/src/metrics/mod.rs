//! Counters: incremented per thread, summed when scraped.

mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

pub use names::NameSlot;
use names::{NameCounters, NameSlots};

use crate::answer::Reply;
use crate::tap::{Output, Taps};
use crate::wire::{Name, Rcode};

/// Cluster names that have a counter of their own; a federation with more counts the rest under [`OTHER`].
const CLUSTERS_MAX: usize = 1024;
/// Balanced names that have counters of their own, if the operator says nothing: 64 KiB for each thread.
pub const NAMES_DEFAULT: usize = 1000;
/// Name of what is answered from static records.
const STATIC: &str = "";
/// Name of the clusters beyond [`CLUSTERS_MAX`], and of the names beyond their bound.
const OTHER: &str = "(other)";

/// Index of a cluster's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterSlot(u16);

impl ClusterSlot {
    /// Of records that are no cluster's.
    pub const STATIC: Self = Self(0);
}

/// Names of clusters in order of appearance, and the balanced names. A cluster keeps its slot while the process lives, whatever the epoch.
#[derive(Debug)]
pub struct ClusterSlots {
    clusters: RwLock<Vec<Box<str>>>,
    names: NameSlots,
}

impl Default for ClusterSlots {
    fn default() -> Self {
        Self::counting(NAMES_DEFAULT)
    }
}

impl ClusterSlots {
    /// With counters of their own for so many balanced names.
    pub fn counting(names: usize) -> Self {
        Self { clusters: RwLock::new(vec![STATIC.into(), OTHER.into()]), names: NameSlots::new(names) }
    }

    /// The slot of a name that is balanced.
    pub fn name(&self, name: &Name) -> NameSlot {
        self.names.slot(name)
    }

    /// The slot of `cluster`; none is what static records have.
    pub fn slot(&self, cluster: Option<&str>) -> ClusterSlot {
        let Some(cluster) = cluster else { return ClusterSlot::STATIC };
        if let Some(index) = self.clusters.read().iter().position(|name| **name == *cluster) {
            return ClusterSlot(index as u16);
        }
        let mut names = self.clusters.write();
        if let Some(index) = names.iter().position(|name| **name == *cluster) {
            return ClusterSlot(index as u16);
        }
        if names.len() == CLUSTERS_MAX {
            return ClusterSlot(1);
        }
        names.push(cluster.into());
        ClusterSlot((names.len() - 1) as u16)
    }

    /// The name of the cluster of `slot`.
    pub fn cluster(&self, slot: ClusterSlot) -> Option<Box<str>> {
        self.clusters.read().get(slot.0 as usize).cloned()
    }

    fn names(&self) -> Vec<Box<str>> {
        self.clusters.read().clone()
    }
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 1035 section 4.2.1.
    Udp,
    /// RFC 7766.
    Tcp,
    /// Over TLS, RFC 7858.
    Tls,
    /// Over HTTPS, RFC 8484.
    Https,
    /// Over QUIC, RFC 9250.
    Quic,
}

impl Transport {
    /// Every one, in the order in which they are exported.
    pub const ALL: [Self; 5] = [Self::Udp, Self::Tcp, Self::Tls, Self::Https, Self::Quic];

    /// Whether who listens on the way learns no more than sizes, which padding hides (RFC 7830 section 6).
    #[inline]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Https | Self::Quic)
    }

    /// As metrics and logs name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
        }
    }
}

/// The counters of one thread. Aligned to two cache lines, so that threads do not write to each other's, the line that the
/// prefetcher brings along included.
#[repr(align(128))]
pub struct Counters {
    transport: Transport,
    rcodes: [AtomicU64; Rcode::COUNT],
    dropped: AtomicU64,
    unsent: AtomicU64,
    truncated: AtomicU64,
    cold: AtomicU64,
    subnets: AtomicU64,
    cookies_known: AtomicU64,
    cookies_new: AtomicU64,
    limited: AtomicU64,
    slipped: AtomicU64,
    clusters: Box<[AtomicU64]>,
    names: NameCounters,
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl Counters {
    /// Counters at zero, without any for names.
    pub fn new(transport: Transport) -> Self {
        Self::sized(transport, 0)
    }

    fn sized(transport: Transport, names: usize) -> Self {
        Self {
            transport,
            rcodes: Default::default(),
            dropped: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            cold: AtomicU64::new(0),
            subnets: AtomicU64::new(0),
            cookies_known: AtomicU64::new(0),
            cookies_new: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            slipped: AtomicU64::new(0),
            clusters: (0..CLUSTERS_MAX).map(|_| AtomicU64::new(0)).collect(),
            names: NameCounters::new(names),
        }
    }

    // A UDP thread's counters have no other writer, which a locked instruction would be paid for at each answer.
    #[inline]
    fn bump(&self, counter: &AtomicU64, count: u64) {
        match self.transport {
            Transport::Udp => counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed),
            _ => {
                counter.fetch_add(count, Relaxed);
            }
        }
    }

    /// An answer was made.
    #[inline]
    pub fn answered(&self, reply: &Reply) {
        if let Some(counter) = self.rcodes.get(reply.rcode.0 as usize) {
            self.bump(counter, 1);
        }
        if let Some(edns) = &reply.edns {
            if edns.options.subnet.is_some() {
                self.bump(&self.subnets, 1);
            }
            if let Some(cookie) = &reply.facts.cookie {
                let counter = if cookie.known { &self.cookies_known } else { &self.cookies_new };
                self.bump(counter, 1);
            }
        }
    }

    /// An answer was withheld by the limit on answers.
    #[inline]
    pub fn limited(&self) {
        self.bump(&self.limited, 1);
    }

    /// An answer was cut by the limit on answers.
    #[inline]
    pub fn slipped(&self) {
        self.bump(&self.slipped, 1);
    }

    /// How many answers the limit has withheld, and how many it has cut.
    pub fn limits(&self) -> (u64, u64) {
        (self.limited.load(Relaxed), self.slipped.load(Relaxed))
    }

    /// An answer about a name names a cluster's addresses.
    #[inline]
    pub fn chosen(&self, name: NameSlot, cluster: ClusterSlot) {
        self.names.bump(name, cluster, self.transport == Transport::Udp);
        if let Some(counter) = self.clusters.get(cluster.0 as usize) {
            self.bump(counter, 1);
        }
    }

    /// A message was not worth an answer.
    #[inline]
    pub fn dropped(&self) {
        self.bump(&self.dropped, 1);
    }

    /// Answers were not sent, for the socket's buffer was full.
    #[inline]
    pub fn unsent(&self, count: u64) {
        self.bump(&self.unsent, count);
    }

    /// An answer was cut, and the client sent to TCP.
    #[inline]
    pub fn truncated(&self) {
        self.bump(&self.truncated, 1);
    }

    /// A query took the cold path.
    #[inline]
    pub fn cold(&self) {
        self.bump(&self.cold, 1);
    }

    /// How many answers with `rcode` were made.
    pub fn answers(&self, rcode: Rcode) -> u64 {
        self.rcodes.get(rcode.0 as usize).map_or(0, |counter| counter.load(Relaxed))
    }
}

/// What is known of the zones, for the scraper.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ZoneState {
    /// Answered epoch.
    pub epoch: u64,
    /// How many zones are answered.
    pub zones: u64,
    /// Seconds since the hub last confirmed that these are the newest zones; none before the first zones.
    pub age_seconds: Option<u64>,
    /// Whether the hub's stream is up.
    pub connected: bool,
    /// Zones whose new version was held, because it was empty.
    pub held: u64,
    /// Clusters of Services that this server withdrew by its own word, the hub being away.
    pub withdrawn: u64,
    /// Updates refused so far: invalid.
    pub refused_invalid: u64,
    /// Updates refused so far: older than what is served.
    pub refused_older: u64,
    /// Updates refused so far: of another store.
    pub refused_foreign: u64,
}

/// Of a name's counter.
type Labels = [(&'static str, String); 3];
type StateSource = Box<dyn Fn() -> ZoneState + Send + Sync>;

/// Everything that is exported, as a collector that sums when scraped.
pub struct DnsMetrics {
    /// Cluster names.
    pub clusters: Arc<ClusterSlots>,
    threads: Mutex<Vec<Arc<Counters>>>,
    state: Mutex<Option<StateSource>>,
    taps: Mutex<Option<Arc<Taps>>>,
}

impl fmt::Debug for DnsMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsMetrics").finish_non_exhaustive()
    }
}

impl Default for DnsMetrics {
    fn default() -> Self {
        Self {
            clusters: Arc::default(),
            threads: Mutex::default(),
            state: Mutex::new(None),
            taps: Mutex::default(),
        }
    }
}

impl DnsMetrics {
    /// With counters of their own for so many balanced names.
    pub fn counting(names: usize) -> Self {
        Self { clusters: Arc::new(ClusterSlots::counting(names)), ..Self::default() }
    }

    /// Counters for one more thread.
    pub fn thread(&self, transport: Transport) -> Arc<Counters> {
        let counters = Arc::new(Counters::sized(transport, self.clusters.names.count()));
        self.threads.lock().push(counters.clone());
        counters
    }

    /// Says what is written down of queries.
    pub fn tapped(&self, taps: Arc<Taps>) {
        *self.taps.lock() = Some(taps);
    }

    /// Says where the zones' state is read.
    pub fn observe(&self, state: impl Fn() -> ZoneState + Send + Sync + 'static) {
        *self.state.lock() = Some(Box::new(state));
    }

    /// How often each name was answered: by its name, how, and with which cluster.
    fn named(&self, threads: &[Arc<Counters>], clusters: &[Box<str>]) -> Vec<(Labels, u64)> {
        let mut named = self.clusters.names.names();
        named.push((OTHER.into(), NameSlot::OTHER));
        named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut series = Vec::new();
        for (name, slot) in &named {
            let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
            for thread in threads {
                for (cluster, count) in thread.names.read(*slot) {
                    let cluster = cluster.and_then(|slot| clusters.get(slot.0 as usize));
                    let cluster = cluster.map_or(OTHER, AsRef::as_ref);
                    *counts.entry((thread.transport.label(), cluster)).or_default() += count;
                }
            }
            series.extend(counts.into_iter().map(|((transport, cluster), count)| {
                let [transport, cluster] = [transport, cluster].map(str::to_owned);
                ([("name", name.clone()), ("transport", transport), ("cluster", cluster)], count)
            }));
        }
        series
    }

    fn counter<L: prometheus_client::encoding::EncodeLabelSet>(
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        series: &[(L, u64)],
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            metric.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(value, None)?;
        }
        Ok(())
    }

    /// What came, and what became of it, by transport.
    fn encode_queries(threads: &[Arc<Counters>], e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sum = |transport, read: &dyn Fn(&Counters) -> u64| -> u64 {
            threads.iter().filter(|t| t.transport == transport).map(|t| read(t)).sum()
        };
        let (mut queries, mut subnets, mut cookies) = (Vec::new(), Vec::new(), Vec::new());
        let (mut dropped, mut truncated, mut cold) = (Vec::new(), Vec::new(), Vec::new());
        for transport in Transport::ALL {
            let label = transport.label();
            for code in 0..Rcode::COUNT as u8 {
                let count = sum(transport, &|t| t.answers(Rcode(code)));
                if count > 0 {
                    queries.push(([("transport", label), ("rcode", Rcode(code).mnemonic())], count));
                }
            }
            dropped.push(([("transport", label)], sum(transport, &|t| t.dropped.load(Relaxed))));
            truncated.push(([("transport", label)], sum(transport, &|t| t.truncated.load(Relaxed))));
            cold.push(([("transport", label)], sum(transport, &|t| t.cold.load(Relaxed))));
            subnets.push(([("transport", label)], sum(transport, &|t| t.subnets.load(Relaxed))));
            let mut cookie = |state, count| cookies.push(([("transport", label), ("state", state)], count));
            cookie("known", sum(transport, &|t| t.cookies_known.load(Relaxed)));
            cookie("new", sum(transport, &|t| t.cookies_new.load(Relaxed)));
        }
        let unsent = [([("transport", "udp")], sum(Transport::Udp, &|t| t.unsent.load(Relaxed)))];
        let limited = [
            ([("action", "withheld")], sum(Transport::Udp, &|t| t.limits().0)),
            ([("action", "cut")], sum(Transport::Udp, &|t| t.limits().1)),
        ];
        Self::counter(e, "dns_queries", "Queries answered, by transport and response code", &queries)?;
        Self::counter(
            e,
            "dns_dropped",
            "Messages that got no answer: too short, or answers themselves",
            &dropped,
        )?;
        Self::counter(e, "dns_unsent", "Answers dropped because the socket's buffer was full", &unsent)?;
        Self::counter(e, "dns_truncated", "Answers cut to fit, with TC set", &truncated)?;
        Self::counter(e, "dns_cold_path", "Queries that the compiled answers do not cover", &cold)?;
        Self::counter(e, "dns_client_subnet", "Queries with a Client Subnet option", &subnets)?;
        Self::counter(e, "dns_cookies", "Queries with a cookie; known: with a good server cookie", &cookies)?;
        Self::counter(e, "dns_rate_limited", "Answers beyond the limit on answers", &limited)
    }

    /// The clusters that answers named.
    fn encode_answers(&self, threads: &[Arc<Counters>], e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let names = self.clusters.names();
        let clusters: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(slot, name)| {
                let count = |t: &Arc<Counters>| t.clusters.get(slot).map_or(0, |c| c.load(Relaxed));
                ([("cluster", &**name)], threads.iter().map(count).sum())
            })
            .collect();
        let named = self.named(threads, &names);
        Self::counter(
            e,
            "dns_answers",
            "Answers that named a cluster; static records have no cluster",
            &clusters,
        )?;
        Self::counter(
            e,
            "dns_name_answers",
            "Answers about a balanced name that named a cluster, by name, transport and cluster",
            &named,
        )
    }

    /// The log of queries, and dnstap.
    fn encode_taps(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let taps = self.taps.lock();
        let Some(taps) = &*taps else { return Ok(()) };
        let wanted = Output::ALL.into_iter().filter(|output| taps.wants(*output));
        let of = |output: Output| {
            let (name, counts) = (output.label(), taps.counts(output));
            let one =
                |outcome, count: &AtomicU64| ([("output", name), ("outcome", outcome)], count.load(Relaxed));
            [one("written", &counts.written), one("dropped", &counts.dropped)]
        };
        let help = "Lines of the log of queries, and messages of dnstap; dropped: the writer was behind, or nobody took them";
        Self::counter(encoder, "dns_tap", help, &wanted.flat_map(of).collect::<Vec<_>>())
    }

    /// The zones, and the hub.
    fn encode_zones(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.state.lock().as_ref().map(|read| read()).unwrap_or_default();
        let mut gauge = |name: &str, help: &str, value: u64| -> fmt::Result {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&value)
        };
        gauge("dns_zone_epoch", "Epoch of the zones that are answered", state.epoch)?;
        gauge("dns_zones", "Zones that are answered", state.zones)?;
        gauge("dns_hub_connected", "1 while the hub's stream is up", u64::from(state.connected))?;
        gauge("dns_zones_held", "Zones whose new version is held because it is empty", state.held)?;
        if let Some(age) = state.age_seconds {
            gauge(
                "dns_zone_age_seconds",
                "Seconds since the hub confirmed that the zones are the newest",
                age,
            )?;
        }
        let refused = [
            ([("reason", "invalid")], state.refused_invalid),
            ([("reason", "older")], state.refused_older),
            ([("reason", "incarnation")], state.refused_foreign),
        ];
        Self::counter(encoder, "dns_updates_refused", "Updates of the hub that were not applied", &refused)
    }
}

impl Collector for DnsMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let threads = self.threads.lock().clone();
        Self::encode_queries(&threads, &mut encoder)?;
        self.encode_answers(&threads, &mut encoder)?;
        self.encode_taps(&mut encoder)?;
        self.encode_zones(&mut encoder)
    }
}
