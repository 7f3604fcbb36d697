//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::shutdown::Shutdown;
use futures::FutureExt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::{ConnectionLimiter, to_the_end};

/// Connections that wait to be accepted; the kernel has a limit of its own.
const BACKLOG: i32 = 1024;

/// A listener at `address`. With `share` another process may listen there too, and the kernel spreads clients over both.
///
/// # Errors
/// When the address is taken, or not ours.
pub fn bind(address: SocketAddr, share: bool) -> io::Result<TcpListener> {
    let socket = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        io::Result::Ok(socket)
    };
    let bound = {
        let socket = socket()?;
        if share {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        // From now on others may join; whoever does not want to share has found out already that nobody is here.
        socket.set_reuse_port(true)?;
        socket
    };
    bound.listen(BACKLOG)?;
    bound.set_nonblocking(true)?;
    TcpListener::from_std(bound.into())
}

/// A listener that somebody else has bound.
///
/// # Errors
/// When it cannot be waited for.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts until `shutdown`, and has `handle` serve each client in a task of its own. What waits at the end is served too.
pub async fn listen<H, F>(
    listener: Arc<TcpListener>,
    limiter: Arc<ConnectionLimiter>,
    tasks: TaskTracker,
    shutdown: Shutdown,
    handle: Arc<H>,
) where
    H: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let serve = |(stream, client): (TcpStream, SocketAddr), permit| {
        // Beyond its share: closed at once.
        let Some(permit) = limiter.admit(permit, client.ip()) else { return };
        let served = handle(stream, client);
        tasks.spawn(async move {
            to_the_end(served).await;
            drop(permit);
        });
    };
    loop {
        // The permit first: beyond the limit clients wait in the kernel's queue.
        let permit = tokio::select! {
            permit = limiter.acquire() => permit,
            () = shutdown.wait() => break,
        };
        let Some(permit) = permit else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => break,
        };
        match accepted {
            Ok(accepted) => serve(accepted, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                // Out of descriptors, most likely: they come back when connections end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    while let Some(permit) = limiter.try_acquire()
        && let Some(Ok(accepted)) = listener.accept().now_or_never()
    {
        serve(accepted, permit);
    }
}

#[cfg(test)]
mod tests {
    use federation_runtime::endpoints::Metrics;
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::transport::{Limits, PART};

    #[tokio::test]
    async fn a_connection_that_panics_is_counted_and_the_next_one_is_served() {
        let listener = bind("127.0.0.1:0".parse().expect("an address"), false).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let limiter = ConnectionLimiter::new(Limits::default());
        let served = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = served.clone();
        let handle = move |_: TcpStream, _| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move {
                assert!(number > 0, "serving fails");
                Ok(())
            }
        };
        let (tasks, shutdown) = (TaskTracker::new(), Shutdown::new());
        let accept =
            tokio::spawn(listen(Arc::new(listener), limiter, tasks, shutdown.clone(), Arc::new(handle)));
        for number in 1..=2 {
            let mut client = TcpStream::connect(address).await.expect("a connection");
            assert_eq!(client.read(&mut [0]).await.expect("it is closed"), 0);
            assert_eq!(served.load(std::sync::atomic::Ordering::SeqCst), number);
        }
        let line = format!("federation_task_failures_total{{task=\"{PART}\"}} 1");
        assert!(Metrics::new().encode().lines().any(|found| found == line));
        shutdown.start();
        accept.await.expect("it ends");
    }
}
