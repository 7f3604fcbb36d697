//! The API server as a service, and its options.

mod flags;
mod setup;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use federation_runtime::{
    endpoints::{Health, Metrics},
    pki::{Authority, Subject},
    shutdown::Shutdown,
    tasks,
    tls::{self, Clients},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    aggregate,
    allocation::{Network, PortRange, Ranges},
    audit::{self, Audit},
    auth::{
        authz::Mode,
        authz_webhook, jwt, oidc,
        service_account_tokens::{DEFAULT_ISSUER, ServiceAccountTokens},
        token_webhook,
        tokens::Tokens,
    },
    compactor, housekeeping,
    post_start_hooks::{self, Milestone},
    serve,
    server::{ApiServer, Parts, RemoteServers, Shared},
    store,
    verbs::EndpointScope,
};

/// Megabytes, the default of kube-apiserver.
const AUDIT_LOG_MAXSIZE: u64 = 100;

/// Options of the API server.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Directory for the store, the PKI and the kubeconfigs; created if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Address to listen on; port 0 picks a free one.
    #[arg(long = "listen", value_name = "ADDRESS", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Static bearer tokens, one per line: token,user,uid,"group1,group2".
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Interval of compaction: continue tokens and exact reads are valid for one to two intervals; 0 for as long as the window holds them.
    #[arg(long, value_name = "DURATION", default_value = "5m0s", value_parser = apimachinery::go_duration::flag)]
    pub etcd_compaction_interval: Duration,
    /// Encryption at rest: an apiserver.config.k8s.io/v1 EncryptionConfiguration with aesgcm, kms (v2) or identity.
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Authorization modes, asked in this order. The default allows every authenticated user everything, as in kube-apiserver; system:masters
    /// may always do everything.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "MODES", default_value = "AlwaysAllow")]
    pub authorization_mode: Vec<Mode>,
    /// Issuer of service account tokens.
    #[arg(long, value_name = "URL", default_value = DEFAULT_ISSUER)]
    pub service_account_issuer: String,
    /// Accepted audiences of tokens; the issuer if not given.
    #[arg(long, value_delimiter = ',', value_name = "AUDIENCES")]
    pub api_audiences: Vec<String>,
    /// Audit policy: an audit.k8s.io/v1 Policy.
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// Audit log file, one JSON event per line; - for standard output.
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// Megabytes at which the audit log is rotated; 0 for never.
    #[arg(long, value_name = "MEGABYTES", default_value_t = AUDIT_LOG_MAXSIZE, value_parser = clap::value_parser!(u64).range(..=1 << 20))]
    pub audit_log_maxsize: u64,
    /// Rotated audit logs to keep; 0 for all.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub audit_log_maxbackup: usize,
    /// Days to keep rotated audit logs; 0 for ever.
    #[arg(long, value_name = "DAYS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=36_500))]
    pub audit_log_maxage: u64,
    /// When the audit log is slow: requests wait (blocking), or events are dropped and counted (batch).
    #[arg(long, value_enum, default_value = "blocking")]
    pub audit_log_mode: audit::Mode,
    /// The audit webhook.
    #[command(flatten)]
    pub audit_webhook: audit::webhook::Flags,
    /// Network for cluster IPs of Services.
    #[arg(long, value_name = "CIDR", default_value_t = Ranges::CLUSTER_IPS)]
    pub service_cluster_ip_range: Network,
    /// Port range for node ports of Services.
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767")]
    pub service_node_port_range: Option<PortRange>,
    /// Address that is published in the Service default/kubernetes; that of --listen if not given.
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// An apiserver.config.k8s.io AuthorizationConfiguration, instead of --authorization-mode.
    #[arg(long, value_name = "FILE")]
    pub authorization_config: Option<PathBuf>,
    /// The authorization webhook.
    #[command(flatten)]
    pub authz_webhook: authz_webhook::Flags,
    /// OpenID Connect providers.
    #[command(flatten)]
    pub oidc: oidc::Flags,
    /// The token webhook.
    #[command(flatten)]
    pub token_webhook: token_webhook::Flags,
    /// Further DNS names and IP addresses for the serving certificate.
    #[arg(long = "cert-dns-name", value_name = "NAME")]
    pub cert_dns_names: Vec<String>,
    /// Where Endpoints may lead; a sandbox is all on one machine.
    #[arg(skip = EndpointScope::External)]
    pub endpoint_scope: EndpointScope,
}

impl Options {
    /// The defaults, in a folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 6443)),
            token_auth_file: None,
            etcd_compaction_interval: compactor::INTERVAL,
            encryption_provider_config: None,
            authorization_mode: vec![Mode::default()],
            service_account_issuer: DEFAULT_ISSUER.to_owned(),
            api_audiences: Vec::new(),
            audit_policy_file: None,
            audit_log_path: None,
            audit_log_maxsize: AUDIT_LOG_MAXSIZE,
            audit_log_maxbackup: 0,
            audit_log_maxage: 0,
            audit_log_mode: audit::Mode::default(),
            audit_webhook: audit::webhook::Flags::default(),
            service_cluster_ip_range: Ranges::CLUSTER_IPS,
            service_node_port_range: Some(Ranges::NODE_PORTS),
            advertise_address: None,
            authorization_config: None,
            authz_webhook: authz_webhook::Flags::default(),
            oidc: oidc::Flags::default(),
            token_webhook: token_webhook::Flags::default(),
            cert_dns_names: Vec::new(),
            endpoint_scope: EndpointScope::External,
        }
    }
}

/// The API server, listening but not yet serving.
pub struct Service {
    server: ApiServer,
    listener: TcpListener,
    tls: TlsAcceptor,
    health: Health,
    housekeeping: Box<dyn Fn() -> housekeeping::Service + Send + Sync>,
    audit: Option<Arc<Audit>>,
    compaction: Duration,
    url: String,
}

impl Service {
    /// Opens the store, issues missing certificates, listens, and writes `admin.conf` and `controller.conf`.
    pub async fn start(
        options: Options,
        health: Health,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        tls::install_provider();
        let static_tokens =
            options.token_auth_file.as_deref().map(Tokens::load).transpose()?.unwrap_or_default();
        let pki = options.data_dir.join("pki");
        let authority =
            Arc::new(Authority::load_or_create(&pki).context("cannot use the certificate authority")?);
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("--listen {}: cannot listen there", options.listen))?;
        let address = listener.local_addr()?;
        let url = format!("https://{}", setup::reachable(address));
        let endpoint = setup::endpoint(&options, address);
        let names = setup::serving_names(&options, address, &endpoint);
        let serving = authority.load_or_issue(&pki, "apiserver", &Subject::apiserver(), &names)?;
        setup::write_kubeconfigs(&options.data_dir, &pki, &url, &authority)?;
        let config =
            tls::server(&serving, &authority.certificate_pem, Clients::Optional, &["h2", "http/1.1"])?;
        let storage = setup::storage(&options).await?;
        let audit = setup::audit(&options, &storage, &metrics)?;
        let key = jwt::Key::load_or_create(&pki.join("sa.key"))?;
        let issuer = options.service_account_issuer.clone();
        let accounts =
            Arc::new(ServiceAccountTokens::new(key, issuer, options.api_audiences.clone(), storage.clone()));
        let (modes, authorization_webhooks) = setup::authorization(&options, &storage)?;
        let default_roles = modes.contains(&Mode::Rbac);
        let tokens = setup::other_tokens(&options, &storage)?;
        let front = Authority::load_or_create(&pki.join("front-proxy"))
            .context("cannot use the front proxy's certificate authority")?;
        let front_proxy = front.load_or_issue(&pki, "front-proxy-client", &Subject::front_proxy(), &[])?;
        let server = ApiServer::new(Parts {
            others: RemoteServers { front_proxy: Some(front_proxy), tokens, authorization_webhooks },
            storage: storage.clone(),
            flags: flags::flags(&options),
            tokens: static_tokens,
            accounts: Some(Arc::clone(&accounts)),
            audit: audit.clone(),
            authorization: modes,
            ranges: Ranges {
                cluster_ips: options.service_cluster_ip_range,
                node_ports: options.service_node_port_range,
            },
            endpoint_scope: options.endpoint_scope,
            health: health.clone(),
            metrics: metrics.clone(),
            draining: shutdown.token(),
        });
        let kinds: Arc<dyn housekeeping::Kinds> = Arc::new(server.kind_table());
        let settings = housekeeping::Options {
            root_ca_pem: Some(authority.certificate_pem.clone()),
            accounts: Some(accounts),
            default_roles,
            endpoint: Some(endpoint),
            extension_authentication: Some(aggregate::authentication(
                &authority.certificate_pem,
                &front.certificate_pem,
            )),
            authority: Some(Arc::clone(&authority)),
            cluster_ips: Some(options.service_cluster_ip_range),
            health: health.clone(),
            work: housekeeping::QueueMetrics::register(&metrics),
            ..Default::default()
        };
        let housekeeping =
            move || housekeeping::Service::new(storage.clone(), Arc::clone(&kinds), settings.clone());
        health.wait_for(post_start_hooks::INFORMERS, "housekeeping has not looked at what is stored yet");
        post_start_hooks::declare(&health, (!default_roles).then_some(Milestone::Roles));
        post_start_hooks::done(&health, Milestone::Assembled);
        Ok(Self {
            server,
            audit,
            listener,
            tls: TlsAcceptor::from(Arc::new(config)),
            health,
            housekeeping: Box::new(housekeeping),
            compaction: options.etcd_compaction_interval,
            url,
        })
    }

    /// Where it listens: `https://127.0.0.1:6443`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server, for callers in this process.
    pub fn server(&self) -> ApiServer {
        self.server.clone()
    }

    /// Serves until `shutdown`: then watches end, requests at work finish, and the store is closed.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        // Everything that must exist does before anybody is let in.
        let mut first = (self.housekeeping)();
        first.begin().await;
        self.server.warm_up();
        let (make, mut first, ending) = (self.housekeeping, Some(first), shutdown.child());
        let keep = move || first.take().unwrap_or_else(&make).run(ending.clone());
        let (server, ending) = (self.server.clone(), shutdown.child());
        let check = move || server.availability_controller().run(ending.clone());
        let health = || self.health.clone();
        let housekeeping =
            tokio::spawn(tasks::supervise(post_start_hooks::INFORMERS, health(), shutdown.child(), keep));
        let availability_controller =
            tokio::spawn(tasks::supervise(post_start_hooks::CHECKER, health(), shutdown.child(), check));
        post_start_hooks::done(&self.health, Milestone::Checked);
        let storage = self.server.storage().clone();
        let compactor = tokio::spawn(compactor::run(storage.clone(), self.compaction, shutdown.child()));
        serve::run(self.listener, self.tls, self.server, &shutdown).await;
        let _ended = (housekeeping.await, availability_controller.await, compactor.await);
        storage.close().await;
        if let Some(audit) = &self.audit {
            audit.close().await;
        }
        Ok(())
    }
}

impl Service {
    /// The same as a process of its own: says `ready URL` on standard output once clients are let in.
    pub async fn run_announced(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let (health, url) = (self.health.clone(), self.url.clone());
        let announce = async move {
            while !health.is_ready() {
                tokio::time::sleep(READY_POLL).await;
            }
            println!("ready {url}");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = self.run(shutdown) => result,
            () = announce => Ok(()),
        }
    }
}

/// How often readiness is looked at before it is announced.
const READY_POLL: Duration = Duration::from_millis(2);

/// The kinds that are served, as housekeeping asks for them.
pub struct KindTable(Arc<Shared>);

impl KindTable {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl housekeeping::Kinds for KindTable {
    fn naming(&self) -> &tokio::sync::Mutex<()> {
        &self.0.naming
    }

    fn resource_of(&self, group: &str, kind: &str) -> Option<(store::ResourceKey, bool)> {
        let served = self.0.served();
        let found = served.kinds().iter().find(|row| row.group == group && row.kind == kind)?;
        Some((found.storage(), found.namespaced()))
    }

    fn namespaced(&self) -> Vec<store::ResourceKey> {
        let served = self.0.served();
        let kinds = served.kinds().iter().filter(|kind| kind.namespaced() && kind.conversion.is_none());
        // A custom kind has a row for each of its versions, which share one set of objects.
        let mut resources: Vec<_> = kinds.map(|kind| kind.storage()).collect();
        resources.sort();
        resources.dedup();
        resources
    }

    fn type_warnings(&self, spec: &serde_json::Value) -> Vec<serde_json::Value> {
        crate::admission::type_warnings(spec, &self.0.served(), self.0.schemas())
    }

    fn fields(
        &self,
        resource: &store::ResourceKey,
        object: &serde_json::Value,
    ) -> std::collections::BTreeMap<String, String> {
        match self.0.served().stored_as(resource) {
            Some(kind) => crate::verbs::selectable_fields(&kind, object),
            None => std::collections::BTreeMap::new(),
        }
    }

    fn own_status(
        &self,
        resource: &store::ResourceKey,
        old: &serde_json::Value,
        object: serde_json::Value,
        now: &str,
    ) -> serde_json::Value {
        match self.0.served().stored_as(resource) {
            Some(kind) => crate::verbs::own_status(&self.0, &kind, old, object, now),
            None => object,
        }
    }
}
