//! The controller as a service: assembles and starts everything.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::Api;

use federation_core::traffic::NameServer;
use federation_prober::Probing;
use federation_runtime::deadline::with_deadlines;
use federation_runtime::endpoints::{self, Health as Readiness};
use federation_runtime::pki::Authority;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::hub::Config;

use crate::act::api;
use crate::act::events::Recorder;
use crate::act::safety;
use crate::act::statuses::{self, Statuses};
use crate::announce;
use crate::decide::unjoin::UnjoinController;
use crate::decide::work;
use crate::dns::Dns;
use crate::drill;
use crate::epoch;
use crate::hub::agent::Agents;
use crate::hub::enrollment::Enrollment;
use crate::hub::operations::Operations;
use crate::hub::{self, Hub};
use crate::machine::{Machine, Setup};
use crate::metrics::Metrics;
use crate::observe::reflect::SYNCED;
use crate::options::Options;
use crate::traffic::Keeping;

/// Readiness waits for this check: agents can dial in.
const LISTENING: &str = "hub";
/// Number of missed heartbeats after which an agent's stream counts as lost.
const SILENCE: u64 = 10;

/// Why the controller could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be made.
    #[error("create the data directory {0}")]
    Directory(std::path::PathBuf, #[source] std::io::Error),
    /// The hub's address could not be published.
    #[error("announce the hub")]
    Announce(#[from] announce::Error),
    /// No epoch could be taken.
    #[error("start the epochs")]
    Epoch(#[from] epoch::Error),
    /// The store's identity could not be read.
    #[error("read the namespace kube-system, whose uid is the store's identity")]
    Incarnation(#[source] kube::Error),
    /// The API's kinds could not be listed.
    #[error("discover the kinds that the API serves")]
    Discovery(#[source] kube::Error),
    /// A flag has an invalid value.
    #[error("--{0}: {1}")]
    Option(&'static str, String),
    /// The hub cannot listen.
    #[error("start the hub")]
    Hub(#[from] hub::Error),
    /// The metrics cannot be served.
    #[error("listen for metrics")]
    Metrics(#[source] std::io::Error),
    /// The hub ended by itself.
    #[error("the hub ended")]
    HubEnded(#[source] tonic::transport::Error),
    /// The hub panicked: without it no agent and no DNS server is heard.
    #[error(
        "the hub ended by itself: agents and DNS servers are not heard any more; start the controller anew"
    )]
    HubGone(#[source] Option<tokio::task::JoinError>),
}

/// The controller: started, and running until its shutdown.
pub struct Service {
    hub: Hub,
    readiness: Readiness,
    shutdown: Shutdown,
}

impl Service {
    /// Starts everything: the hub listens when this returns. `client` may speak to an API server in this process or over HTTPS.
    ///
    /// # Errors
    /// When the API does not answer, or an address is taken.
    pub async fn new(
        options: Options,
        client: Client,
        authority: Arc<Authority>,
        metrics: endpoints::Metrics,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let client = with_deadlines(client);
        let directory = options.data_dir.join("controller");
        federation_runtime::files::private_directory(&directory)
            .map_err(|error| Error::Directory(directory.clone(), error))?;
        let readiness = Readiness::new();
        readiness.wait_for(LISTENING, "not listening yet");
        readiness.wait_for(SYNCED, "the watches have not told everything yet");
        if let Some(listen) = options.metrics_listen {
            endpoints::serve(listen, readiness.clone(), metrics.clone(), shutdown.clone())
                .await
                .map_err(Error::Metrics)?;
        }
        let metrics = metrics.register(Metrics::register);

        let dns = Dns::new();
        let parts = Parts { options: &options, client: &client, readiness: &readiness, shutdown: &shutdown };
        let machine = parts.machine(&directory, dns.clone(), metrics).await?;
        machine.observer.start(&client, &shutdown).await.map_err(Error::Discovery)?;
        // An agent that dialled before its Cluster was read would be told that it is no member.
        while !machine.world.is_synced() && !shutdown.started() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }

        machine.start(work::WORKERS);
        parts.write_statuses(&machine);
        parts.tidy_removals(&machine);
        parts.see_clusters_off(&machine);
        parts.keep_dns(&machine, dns);
        parts.run_drills(&machine, &authority);
        let hub = parts.hub(&machine, &authority).await?;
        announce::announce(client, hub.address, &options.hub_name, &authority).await?;
        readiness.ready(LISTENING);
        tracing::info!(address = %hub.address, "the hub listens");
        Ok(Self { hub, readiness, shutdown })
    }

    /// Where the hub listens.
    pub fn hub_address(&self) -> SocketAddr {
        self.hub.address
    }

    /// What the controller says of itself.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Runs until the shutdown, and prints a line when the controller is ready, however late that is.
    ///
    /// # Errors
    /// When the hub ends by itself.
    pub async fn run_announced(self) -> Result<(), Error> {
        let (readiness, address) = (self.readiness(), self.hub_address());
        let announce = async move {
            readiness.until_ready().await;
            println!("ready hub={address}");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = self.run() => ended,
            () = announce => Ok(()),
        }
    }

    /// Runs until the shutdown.
    ///
    /// # Errors
    /// When the hub ends by itself.
    pub async fn run(self) -> Result<(), Error> {
        let mut task = self.hub.task;
        tokio::select! {
            ended = &mut task => match ended {
                Ok(Err(error)) => Err(Error::HubEnded(error)),
                // It may have seen the shutdown first.
                Ok(Ok(())) if self.shutdown.started() => Ok(()),
                Ok(Ok(())) => Err(Error::HubGone(None)),
                Err(ended) => Err(Error::HubGone(Some(ended))),
            },
            () = self.shutdown.wait() => {
                // Streams end by themselves when the shutdown starts; one that hangs is not waited for.
                let _ = tokio::time::timeout(std::time::Duration::from_secs(5), task).await;
                Ok(())
            }
        }
    }
}

/// What every part is started with.
struct Parts<'a> {
    options: &'a Options,
    client: &'a Client,
    readiness: &'a Readiness,
    shutdown: &'a Shutdown,
}

impl Parts<'_> {
    fn supervise<W: Future<Output = ()> + Send + 'static>(
        &self,
        part: &'static str,
        start: impl FnMut() -> W + Send + 'static,
    ) {
        tokio::spawn(tasks::supervise(part, self.readiness.clone(), self.shutdown.clone(), start));
    }

    fn zone(&self) -> String {
        self.options.dns_zone.trim_end_matches('.').to_ascii_lowercase()
    }

    /// What decides; nothing of it runs yet.
    async fn machine(&self, directory: &Path, dns: Dns, metrics: Metrics) -> Result<Machine, Error> {
        let options = self.options;
        let incarnation = incarnation(self.client).await?;
        let heartbeat_ms = options.heartbeat.as_millis().max(10) as u32;
        let probing = Probing::start(
            rand::random(),
            options.probe_resolver.clone(),
            self.readiness.clone(),
            self.shutdown.clone(),
        );
        let (client, dropped) = (self.client.clone(), metrics.events_dropped.clone());
        let recorder = Recorder::start(client, dropped, self.readiness.clone(), self.shutdown.clone());
        let setup = Setup {
            api: api::Api::Client(self.client.clone()),
            hub: Config {
                hub: hostname(),
                incarnation,
                heartbeat_ms,
                silence_ms: u64::from(heartbeat_ms) * SILENCE,
                ..Config::default()
            },
            nameservers: name_servers(options)?,
            zone: self.zone(),
            clusterset: clusterset(options)?,
            ttl_seconds: options.dns_ttl,
            answers: Keeping::File(directory.join("answers.json")),
            evict_after: options.evict_after,
            trash_grace: options.trash_grace,
            probing,
            dns,
            recorder,
            metrics,
            readiness: self.readiness.clone(),
            shutdown: self.shutdown.clone(),
        };
        Ok(Machine::new(setup).await?)
    }

    fn write_statuses(&self, machine: &Machine) {
        let written = Statuses {
            world: machine.world.clone(),
            queue: machine.statuses.clone(),
            ledger: machine.ledger.clone(),
            sessions: machine.sessions.clone(),
            writer: machine.writer.clone(),
        };
        for _ in 0..statuses::WORKERS {
            let (written, ending) = (written.clone(), self.shutdown.clone());
            self.supervise("statuses", move || written.clone().work(ending.clone()));
        }
    }

    /// Holds and the trash.
    fn tidy_removals(&self, machine: &Machine) {
        let (api, gate, sessions, ending) =
            (self.client.clone(), machine.gate.clone(), machine.sessions.clone(), self.shutdown.clone());
        let tidy = move || safety::run(api.clone(), gate.clone(), sessions.clone(), ending.clone());
        self.supervise("safety", tidy);
    }

    fn see_clusters_off(&self, machine: &Machine) {
        let see_off = UnjoinController {
            client: self.client.clone(),
            world: machine.world.clone(),
            cluster_state: machine.cluster_state.clone(),
            queue: machine.queue.clone(),
            clusters: machine.leaving.clone(),
        };
        let ending = self.shutdown.clone();
        self.supervise("unjoin", move || see_off.clone().run(ending.clone()));
    }

    fn keep_dns(&self, machine: &Machine, dns: Dns) {
        let (api, writer, ending) = (self.client.clone(), machine.writer.clone(), self.shutdown.clone());
        let (again, zones) = (machine.traffic.clone(), machine.zones.clone());
        let keep = move || {
            let (again, zones) = (again.clone(), zones.clone());
            let all_serve = move |epoch| zones.all_serve(epoch);
            dns.clone().run(api.clone(), writer.clone(), move || again.poke(), all_serve, ending.clone())
        };
        self.supervise("dns", keep);
    }

    fn run_drills(&self, machine: &Machine, authority: &Arc<Authority>) {
        let context = Arc::new(drill::DrillContext {
            client: self.client.clone(),
            world: machine.world.clone(),
            cluster_state: machine.cluster_state.clone(),
            sessions: machine.sessions.clone(),
            traffic: machine.traffic.clone(),
            zones: machine.zones.clone(),
            queue: machine.queue.clone(),
            defaults: machine.defaults,
            authority: authority.clone(),
            zone: self.zone(),
        });
        let (drills, ending) = (machine.drills.clone(), self.shutdown.clone());
        self.supervise("drills", move || drills.clone().run(context.clone(), ending.clone()));
    }

    /// Listens for agents, DNS servers and operators.
    async fn hub(&self, machine: &Machine, authority: &Arc<Authority>) -> Result<Hub, Error> {
        let operations = Operations {
            traffic: machine.traffic.clone(),
            zones: machine.zones.clone(),
            cluster_state: machine.cluster_state.clone(),
            world: machine.world.clone(),
            health: machine.health.clone(),
            epochs: machine.epochs.clone(),
            agent_events: machine.agent_events.clone(),
            contingency: machine.contingency.clone(),
            recorder: machine.agent_events.recorder.clone(),
            client: self.client.clone(),
        };
        let agents = Agents {
            world: machine.world.clone(),
            sessions: machine.sessions.clone(),
            drills: machine.drills.clone(),
            listener: Arc::new(machine.agent_events.clone()),
            shutdown: self.shutdown.clone(),
        };
        let enrollment = Enrollment::new(self.client.clone(), authority.clone(), machine.world.clone());
        let hub = hub::start(
            self.options.hub_listen,
            &self.options.hub_name,
            authority,
            enrollment,
            agents,
            operations,
            self.shutdown.clone(),
        )
        .await?;
        Ok(hub)
    }
}

/// The store's identity: the uid of the Namespace `kube-system`.
async fn incarnation(client: &Client) -> Result<String, Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = namespaces.get("kube-system").await.map_err(Error::Incarnation)?;
    Ok(namespace.metadata.uid.unwrap_or_default())
}

/// Reads `--clusterset-zone`. It may not lie within the federation's own names, nor around them: one zone answers for a name.
fn clusterset(options: &Options) -> Result<Option<String>, Error> {
    let Some(zone) = &options.clusterset_zone else { return Ok(None) };
    let zone = zone.trim_end_matches('.').to_ascii_lowercase();
    let own = options.dns_zone.trim_end_matches('.').to_ascii_lowercase();
    let (_, suffix) = own.split_once('.').unwrap_or(("", &own));
    let refused = |why: String| Err(Error::Option("clusterset-zone", why));
    if let Err(error) = federation_core::dns::Name::parse(&format!("{zone}.")) {
        return refused(format!("{zone:?}: {error}"));
    }
    let within = |name: &str, origin: &str| {
        name == origin || name.strip_suffix(origin).is_some_and(|rest| rest.ends_with('.'))
    };
    if zone.is_empty() || within(&zone, suffix) || within(suffix, &zone) {
        return refused(format!("{zone:?} overlaps {suffix}, where the federation's own names are"));
    }
    Ok(Some(zone))
}

/// Reads `--dns-nameserver NAME[=ADDRESS[,ADDRESS…]]`.
fn name_servers(options: &Options) -> Result<Vec<NameServer>, Error> {
    let zone = options.dns_zone.trim_end_matches('.').to_ascii_lowercase();
    if !zone.contains('.') {
        return Err(Error::Option(
            "dns-zone",
            format!("{zone:?} needs at least two labels, for example fed.example.test"),
        ));
    }
    // DNS servers refuse zones whose servers or hostmaster have names that are none.
    let is_name = |flag, name: &str| match federation_core::dns::Name::parse(name) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Option(flag, error.to_string())),
    };
    is_name("dns-zone", &format!("hostmaster.{zone}."))?;
    if options.dns_nameserver.is_empty() {
        return Ok(vec![NameServer { name: format!("ns1.{zone}."), addresses: Vec::new() }]);
    }
    options
        .dns_nameserver
        .iter()
        .map(|text| {
            let (name, addresses) = text.split_once('=').unwrap_or((text, ""));
            let addresses = addresses
                .split(',')
                .filter(|address| !address.is_empty())
                .map(|address| {
                    address.parse().map_err(|_| {
                        Error::Option("dns-nameserver", format!("{address:?} is not an IP address"))
                    })
                })
                .collect::<Result<_, _>>()?;
            let name = format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
            is_name("dns-nameserver", &name)?;
            Ok(NameServer { name, addresses })
        })
        .collect()
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "hub".into(), |name| name.trim().to_owned())
}

/// Loads the authority that agents are given certificates by.
///
/// # Errors
/// When it is not there, or cannot be read.
pub fn load_authority(data_dir: &Path) -> Result<Arc<Authority>, federation_runtime::pki::Error> {
    Authority::load_or_create(&data_dir.join("pki")).map(Arc::new)
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    type Serving = Result<(), tonic::transport::Error>;

    async fn ended(
        hub: impl Future<Output = Serving> + Send + 'static,
        shutdown: Shutdown,
    ) -> Result<(), Error> {
        let hub = Hub { address: ([127, 0, 0, 1], 1).into(), task: tokio::spawn(hub) };
        Service { hub, readiness: Readiness::new(), shutdown }.run().await
    }

    #[tokio::test]
    async fn a_hub_that_is_gone_ends_the_controller_with_an_error_unless_it_was_asked_to_end() {
        let gone = ended(async { panic!("the hub fails") }, Shutdown::new()).await;
        let Err(error) = gone else { unreachable!("agents are not heard any more") };
        let said = federation_runtime::errors::Chain(&error).to_string();
        assert!(said.contains("start the controller anew") && said.contains("the hub fails"), "{said}");
        assert!(matches!(ended(async { Ok(()) }, Shutdown::new()).await, Err(Error::HubGone(None))));
        let shutdown = Shutdown::new();
        shutdown.start();
        assert!(ended(async { Ok(()) }, shutdown).await.is_ok());
    }
}
