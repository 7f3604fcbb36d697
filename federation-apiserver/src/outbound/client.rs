//! HTTP/1.1 over TLS to one server, over kept connections.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use federation_runtime::{pki::Identity, tls};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    Destination,
    pieces::Pieces,
    stream::Lenient,
    trust::{Pinned, Unverified},
};
use crate::{http::BoxError, store::Snapshot};

/// Kept connections to one server: as many as a burst of writes uses, few enough for thousands of servers.
const IDLE_MAX: usize = 16;
/// Bytes of an answer: an object of 3 MiB in a base64 patch, twice over.
const ANSWER_MAX: usize = 8 << 20;

/// What this server shows of itself.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    /// A client certificate.
    pub(crate) identity: Option<Identity>,
    /// A bearer token.
    pub(crate) token: Option<String>,
}

/// Another server.
pub(crate) struct Server {
    place: Destination,
    tls: Arc<ClientConfig>,
    token: Option<HeaderValue>,
    /// With the address that each leads to.
    idle: Mutex<Vec<Connection>>,
}

/// The body of a request to another server.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// A connection, and the address that it leads to.
pub(crate) type Connection = (String, SendRequest<RequestBody>);

/// Whose certificates are believed.
#[derive(Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Those of an authority of this PEM, or of those that this machine trusts.
    Authority(Option<&'a str>),
    /// Anybody's: `insecureSkipTLSVerify`.
    Anybody,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Server {
    /// A server that is believed by its certificate.
    ///
    /// # Errors
    /// When the certificates cannot be used, in words.
    pub(crate) fn new(
        place: Destination,
        trust: Trust<'_>,
        credentials: &Credentials,
    ) -> Result<Self, String> {
        let roots = match trust {
            Trust::Authority(Some(pem)) => tls::roots(pem).map_err(|error| error.to_string())?,
            Trust::Authority(None) => machine_roots(),
            Trust::Anybody => RootCertStore::empty(),
        };
        let mut config = tls::client_of(credentials.identity.as_ref(), roots, &["http/1.1"])
            .map_err(|error| error.to_string())?;
        let provider = Arc::clone(config.crypto_provider());
        match trust {
            Trust::Authority(Some(pem)) => {
                let pinned = Pinned::new(pem, provider)?;
                config.dangerous().set_certificate_verifier(Arc::new(pinned));
            }
            Trust::Authority(None) => {}
            Trust::Anybody => config.dangerous().set_certificate_verifier(Arc::new(Unverified(provider))),
        }
        // Resumption would keep a session for a server whose certificate has been revoked since by another bundle.
        config.resumption = rustls::client::Resumption::disabled();
        let token =
            credentials.token.as_deref().map(|token| HeaderValue::from_str(&format!("Bearer {token}")));
        let token = token
            .transpose()
            .map_err(|_| "the bearer token has characters that no header takes".to_owned())?;
        Ok(Self { place, tls: Arc::new(config), token, idle: Mutex::default() })
    }

    /// Sends a JSON document, and reads the whole answer.
    ///
    /// # Errors
    /// In the words of Go's client: `Post "https://…": context deadline exceeded`.
    pub(crate) async fn post(
        &self,
        snapshot: &Snapshot,
        query: &str,
        body: RequestBody,
        timeout: Duration,
    ) -> Result<Answer, String> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answered = self.ask(snapshot, &self.place.target(query), request, timeout).await;
        answered.map_err(|why| format!("Post \"{}\": {why}", self.place.url(query)))
    }

    /// Asks for a document, and reads the whole answer. `target` is its path and query.
    ///
    /// # Errors
    /// In the words of Go's client: `Get "https://…": context deadline exceeded`.
    pub(crate) async fn get(
        &self,
        snapshot: &Snapshot,
        target: &str,
        timeout: Duration,
    ) -> Result<Answer, String> {
        let answered = self.ask(snapshot, target, Request::new(whole(Bytes::new())), timeout).await;
        answered.map_err(|why| format!("Get \"{}\": {why}", self.place.at(target)))
    }

    async fn ask(
        &self,
        snapshot: &Snapshot,
        target: &str,
        mut request: Request<RequestBody>,
        timeout: Duration,
    ) -> Result<Answer, String> {
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let work = async {
            let (response, kept) = self.send(snapshot, target, request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => format!("the answer is longer than {ANSWER_MAX} bytes"),
                None => error.to_string(),
            })?;
            self.keep(kept);
            Ok(Answer { status, body: body.to_bytes() })
        };
        let outcome = tokio::time::timeout(timeout, work).await;
        outcome.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
    }

    /// Sends a request whose path and query are `target`. The connection comes back for [`Server::keep`], once the answer is read.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn send(
        &self,
        snapshot: &Snapshot,
        target: &str,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), String> {
        let address = self.place.dial(snapshot)?;
        self.address_to(&mut request, target)?;
        loop {
            // A kept connection may have been closed by the other side meanwhile: that is not the request's error.
            let Some(mut sender) = self.take(&address) else { break };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, (address, sender))),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failed.into_error().to_string()),
                },
            }
        }
        let mut sender = self.connect(&address).await?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        Ok((response, (address, sender)))
    }

    /// Sends a request that may turn its connection into something else, over a connection of its own.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn upgrade(
        &self,
        snapshot: &Snapshot,
        target: &str,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, String> {
        let address = self.place.dial(snapshot)?;
        self.address_to(&mut request, target)?;
        let mut sender = self.connect(&address).await?;
        sender.send_request(request).await.map_err(|error| error.to_string())
    }

    fn address_to(&self, request: &mut Request<RequestBody>, target: &str) -> Result<(), String> {
        *request.uri_mut() = target.parse::<Uri>().map_err(|error| error.to_string())?;
        let host = HeaderValue::from_str(&self.place.host()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        let agent = HeaderValue::from_static("kube-apiserver-admission");
        request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        Ok(())
    }

    async fn connect(&self, address: &str) -> Result<SendRequest<RequestBody>, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| dial_error(address, &error))?;
        let _unimportant = stream.set_nodelay(true);
        let name = ServerName::try_from(self.place.tls_name()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        let stream = stream.map_err(|error| format!("tls: {error}"))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(Lenient(stream))).await.map_err(|error| error.to_string())?;
        // It ends with the sender, or with the other side.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to another server ended badly");
            }
        });
        Ok(sender)
    }

    /// Path and query of its own URL.
    pub(crate) fn target(&self) -> String {
        self.place.target("")
    }

    /// The whole URL of a path and query on it.
    pub(crate) fn at(&self, target: &str) -> String {
        self.place.at(target)
    }

    fn take(&self, address: &str) -> Option<SendRequest<RequestBody>> {
        let mut idle = self.idle.lock();
        idle.retain(|(_, sender)| !sender.is_closed());
        let at = idle.iter().rposition(|(to, sender)| to == address && sender.is_ready())?;
        Some(idle.swap_remove(at).1)
    }

    /// Keeps a connection whose answer has been read.
    pub(crate) fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}

/// A body that is known whole.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The same in several pieces.
pub(crate) fn in_pieces(pieces: Vec<Bytes>) -> RequestBody {
    Pieces::new(pieces).map_err(|never| match never {}).boxed_unsync()
}

/// Go's words for what connecting to an address can end in.
fn dial_error(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        io::ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
        _ => format!("dial tcp {address}: {error}"),
    }
}

/// The authorities that this machine trusts.
fn machine_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of this machine's certificate authorities cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}
