//! The transports with a certificate: TLS, HTTPS and QUIC.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::endpoints::Health;
use federation_runtime::tasks::supervise;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::quic::{bind_quic, quic, quic_endpoint};
use super::{
    Certificate, CertificateError, ConnectionLimiter, Handler, Limits, PART, adopt, bind, https, listen,
    serve,
};
use crate::metrics::Transport;
use crate::takeover::Inherited;

/// Addresses for DNS over TLS, HTTPS and QUIC, and their certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct EncryptedOptions {
    /// Address for DNS over TLS (RFC 7858), usually port 853. May be repeated.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "tls_cert")]
    pub dot_listen: Vec<SocketAddr>,
    /// Address for DNS over HTTPS (RFC 8484): HTTP/2, path /dns-query. May be repeated.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "tls_cert")]
    pub doh_listen: Vec<SocketAddr>,
    /// Address for DNS over QUIC (RFC 9250): UDP, usually port 853. May be repeated.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "tls_cert")]
    pub doq_listen: Vec<SocketAddr>,
    /// Certificate chain for the three, PEM; reloaded when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

/// An encrypted transport cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum EncryptedError {
    /// An address cannot be bound.
    #[error("--{flag} {address}: cannot bind")]
    Bind {
        /// Which flag.
        flag: &'static str,
        /// As given.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no certificate.
    #[error("--dot-listen, --doh-listen and --doq-listen need a certificate: give --tls-cert and --tls-key")]
    NoCertificate,
    /// The certificate cannot be used.
    #[error("--tls-cert, --tls-key")]
    Certificate(#[from] CertificateError),
    /// A socket cannot be used for QUIC.
    #[error("cannot serve QUIC")]
    Quic(#[source] io::Error),
}

/// Where the encrypted transports are served, with the ports that the kernel chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptedAddresses {
    /// DNS over TLS.
    pub dot: Vec<SocketAddr>,
    /// DNS over HTTPS.
    pub doh: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub doq: Vec<SocketAddr>,
}

/// Bound, but not yet served.
#[derive(Debug, Default)]
pub struct Encrypted {
    certificate: Option<Arc<Certificate>>,
    dot: Vec<TcpListener>,
    doh: Vec<TcpListener>,
    doq: Vec<UdpSocket>,
    /// Where they are.
    pub addresses: EncryptedAddresses,
}

impl Encrypted {
    /// Loads the certificate and binds what is asked for, where it is not `inherited`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When an address or the certificate cannot be used; the message names the flag.
    pub fn bind(options: &EncryptedOptions, inherited: &mut Inherited) -> Result<Self, EncryptedError> {
        let wanted = [&options.dot_listen, &options.doh_listen, &options.doq_listen];
        if wanted.iter().all(|addresses| addresses.is_empty()) {
            return Ok(Self::default());
        }
        let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else {
            return Err(EncryptedError::NoCertificate);
        };
        let certificate = Some(Certificate::load(certificate, key)?);
        let (dot, dot_at) = each("dot-listen", &options.dot_listen, |address| {
            let listener = inherited.tcp(address).map_or_else(|| bind(address, false), adopt)?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        })?;
        let (doh, doh_at) = each("doh-listen", &options.doh_listen, |address| {
            let listener = inherited.tcp(address).map_or_else(|| bind(address, false), adopt)?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        })?;
        let (doq, doq_at) = each("doq-listen", &options.doq_listen, |address| {
            let socket = match inherited.udp(address).pop() {
                Some(socket) => {
                    socket.set_nonblocking(true)?;
                    socket
                }
                None => bind_quic(address)?,
            };
            let bound = socket.local_addr()?;
            Ok((socket, bound))
        })?;
        let addresses = EncryptedAddresses { dot: dot_at, doh: doh_at, doq: doq_at };
        Ok(Self { certificate, dot, doh, doq, addresses })
    }

    /// Copies of the sockets, for another process.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let tcp = self.dot.iter().chain(&self.doh).map(|listener| listener.as_fd().try_clone_to_owned());
        tcp.chain(self.doq.iter().map(|socket| socket.as_fd().try_clone_to_owned())).collect()
    }

    /// Starts to accept connections: each transport has a limiter of its own, so that a crowd at one keeps nobody out of another. `handler`
    /// gives what a transport's connections are served with. Connections and listeners are `tasks`; they end by the shutdown in it, and `health`
    /// says which has failed.
    ///
    /// # Errors
    /// When a socket cannot be used for QUIC.
    pub fn open(
        self,
        limits: Limits,
        tasks: &TaskTracker,
        health: &Health,
        handler: impl Fn(Transport, Arc<ConnectionLimiter>) -> Handler,
    ) -> Result<(), EncryptedError> {
        let Some(certificate) = self.certificate else { return Ok(()) };
        let kinds = [(Transport::Tls, self.dot, &b"dot"[..]), (Transport::Https, self.doh, b"h2")];
        for (transport, listeners, alpn) in kinds {
            let handler = handler(transport, ConnectionLimiter::new(limits));
            let acceptor = TlsAcceptor::from(Arc::new(certificate.server(alpn)));
            for listener in listeners {
                let (handler, acceptor) = (handler.clone(), acceptor.clone());
                let (limiter, shutdown) = (handler.limiter.clone(), handler.shutdown.clone());
                let handle = move |io: TcpStream, client| {
                    let (handler, acceptor) = (handler.clone(), acceptor.clone());
                    async move {
                        let io = handshake(&acceptor, io, handler.limiter.message_timeout()).await?;
                        match transport {
                            Transport::Https => https(io, client, handler).await,
                            _ => serve(io, client, handler).await,
                        }
                    }
                };
                let (listener, handle, served) = (Arc::new(listener), Arc::new(handle), tasks.clone());
                let ending = shutdown.clone();
                let accept = move || {
                    listen(listener.clone(), limiter.clone(), served.clone(), ending.clone(), handle.clone())
                };
                tasks.spawn(supervise(PART, health.clone(), shutdown, accept));
            }
        }
        let handler = handler(Transport::Quic, ConnectionLimiter::new(limits));
        for socket in self.doq {
            let endpoint = quic_endpoint(socket, &certificate, &limits).map_err(EncryptedError::Quic)?;
            let (served, handler, shutdown) = (tasks.clone(), handler.clone(), handler.shutdown.clone());
            let accept = move || quic(endpoint.clone(), served.clone(), handler.clone());
            tasks.spawn(supervise(PART, health.clone(), shutdown, accept));
        }
        let ending = handler.shutdown.clone();
        let follow = move || certificate.clone().follow(ending.clone());
        tasks.spawn(supervise("certificate", health.clone(), handler.shutdown, follow));
        Ok(())
    }
}

/// What was bound, and where each is.
type Bound<T> = (Vec<T>, Vec<SocketAddr>);

fn each<T>(
    flag: &'static str,
    addresses: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> io::Result<(T, SocketAddr)>,
) -> Result<Bound<T>, EncryptedError> {
    let one = |&address: &SocketAddr| {
        bind(address).map_err(|source| EncryptedError::Bind { flag, address, source })
    };
    let bound: Result<Vec<_>, _> = addresses.iter().map(one).collect();
    Ok(bound?.into_iter().unzip())
}

async fn handshake(
    acceptor: &TlsAcceptor,
    io: TcpStream,
    patience: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    io.set_nodelay(true)?;
    timeout(patience, acceptor.accept(io)).await?
}
