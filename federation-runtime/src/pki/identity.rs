//! A certificate with its private key.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Error, Peer};
use crate::files::{self, Access};

/// Between key and certificate of a pair in one file. PEM takes lines between its blocks for comments (RFC 7468, section 2).
const SEPARATOR: &str = "# and its certificate\n";

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
    /// Reads `<directory>/<name>.crt` and `.key`; or `.next`, if those do not fit because [`Identity::store`] was interrupted.
    ///
    /// # Errors
    /// When a file cannot be read or holds no certificate, or the key is another certificate's.
    pub fn load(directory: &Path, name: &str) -> Result<Self, Error> {
        let at = |extension: &str| directory.join(format!("{name}.{extension}"));
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| Error::File { path: path.into(), source })
        };
        let pair = || {
            let identity = Self { certificate_pem: read(&at("crt"))?, key_pem: read(&at("key"))? };
            if identity.fits()? {
                Ok(identity)
            } else {
                Err(Error::Mismatch { directory: directory.into(), name: name.into() })
            }
        };
        pair().or_else(|error| {
            let Ok(both) = read(&at("next")) else { return Err(error) };
            let (key, certificate) = both.split_once(SEPARATOR).ok_or(error)?;
            let identity = Self { certificate_pem: certificate.into(), key_pem: key.into() };
            identity.peer()?;
            Ok(identity)
        })
    }

    /// Whether [`Identity::store`] was called for this name before, though it may have been interrupted.
    pub fn is_stored(directory: &Path, name: &str) -> bool {
        ["crt", "next"].iter().any(|extension| directory.join(format!("{name}.{extension}")).exists())
    }

    /// Writes `<directory>/<name>.key` (mode 0600) and then `.crt`. Both stand in `.next` (0600) meanwhile, so that a pair that fits is
    /// there at every moment.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn store(&self, directory: &Path, name: &str) -> Result<(), Error> {
        let at = |extension: &str| directory.join(format!("{name}.{extension}"));
        let replace = |path: PathBuf, text: &str, access| {
            files::replace(&path, text.as_bytes(), access).map_err(|source| Error::File { path, source })
        };
        let both = format!("{}{SEPARATOR}{}", self.key_pem, self.certificate_pem);
        replace(at("next"), &both, Access::Private)?;
        replace(at("key"), &self.key_pem, Access::Private)?;
        replace(at("crt"), &self.certificate_pem, Access::Public)?;
        std::fs::remove_file(at("next")).map_err(|source| Error::File { path: at("next"), source })
    }

    /// Whether the key is the certificate's. A key of a kind that only TLS knows is left to TLS.
    fn fits(&self) -> Result<bool, Error> {
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .map_err(|error| Error::Parse { what: "PEM certificate", message: error.to_string() })?;
        let (_, certificate) = X509Certificate::from_der(&der)
            .map_err(|error| Error::Parse { what: "certificate", message: error.to_string() })?;
        let key = KeyPair::from_pem(&self.key_pem);
        let public = &certificate.public_key().subject_public_key.data;
        Ok(!key.is_ok_and(|key| key.public_key_raw() != public.as_ref()))
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
