//! The certificate for TLS, HTTPS and QUIC, reloaded when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tls::install_provider;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

/// How often the files are looked at. Whoever renews a certificate does so days before it ends.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Octets of a file beyond which it is no certificate: chains have some 5 KiB.
const FILE_MAX: u64 = 1 << 20;

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not PEM")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file is too long.
    #[error("{0} has more than {FILE_MAX} octets: give a certificate with its chain, and a key, in PEM")]
    TooLong(PathBuf),
    /// There is no certificate in the file.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// They do not belong together, or the key is of a kind that TLS does not have.
    #[error("the certificate or the key is refused")]
    Refused(#[source] rustls::Error),
}

/// What clients are shown.
#[derive(Debug)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    // Of the files as they were last looked at, good or not: what is wrong is said once.
    seen: Mutex<[u8; 32]>,
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// When a file cannot be read, or they are not a certificate and its key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, CertificateError> {
        install_provider();
        let (chain_pem, key_pem) = (read(certificate)?, read(key)?);
        let current = certified(certificate, &chain_pem, key, &key_pem)?;
        Ok(Arc::new(Self {
            certificate: certificate.into(),
            key: key.into(),
            current: ArcSwap::from_pointee(current),
            seen: Mutex::new(digest(&chain_pem, &key_pem)),
        }))
    }

    /// A TLS server that shows the newest certificate, and speaks the protocol `alpn`.
    pub fn server(self: &Arc<Self>, alpn: &[u8]) -> ServerConfig {
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    /// Takes up what the files hold, if they have changed and hold something good. Handshakes from then on get it; connections that are
    /// there stay.
    pub async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let mut look = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                _ = look.tick() => {}
            }
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.check()).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => {
                    tracing::info!(file = %self.certificate.display(), "a new certificate is shown to clients");
                }
                Ok(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the new certificate is not taken up: the one before stays");
                }
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    /// True: there is a new certificate. Each content of the files is tried once: they may change one after the other.
    fn check(&self) -> Result<bool, CertificateError> {
        let (Ok(chain_pem), Ok(key_pem)) = (read(&self.certificate), read(&self.key)) else {
            // In the midst of being replaced.
            return Ok(false);
        };
        let digest = digest(&chain_pem, &key_pem);
        if std::mem::replace(&mut *self.seen.lock(), digest) == digest {
            return Ok(false);
        }
        self.current.store(Arc::new(certified(&self.certificate, &chain_pem, &self.key, &key_pem)?));
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.into(), source };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_MAX {
        return Err(CertificateError::TooLong(path.into()));
    }
    std::fs::read(path).map_err(failed)
}

fn digest(chain_pem: &[u8], key_pem: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update((chain_pem.len() as u64).to_be_bytes())
        .chain_update(chain_pem)
        .chain_update(key_pem)
        .finalize()
        .into()
}

fn certified(
    chain_path: &Path,
    chain_pem: &[u8],
    key_path: &Path,
    key_pem: &[u8],
) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CertificateError::Pem { path: chain_path.into(), source })?;
    if chain.is_empty() {
        return Err(CertificateError::Empty(chain_path.into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|source| CertificateError::Pem { path: key_path.into(), source })?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(CertificateError::Refused)
}
