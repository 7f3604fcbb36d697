//! Connections to the meeting service, limited in number: anyone who reaches the address can open some, with any certificate.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::transport::{ConnectionLimiter, ConnectionPermit, Limits};

/// One for each member of the largest federation; agents behind one address are of one place. How long one may be silent is gRPC's.
const LIMITS: Limits = Limits { connections: 1024, per_client: 64, idle: Duration::MAX };
/// Out of descriptors, most likely: they come back when connections end.
const RETRY: Duration = Duration::from_millis(50);

/// A connection with its permit.
pub(super) struct Connection {
    io: TcpStream,
    _permit: ConnectionPermit,
}

/// Connections to `listener`. Beyond the limits they wait in the kernel's queue, or, beyond their share, are closed at once.
pub(super) fn connections(listener: Arc<TcpListener>) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, ConnectionLimiter::new(LIMITS)), |(listener, limiter)| async move {
        loop {
            let permit = limiter.acquire().await?;
            match listener.accept().await {
                Ok((io, client)) => {
                    let Some(permit) = limiter.admit(permit, client.ip()) else { continue };
                    let ready = io.set_nodelay(true).map(|()| Connection { io, _permit: permit });
                    return Some((ready, (listener, limiter)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    })
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::StreamExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn nobody_takes_more_than_a_share() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = Box::pin(connections(Arc::new(listener)));
        let mut inside = Vec::new();
        for _ in 0..LIMITS.per_client {
            let client = TcpStream::connect(address).await.unwrap();
            inside.push((client, connections.next().await.unwrap().unwrap()));
        }
        let mut beyond = TcpStream::connect(address).await.unwrap();
        let mut octet = [0];
        tokio::select! {
            _ = connections.next() => unreachable!("it was let in"),
            read = beyond.read(&mut octet) => assert_eq!(read.unwrap_or(0), 0),
        }
        // Who leaves makes room.
        inside.pop();
        let _client = TcpStream::connect(address).await.unwrap();
        assert!(connections.next().await.unwrap().is_ok());
    }
}
