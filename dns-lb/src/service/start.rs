//! Starts the parts of a server: its UDP threads, its listeners, and the tasks that follow the hub.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use federation_prober::Probing;
use federation_runtime::endpoints::Health;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::Error;
use crate::hub::{Client, Hub, Meeting, without_hub};
use crate::metrics::{DnsMetrics, Transport};
use crate::options::Options;
use crate::state::State;
use crate::takeover::{Predecessor, SuccessorListener};
use crate::tap::{Tap, Taps};
use crate::transfer::{Keys, Transfers, notify};
use crate::transport::{self, ConnectionLimiter, Encrypted, Handler, Responder};
use crate::udp::{Clock, Limit, Limiter, Rng, Worker, restarted};
use crate::zone::step;

/// How often freshness is looked at.
const REVIEW: Duration = Duration::from_secs(1);

/// What the parts are started with.
pub(super) struct Start<'s> {
    pub(super) options: &'s Options,
    pub(super) state: &'s State,
    pub(super) health: &'s Health,
    pub(super) metrics: &'s DnsMetrics,
    pub(super) keys: &'s Keys,
    pub(super) taps: Option<Arc<Taps>>,
    /// This server's name.
    pub(super) instance: Arc<[u8]>,
    /// Ends all of them.
    pub(super) shutdown: &'s Shutdown,
    /// For the seeds of each.
    pub(super) rng: Rng,
}

/// The UDP threads.
pub(super) struct UdpThreads {
    pub(super) handles: Vec<JoinHandle<()>>,
    /// Each says how it ended, once.
    pub(super) ends: mpsc::Receiver<io::Result<()>>,
}

impl Start<'_> {
    /// A thread for each socket.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn udp(&mut self, sockets: Vec<UdpSocket>, limit: Limit) -> Result<UdpThreads, Error> {
        let (ended, ends) = mpsc::channel(sockets.len().max(1));
        let mut handles = Vec::with_capacity(sockets.len());
        for (index, socket) in sockets.into_iter().enumerate() {
            let at = socket.local_addr().ok();
            let seed = self.rng.next_u64();
            let mut worker = Worker {
                socket,
                tap: self.tap(Transport::Udp, at, seed),
                reader: self.state.published().reader(),
                instance: self.instance.clone(),
                counters: self.metrics.thread(Transport::Udp),
                rng: self.rng(),
                cookies: self.options.cookies,
                limiter: Limiter::new(limit, self.rng.next_u64()),
                clock: Clock::default(),
                keys: self.keys.clone(),
            };
            let (ended, shutdown) = (ended.clone(), self.shutdown.clone());
            let thread = std::thread::Builder::new().name(format!("dns-udp-{index}"));
            let run = move || {
                let outcome = restarted(|| worker.run(&shutdown));
                // Nobody listens any more at the end.
                let _ = ended.blocking_send(outcome);
            };
            handles.push(thread.spawn(run).map_err(Error::Thread)?);
        }
        Ok(UdpThreads { handles, ends })
    }

    /// Looks at what time changes in what is served: its freshness, a drill's end, signatures.
    pub(super) fn review(&self) {
        let (state, ending) = (self.state.clone(), self.shutdown.clone());
        self.supervise("review", move || reviewed(state.clone(), ending.clone()));
    }

    /// A task for each secondary that is told of changes.
    pub(super) fn notify(&mut self) {
        for to in &self.options.notify {
            let key = to.key.as_ref().and_then(|key| self.keys.get(key)).cloned();
            let mut rng = self.rng();
            let (published, address, ending) =
                (self.state.published().clone(), to.address, self.shutdown.clone());
            let tell = move || {
                notify(published.clone(), address, key.clone(), Rng::new(rng.next_u64()), ending.clone())
            };
            self.supervise("notify", tell);
        }
    }

    /// The listeners for TCP and the encrypted transports. Connections are among the tasks returned.
    ///
    /// # Errors
    /// When a socket cannot be used for QUIC.
    pub(super) fn connections(
        &mut self,
        tcp: Vec<TcpListener>,
        encrypted: Encrypted,
        succeeded: &Arc<AtomicBool>,
    ) -> Result<TaskTracker, Error> {
        let connections = TaskTracker::new();
        let asked_for = self.options.tsig_key_file.is_some() || !self.options.transfer_to.is_empty();
        let transfers = asked_for.then(|| {
            let prefixes = self.options.transfer_to.clone();
            Arc::new(Transfers::new(self.state.published().clone(), self.keys.clone(), prefixes))
        });
        let seed = self.rng.next_u64();
        let handler = |transport, limiter| Handler {
            responder: Arc::new(Responder {
                published: self.state.published().clone(),
                instance: self.instance.clone(),
                counters: self.metrics.thread(transport),
                transport,
                random: step(seed ^ transport as u64).into(),
                tap: self.tap(transport, None, step(!seed ^ transport as u64)).map(Mutex::new),
            }),
            limiter,
            transfers: transfers.clone(),
            shutdown: self.shutdown.clone(),
            succeeded: succeeded.clone(),
        };
        let limits = self.options.limits();
        encrypted.open(limits, &connections, self.health, handler)?;
        let handler = handler(Transport::Tcp, ConnectionLimiter::new(limits));
        for listener in tcp {
            let (limiter, handler) = (handler.limiter.clone(), handler.clone());
            let handle = move |io: TcpStream, client| {
                let handler = handler.clone();
                async move {
                    io.set_nodelay(true)?;
                    transport::serve(io, client, handler).await
                }
            };
            let (listener, handle) = (Arc::new(listener), Arc::new(handle));
            let (served, ending) = (connections.clone(), self.shutdown.clone());
            let accept = move || {
                let (listener, limiter) = (listener.clone(), limiter.clone());
                transport::listen(listener, limiter, served.clone(), ending.clone(), handle.clone())
            };
            connections.spawn(tasks::supervise("door", self.health.clone(), self.shutdown.clone(), accept));
        }
        Ok(connections)
    }

    /// The stream from the hub, the prober, and what is done while the hub is away. `listen` is where this server answers, `meet` where agents
    /// may meet.
    pub(super) fn hub(&mut self, hub: &Hub, listen: &[SocketAddr], meet: Option<TcpListener>) {
        let resolvers = self.options.probe_resolver.clone();
        let seed = self.rng.next_u64();
        let probing = Probing::start(seed, resolvers, self.health.clone(), self.shutdown.clone());
        // What users reach is probed with the hub away, too.
        probing.set_targets(self.state.targets().to_vec());
        let meet_address = meet.as_ref().and_then(|listener| listener.local_addr().ok());
        if let Some(listener) = meet {
            let meeting = Meeting::new(&self.options.instance, self.state.clone());
            let listener = Arc::new(listener);
            let (hub, probing, ending) = (hub.clone(), probing.clone(), self.shutdown.clone());
            let meet =
                move || meeting.clone().run(listener.clone(), hub.clone(), probing.clone(), ending.clone());
            self.supervise("meeting", meet);
        }
        // A server that hears its hub no more, or does not look for itself then, answers on as if all were well.
        let (state, own, ending) = (self.state.clone(), probing.clone(), self.shutdown.clone());
        self.supervise("alone", move || without_hub(state.clone(), own.clone(), ending.clone()));
        let (hub, instance, listen) = (hub.clone(), self.options.instance.clone(), listen.to_vec());
        let (state, ending, mut rng) = (self.state.clone(), self.shutdown.clone(), self.rng());
        let follow = move || {
            // One that panicked has not said so.
            state.disconnected();
            let client = Client {
                hub: hub.clone(),
                meet: meet_address,
                probing: probing.clone(),
                instance: instance.clone(),
                listen: listen.clone(),
                state: state.clone(),
                rng: Rng::new(rng.next_u64()),
            };
            client.run(ending.clone())
        };
        self.supervise("hub-stream", follow);
    }

    /// Ends the predecessor, if there is one, and waits from then on for a successor, which gets `sockets`. What is returned is told when that
    /// one answers.
    ///
    /// # Errors
    /// When the sockets cannot be taken over, or not handed over.
    pub(super) async fn takeover(
        &self,
        path: &Path,
        predecessor: Option<Predecessor>,
        sockets: Vec<OwnedFd>,
    ) -> Result<oneshot::Receiver<()>, Error> {
        let failed = |source| Error::Takeover { path: path.into(), source };
        if let Some(predecessor) = predecessor {
            let retired = tokio::task::spawn_blocking(move || predecessor.retire()).await;
            retired.map_err(io::Error::other).flatten().map_err(failed)?;
            tracing::info!("the sockets are taken over");
        }
        let handover = Arc::new(SuccessorListener::bind(path, sockets).map_err(failed)?);
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let (state, ending) = (self.state.clone(), self.shutdown.clone());
        let wait = move || {
            let (handover, sender) = (handover.clone(), sender.clone());
            let (state, ending) = (state.clone(), ending.clone());
            async move {
                tokio::select! {
                    () = handover.succeeded(&state) => drop(sender.lock().take().map(|sender| sender.send(()))),
                    () = ending.wait() => {}
                }
            }
        };
        tokio::spawn(tasks::finish("takeover", self.health.clone(), self.shutdown.clone(), wait));
        Ok(receiver)
    }

    fn supervise<W>(&self, task: &'static str, start: impl FnMut() -> W + Send + 'static)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(tasks::supervise(task, self.health.clone(), self.shutdown.clone(), start));
    }

    fn tap(&self, transport: Transport, server: Option<SocketAddr>, seed: u64) -> Option<Tap> {
        self.taps.as_ref().map(|taps| taps.tap(transport, server, Rng::new(seed)))
    }

    fn rng(&mut self) -> Rng {
        Rng::new(self.rng.next_u64())
    }
}

async fn reviewed(state: State, shutdown: Shutdown) {
    let mut review = tokio::time::interval(REVIEW);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = review.tick() => state.review(),
        }
    }
}
