//! Whether who asks for a certificate has the key that it is for: the request is signed with it (RFC 2986 section 3).

use aws_lc_rs::signature::{
    ECDSA_P521_SHA512_ASN1, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::{
    certification_request::X509CertificationRequest,
    oid_registry::{OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA512},
};

/// Checks the signature of a request, as Go's `CheckSignature` does. Short keys of RSA will do: what is signed is for who approves to judge.
///
/// # Errors
/// In Go's words.
pub(super) fn check(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    if request.verify_signature().is_ok() {
        return Ok(());
    }
    let algorithm = &request.signature_algorithm.algorithm;
    let (rest, error): (&dyn VerificationAlgorithm, &str) = if *algorithm == OID_PKCS1_SHA256WITHRSA {
        (&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, "crypto/rsa: verification error")
    } else if *algorithm == OID_PKCS1_SHA512WITHRSA {
        (&RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, "crypto/rsa: verification error")
    } else if *algorithm == OID_SIG_ECDSA_WITH_SHA512 {
        (&ECDSA_P521_SHA512_ASN1, "x509: ECDSA verification failure")
    } else {
        return Err("x509: cannot verify signature: algorithm unimplemented, or it does not fit".to_owned());
    };
    let info = &request.certification_request_info;
    UnparsedPublicKey::new(rest, &info.subject_pki.subject_public_key.data)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| error.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use x509_parser::prelude::FromDer as _;

    use super::*;

    fn told(der: &[u8]) -> Result<(), String> {
        let (_, request) = X509CertificationRequest::from_der(der).expect("it is a request");
        check(&request)
    }

    #[test]
    fn who_asks_has_the_key() {
        let algorithms = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ];
        for algorithm in algorithms {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let request = CertificateParams::default().serialize_request(&key).expect("a request");
            assert_eq!(told(request.der()), Ok(()), "{algorithm:?}");
            let mut forged = request.der().to_vec();
            *forged.last_mut().expect("it is not empty") ^= 1;
            assert!(told(&forged).is_err(), "{algorithm:?}");
        }
    }
}
