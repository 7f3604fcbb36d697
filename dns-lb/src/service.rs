//! The server as a service: binds sockets, starts threads and tasks, shuts down.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use federation_prober::Probing;
use federation_runtime::endpoints::{self, Health, Metrics};
use federation_runtime::pki::{self, Identity};
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::answer::{INSTANCE_MAX, Secrets};
use crate::bind::{bind_both, inherit};
use crate::client::{Database, DatabaseError};
use crate::descriptors;
use crate::hub::{Client, Disk, DiskError, Fence, Hub, Meeting, without_hub};
use crate::metrics::{DnsMetrics, Transport};
use crate::options::Options;
use crate::state::{OwnSecrets, State};
use crate::takeover::{Predecessor, Waiting};
use crate::tap::{TargetError, Writer};
use crate::transfer::{KeyError, Keys, Transfers, notify};
use crate::transport::{
    self, ConnectionLimiter, Encrypted, EncryptedAddresses, EncryptedError, Handler, Responder,
};
use crate::udp::{Clock, Limit, Limiter, Rng, Worker, restarted};
use crate::zone::step;

/// How often freshness is looked at.
const REVIEW: Duration = Duration::from_secs(1);
/// How often readiness is looked at until it is said.
const READY: Duration = Duration::from_millis(20);
/// How long connections have to end at a shutdown.
const DRAIN: Duration = Duration::from_secs(2);
/// The same where a successor answers already.
const DRAIN_SUCCEEDED: Duration = Duration::from_secs(5);

/// dns-lb could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be bound.
    #[error("--listen {address}: cannot bind {transport}")]
    Bind {
        /// As given.
        address: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The address where agents meet cannot be bound.
    #[error("--meet-listen {address}: cannot bind")]
    Meet {
        /// As given.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The metrics' address cannot be bound.
    #[error("--metrics-listen {address}: cannot bind")]
    Metrics {
        /// As given.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The zones on disk cannot be used.
    #[error("--data-dir")]
    Disk(#[from] DiskError),
    /// A file of the identity cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The sockets cannot be taken over, or not handed over.
    #[error("--takeover {path}")]
    Takeover {
        /// As given.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The sockets that systemd names are none.
    #[error("LISTEN_FDS")]
    Environment(#[source] io::Error),
    /// The identity cannot be read.
    #[error("--pki")]
    Pki(#[from] pki::Error),
    /// A hub without an identity.
    #[error("--hub needs an identity: give --pki DIR, or --ca, --cert and --key")]
    NoIdentity,
    /// The database of countries cannot be used.
    #[error("--geo-database")]
    Database(#[from] DatabaseError),
    /// Secrets of cookies that are none.
    #[error("--cookie-secret-file {0}: write 1 to 4 lines of 32 hexadecimal digits each")]
    Secrets(PathBuf),
    /// The system's random source failed.
    #[error("cannot generate a cookie secret")]
    Random(#[source] Unspecified),
    /// Keys that are none.
    #[error("--tsig-key-file {path}")]
    Keys {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyError,
    },
    /// A key that is not there.
    #[error("--notify {0}@…: --tsig-key-file has no key of this name")]
    NotifyKey(String),
    /// The instance's name is too long.
    #[error("--instance has {0} octets, more than {INSTANCE_MAX}")]
    Instance(usize),
    /// An encrypted transport cannot be served.
    #[error(transparent)]
    Encrypted(#[from] EncryptedError),
    /// A log of queries or a file of dnstap cannot be opened.
    #[error("--query-log, --dnstap-file")]
    Tap(#[from] TargetError),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A socket failed while serving.
    #[error("a UDP socket failed")]
    Socket(#[source] io::Error),
}

/// A dns-lb whose sockets are bound and whose zones on disk are loaded.
pub struct Service {
    options: Options,
    limit: Limit,
    addresses: Vec<SocketAddr>,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    encrypted: Encrypted,
    meet: Option<TcpListener>,
    hub: Option<Hub>,
    state: State,
    keys: Keys,
    writer: Option<Writer>,
    predecessor: Option<Predecessor>,
    scraped: Option<TcpListener>,
    health: Health,
    metrics: Metrics,
    dns_metrics: Arc<DnsMetrics>,
}

impl Service {
    /// Binds and loads. Nothing is answered before [`Service::run`]. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When an option cannot be followed; the message names it.
    pub fn bind(options: Options, health: Health, metrics: Metrics) -> Result<Self, Error> {
        if options.instance.len() > INSTANCE_MAX {
            return Err(Error::Instance(options.instance.len()));
        }
        let hub = options.hub.clone().map(|address| hub(address, &options)).transpose()?;
        // From here on the predecessor, if there is one, applies no updates: what is on disk is what it answers.
        let (predecessor, mut inherited) = inherit(&options)?;
        let dns_metrics = Arc::new(DnsMetrics::counting(options.metrics_names));
        metrics.register(|registry| registry.register_collector(Box::new(dns_metrics.clone())));
        let disk = options.data_dir.as_deref().map(Disk::new);
        let fence = Fence { adopt: options.adopt_incarnation.clone() };
        let state = State::new(dns_metrics.clone(), health.clone(), disk, fence, options.stale_after());
        let secrets = match &options.cookie_secret_file {
            Some(path) => OwnSecrets::Given(secrets(path)?),
            None => OwnSecrets::Spare(Secrets(vec![random_secret().map_err(Error::Random)?])),
        };
        let database = options.geo_database.as_deref().map(Database::open).transpose()?;
        state.prepare(secrets, database);
        let keys = options.tsig_key_file.as_deref().map(keys).transpose()?.unwrap_or_default();
        if let Some(key) =
            options.notify.iter().filter_map(|to| to.key.as_ref()).find(|key| keys.get(key).is_none())
        {
            return Err(Error::NotifyKey(key.to_string()));
        }
        state.load()?;
        let threads = options.threads.map_or_else(cores, std::num::NonZeroUsize::get);
        let (mut addresses, mut udp, mut tcp) = (Vec::new(), Vec::new(), Vec::new());
        for &address in &options.listen {
            let (listener, bound, sockets) = bind_both(address, threads, &mut inherited)?;
            addresses.push(bound);
            udp.extend(sockets);
            tcp.push(listener);
        }
        let encrypted = Encrypted::bind(&options.encrypted, &mut inherited)?;
        let scraped = options.metrics_listen.map(|address| {
            let bind = || std::net::TcpListener::bind(address);
            let listener = inherited.tcp(address).map_or_else(bind, Ok).and_then(transport::adopt);
            listener.map_err(|source| Error::Metrics { address, source })
        });
        let scraped = scraped.transpose()?;
        let meet = options.meet_listen.map(|address| {
            let listener =
                inherited.tcp(address).map_or_else(|| transport::bind(address, false), transport::adopt);
            listener.map_err(|source| Error::Meet { address, source })
        });
        let meet = meet.transpose()?;
        if !inherited.left().is_empty() {
            tracing::warn!(addresses = ?inherited.left(), "no flag asks for these sockets: they are closed");
        }
        let writer = Writer::start(&options.tap, &options.instance, dns_metrics.clusters.clone())?;
        if let Some(writer) = &writer {
            dns_metrics.tapped(writer.taps().clone());
        }
        let limit = options.limit();
        Ok(Self {
            options,
            limit,
            addresses,
            udp,
            tcp,
            encrypted,
            meet,
            hub,
            state,
            keys,
            writer,
            predecessor,
            scraped,
            health,
            metrics,
            dns_metrics,
        })
    }

    /// With another limit on answers than the options': for who measures what it does to clients of the same machine.
    #[must_use]
    pub fn limited(self, limit: Limit) -> Self {
        Self { limit, ..self }
    }

    /// Where the encrypted transports are served, with the ports that the kernel chose.
    pub fn encrypted(&self) -> &EncryptedAddresses {
        &self.encrypted.addresses
    }

    /// Where agents meet.
    pub fn meet(&self) -> Option<SocketAddr> {
        self.meet.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where it answers, in the order of `--listen`, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Copies of all sockets.
    fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let tcp = self.tcp.iter().chain(&self.scraped).chain(&self.meet);
        let tcp = tcp.map(|listener| listener.as_fd().try_clone_to_owned());
        let udp = self.udp.iter().map(|socket| socket.as_fd().try_clone_to_owned());
        let mut sockets = tcp.chain(udp).collect::<io::Result<Vec<_>>>()?;
        sockets.extend(self.encrypted.sockets()?);
        Ok(sockets)
    }

    /// What it serves: for parts in the same process, and tests.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When the metrics' address cannot be bound, a thread cannot be started, or a socket fails.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        // Everything below ends with it, also when we end by an error.
        let shutdown = shutdown.child();
        let outcome = self.serve(&shutdown).await;
        shutdown.start();
        outcome
    }

    async fn serve(self, shutdown: &Shutdown) -> Result<(), Error> {
        let sockets = self
            .options
            .takeover
            .as_ref()
            .map(|path| self.sockets().map_err(|source| Error::Takeover { path: path.clone(), source }));
        let sockets = sockets.transpose()?.unwrap_or_default();
        let meet = self.meet();
        if let Some((listener, address)) = self.scraped.zip(self.options.metrics_listen) {
            endpoints::serve_on(listener, self.health.clone(), self.metrics.clone(), shutdown.clone())
                .map_err(|source| Error::Metrics { address, source })?;
        }
        let succeeded = Arc::new(AtomicBool::new(false));
        let instance: Arc<[u8]> = self.options.instance.as_bytes().into();
        let mut rng = Rng::new(seed());
        let limit = self.limit;
        let taps = self.writer.as_ref().map(|writer| writer.taps().clone());
        let tap =
            |transport, server, seed| taps.as_ref().map(|taps| taps.tap(transport, server, Rng::new(seed)));
        let threads = self.udp.len();
        // Each thread says how it ended, once.
        let (ended, mut ends) = mpsc::channel(threads.max(1));
        let mut handles = Vec::with_capacity(threads);
        for (index, socket) in self.udp.into_iter().enumerate() {
            let at = socket.local_addr().ok();
            let mut worker = Worker {
                socket,
                tap: tap(Transport::Udp, at, rng.next_u64()),
                reader: self.state.published().reader(),
                instance: instance.clone(),
                counters: self.dns_metrics.thread(Transport::Udp),
                rng: Rng::new(rng.next_u64()),
                cookies: self.options.cookies,
                limiter: Limiter::new(limit, rng.next_u64()),
                clock: Clock::default(),
                keys: self.keys.clone(),
            };
            let (ended, shutdown) = (ended.clone(), shutdown.clone());
            let thread = std::thread::Builder::new().name(format!("dns-udp-{index}"));
            let run = move || {
                let outcome = restarted(|| worker.run(&shutdown));
                // Nobody listens any more at the end.
                let _ = ended.blocking_send(outcome);
            };
            handles.push(thread.spawn(run).map_err(Error::Thread)?);
        }
        drop(ended);
        let connections = TaskTracker::new();
        let published = self.state.published();
        for to in &self.options.notify {
            let key = to.key.as_ref().and_then(|key| self.keys.get(key)).cloned();
            let mut rng = Rng::new(rng.next_u64());
            let (published, address, ending) = (published.clone(), to.address, shutdown.clone());
            let tell = move || {
                notify(published.clone(), address, key.clone(), Rng::new(rng.next_u64()), ending.clone())
            };
            tokio::spawn(tasks::supervise("notify", self.health.clone(), shutdown.clone(), tell));
        }
        let asked_for = self.options.tsig_key_file.is_some() || !self.options.transfer_to.is_empty();
        let transfers = asked_for.then(|| {
            let prefixes = self.options.transfer_to.clone();
            Arc::new(Transfers::new(published.clone(), self.keys, prefixes))
        });
        let roll = rng.next_u64();
        let handler = |transport, limiter| Handler {
            responder: Arc::new(Responder {
                published: published.clone(),
                instance: instance.clone(),
                counters: self.dns_metrics.thread(transport),
                transport,
                random: step(roll ^ transport as u64).into(),
                tap: tap(transport, None, step(!roll ^ transport as u64)).map(Mutex::new),
            }),
            limiter,
            transfers: transfers.clone(),
            shutdown: shutdown.clone(),
            succeeded: succeeded.clone(),
        };
        let limits = self.options.limits();
        self.encrypted.open(limits, &connections, &self.health, handler)?;
        let stream = handler(Transport::Tcp, ConnectionLimiter::new(limits));
        for listener in self.tcp {
            let stream = stream.clone();
            let limiter = stream.limiter.clone();
            let handle = move |io: TcpStream, client| {
                let stream = stream.clone();
                async move {
                    io.set_nodelay(true)?;
                    transport::serve(io, client, stream).await
                }
            };
            let (listener, handle) = (Arc::new(listener), Arc::new(handle));
            let (served, ending) = (connections.clone(), shutdown.clone());
            let accept = move || {
                transport::listen(
                    listener.clone(),
                    limiter.clone(),
                    served.clone(),
                    ending.clone(),
                    handle.clone(),
                )
            };
            connections.spawn(tasks::supervise("door", self.health.clone(), shutdown.clone(), accept));
        }
        if let Some(hub) = self.hub {
            let resolvers = self.options.probe_resolver.clone();
            let probing = Probing::start(rng.next_u64(), resolvers, self.health.clone(), shutdown.clone());
            // What users reach is probed with the hub away, too.
            probing.set_targets(self.state.targets().to_vec());
            if let Some(listener) = self.meet {
                let meeting = Meeting::new(&self.options.instance, self.state.clone());
                let listener = Arc::new(listener);
                let (hub, probing, ending) = (hub.clone(), probing.clone(), shutdown.clone());
                let meet = move || {
                    meeting.clone().run(listener.clone(), hub.clone(), probing.clone(), ending.clone())
                };
                tokio::spawn(tasks::supervise("meeting", self.health.clone(), shutdown.clone(), meet));
            }
            // A server that hears its hub no more, or does not look for itself then, answers on as if all were well.
            let (state, own, ending) = (self.state.clone(), probing.clone(), shutdown.clone());
            let look = move || without_hub(state.clone(), own.clone(), ending.clone());
            tokio::spawn(tasks::supervise("alone", self.health.clone(), shutdown.clone(), look));
            let (instance, listen) = (self.options.instance.clone(), self.addresses.clone());
            let (state, ending, mut rng) = (self.state.clone(), shutdown.clone(), Rng::new(rng.next_u64()));
            let hear = move || {
                // One that panicked has not said so.
                state.disconnected();
                let client = Client {
                    hub: hub.clone(),
                    meet,
                    probing: probing.clone(),
                    instance: instance.clone(),
                    listen: listen.clone(),
                    state: state.clone(),
                    rng: Rng::new(rng.next_u64()),
                };
                client.run(ending.clone())
            };
            tokio::spawn(tasks::supervise("hub-stream", self.health.clone(), shutdown.clone(), hear));
        }
        tracing::info!(addresses = ?self.addresses, udp_threads = threads, "answering");
        let mut successor = None;
        if let Some(path) = &self.options.takeover {
            let failed = |source| Error::Takeover { path: path.clone(), source };
            if let Some(predecessor) = self.predecessor {
                let retired = tokio::task::spawn_blocking(move || predecessor.retire()).await;
                retired.map_err(io::Error::other).flatten().map_err(failed)?;
                tracing::info!("the sockets are taken over");
            }
            let waiting = Waiting::listen(path, sockets).map_err(failed)?;
            let (sender, receiver) = oneshot::channel();
            let (waiting, sender) = (Arc::new(waiting), Arc::new(Mutex::new(Some(sender))));
            let (state, ending) = (self.state.clone(), shutdown.clone());
            let wait = move || {
                let (waiting, sender) = (waiting.clone(), sender.clone());
                let (state, ending) = (state.clone(), ending.clone());
                async move {
                    tokio::select! {
                        () = waiting.succeeded(&state) => drop(sender.lock().take().map(|sender| sender.send(()))),
                        () = ending.wait() => {}
                    }
                }
            };
            tokio::spawn(tasks::finish("takeover", self.health.clone(), shutdown.clone(), wait));
            successor = Some(receiver);
        }
        let mut review = tokio::time::interval(REVIEW);
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
                _ = review.tick() => self.state.review(),
                () = succession(&mut successor) => {
                    tracing::info!("a successor answers: draining");
                    succeeded.store(true, Relaxed);
                    shutdown.start();
                    break;
                }
                end = ends.recv() => match end {
                    Some(Err(error)) => return Err(Error::Socket(error)),
                    Some(Ok(())) => {}
                    None => break,
                },
            }
        }
        // They look at least every 200 ms.
        let joined = tokio::task::spawn_blocking(move || handles.into_iter().for_each(|h| drop(h.join())));
        drop(joined.await);
        connections.close();
        // What was asked is answered; who does not take it is not waited for.
        let drain = if succeeded.load(Relaxed) { DRAIN_SUCCEEDED } else { DRAIN };
        drop(tokio::time::timeout(drain, connections.wait()).await);
        if let Some(writer) = self.writer {
            drop(tokio::task::spawn_blocking(move || writer.end()).await);
        }
        Ok(())
    }
}

/// Binds, and runs until `shutdown`: what the binary does. Prints one line `ready dns-lb ADDRESS… meet=ADDRESS dot=ADDRESS…` on standard output
/// once zones are served.
///
/// # Errors
/// As [`Service::bind`] and [`Service::run`].
pub async fn run(options: Options, shutdown: Shutdown) -> Result<(), Error> {
    descriptors::raise();
    let health = Health::new();
    let service = Service::bind(options, health.clone(), Metrics::new())?;
    let mut addresses: Vec<String> = service.addresses().iter().map(ToString::to_string).collect();
    addresses.extend(service.meet().map(|address| format!("meet={address}")));
    let EncryptedAddresses { dot, doh, doq } = service.encrypted();
    for (kind, at) in [("dot", dot), ("doh", doh), ("doq", doq)] {
        addresses.extend(at.iter().map(|address| format!("{kind}={address}")));
    }
    tokio::spawn(async move {
        while !health.is_ready() {
            tokio::time::sleep(READY).await;
        }
        println!("ready dns-lb {}", addresses.join(" "));
    });
    service.run(shutdown).await
}

/// When a successor answers.
async fn succession(successor: &mut Option<oneshot::Receiver<()>>) {
    let waited = match successor {
        Some(successor) => successor.await.is_ok(),
        None => false,
    };
    if !waited {
        std::future::pending::<()>().await;
    }
}

fn hub(address: String, options: &Options) -> Result<Hub, Error> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| Error::File { path: path.into(), source })
    };
    let (ca_pem, identity) = match (&options.pki, &options.ca, &options.cert, &options.key) {
        (Some(directory), ..) => (read(&directory.join("ca.crt"))?, Identity::load(directory, "dns-lb")?),
        (None, Some(ca), Some(cert), Some(key)) => {
            (read(ca)?, Identity { certificate_pem: read(cert)?, key_pem: read(key)? })
        }
        _ => return Err(Error::NoIdentity),
    };
    Ok(Hub { address, ca_pem, identity })
}

fn keys(path: &Path) -> Result<Keys, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.into(), source })?;
    Keys::parse(&text).map_err(|source| Error::Keys { path: path.into(), source })
}

fn secrets(path: &Path) -> Result<Secrets, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.into(), source })?;
    let secret = |line: &str| {
        let digits = u128::from_str_radix(line, 16).ok().filter(|_| line.len() == 32);
        digits.map(u128::to_be_bytes)
    };
    let secrets: Option<Vec<[u8; 16]>> = text.split_whitespace().map(secret).collect();
    match secrets {
        Some(secrets) if (1..=4).contains(&secrets.len()) => Ok(Secrets(secrets)),
        _ => Err(Error::Secrets(path.into())),
    }
}

/// For a server that has no secret in common with others: its cookies end with it. Who guesses it makes cookies for any address, so it
/// comes from the system's generator (RFC 7873, section 4.2).
fn random_secret() -> Result<[u8; 16], Unspecified> {
    let mut secret = [0; 16];
    aws_lc_rs::rand::fill(&mut secret)?;
    Ok(secret)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// For choices that nobody needs to be kept from guessing.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's keys for hash maps are random for each process.
    RandomState::new().hash_one(std::process::id())
}
