//! TLS as users' browsers speak it, and the expiry of what is shown.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use federation_runtime::tls::install_provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::parse_x509_certificate;

/// The two ways to look at a certificate, made when they are first needed. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tls(Arc<Ways>);

#[derive(Default)]
struct Ways {
    verifying: OnceLock<Arc<ClientConfig>>,
    lenient: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Shakes hands; the stream, and when its certificate expires (Unix seconds).
    ///
    /// # Errors
    /// In words, when the handshake fails, or with `verify` the certificate is not one that this machine trusts for `host`.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        host: &str,
        verify: bool,
    ) -> Result<(TlsStream<TcpStream>, Option<i64>), String> {
        let name = server_name(host, address)?;
        let config = if verify {
            self.0.verifying.get_or_init(verifying)
        } else {
            self.0.lenient.get_or_init(lenient)
        };
        let stream = TlsConnector::from(config.clone())
            .connect(name, stream)
            .await
            .map_err(|error| format!("TLS: {error}"))?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let not_after = chain.iter().filter_map(not_after).min();
        Ok((stream, not_after))
    }
}

fn server_name(host: &str, address: SocketAddr) -> Result<ServerName<'static>, String> {
    if host.is_empty() {
        return Ok(ServerName::IpAddress(address.ip().into()));
    }
    // A host may have a port behind it, and an IPv6 address brackets around it.
    let bare = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => match host.split_once(':') {
            Some((name, port)) if !port.contains(':') => name,
            _ => host,
        },
    };
    ServerName::try_from(bare.to_owned()).map_err(|error| format!("TLS: {bare:?}: {error}"))
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn verifying() -> Arc<ClientConfig> {
    install_provider();
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of this machine's certificate authorities cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn lenient() -> Arc<ClientConfig> {
    install_provider();
    let algorithms = CryptoProvider::get_default().map(|provider| provider.signature_verification_algorithms);
    let verifier = Arc::new(AnyCertificate(algorithms));
    let builder = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
    Arc::new(builder.with_no_client_auth())
}

/// Takes every certificate: the question is whether users are served, and nothing is sent that anybody could misuse. That the server has
/// the certificate's key is still checked.
#[derive(Debug)]
struct AnyCertificate(Option<WebPkiSupportedAlgorithms>);

impl AnyCertificate {
    fn algorithms(&self) -> Result<&WebPkiSupportedAlgorithms, Error> {
        self.0.as_ref().ok_or_else(|| Error::General("no provider of cryptography is installed".into()))
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, self.algorithms()?)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, self.algorithms()?)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.as_ref().map(WebPkiSupportedAlgorithms::supported_schemes).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_server_name_is_the_host_without_its_port() {
        let address = SocketAddr::from(([192, 0, 2, 1], 443));
        for (host, name) in [
            ("", "192.0.2.1"),
            ("www.example.test", "www.example.test"),
            ("www.example.test:8443", "www.example.test"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(server_name(host, address).unwrap().to_str(), name, "{host}");
        }
        assert!(server_name("a b", address).is_err());
    }
}
