//! TLS and HTTP/1.1 and 2 on a listener, until the end.

mod self_wake;

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use federation_runtime::shutdown::Shutdown;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use self::self_wake::SelfWake;
use crate::{
    auth::authn,
    server::{ApiServer, Handler},
    wire::Wire,
};

/// A client that does not finish its handshake in this time is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an HTTP/1 connection may wait for a whole request head. hyper counts the idle time between two requests into it,
/// so it must be longer than clients keep idle connections (kube-rs and Go: 90 s): else they would now and then write into
/// a connection that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Connections that are not done by then are cut.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of accept (most often: no more file descriptors), a pause in which some may come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of all headers of one request, as kube-apiserver's `DefaultMaxHeaderBytes`.
const HEADERS_MAX_BYTES: u32 = 1 << 20;

/// Accepts connections until `shutdown`, then lets those that are open finish.
pub(crate) async fn run(listener: TcpListener, tls: TlsAcceptor, server: ApiServer, shutdown: &Shutdown) {
    let (end, ended) = watch::channel(());
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Some who read answers by their lines know headers as Go's server writes them.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).title_case_headers(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .max_header_list_size(HEADERS_MAX_BYTES)
        // A client that is gone without a word must not keep its watches: found within 45 s, as Go's server does.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let builder = Arc::new(builder);
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.wait() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (tls, server, builder) = (tls.clone(), server.clone(), Arc::clone(&builder));
        let ended = ended.clone();
        tokio::spawn(async move {
            let Some((stream, user)) = handshake(tls, stream).await else { return };
            let service = TowerToHyperService::new(server.service_as(user).from_peer(peer.ip()));
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            if let Err(error) = until_end(connection, ended).await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop((listener, ended));
    let _nobody = end.send(());
    if tokio::time::timeout(DRAIN_TIMEOUT, end.closed()).await.is_err() {
        tracing::warn!("some connections did not finish in time");
    }
}

type Served<'a> = auto::UpgradeableConnection<
    'a,
    TokioIo<tokio_rustls::server::TlsStream<Wire>>,
    TowerToHyperService<Handler>,
    TokioExecutor,
>;

/// Serves a connection, and has it end in order when the server does. It keeps `ended` as long as it lasts, and waits for it but once: a
/// thousand watchers' connections have a thousand things to do for each event, and would take a lock that all share for each of them.
async fn until_end(
    connection: Served<'_>,
    ended: watch::Receiver<()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (mut connection, mut told) = (pin!(connection), ended.clone());
    // Not bound to what a task may do at a time: it must be heard of, however much has been done already.
    let mut end = pin!(tokio::task::unconstrained(told.changed()));
    let mut waited = None;
    let mut is_ending = false;
    let own = SelfWake::new();
    poll_fn(|context| {
        let waits = waited.as_ref().is_some_and(|waker: &Waker| waker.will_wake(context.waker()));
        if !is_ending && (!waits || !matches!(ended.has_changed(), Ok(false))) {
            is_ending = end.as_mut().poll(context).is_ready();
            if is_ending {
                connection.as_mut().graceful_shutdown();
            } else {
                waited = Some(context.waker().clone());
            }
        }
        own.poll(connection.as_mut(), context)
    })
    .await
}

async fn handshake(
    tls: TlsAcceptor,
    stream: TcpStream,
) -> Option<(tokio_rustls::server::TlsStream<Wire>, Option<crate::auth::User>)> {
    // Watch events are small and must not wait for more.
    let _unimportant = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(Wire(stream))).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let user =
                certificates.and_then(|chain| chain.first()).and_then(|leaf| authn::from_certificate(leaf));
            Some((stream, user))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}
