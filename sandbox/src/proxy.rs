//! A Service's load balancer: accepts connections and forwards each to one ready pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Listens until dropped; connections in flight go on.
pub(crate) struct Proxy {
    backends: Arc<RwLock<Vec<SocketAddr>>>,
    stop: CancellationToken,
}

impl Proxy {
    pub(crate) async fn start(address: Ipv4Addr, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((address, port))).await?;
        let proxy = Self { backends: Arc::default(), stop: CancellationToken::new() };
        tokio::spawn(accept(listener, proxy.backends.clone(), proxy.stop.clone()));
        Ok(proxy)
    }

    /// Sets the pods that new connections go to.
    pub(crate) fn set_backends(&self, backends: Vec<SocketAddr>) {
        *self.backends.write() = backends;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, backends: Arc<RwLock<Vec<SocketAddr>>>, stop: CancellationToken) {
    let turn = AtomicUsize::new(0);
    loop {
        let client = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                Err(_) => continue,
            },
        };
        let candidates = {
            let backends = backends.read();
            let start = turn.fetch_add(1, Ordering::Relaxed);
            (0..backends.len()).map(|step| backends[(start + step) % backends.len()]).collect::<Vec<_>>()
        };
        tokio::spawn(forward(client, candidates));
    }
}

/// Tries the pods in turn. With none, the connection is closed: a user sees a failure, as with a real balancer.
async fn forward(mut client: TcpStream, candidates: Vec<SocketAddr>) {
    for candidate in candidates {
        if let Ok(mut pod) = TcpStream::connect(candidate).await {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
            return;
        }
    }
}
