//! The agent as a service: from flags to running tasks.

use std::sync::Arc;

use federation_prober::Probing;
use federation_runtime::deadline::with_deadlines;
use federation_runtime::endpoints::{self, Health, Metrics as Registry};
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;
use hub_protocol::agent::{Config, Session};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::{mpsc, watch};

use crate::discovery::Discovery;
use crate::executor::Executor;
use crate::identity::{self, Membership};
use crate::link::Link;
use crate::manifest::Wanted;
use crate::member::Member;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::service_addresses::ServiceAddresses;
use crate::store::{self, Store};
use crate::welcome::{self, Welcome};
use crate::world::{REPORTS, World};
use crate::{api_watch, member_health, watch as watches};

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("the member's kubeconfig cannot be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// There is no kubeconfig and no service account.
    #[error("no --kubeconfig was given, and this is not a Pod with a service account")]
    InCluster(#[source] kube::config::InClusterError),
    /// The client for the member cannot be made.
    #[error("client for the member's API server")]
    Client(#[source] kube::Error),
    /// There is no identity to speak to the hub with.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The desired state cannot be kept.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The metrics address cannot be used.
    #[error("--metrics-listen")]
    Listen(#[source] std::io::Error),
}

/// One member agent.
pub struct Service {
    options: Options,
    client: Option<Client>,
    health: Health,
    registry: Registry,
}

impl Service {
    /// An agent for the member of the flags.
    pub fn new(options: Options) -> Self {
        Self { options, client: None, health: Health::new(), registry: Registry::new() }
    }

    /// Speaks to the member through this client instead of making one: for members in the same process.
    #[must_use]
    pub fn with_client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Whether the agent is ready: it has joined, and the hub welcomed it once.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// The agent's metrics, for a process that serves several parts' together.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Joins if need be, and runs until `shutdown`. Objects that the disk holds are corrected from the first second, whether or not the hub answers.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        let options = self.options;
        self.health.wait_for(welcome::CHECK, "the hub has not welcomed this agent yet");
        let metrics = Metrics::default();
        self.registry.register(|registry| metrics.register(registry));
        if let Some(listen) = options.metrics_listen {
            let address =
                endpoints::serve(listen, self.health.clone(), self.registry.clone(), shutdown.child())
                    .await
                    .map_err(Error::Listen)?;
            tracing::info!(%address, "serving /metrics and health");
        }
        federation_runtime::tls::install_provider();
        let client = match self.client {
            Some(client) => client,
            None => member_client(&options).await?,
        };
        let directory = options.data_dir.join("identity");
        let membership = match Membership::load(&directory, &options.name)? {
            Some(membership) => membership,
            None => {
                let token = options.token.as_deref().ok_or(identity::Error::Missing("token"))?;
                let pin = options.ca_cert_hash.ok_or(identity::Error::Missing("ca-cert-hash"))?;
                let joined =
                    Membership::join(&directory, &options.hub, &options.name, token, pin, options.profile())
                        .await?;
                tracing::info!(cluster = options.name, hub = options.hub, "joined the federation");
                joined
            }
        };
        let (store, desired, kept) = Store::open(&options.data_dir.join("desired"))?;

        let (reports_in, reports) = mpsc::channel(REPORTS);
        let world = Arc::new(World::new(reports_in));
        for entry in desired.iter() {
            world.put(Arc::new(Wanted::new(entry.clone())));
        }
        let member = Member::new(client.clone());
        let executor = Executor::new(member.clone(), world.clone(), metrics.clone(), shutdown.token());
        let addresses = Arc::new(ServiceAddresses::new(world.clone()));
        let (not_after_in, not_after) = watch::channel(membership.peer()?.not_after);
        let health = || self.health.clone();
        let (api, wanted, jobs, reached) =
            (member.client(), world.clone(), executor.clone(), addresses.clone());
        let (checks, ending) = (health(), shutdown.clone());
        let watch = move || {
            let (jobs, reached) = (jobs.clone(), reached.clone());
            watches::all(api.clone(), wanted.clone(), jobs, reached, checks.clone(), ending.clone())
        };
        let watching = tokio::spawn(tasks::supervise("watches", health(), shutdown.clone(), watch));
        let (api, wanted, counted) = (client.clone(), world.clone(), metrics.clone());
        let look = move || {
            let (api, addresses, wanted) = (api.clone(), addresses.clone(), wanted.clone());
            member_health::watch(api, addresses, wanted, counted.clone(), not_after.clone())
        };
        let probing = tokio::spawn(tasks::supervise("vitals", health(), shutdown.clone(), look));
        let discovery = Arc::new(Discovery::new(client));
        let (of, wanted) = (discovery.clone(), world.clone());
        let discover = move || api_watch::watch(of.clone(), wanted.clone());
        let serving = tokio::spawn(tasks::supervise("discovery", health(), shutdown.clone(), discover));
        // Ends with this run, however it ends.
        let looking = shutdown.child();
        let probing_peers = Probing::start(rand::random(), options.probe_resolver, health(), looking.clone());
        let config = Config {
            cluster: options.name,
            accept_new_incarnation: options.accept_new_hub,
            ..Config::default()
        };
        let link = Link {
            session: Session::with_plans(0, config, desired, kept),
            store,
            world,
            executor,
            member,
            discovery,
            hub: options.hub,
            directory,
            membership,
            not_after: not_after_in,
            probing: probing_peers,
            metrics,
            welcome: Welcome::new(self.health.clone()),
            health: self.health,
        };
        let ended = link.run(reports, shutdown).await;
        looking.start();
        watching.abort();
        probing.abort();
        serving.abort();
        Ok(ended?)
    }
}

async fn member_client(options: &Options) -> Result<Client, Error> {
    let config = match &options.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(Error::Kubeconfig)?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(Error::Kubeconfig)?
        }
        None => kube::Config::incluster().map_err(Error::InCluster)?,
    };
    Client::try_from(config).map(with_deadlines).map_err(Error::Client)
}
