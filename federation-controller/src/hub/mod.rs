//! The gRPC server that agents and DNS servers dial.

pub(crate) mod agent;
pub(crate) mod enrollment;
mod health;
pub(crate) mod identity;
mod names;
pub(crate) mod operations;
pub(crate) mod sessions;
pub(crate) mod zones;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use federation_runtime::pki::{Authority, HUB_NAME, LIFE_OF_PARTS, Subject};
use federation_runtime::shutdown::Shutdown;
use hub_protocol::MESSAGE_LIMIT;
use proto::v1::agent_server::AgentServer;
use proto::v1::enrollment_server::EnrollmentServer;
use proto::v1::operations_server::OperationsServer;
use proto::v1::zones_server::ZonesServer;

/// A half-open connection is noticed after this much silence and one unanswered ping.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));
/// A TLS handshake that takes longer is not one of ours.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why the hub does not listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate could not be made.
    #[error("issue the hub's certificate")]
    Issue(#[source] federation_runtime::pki::Error),
    /// The address is taken, or not ours.
    #[error("--hub-listen {0}: cannot listen there")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// The TLS configuration was refused.
    #[error("configure TLS")]
    Tls(#[source] tonic::transport::Error),
}

/// The bound address, and the task that serves.
pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    pub(crate) task: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Binds and serves until `shutdown`. A client certificate is not asked for at the TLS layer, because `Enrollment.Join` has none yet;
/// every other call looks for it, see [`identity`].
pub(crate) async fn start(
    listen: SocketAddr,
    names: &[String],
    authority: &Authority,
    enrollment: enrollment::Enrollment,
    agents: agent::Agents,
    operations: operations::Operations,
    shutdown: Shutdown,
) -> Result<Hub, Error> {
    let mut all_names = vec![HUB_NAME.to_owned(), "localhost".into(), "127.0.0.1".into(), "::1".into()];
    all_names.push(listen.ip().to_string());
    all_names.extend(names.iter().cloned());
    let identity =
        authority.issue(&Subject::controller(), &all_names, LIFE_OF_PARTS).map_err(Error::Issue)?;
    // The chain with the authority in it: an agent that joins knows no more than the authority's hash.
    let chain = format!("{}{}", identity.certificate_pem, authority.certificate_pem);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(chain, &identity.key_pem))
        .client_ca_root(Certificate::from_pem(&authority.certificate_pem))
        .client_auth_optional(true)
        .timeout(HANDSHAKE);
    let listener = TcpListener::bind(listen).await.map_err(|error| Error::Bind(listen, error))?;
    let address = listener.local_addr().map_err(|error| Error::Bind(listen, error))?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let zones = operations.zones.clone();
    let server = Server::builder()
        .tls_config(tls)
        .map_err(Error::Tls)?
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(EnrollmentServer::new(enrollment).max_decoding_message_size(1 << 20))
        .add_service(AgentServer::new(agents).max_decoding_message_size(MESSAGE_LIMIT))
        .add_service(OperationsServer::new(operations).max_decoding_message_size(1 << 16))
        // Votes come in lists of 500, each of a few hundred octets.
        .add_service(ZonesServer::new(zones).max_decoding_message_size(1 << 20));
    let task = tokio::spawn(async move {
        server.serve_with_incoming_shutdown(incoming, async move { shutdown.wait().await }).await
    });
    Ok(Hub { address, task })
}
