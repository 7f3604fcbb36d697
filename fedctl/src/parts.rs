//! Every part in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use apimachinery::go_duration;
use federation_apiserver::{
    audit,
    auth::{authz::Mode, authz_webhook, oidc, token_webhook},
};
use federation_runtime::endpoints::{self, Health, Metrics};
use federation_runtime::pki::Subject;
use federation_runtime::shutdown::Shutdown;
use kube::Client;
use tokio::task::JoinSet;

/// How often readiness is asked at the start.
const LOOK: Duration = Duration::from_millis(2);
/// A part that is not ready by then has a problem, which its log describes.
const START_LIMIT: Duration = Duration::from_secs(30);
/// And for the API server to end, when another part does not start.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Options of `fedctl up`.
#[derive(clap::Args, Clone, Debug)]
pub struct UpOptions {
    /// The federation's data directory; created if it does not exist.
    #[arg(long, env = "FEDERATION_DATA_DIR", default_value = "federation", value_name = "DIR")]
    data_dir: PathBuf,
    /// Address on which the federation's API listens.
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDRESS:PORT")]
    api_listen: SocketAddr,
    /// Address on which the hub listens for agents and DNS servers.
    #[arg(long, default_value = "127.0.0.1:6444", value_name = "ADDRESS:PORT")]
    hub_listen: SocketAddr,
    /// Address on which DNS is answered, over UDP and TCP.
    #[arg(long, default_value = "127.0.0.1:5353", value_name = "ADDRESS:PORT")]
    dns_listen: SocketAddr,
    /// Address for DNS over TLS.
    #[arg(long, requires = "dns_tls_cert", value_name = "ADDRESS:PORT")]
    dns_dot_listen: Option<SocketAddr>,
    /// Address for DNS over HTTPS, HTTP/2 at the path /dns-query.
    #[arg(long, requires = "dns_tls_cert", value_name = "ADDRESS:PORT")]
    dns_doh_listen: Option<SocketAddr>,
    /// Address for DNS over QUIC.
    #[arg(long, requires = "dns_tls_cert", value_name = "ADDRESS:PORT")]
    dns_doq_listen: Option<SocketAddr>,
    /// Certificate chain for these three, PEM; reloaded when it changes.
    #[arg(long, requires = "dns_tls_key", value_name = "FILE")]
    dns_tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, requires = "dns_tls_cert", value_name = "FILE")]
    dns_tls_key: Option<PathBuf>,
    /// The federation's DNS zone; its first label is the federation's name.
    #[arg(long, default_value = "fed.example.test", value_name = "ZONE")]
    dns_zone: String,
    /// Zone for the names of Multi-Cluster Services (KEP-1645), such as clusterset.local; not served if not given.
    #[arg(long, value_name = "ZONE")]
    clusterset_zone: Option<String>,
    /// Name server of the zone, NAME or NAME=ADDRESS; ns1.ZONE if not given. May be repeated.
    #[arg(long, value_name = "NAME[=ADDRESS]")]
    dns_nameserver: Vec<String>,
    /// Default TTL of DNS answers, in whole seconds; a TrafficPolicy may set another.
    #[arg(long, default_value = "5s", value_parser = go_duration::whole_seconds, value_name = "DURATION")]
    dns_ttl: u32,
    /// How long a cluster must have a bad verdict before its replicas are placed elsewhere, unless a PlacementPolicy says otherwise, as 5m,
    /// 1h30m or 500ms.
    #[arg(long, default_value = "300s", value_parser = go_duration::seconds, value_name = "DURATION")]
    evict_after: Duration,
    /// How long a deleted template can be restored with `fedctl undo`; 0 keeps none.
    #[arg(long, default_value = "24h", value_parser = go_duration::seconds, value_name = "DURATION")]
    trash_grace: Duration,
    /// Further DNS names and IP addresses for the certificates of the API and the hub. May be repeated.
    #[arg(long, value_name = "NAME")]
    cert_name: Vec<String>,
    /// Static bearer tokens, in kube-apiserver's CSV format.
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
    /// Encryption at rest: an apiserver.config.k8s.io/v1 EncryptionConfiguration with aesgcm, kms (v2) or identity.
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
    /// Authorization modes, as in kube-apiserver, asked in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "RBAC", value_name = "MODES")]
    authorization_mode: Vec<Mode>,
    /// An apiserver.config.k8s.io AuthorizationConfiguration, instead of --authorization-mode.
    #[arg(long, value_name = "FILE")]
    authorization_config: Option<PathBuf>,
    /// The authorization webhook.
    #[command(flatten)]
    authz_webhook: authz_webhook::Flags,
    /// OpenID Connect providers.
    #[command(flatten)]
    oidc: oidc::Flags,
    /// The token webhook.
    #[command(flatten)]
    token_webhook: token_webhook::Flags,
    /// Audit policy: an audit.k8s.io/v1 Policy.
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Audit log file, one JSON event per line; - for standard output.
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,
    /// The audit webhook.
    #[command(flatten)]
    audit_webhook: audit::webhook::Flags,
    /// Address for /metrics, /healthz, /livez and /readyz of the controller and dns-lb over HTTP; not served if not given.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// DNS resolver for probing load balancers that have a host name instead of an address; if not given, those of /etc/resolv.conf. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    probe_resolver: Vec<SocketAddr>,
}

impl UpOptions {
    /// A federation on this machine alone.
    pub fn local(
        data_dir: &Path,
        api: SocketAddr,
        hub: SocketAddr,
        dns: SocketAddr,
        evict_after: Duration,
    ) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            api_listen: api,
            hub_listen: hub,
            dns_listen: dns,
            dns_dot_listen: None,
            dns_doh_listen: None,
            dns_doq_listen: None,
            dns_tls_cert: None,
            dns_tls_key: None,
            dns_zone: "fed.example.test".into(),
            clusterset_zone: None,
            dns_nameserver: Vec::new(),
            dns_ttl: 5,
            evict_after,
            trash_grace: Duration::from_hours(24),
            cert_name: Vec::new(),
            token_auth_file: None,
            encryption_provider_config: None,
            authorization_mode: vec![Mode::Rbac],
            authorization_config: None,
            authz_webhook: authz_webhook::Flags::default(),
            oidc: oidc::Flags::default(),
            token_webhook: token_webhook::Flags::default(),
            audit_policy_file: None,
            audit_log_path: None,
            audit_webhook: audit::webhook::Flags::default(),
            metrics_listen: None,
            probe_resolver: Vec::new(),
        }
    }

    /// Where the API listens.
    pub fn api_listen(&self) -> SocketAddr {
        self.api_listen
    }

    /// Where the hub listens.
    pub fn hub_listen(&self) -> SocketAddr {
        self.hub_listen
    }

    /// Where DNS is answered.
    pub fn dns_listen(&self) -> SocketAddr {
        self.dns_listen
    }

    fn apiserver(&self) -> federation_apiserver::Options {
        federation_apiserver::Options {
            listen: self.api_listen,
            token_auth_file: self.token_auth_file.clone(),
            encryption_provider_config: self.encryption_provider_config.clone(),
            authorization_mode: self.authorization_mode.clone(),
            authorization_config: self.authorization_config.clone(),
            authz_webhook: self.authz_webhook.clone(),
            oidc: self.oidc.clone(),
            token_webhook: self.token_webhook.clone(),
            audit_policy_file: self.audit_policy_file.clone(),
            audit_log_path: self.audit_log_path.clone(),
            audit_webhook: self.audit_webhook.clone(),
            cert_dns_names: self.cert_name.clone(),
            ..federation_apiserver::Options::new(&self.data_dir)
        }
    }

    fn controller(&self) -> federation_controller::Options {
        federation_controller::Options {
            data_dir: self.data_dir.clone(),
            hub_listen: self.hub_listen,
            hub_name: self.cert_name.clone(),
            dns_zone: self.dns_zone.clone(),
            clusterset_zone: self.clusterset_zone.clone(),
            dns_nameserver: self.dns_nameserver.clone(),
            dns_ttl: self.dns_ttl,
            probe_resolver: self.probe_resolver.clone(),
            evict_after: self.evict_after,
            trash_grace: self.trash_grace,
            ..federation_controller::Options::default()
        }
    }

    fn dns(&self, hub: SocketAddr) -> dns_lb::Options {
        dns_lb::Options {
            listen: vec![self.dns_listen],
            probe_resolver: self.probe_resolver.clone(),
            hub: Some(hub.to_string()),
            data_dir: Some(self.data_dir.clone()),
            pki: Some(self.data_dir.join("pki")),
            encrypted: dns_lb::EncryptedOptions {
                dot_listen: self.dns_dot_listen.into_iter().collect(),
                doh_listen: self.dns_doh_listen.into_iter().collect(),
                doq_listen: self.dns_doq_listen.into_iter().collect(),
                tls_cert: self.dns_tls_cert.clone(),
                tls_key: self.dns_tls_key.clone(),
            },
            ..dns_lb::Options::default()
        }
    }
}

/// The running control plane: API server, controller with its hub, DNS server.
pub struct ControlPlane {
    tasks: JoinSet<Result<()>>,
    shutdown: Shutdown,
    // The API server ends last: the others still write while they drain.
    apiserver: tokio::task::JoinHandle<Result<()>>,
    apiserver_shutdown: Shutdown,
    /// Where the API is.
    pub url: String,
    /// Where the hub is.
    pub hub: SocketAddr,
}

impl ControlPlane {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When a part cannot start, or is not ready within 30 s.
    pub async fn start(options: UpOptions, shutdown: Shutdown) -> Result<Self> {
        let apiserver_shutdown = Shutdown::new();
        let health = Health::new();
        let service = federation_apiserver::Service::start(
            options.apiserver(),
            health.clone(),
            Metrics::new(),
            &apiserver_shutdown,
        )
        .await
        .with_context(|| format!("federation-apiserver at --api-listen {}", options.api_listen))?;
        let (url, server) = (service.url().to_owned(), service.server());
        let mut apiserver = tokio::spawn(service.run(apiserver_shutdown.clone()));
        match Self::start_others(options, &health, server, &shutdown).await {
            Ok((tasks, hub)) => Ok(Self { tasks, shutdown, apiserver, apiserver_shutdown, url, hub }),
            Err(error) => {
                // In order, so that the next start has nothing to take over.
                shutdown.start();
                apiserver_shutdown.start();
                let _ended = tokio::time::timeout(STOP_LIMIT, &mut apiserver).await;
                Err(error)
            }
        }
    }

    async fn start_others(
        options: UpOptions,
        health: &Health,
        server: federation_apiserver::ApiServer,
        shutdown: &Shutdown,
    ) -> Result<(JoinSet<Result<()>>, SocketAddr)> {
        ready(health, "federation-apiserver").await?;

        let client = Client::new(server.service(), "default");
        let metrics = Metrics::new();
        let authority = federation_controller::load_authority(&options.data_dir)?;
        let pki = options.data_dir.join("pki");
        authority.load_or_issue(&pki, "dns-lb", &Subject::dns(), &[])?;
        let controller = federation_controller::Service::new(
            options.controller(),
            client,
            authority,
            metrics.clone(),
            shutdown.clone(),
        )
        .await
        .with_context(|| format!("federation-controller at --hub-listen {}", options.hub_listen))?;
        let hub = controller.hub_address();
        let controller_health = controller.readiness();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { controller.run().await.context("federation-controller") });

        let dns_health = Health::new();
        let dns = dns_lb::Service::bind(options.dns(hub), dns_health.clone(), metrics.clone())
            .with_context(|| format!("dns-lb at --dns-listen {}", options.dns_listen))?;
        let dns_shutdown = shutdown.clone();
        tasks.spawn(async move { dns.run(dns_shutdown).await.context("dns-lb") });
        if let Some(listen) = options.metrics_listen {
            let both = [("federation-controller", controller_health.clone()), ("dns-lb", dns_health.clone())];
            endpoints::serve(listen, Health::of_parts(both), metrics, shutdown.clone())
                .await
                .with_context(|| format!("--metrics-listen {listen}"))?;
        }
        ready(&controller_health, "federation-controller").await?;
        ready(&dns_health, "dns-lb").await?;
        Ok((tasks, hub))
    }

    /// Runs until the shutdown, or until a part ends by itself, which is an error.
    ///
    /// # Errors
    /// When a part fails.
    pub async fn run(mut self) -> Result<()> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.wait() => self.stop().await,
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Err(error)) => Err(error).context("a part panicked"),
                _ => anyhow::bail!("a part ended by itself"),
            },
            ended = &mut self.apiserver => {
                ended.context("federation-apiserver panicked")??;
                anyhow::bail!("federation-apiserver ended by itself")
            }
        }
    }

    /// Drains and ends every part.
    ///
    /// # Errors
    /// When a part fails while it ends.
    pub async fn stop(mut self) -> Result<()> {
        self.shutdown.start();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a part panicked")??;
        }
        self.apiserver_shutdown.start();
        self.apiserver.await.context("federation-apiserver panicked")?
    }
}

async fn ready(health: &Health, part: &str) -> Result<()> {
    let wait = async {
        while !health.is_ready() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(START_LIMIT, wait)
        .await
        .with_context(|| format!("{part} is not ready: {}", health.report(true).1.trim().replace('\n', "; ")))
}

/// `fedctl up`.
///
/// # Errors
/// When a part fails.
pub async fn up(options: UpOptions, shutdown: Shutdown) -> Result<()> {
    let kubeconfig = options.data_dir.join("admin.conf");
    let dns = options.dns_listen;
    let control_plane = ControlPlane::start(options, shutdown).await?;
    println!(
        "ready api={} hub={} dns={dns} kubeconfig={}",
        control_plane.url,
        control_plane.hub,
        kubeconfig.display()
    );
    control_plane.run().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Up {
        #[command(flatten)]
        options: UpOptions,
    }

    #[test]
    fn times_are_said_as_to_the_controller_and_reach_it_whole() {
        let up: Up =
            clap::Parser::try_parse_from(["up", "--evict-after", "500ms", "--trash-grace", "1h"]).unwrap();
        let controller = up.options.controller();
        assert_eq!(controller.evict_after, Duration::from_millis(500));
        assert_eq!(controller.trash_grace, Duration::from_secs(3600));
    }
}
