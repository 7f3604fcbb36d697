//! Who this agent is to the hub: joining with a one-time token, and renewing in time.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use federation_runtime::files::{self, Access};
use federation_runtime::pki::{self, DNS_NAME, HUB_NAME, Identity, Peer, Request, SpkiPin};
use proto::v1::{self, enrollment_client::EnrollmentClient};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Everything about reaching the hub ends within this.
const TIMEOUT: Duration = Duration::from_secs(10);
const NAME: &str = "agent";

/// What is needed to speak to the hub as this member.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Certificate and key.
    pub identity: Identity,
    /// The federation's CA, PEM.
    pub ca_pem: String,
}

/// Why the agent has no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the identity cannot be used.
    #[error("identity on disk")]
    Disk(#[source] pki::Error),
    /// The CA cannot be read or written.
    #[error("CA of the federation at {path}")]
    Ca {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate on disk is another cluster's.
    #[error(
        "the certificate in the data directory belongs to cluster {found:?}, but --name is {name:?}: use another --data-dir"
    )]
    OtherCluster {
        /// Of the certificate.
        found: String,
        /// Of the flags.
        name: String,
    },
    /// First start without a token.
    #[error(
        "this cluster has not joined yet: --{0} is needed; `fedctl token create --print-join-command` prints it"
    )]
    Missing(&'static str),
    /// The hub cannot be reached.
    #[error("hub {hub} cannot be reached")]
    Unreachable {
        /// Its address.
        hub: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The hub shows another CA.
    #[error(
        "--ca-cert-hash {wanted} does not match hub {hub}: it presents {found}. Either the hash is of another federation, or something stands between this cluster and the hub. Nothing was sent"
    )]
    WrongCa {
        /// The hub's address.
        hub: String,
        /// The pin asked for.
        wanted: SpkiPin,
        /// The pins of what was shown.
        found: String,
    },
    /// The hub refused.
    #[error("the hub refused: {message}{}", advice(*.code))]
    Refused {
        /// gRPC code.
        code: tonic::Code,
        /// The hub's words.
        message: String,
    },
    /// Making keys failed.
    #[error("key and certificate request")]
    Keys(#[source] pki::Error),
    /// What the hub signed cannot be used.
    #[error("the certificate that the hub sent")]
    Signed(#[source] pki::Error),
}

fn advice(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Unauthenticated => {
            " (a token works once and expires: make a new one with `fedctl token create`)"
        }
        tonic::Code::AlreadyExists => " (choose another --name, or `fedctl unjoin` the cluster that has it)",
        _ => "",
    }
}

impl Membership {
    /// Reads what an earlier join stored, if there was one. No token is needed then.
    pub fn load(directory: &Path, name: &str) -> Result<Option<Self>, Error> {
        let ca_path = directory.join("ca.crt");
        if !Identity::is_stored(directory, NAME) || !ca_path.exists() {
            return Ok(None);
        }
        let identity = Identity::load(directory, NAME).map_err(Error::Disk)?;
        let ca_pem = std::fs::read_to_string(&ca_path)
            .map_err(|source| Error::Ca { path: ca_path.display().to_string(), source })?;
        let peer = identity.peer().map_err(Error::Disk)?;
        match peer.agent() {
            Some(found) if found == name => Ok(Some(Self { identity, ca_pem })),
            other => Err(Error::OtherCluster { found: other.unwrap_or_default().into(), name: name.into() }),
        }
    }

    /// Joins: fetches the hub's chain without believing it, looks for the pinned CA in it, and only then sends the token, over a
    /// connection that this CA verifies. Nothing is stored unless the hub took the cluster in.
    pub async fn join(
        directory: &Path,
        hub: &str,
        name: &str,
        token: &str,
        pin: SpkiPin,
        profile: v1::ClusterProfile,
    ) -> Result<Self, Error> {
        let ca_pem = pinned_ca(hub, pin).await?;
        let request = Request::generate().map_err(Error::Keys)?;
        let channel = dial(hub, HUB_NAME, &ca_pem, None).await?;
        let mut client = EnrollmentClient::new(channel);
        let joining = client.join(v1::JoinRequest {
            token: token.into(),
            cluster: name.into(),
            csr_pem: request.csr_pem.clone(),
            profile: Some(profile),
        });
        // A hub that takes the question undoes the join when nobody waits for the answer any more: the token works again.
        let answer = answered(hub, joining).await?;
        let membership = Self { identity: request.into_identity(answer.certificate_pem), ca_pem };
        membership.identity.peer().map_err(Error::Signed)?;
        membership.store(directory)?;
        Ok(membership)
    }

    /// A new key and certificate for the same member.
    pub async fn renew(&self, directory: &Path, hub: &str) -> Result<Self, Error> {
        let request = Request::generate().map_err(Error::Keys)?;
        let channel = self.dial(hub).await?;
        let mut client = EnrollmentClient::new(channel);
        let renewal = client.renew(v1::RenewRequest { csr_pem: request.csr_pem.clone() });
        let answer = answered(hub, renewal).await?;
        let membership =
            Self { identity: request.into_identity(answer.certificate_pem), ca_pem: self.ca_pem.clone() };
        membership.identity.peer().map_err(Error::Signed)?;
        membership.store(directory)?;
        Ok(membership)
    }

    /// Opens a mutually authenticated connection.
    pub async fn dial(&self, hub: &str) -> Result<Channel, Error> {
        dial(hub, HUB_NAME, &self.ca_pem, Some(&self.identity)).await
    }

    /// Opens a mutually authenticated connection to a DNS server of the federation.
    pub async fn dial_dns(&self, address: &str) -> Result<Channel, Error> {
        dial(address, DNS_NAME, &self.ca_pem, Some(&self.identity)).await
    }

    /// Validity and subject of the certificate.
    pub fn peer(&self) -> Result<Peer, Error> {
        self.identity.peer().map_err(Error::Disk)
    }

    fn store(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join("ca.crt");
        let failed = |source| Error::Ca { path: path.display().to_string(), source };
        files::private_directory(directory).map_err(failed)?;
        files::replace(&path, self.ca_pem.as_bytes(), Access::Public).map_err(failed)?;
        self.identity.store(directory, NAME).map_err(Error::Disk)
    }
}

/// What the hub says to a question. One that takes it and never answers is not reached either.
async fn answered<T>(
    hub: &str,
    question: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Error> {
    let answer = tokio::time::timeout(TIMEOUT, question)
        .await
        .map_err(|elapsed| Error::Unreachable { hub: hub.into(), source: elapsed.into() })?;
    Ok(answer.map_err(refused)?.into_inner())
}

fn refused(status: tonic::Status) -> Error {
    Error::Refused { code: status.code(), message: status.message().to_owned() }
}

async fn dial(hub: &str, name: &str, ca_pem: &str, identity: Option<&Identity>) -> Result<Channel, Error> {
    let failed =
        |source: tonic::transport::Error| Error::Unreachable { hub: hub.into(), source: source.into() };
    let mut tls = ClientTlsConfig::new()
        .domain_name(name)
        .ca_certificate(Certificate::from_pem(ca_pem))
        .assume_http2(true);
    if let Some(identity) = identity {
        tls =
            tls.identity(tonic::transport::Identity::from_pem(&identity.certificate_pem, &identity.key_pem));
    }
    Endpoint::from_shared(format!("https://{hub}"))
        .map_err(failed)?
        .tls_config(tls)
        .map_err(failed)?
        .connect_timeout(TIMEOUT)
        .tcp_nodelay(true)
        // A peer that vanished without a word is noticed in seconds; the session's own heartbeats notice a hub that hangs.
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(failed)
}

/// The certificate in the hub's chain that has the pinned key, as PEM.
async fn pinned_ca(hub: &str, pin: SpkiPin) -> Result<String, Error> {
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| Error::Unreachable { hub: hub.into(), source };
    let chain = tokio::time::timeout(TIMEOUT, fetch_chain(hub))
        .await
        .map_err(|elapsed| failed(elapsed.into()))?
        .map_err(failed)?;
    let mut found = Vec::new();
    for certificate in &chain {
        if let Ok(shown) = SpkiPin::of_certificate(certificate) {
            if shown == pin {
                return Ok(pem(certificate));
            }
            found.push(shown.to_string());
        }
    }
    Err(Error::WrongCa { hub: hub.into(), wanted: pin, found: found.join(", ") })
}

async fn fetch_chain(
    hub: &str,
) -> Result<Vec<CertificateDer<'static>>, Box<dyn std::error::Error + Send + Sync>> {
    let seen = Arc::new(Witness::default());
    let mut config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(hub).await?;
    let connected =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HUB_NAME)?, stream).await;
    let chain = std::mem::take(&mut *seen.chain.lock().unwrap_or_else(PoisonError::into_inner));
    // The handshake may be refused for want of a client certificate; the chain was shown before that.
    if chain.is_empty() {
        connected?;
    }
    Ok(chain)
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: any index is a boundary.
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Looks at the chain and believes nothing: the connection is thrown away.
#[derive(Debug, Default)]
struct Witness {
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain =
            std::iter::once(end_entity).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
