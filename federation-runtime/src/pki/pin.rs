//! The pin of an authority: the SHA-256 of its SubjectPublicKeyInfo, in kubeadm's notation.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Error;

/// `sha256:<64 hexadecimal digits>`, RFC 7469 section 2.4's digest in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpkiPin([u8; 32]);

/// A pin is not in kubeadm's notation.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a CA hash: it must be sha256: and 64 hexadecimal digits, as `fedctl token create --print-join-command` prints"
)]
pub struct PinError(String);

impl SpkiPin {
    /// The pin of a DER certificate's public key.
    ///
    /// # Errors
    /// When it is not an X.509 certificate.
    pub fn of_certificate(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| Error::Parse { what: "certificate", message: error.to_string() })?;
        Ok(Self(Sha256::digest(certificate.public_key().raw).into()))
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl FromStr for SpkiPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || PinError(text.to_owned());
        let digits = text.strip_prefix("sha256:").ok_or_else(refuse)?;
        let bytes = hex::decode(digits).map_err(|_| refuse())?;
        Ok(Self(bytes.try_into().map_err(|_| refuse())?))
    }
}
