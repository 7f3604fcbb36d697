//! rustls configurations from the federation's identities.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::pki::Identity;

/// A configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PEM text is not what it should be.
    #[error("{what} is not PEM")]
    Pem {
        /// What was being read.
        what: &'static str,
        /// Why not.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// rustls refuses the certificate or the key.
    #[error("TLS refuses the certificate or the key")]
    Refused(#[from] rustls::Error),
    /// The client verifier cannot be built from the authority.
    #[error("client certificates cannot be verified with this authority")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Whether a server asks for client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Every client must present one of the authority's.
    Required,
    /// A client may; a wrong one is refused.
    Optional,
}

/// Makes aws-lc-rs the process's provider. A second call changes nothing.
pub fn install_provider() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Roots that hold the one authority.
///
/// # Errors
/// When `ca_pem` holds no certificate.
pub fn roots(ca_pem: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem, "the authority's certificate")? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// A server that presents `identity`. `alpn`: protocols in order of preference.
///
/// # Errors
/// When a text is not PEM, or rustls refuses it.
pub fn server(
    identity: &Identity,
    ca_pem: &str,
    clients: Clients,
    alpn: &[&str],
) -> Result<ServerConfig, Error> {
    install_provider();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca_pem)?));
    let verifier = match clients {
        Clients::Required => verifier.build()?,
        Clients::Optional => verifier.allow_unauthenticated().build()?,
    };
    let (chain, key) = parts(identity)?;
    let mut config =
        ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    config.alpn_protocols = protocols(alpn);
    Ok(config)
}

/// A client that presents `identity`, if there is one, and believes only the authority.
///
/// # Errors
/// When a text is not PEM, or rustls refuses it.
pub fn client(identity: Option<&Identity>, ca_pem: &str, alpn: &[&str]) -> Result<ClientConfig, Error> {
    client_of(identity, roots(ca_pem)?, alpn)
}

/// The same for a client that believes the authorities in `roots`.
///
/// # Errors
/// When a text is not PEM, or rustls refuses it.
pub fn client_of(
    identity: Option<&Identity>,
    roots: RootCertStore,
    alpn: &[&str],
) -> Result<ClientConfig, Error> {
    install_provider();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let (chain, key) = parts(identity)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(alpn);
    Ok(config)
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

fn parts(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = certificates(&identity.certificate_pem, "the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
        .map_err(|source| Error::Pem { what: "the private key", source })?;
    Ok((chain, key))
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem { what, source })
}
