//! Signing documents with the authority's key, and verifying such signatures.

use rcgen::SigningKey as _;
use rustls::SignatureScheme;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Authority, Error, SpkiPin};

/// Name of the algorithm: the authority's key is one of P-256, and signatures are ASN.1's (RFC 3279 section 2.2.3).
pub const ALGORITHM: &str = "ECDSA-P256-SHA256";

impl Authority {
    /// Signs a message with the authority's own key. What is signed must begin with what it is, so that it can never be taken for a
    /// certificate, which begins with an ASN.1 sequence.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.key().sign(message)?)
    }
}

/// Checks a signature that the authority with this certificate made; the pin of its key.
///
/// # Errors
/// When the certificate cannot be read, or the signature is not one of its key over this message.
pub fn verify(authority_pem: &str, message: &[u8], signature: &[u8]) -> Result<SpkiPin, Error> {
    let parse = |message: String| Error::Parse { what: "ca.crt", message };
    let der =
        CertificateDer::from_pem_slice(authority_pem.as_bytes()).map_err(|error| parse(error.to_string()))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| parse(error.to_string()))?;
    let key = &certificate.public_key().subject_public_key.data;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let known = provider.signature_verification_algorithms.mapping;
    let algorithms = known
        .iter()
        .filter(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256)
        .flat_map(|(_, all)| *all);
    for algorithm in algorithms {
        if algorithm.verify_signature(key, message, signature).is_ok() {
            return SpkiPin::of_certificate(&der);
        }
    }
    Err(Error::Parse { what: "signature", message: "it is not the authority's, or of something else".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authoritys_word_over_the_same_bytes_counts() {
        let directories =
            [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
        let [ours, other] = directories
            .each_ref()
            .map(|directory| Authority::load_or_create(directory.path()).expect("an authority"));
        let signature = ours.sign(b"a report").expect("it signs");
        let pin = verify(&ours.certificate_pem, b"a report", &signature).expect("it is ours");
        assert_eq!(pin, ours.pin().expect("it has one"));
        assert!(verify(&ours.certificate_pem, b"another report", &signature).is_err());
        assert!(verify(&other.certificate_pem, b"a report", &signature).is_err());
        assert!(verify(&ours.certificate_pem, b"a report", b"").is_err());
    }
}
