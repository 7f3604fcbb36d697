//! The parts of a start, each made from the options that concern it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use federation_runtime::{
    endpoints::Metrics,
    kubeconfig,
    pki::{Authority, Subject},
};

use super::Options;
use crate::{
    audit::{self, Audit},
    auth::{
        authn::OtherTokens,
        authz::Mode,
        authz_config,
        authz_webhook::AuthorizationWebhook,
        oidc::{self, Oidc},
        token_webhook::TokenWebhook,
    },
    housekeeping::Endpoint,
    store::{self, Encryption, Storage},
};

/// Names under which the server is known, in any cluster.
const NAMES: [&str; 7] = [
    "127.0.0.1",
    "::1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "federation-apiserver",
];

/// An address that a client on this machine can dial.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address }
}

/// What the Service `default/kubernetes` publishes for a server that listens on `address`.
pub(super) fn endpoint(options: &Options, address: SocketAddr) -> Endpoint {
    let advertised = match options.advertise_address {
        Some(ip) => SocketAddr::new(ip, address.port()),
        None => reachable(address),
    };
    Endpoint { cluster_ip: options.service_cluster_ip_range.first(), advertised }
}

/// The names and addresses in the serving certificate, sorted.
pub(super) fn serving_names(options: &Options, address: SocketAddr, endpoint: &Endpoint) -> Vec<String> {
    let mut names: Vec<String> = NAMES.into_iter().map(str::to_owned).collect();
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    names.extend([endpoint.cluster_ip.to_string(), endpoint.advertised.ip().to_string()]);
    names.extend(options.cert_dns_names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// Writes `admin.conf` and `controller.conf`, and issues the certificates in them.
pub(super) fn write_kubeconfigs(
    data_dir: &Path,
    pki: &Path,
    url: &str,
    authority: &Authority,
) -> anyhow::Result<()> {
    for (name, subject) in [("admin", Subject::admin()), ("controller", Subject::controller())] {
        let identity = authority.load_or_issue(pki, name, &subject, &[])?;
        let path = data_dir.join(format!("{name}.conf"));
        kubeconfig::write(&path, url, &authority.certificate_pem, name, &identity)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Opens the store. Where its keys are in a key management service, this waits for the service.
pub(super) async fn storage(options: &Options) -> anyhow::Result<Storage> {
    let encryption = match options.encryption_provider_config.clone() {
        Some(path) => tokio::task::spawn_blocking(move || Encryption::load(&path)).await??,
        None => Encryption::default(),
    };
    let store = store::Options { encryption, ..store::Options::new(options.data_dir.join("store")) };
    Ok(Storage::open(store).await?)
}

/// Audit, if a policy is given and a log or a webhook to send events to.
pub(super) fn audit(
    options: &Options,
    storage: &Storage,
    metrics: &Metrics,
) -> anyhow::Result<Option<Arc<Audit>>> {
    let log = match &options.audit_log_path {
        Some(path) => {
            let rotation = audit::Rotation {
                size_max: options.audit_log_maxsize << 20,
                backups_max: options.audit_log_maxbackup,
                age_max: Duration::from_secs(options.audit_log_maxage * 24 * 3600),
            };
            Some(audit::Log::open(path, rotation, options.audit_log_mode)?)
        }
        None => None,
    };
    let webhook = audit::webhook::Webhook::from_flags(&options.audit_webhook, storage, metrics)?;
    match (&options.audit_policy_file, log.is_some() || webhook.is_some()) {
        (Some(policy), true) => Ok(Some(Audit::new(audit::Policy::load(policy)?, log, webhook))),
        (None, false) => Ok(None),
        _ => anyhow::bail!(
            "--audit-policy-file and one of --audit-log-path and --audit-webhook-config-file need each other"
        ),
    }
}

/// The authorization modes in order, and the webhooks among them.
pub(super) fn authorization(
    options: &Options,
    storage: &Storage,
) -> anyhow::Result<(Vec<Mode>, Vec<AuthorizationWebhook>)> {
    if let Some(path) = &options.authorization_config {
        return Ok(authz_config::load(path, storage)?);
    }
    let webhook = AuthorizationWebhook::from_flags(&options.authz_webhook, storage)?;
    let wanted = options.authorization_mode.iter().filter(|mode| **mode == Mode::Webhook).count();
    if wanted != usize::from(webhook.is_some()) {
        anyhow::bail!("--authorization-mode Webhook and --authorization-webhook-config-file need each other");
    }
    Ok((options.authorization_mode.clone(), webhook.into_iter().collect()))
}

/// The authenticators of tokens that this server has not issued.
pub(super) fn other_tokens(options: &Options, storage: &Storage) -> anyhow::Result<OtherTokens> {
    let mut configuration = oidc::Configuration::from_flags(&options.oidc, &options.service_account_issuer)?;
    let anonymous = configuration.anonymous.take();
    let oidc = Arc::new(Oidc::new(configuration, storage)?);
    oidc.warm_up();
    let webhook = TokenWebhook::from_flags(&options.token_webhook, storage)?;
    Ok(OtherTokens { oidc, webhook, anonymous })
}
