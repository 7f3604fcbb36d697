//! Which certificates are trusted for outgoing connections.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// Believes what an authority of a bundle has signed and, as Go does, a certificate that stands in the bundle itself: servers that sign
/// their own certificates name it there, often as one of an authority.
#[derive(Debug)]
pub(super) struct Pinned {
    bundle: Vec<CertificateDer<'static>>,
    signed: Arc<WebPkiServerVerifier>,
}

impl Pinned {
    /// # Errors
    /// When the bundle cannot be read, in words.
    pub(super) fn new(pem: &str, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let roots = federation_runtime::tls::roots(pem).map_err(|error| error.to_string())?;
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let signed = signed.build().map_err(|error| error.to_string())?;
        let bundle = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
        Ok(Self { bundle: bundle.map(CertificateDer::into_owned).collect(), signed })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let outcome = self.signed.verify_server_cert(certificate, others, name, ocsp, now);
        if outcome.is_ok() || !self.bundle.iter().any(|own| own == certificate) {
            return outcome;
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        let time = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
        let parsed = X509Certificate::from_der(certificate).ok();
        let valid = time.zip(parsed).is_some_and(|(time, (_, parsed))| parsed.validity().is_valid_at(time));
        if valid { Ok(ServerCertVerified::assertion()) } else { outcome }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Believes every certificate; what is signed with it must be signed all the same.
#[derive(Debug)]
pub(super) struct Unverified(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn verifier(pem: &str) -> Pinned {
        Pinned::new(pem, Arc::new(rustls::crypto::aws_lc_rs::default_provider())).expect("it is a bundle")
    }

    /// What `openssl req -x509` makes: a certificate of an authority that signed itself.
    fn own() -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["hook.example.com".to_owned()]).expect("it is a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        params.self_signed(&key).expect("the key signs")
    }

    #[test]
    fn a_certificate_that_signed_itself_is_believed_where_the_bundle_names_it() {
        let (certificate, other) = (own(), own());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        let check = |bundle: &rcgen::Certificate, name: &'static str, now| {
            let name = ServerName::try_from(name).expect("it is a name");
            verifier(&bundle.pem()).verify_server_cert(certificate.der(), &[], &name, &[], now).is_ok()
        };
        assert!(check(&certificate, "hook.example.com", now));
        assert!(!check(&certificate, "other.example.com", now), "the name counts");
        assert!(!check(&other, "hook.example.com", now), "another one's word does not");
        let long_ago = UnixTime::since_unix_epoch(Duration::from_secs(1));
        assert!(!check(&certificate, "hook.example.com", long_ago), "the time counts");
    }
}
