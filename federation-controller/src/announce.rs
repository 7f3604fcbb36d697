//! Where the hub is and whose authority it presents, for join commands.

use std::net::SocketAddr;

use federation_core::api::marks::SYSTEM_NAMESPACE;
use federation_runtime::pki::{self, Authority, SpkiPin};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

/// ConfigMap in `federation-system`.
const NAME: &str = "federation-hub";
const MANAGER: &str = "federation-controller";

/// Why the hub could not be announced, or not be found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authority's certificate is none.
    #[error("read the authority's certificate")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    /// Its public key cannot be hashed.
    #[error("hash the authority's public key")]
    Hash(#[source] pki::Error),
    /// The API server refused, or is away.
    #[error("write ConfigMap {SYSTEM_NAMESPACE}/{NAME}")]
    Write(#[source] kube::Error),
    /// The API server refused, or is away.
    #[error("read ConfigMap {SYSTEM_NAMESPACE}/{NAME}")]
    Read(#[source] kube::Error),
}

/// What a cluster must know to join, besides a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubInfo {
    /// `host:port` that the controller listens on. Members elsewhere may have to use another name.
    pub hub: Option<String>,
    /// `sha256:<hex>` of the SubjectPublicKeyInfo of the hub's authority, which need not be the API server's.
    pub ca_cert_hash: Option<String>,
}

/// Says it in the federation's API.
pub(crate) async fn announce(
    client: Client,
    listen: SocketAddr,
    names: &[String],
    authority: &Authority,
) -> Result<(), Error> {
    let der =
        CertificateDer::from_pem_slice(authority.certificate_pem.as_bytes()).map_err(Error::Certificate)?;
    let pin = SpkiPin::of_certificate(&der).map_err(Error::Hash)?;
    // Nobody can dial 0.0.0.0.
    let hub = match names.first() {
        Some(name) if listen.ip().is_unspecified() => format!("{name}:{}", listen.port()),
        _ => listen.to_string(),
    };
    let info = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME},
        "data": {"hub": hub, "caCertHash": pin.to_string()},
    });
    let api: Api<ConfigMap> = Api::namespaced(client, SYSTEM_NAMESPACE);
    api.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&info))
        .await
        .map_err(Error::Write)?;
    Ok(())
}

/// Reads what the controller said; nothing if it never ran.
///
/// # Errors
/// When the API does not answer, or refuses.
pub async fn announced(client: Client) -> Result<HubInfo, Error> {
    let api: Api<ConfigMap> = Api::namespaced(client, SYSTEM_NAMESPACE);
    let mut data =
        api.get_opt(NAME).await.map_err(Error::Read)?.and_then(|info| info.data).unwrap_or_default();
    Ok(HubInfo { hub: data.remove("hub"), ca_cert_hash: data.remove("caCertHash") })
}
