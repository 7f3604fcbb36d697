//! DNS over HTTPS (RFC 8484): HTTP/2, at the path `/dns-query`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use federation_runtime::tasks;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::freshness::freshness;
use super::{Handler, PART};

/// Where queries are taken (the path of RFC 8484's examples, which clients know).
const PATH: &str = "/dns-query";
/// RFC 8484 section 6.
const MEDIA_TYPE: &str = "application/dns-message";
/// Octets of the longest query, which RFC 8484 leaves to the server. Queries have some 100, padded ones a few times 128.
const QUERY_MAX: usize = 4096;
/// Requests at a time on one connection. Each holds at most a query (4 KiB), its headers and an answer.
const REQUESTS: u32 = 32;
/// Octets of a request's headers: a query of [`QUERY_MAX`] in base64 (5.5 KiB), and what browsers add.
const HEADERS_MAX: u32 = 16 * 1024;
/// Octets of answers that one connection may leave unread: two of the longest.
const UNREAD: usize = 2 * (1 << 16);
/// Octets of requests' bodies that are taken before they are read.
const WINDOW: u32 = 64 * 1024;
/// Requests on one connection; a client with more opens another, so that connections move between servers.
const QUERIES_MAX: u64 = 100_000;

/// Answers the requests that come by `io` until the client is done, or asks nothing for too long.
///
/// # Errors
/// When the connection breaks, or the client holds on to it after it was told to go.
pub async fn https<S>(io: S, peer: SocketAddr, handler: Handler) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (limiter, shutdown) = (handler.limiter.clone(), handler.shutdown.clone());
    let begun = Instant::now();
    let client = Arc::new(Client {
        handler,
        peer,
        begun,
        requests: AtomicU64::new(0),
        last: AtomicU64::new(0),
        unread: Arc::new(Semaphore::new(UNREAD)),
    });
    let served = client.clone();
    let service = service_fn(move |request| {
        let client = served.clone();
        async move {
            let response = tasks::caught(PART, client.respond(request)).await;
            Ok::<_, Infallible>(response.unwrap_or_else(|panicked| {
                tracing::error!(%panicked, "a query was lost");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "answering failed")
            }))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS)
        .max_header_list_size(HEADERS_MAX)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(UNREAD)
        .serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    loop {
        // Only whole requests count: frames that ask nothing do not keep a connection.
        let deadline =
            begun + std::time::Duration::from_millis(client.last.load(Relaxed)) + limiter.idle_timeout();
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            () = shutdown.wait() => break,
            () = sleep_until(deadline.max(Instant::now())) => {
                let last = begun + std::time::Duration::from_millis(client.last.load(Relaxed));
                if Instant::now() >= last + limiter.idle_timeout() || client.requests.load(Relaxed) >= QUERIES_MAX {
                    break;
                }
            }
        }
    }
    // GOAWAY: what was asked is answered.
    connection.as_mut().graceful_shutdown();
    timeout(limiter.message_timeout(), connection).await?.map_err(io::Error::other)
}

/// One connection's client.
struct Client {
    handler: Handler,
    peer: SocketAddr,
    begun: Instant,
    requests: AtomicU64,
    // Milliseconds after `begun`, when the last whole request came.
    last: AtomicU64,
    unread: Arc<Semaphore>,
}

/// An answer that counts until it is sent.
struct Unread {
    octets: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl Client {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if self.requests.fetch_add(1, Relaxed) >= QUERIES_MAX {
            return plain(StatusCode::TOO_MANY_REQUESTS, "open another connection");
        }
        let query = match timeout(self.handler.limiter.message_timeout(), query(request)).await {
            Ok(Ok(query)) => query,
            Ok(Err(response)) => return response,
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the request did not end"),
        };
        self.last.store(self.begun.elapsed().as_millis() as u64, Relaxed);
        let Some(answer) = self.handler.answer(&query, self.peer) else {
            return plain(StatusCode::BAD_REQUEST, "this is no DNS query");
        };
        let unread = self.unread.clone().acquire_many_owned(answer.len() as u32);
        // A client that does not read what it asked for is not answered on.
        let Ok(Ok(permit)) = timeout(self.handler.limiter.message_timeout(), unread).await else {
            return plain(StatusCode::TOO_MANY_REQUESTS, "read the answers before");
        };
        let cache = match freshness(&answer) {
            // Another client may get another answer: caches that clients share must not keep it.
            Some(seconds) => format!("private, max-age={seconds}"),
            None => "no-store".into(),
        };
        let octets = Bytes::from_owner(Unread { octets: answer, _permit: permit });
        let mut response = Response::new(Full::new(octets));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Ok(cache) = HeaderValue::try_from(cache) {
            response.headers_mut().insert(CACHE_CONTROL, cache);
        }
        response
    }
}

/// The DNS message that `request` carries; else what the client is told.
async fn query(request: Request<Incoming>) -> Result<Vec<u8>, Response<Full<Bytes>>> {
    if request.uri().path() != PATH {
        return Err(plain(StatusCode::NOT_FOUND, "queries are taken at /dns-query"));
    }
    match *request.method() {
        Method::GET => of_parameters(request.uri().query().unwrap_or_default())
            .map_err(|why| plain(StatusCode::BAD_REQUEST, why)),
        Method::POST => {
            let is_message = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == MEDIA_TYPE);
            // Also of another kind: a stream that is reset while its body comes is to some clients no answer, whatever was said before.
            match Limited::new(request.into_body(), QUERY_MAX).collect().await {
                Ok(body) if is_message => Ok(body.to_bytes().into()),
                Ok(_) => Err(plain(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "the content-type must be application/dns-message",
                )),
                Err(_) => Err(plain(StatusCode::PAYLOAD_TOO_LARGE, "a query has at most 4096 octets")),
            }
        }
        _ => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "the methods are GET and POST");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            Err(response)
        }
    }
}

/// The message in the parameter `dns` of a GET, base64url without padding (RFC 8484 section 6). An error says what is wrong.
///
/// # Errors
/// When it is not there once, is too long, or is not base64url.
pub fn of_parameters(parameters: &str) -> Result<Vec<u8>, &'static str> {
    let mut values = parameters.split('&').filter_map(|parameter| parameter.strip_prefix("dns="));
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err("the parameter dns must be there, once");
    };
    if value.len() > QUERY_MAX.div_ceil(3) * 4 {
        return Err("a query has at most 4096 octets");
    }
    URL_SAFE_NO_PAD.decode(value).map_err(|_| "the parameter dns is not base64url without padding")
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
