//! One federation and its members, for a test.

mod api;
mod manifests;
mod member;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::link::Link;
use federation_controller::tokens;
use federation_runtime::endpoints::{Health, Metrics};
use federation_runtime::pki::{Authority, HUB_NAME, LIFE_OF_PARTS, SpkiPin, Subject};
use federation_runtime::shutdown::Shutdown;
use kube::Client;
use proto::v1;
use proto::v1::operations_client::OperationsClient;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub(crate) use self::api::{Api, LIMIT, until, until_within};
pub(crate) use self::manifests::{
    CLUSTERS, CONFIG_MAPS, DEPLOYMENTS, EVENTS, PLACEMENTS, POLICIES, SERVICES, config_map, deployment,
    policy, template_uid,
};
pub(crate) use self::member::Member;

/// A running task that can be ended and waited for.
struct Running {
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self) {
        self.shutdown.start();
        self.task.await.unwrap();
    }
}

/// How a federation is set up.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) heartbeat: Duration,
    pub(crate) evict_after: Duration,
    /// The zone of Multi-Cluster Services.
    pub(crate) clusterset: Option<&'static str>,
    /// Who is asked for the addresses of load balancers that say a name.
    pub(crate) resolver: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            evict_after: Duration::from_secs(300),
            clusterset: None,
            // Nobody: what is asked for here is nobody else's business.
            resolver: ([127, 0, 0, 1], 9).into(),
        }
    }
}

impl Settings {
    /// What is lost is found, and replaced, as soon as may be.
    pub(crate) fn quick() -> Self {
        Self {
            heartbeat: Duration::from_millis(300),
            evict_after: Duration::from_millis(500),
            ..Self::default()
        }
    }
}

/// The control plane.
pub(crate) struct Federation {
    pub(crate) api: Api,
    settings: Settings,
    controller: Option<Running>,
    hub: SocketAddr,
    authority: Arc<Authority>,
    directory: TempDir,
    api_server: Option<Running>,
}

async fn api_server(directory: &Path) -> (Client, Running) {
    let (health, shutdown) = (Health::new(), Shutdown::new());
    let options = federation_apiserver::Options {
        listen: ([127, 0, 0, 1], 0).into(),
        service_node_port_range: None,
        endpoint_scope: federation_apiserver::EndpointScope::Any,
        ..federation_apiserver::Options::new(directory)
    };
    let service = federation_apiserver::Service::start(options, health.clone(), Metrics::new(), &shutdown)
        .await
        .unwrap();
    let client = Client::new(service.server().service(), "default");
    let ending = shutdown.clone();
    let task = tokio::spawn(async move { service.run(ending).await.unwrap() });
    until("the API server is ready", || async { health.is_ready().then_some(()) }).await;
    (client, Running { shutdown, task })
}

/// Copies a folder of files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

impl Federation {
    /// A federation without members.
    pub(crate) async fn start(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (client, api_server) = api_server(directory.path()).await;
        let authority = federation_controller::load_authority(directory.path()).unwrap();
        let mut federation = Self {
            api: Api(client),
            settings,
            controller: None,
            hub: ([127, 0, 0, 1], 0).into(),
            authority,
            directory,
            api_server: Some(api_server),
        };
        federation.start_controller().await;
        federation
    }

    /// A federation with the healthy members taiwan and tokyo.
    pub(crate) async fn pair() -> (Self, Member, Member) {
        Self::pair_with(Settings::default()).await
    }

    pub(crate) async fn pair_with(settings: Settings) -> (Self, Member, Member) {
        let federation = Self::start(settings).await;
        let (taiwan, tokyo) = tokio::join!(federation.join("taiwan"), federation.join("tokyo"));
        for name in ["taiwan", "tokyo"] {
            federation.verdict(name, "Healthy").await;
        }
        (federation, taiwan, tokyo)
    }

    /// The same, with a link to the hub that can be cut for taiwan's agent alone.
    pub(crate) async fn pair_over_a_link(settings: Settings) -> (Self, Member, Member, Link) {
        Self::pair_over_a_link_to("taiwan", settings).await
    }

    /// The same, with a link for the one of that name.
    pub(crate) async fn pair_over_a_link_to(
        linked: &str,
        settings: Settings,
    ) -> (Self, Member, Member, Link) {
        let federation = Self::start(settings).await;
        let link = Link::to(federation.hub).await;
        let hub = |name: &str| if name == linked { link.address } else { federation.hub };
        let (taiwan, tokyo) = tokio::join!(
            federation.join_through("taiwan", hub("taiwan")),
            federation.join_through("tokyo", hub("tokyo"))
        );
        for name in ["taiwan", "tokyo"] {
            federation.verdict(name, "Healthy").await;
        }
        (federation, taiwan, tokyo, link)
    }

    /// Starts the controller, at the address that it had before.
    pub(crate) async fn start_controller(&mut self) {
        let shutdown = Shutdown::new();
        let options = federation_controller::Options {
            data_dir: self.directory.path().to_owned(),
            hub_listen: self.hub,
            evict_after: self.settings.evict_after,
            heartbeat: self.settings.heartbeat,
            clusterset_zone: self.settings.clusterset.map(str::to_owned),
            probe_resolver: vec![self.settings.resolver],
            ..federation_controller::Options::default()
        };
        let service = federation_controller::Service::new(
            options,
            self.api.0.clone(),
            self.authority.clone(),
            Metrics::new(),
            shutdown.clone(),
        )
        .await
        .unwrap();
        self.hub = service.hub_address();
        let task = tokio::spawn(async move { service.run().await.unwrap() });
        self.controller = Some(Running { shutdown, task });
    }

    pub(crate) async fn stop_controller(&mut self) {
        self.controller.take().unwrap().end().await;
    }

    /// A copy of the store as it is now, while the control plane rests.
    pub(crate) async fn back_up(&mut self) -> TempDir {
        let backup = tempfile::tempdir().unwrap();
        let store = self.directory.path().join("store");
        self.rest(|| copy(&store, backup.path())).await;
        backup
    }

    /// Puts a copy in the place of the store.
    pub(crate) async fn restore(&mut self, backup: &TempDir) {
        let store = self.directory.path().join("store");
        self.rest(|| {
            std::fs::remove_dir_all(&store).unwrap();
            copy(backup.path(), &store);
        })
        .await;
    }

    async fn rest(&mut self, act: impl FnOnce()) {
        if let Some(controller) = self.controller.take() {
            controller.end().await;
        }
        self.api_server.take().unwrap().end().await;
        act();
        let (client, api_server) = api_server(self.directory.path()).await;
        self.api = Api(client);
        self.api_server = Some(api_server);
        self.start_controller().await;
    }

    /// A DNS server of this federation; its UDP address.
    // Asynchronous, because it needs a runtime around it.
    #[allow(clippy::unused_async)]
    pub(crate) async fn dns(&self) -> SocketAddr {
        self.dns_with(dns_lb::Options::default(), Shutdown::new())
    }

    /// The same, where agents meet while the hub is away; until `shutdown`.
    pub(crate) fn dns_where_agents_meet(&self, instance: &str, shutdown: Shutdown) -> SocketAddr {
        let meet_listen = Some(([127, 0, 0, 1], 0).into());
        let options =
            dns_lb::Options { instance: instance.into(), meet_listen, ..dns_lb::Options::default() };
        self.dns_with(options, shutdown)
    }

    fn dns_with(&self, options: dns_lb::Options, shutdown: Shutdown) -> SocketAddr {
        let pki = self.directory.path().join("pki");
        self.authority.load_or_issue(&pki, "dns-lb", &Subject::dns(), &[]).unwrap();
        let options = dns_lb::Options {
            listen: vec![([127, 0, 0, 1], 0).into()],
            hub: Some(self.hub.to_string()),
            pki: Some(pki),
            probe_resolver: vec![self.settings.resolver],
            threads: std::num::NonZeroUsize::new(1),
            ..options
        };
        let service = dns_lb::Service::bind(options, Health::new(), Metrics::new()).unwrap();
        let address = service.addresses()[0];
        tokio::spawn(service.run(shutdown));
        address
    }

    /// Who signs.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A client of the hub's answers to operators, with a certificate for somebody.
    pub(crate) async fn operations(&self, subject: &Subject) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel(subject).await)
    }

    /// A connection to the hub, with a certificate for somebody.
    pub(crate) async fn channel(&self, subject: &Subject) -> Channel {
        let identity = self.authority.issue(subject, &[], LIFE_OF_PARTS).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority.certificate_pem))
            .identity(Identity::from_pem(identity.certificate_pem, identity.key_pem))
            .domain_name(HUB_NAME);
        let endpoint =
            Endpoint::from_shared(format!("https://{}", self.hub)).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// What operators are told of the clusters' health.
    pub(crate) async fn health(&self) -> v1::HealthResponse {
        let mut operations = self.operations(&Subject::admin()).await;
        operations.health(v1::HealthRequest::default()).await.unwrap().into_inner()
    }

    /// Waits until `holds` of what operators are told of a cluster.
    pub(crate) async fn healthy_as(
        &self,
        cluster: &str,
        what: &str,
        holds: impl Fn(&v1::ClusterHealth) -> bool,
    ) -> v1::ClusterHealth {
        until_within(Duration::from_secs(20), &format!("{cluster}: {what}"), || async {
            self.health().await.clusters.into_iter().find(|found| found.cluster == cluster && holds(found))
        })
        .await
    }

    pub(crate) async fn token(&self) -> String {
        let request =
            tokens::Request { life: Duration::from_secs(600), cluster: None, description: String::new() };
        tokens::create_token(&self.api.0, &request).await.unwrap()
    }

    fn pin(&self) -> SpkiPin {
        use rustls::pki_types::pem::PemObject as _;
        let pem = self.authority.certificate_pem.as_bytes();
        SpkiPin::of_certificate(&rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap()).unwrap()
    }

    /// A new sandbox cluster that joins.
    pub(crate) async fn join(&self, name: &str) -> Member {
        self.join_with(name, &self.token().await).await
    }

    /// A new sandbox cluster whose agent reaches the hub at another address than the others.
    pub(crate) async fn join_through(&self, name: &str, hub: SocketAddr) -> Member {
        let mut member = Member::new(name).await;
        member.hub = Some(hub);
        self.enrol(member, &self.token().await).await
    }

    /// Where the hub listens.
    pub(crate) fn hub_address(&self) -> SocketAddr {
        self.hub
    }

    pub(crate) async fn join_with(&self, name: &str, token: &str) -> Member {
        self.enrol(Member::new(name).await, token).await
    }

    async fn enrol(&self, mut member: Member, token: &str) -> Member {
        let name = member.name.clone();
        member.agent = Some(self.agent(&member, Some(token.to_owned())));
        let path = format!("/apis/federation.rs/v1alpha1/clusters/{name}");
        self.api.there(&path).await;
        member
    }

    /// Tries to join; why that failed.
    pub(crate) async fn refused(&self, member: &Member, token: &str) -> String {
        let service = self.service(member, Some(token.to_owned()));
        let ended = tokio::time::timeout(LIMIT, service.run(Shutdown::new())).await.expect("the join ends");
        ended.expect_err("the join is refused").to_string()
    }

    /// Starts the member's agent with the certificate that it has; why the hub does not take it, in which these words are.
    pub(crate) async fn rejected(&self, member: &Member, words: &str) -> String {
        let (service, shutdown) = (self.service(member, None), Shutdown::new());
        let health = service.health();
        let task = tokio::spawn(service.run(shutdown.clone()));
        let why = until("the agent says why it is not ready", || async {
            let text = health.report(true).1;
            text.contains(words).then_some(text)
        })
        .await;
        shutdown.start();
        task.await.unwrap().unwrap();
        why
    }

    /// Starts the member's agent again.
    pub(crate) fn restart_agent(&self, member: &mut Member) {
        member.agent = Some(self.agent(member, None));
    }

    fn service(&self, member: &Member, token: Option<String>) -> member_agent::Service {
        let options = member_agent::Options {
            kubeconfig: None,
            name: member.name.clone(),
            hub: member.hub.unwrap_or(self.hub).to_string(),
            token,
            ca_cert_hash: Some(self.pin()),
            data_dir: member.directory().join("agent"),
            region: String::new(),
            zone: String::new(),
            provider: "sandbox".into(),
            labels: vec![("name".into(), member.name.clone())],
            metrics_listen: None,
            probe_resolver: vec![self.settings.resolver],
            accept_new_hub: false,
        };
        member_agent::Service::new(options).with_client(member.agents_client())
    }

    fn agent(&self, member: &Member, token: Option<String>) -> Running {
        let shutdown = Shutdown::new();
        let (service, ending) = (self.service(member, token), shutdown.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = service.run(ending).await {
                eprintln!("an agent ended: {error}");
            }
        });
        Running { shutdown, task }
    }

    /// Waits for a verdict.
    pub(crate) async fn verdict(&self, cluster: &str, verdict: &str) {
        let path = format!("/apis/federation.rs/v1alpha1/clusters/{cluster}");
        self.api.until(&path, verdict, |found| found["status"]["verdict"] == verdict).await;
    }

    /// Waits until the Placement says `Applied` of each of its clusters, and that these are `clusters`.
    pub(crate) async fn applied(&self, placement: &str, clusters: &[&str]) -> Value {
        self.api
            .until(placement, "applied", |found| {
                let outcomes = found["status"]["clusters"].as_array().map(Vec::as_slice).unwrap_or_default();
                outcomes.len() == clusters.len()
                    && outcomes.iter().zip(clusters).all(|(outcome, cluster)| {
                        outcome["name"] == *cluster && outcome["reason"] == "Applied"
                    })
            })
            .await
    }
}
