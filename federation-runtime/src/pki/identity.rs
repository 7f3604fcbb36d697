//! A certificate with its private key.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

use super::{Error, Peer};
use crate::files::{self, Access};

/// A certificate with its private key, PEM.
#[derive(Clone)]
pub struct Identity {
    /// One certificate.
    pub certificate_pem: String,
    /// PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads `<directory>/<name>.crt` and `.key`.
    ///
    /// # Errors
    /// When a file cannot be read or holds no certificate.
    pub fn load(directory: &Path, name: &str) -> Result<Self, Error> {
        let read = |extension: &str| {
            let path = directory.join(format!("{name}.{extension}"));
            std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })
        };
        let identity = Self { certificate_pem: read("crt")?, key_pem: read("key")? };
        Peer::from_pem(&identity.certificate_pem)?;
        Ok(identity)
    }

    /// Writes `<directory>/<name>.key` (mode 0600) and then `.crt`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn store(&self, directory: &Path, name: &str) -> Result<(), Error> {
        for (extension, text, access) in
            [("key", &self.key_pem, Access::Private), ("crt", &self.certificate_pem, Access::Public)]
        {
            let path = directory.join(format!("{name}.{extension}"));
            files::replace(&path, text.as_bytes(), access).map_err(|source| Error::File { path, source })?;
        }
        Ok(())
    }

    /// Who it speaks for and how long it is valid.
    ///
    /// # Errors
    /// When the certificate cannot be parsed.
    pub fn peer(&self) -> Result<Peer, Error> {
        Peer::from_pem(&self.certificate_pem)
    }
}

/// A new key and the certificate signing request (PKCS#10) for it.
pub struct Request {
    /// PEM.
    pub csr_pem: String,
    /// PKCS#8 PEM; stays with the asker.
    pub key_pem: String,
}

impl Request {
    /// Makes a key and a request for it. The subject is left to the authority, which takes only the public key.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?;
        Ok(Self { csr_pem: request.pem()?, key_pem: key.serialize_pem() })
    }

    /// Joins the key with the certificate that came back.
    pub fn into_identity(self, certificate_pem: String) -> Identity {
        Identity { certificate_pem, key_pem: self.key_pem }
    }
}
