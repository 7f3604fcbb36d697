//! The server as a service: binds sockets, starts threads and tasks, shuts down.

mod error;
mod start;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use federation_runtime::endpoints::{self, Health, Metrics};
use federation_runtime::pki::Identity;
use federation_runtime::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::start::{Start, UdpThreads};
use crate::answer::{INSTANCE_MAX, Secrets};
use crate::bind::{bind_both, inherit};
use crate::client::Database;
use crate::descriptors;
use crate::hub::{Disk, Fence, Hub};
use crate::metrics::DnsMetrics;
use crate::options::Options;
use crate::state::{OwnSecrets, State};
use crate::takeover::Predecessor;
use crate::tap::Writer;
use crate::transfer::Keys;
use crate::transport::{self, Encrypted, EncryptedAddresses};
use crate::udp::{Limit, Rng};

pub use self::error::Error;

/// How often readiness is looked at until it is said.
const READY: Duration = Duration::from_millis(20);
/// How long connections have to end at a shutdown.
const DRAIN: Duration = Duration::from_secs(2);
/// The same where a successor answers already.
const DRAIN_SUCCEEDED: Duration = Duration::from_secs(5);

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
        let state = State::new(dns_metrics.clone(), health.clone(), disk, fence, options.stale_after);
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
        let sockets = match &self.options.takeover {
            Some(path) => self.sockets().map_err(|source| Error::Takeover { path: path.clone(), source })?,
            None => Vec::new(),
        };
        let (options, state, health) = (&self.options, &self.state, &self.health);
        if let Some((listener, address)) = self.scraped.zip(options.metrics_listen) {
            endpoints::serve_on(listener, health.clone(), self.metrics, shutdown.clone())
                .map_err(|source| Error::Metrics { address, source })?;
        }
        let mut start = Start {
            options,
            state,
            health,
            metrics: &self.dns_metrics,
            keys: &self.keys,
            taps: self.writer.as_ref().map(|writer| writer.taps().clone()),
            instance: options.instance.as_bytes().into(),
            shutdown,
            rng: Rng::new(seed()),
        };
        let UdpThreads { handles, mut ends } = start.udp(self.udp, self.limit)?;
        start.notify();
        let succeeded = Arc::new(AtomicBool::new(false));
        let connections = start.connections(self.tcp, self.encrypted, &succeeded)?;
        if let Some(hub) = &self.hub {
            start.hub(hub, &self.addresses, self.meet);
        }
        start.review();
        tracing::info!(addresses = ?self.addresses, udp_threads = handles.len(), "answering");
        let mut successor = match &options.takeover {
            Some(path) => Some(start.takeover(path, self.predecessor, sockets).await?),
            None => None,
        };
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
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
