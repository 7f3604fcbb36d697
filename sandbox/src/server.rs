//! A pod's server: real HTTP on a loopback address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A running server; it stops when this is dropped, after requests in flight.
pub(crate) struct Server {
    stop: CancellationToken,
}

impl Server {
    /// Listens on `address` and answers every request with `identity`.
    pub(crate) async fn start(address: Ipv4Addr, port: u16, identity: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((address, port))).await?;
        let stop = CancellationToken::new();
        let body = Arc::new(Bytes::from(identity));
        tokio::spawn(serve(listener, body, stop.clone()));
        Ok(Self { stop })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(listener: TcpListener, body: Arc<Bytes>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // The peer went away before it was accepted.
                Err(_) => continue,
            },
        };
        let body = body.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            let service = service_fn(move |_request: http::Request<Incoming>| {
                let body = body.clone();
                async move {
                    let mut response = Response::new(Full::new((*body).clone()));
                    *response.status_mut() = StatusCode::OK;
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = stop.cancelled() => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        });
    }
}
