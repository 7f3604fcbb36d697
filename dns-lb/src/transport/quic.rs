//! DNS over dedicated QUIC connections (RFC 9250): a stream for each query.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use federation_runtime::tasks;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ReadExactError, RecvStream, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::handler::Response;
use super::{Certificate, ConnectionPermit, Handler, Limits, PART, to_the_end};
use crate::answer::has_keepalive;

/// RFC 9250 section 4.3.
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// Queries at a time on one connection. Each holds at most a query and an answer of 64 KiB.
const STREAMS: u32 = 16;
/// Octets of queries that one connection may send before they are read: one of the longest, and its length.
const WINDOW: u32 = 66 * 1024;
/// Octets of answers that one connection may leave unread.
const UNREAD: u64 = 128 * 1024;
/// Handshakes that wait to be looked at, and octets that wait with them.
const INCOMING: usize = 256;
const INCOMING_OCTETS: u64 = 4 * 1024;
/// Asked of the kernel, which may give less.
const BUFFER: usize = 1 << 20;

/// A socket at `address`.
///
/// # Errors
/// When the address is taken, or not ours.
pub(super) fn bind_quic(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: the kernel's default is merely less patient with bursts.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Serves QUIC on `socket`, within `limits`.
///
/// # Errors
/// When the socket cannot be used.
pub(super) fn quic_endpoint(
    socket: UdpSocket,
    certificate: &Arc<Certificate>,
    limits: &Limits,
) -> io::Result<Endpoint> {
    let tls = QuicServerConfig::try_from(certificate.server(b"doq")).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS.into())
        .max_concurrent_uni_streams(0_u32.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(WINDOW.into())
        .receive_window(WINDOW.into())
        .send_window(UNREAD)
        .max_idle_timeout(Some(IdleTimeout::try_from(limits.idle).map_err(io::Error::other)?));
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING)
        .incoming_buffer_size(INCOMING_OCTETS)
        .incoming_buffer_size_total(INCOMING_OCTETS * INCOMING as u64);
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

/// Accepts connections until the shutdown, and serves each in a task of its own.
pub(super) async fn quic(endpoint: Endpoint, tasks: TaskTracker, handler: Handler) {
    let Handler { limiter, shutdown, .. } = &handler;
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = shutdown.wait() => break,
        };
        let Some(incoming) = incoming else { return };
        let client = incoming.remote_address().ip();
        // Who may not be where it says takes nobody's place while places are few (RFC 9000 section 8.1.2).
        if limiter.is_crowded() && incoming.may_retry() && !incoming.remote_address_validated() {
            // An error means that it cannot be retried, which was asked.
            let _ = incoming.retry();
            continue;
        }
        let Some(permit) = limiter.try_acquire().and_then(|permit| limiter.admit(permit, client)) else {
            incoming.refuse();
            continue;
        };
        tasks.spawn(client_of(incoming, permit, handler.clone()));
    }
    // New clients are refused; those that are here are told to go when what they asked is answered.
    endpoint.set_server_config(None);
    endpoint.wait_idle().await;
}

async fn client_of(incoming: Incoming, permit: ConnectionPermit, handler: Handler) {
    let served = async {
        let connecting = incoming.accept().map_err(io::Error::other)?;
        let connection =
            timeout(handler.limiter.message_timeout(), connecting).await?.map_err(io::Error::other)?;
        streams(&connection, &handler).await;
        io::Result::Ok(())
    };
    to_the_end(served).await;
    drop(permit);
}

/// Answers the client's queries until it is silent for too long, or breaks the protocol.
async fn streams(connection: &Connection, handler: &Handler) {
    let open = Arc::new(AtomicUsize::new(0));
    let queries = TaskTracker::new();
    let code = loop {
        let accepted = tokio::select! {
            accepted = timeout(handler.limiter.idle_timeout(), connection.accept_bi()) => accepted,
            () = handler.shutdown.wait() => break NO_ERROR,
        };
        match accepted {
            Ok(Ok((send, receive))) => {
                open.fetch_add(1, Relaxed);
                let (connection, handler, open) = (connection.clone(), handler.clone(), open.clone());
                queries.spawn(async move {
                    // A stream has its time, so that none stays for ever.
                    let query = Query { connection: &connection, handler: &handler };
                    match tasks::caught(PART, query.serve(send, receive)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(fault)) => connection.close(fault, b""),
                        Err(panicked) => tracing::error!(%panicked, "a query was lost"),
                    }
                    open.fetch_sub(1, Relaxed);
                });
            }
            // It is gone.
            Ok(Err(_)) => return,
            Err(_) if open.load(Relaxed) == 0 => break NO_ERROR,
            // A transfer that takes its time.
            Err(_) => {}
        }
    };
    queries.close();
    let ended = timeout(handler.limiter.message_timeout(), queries.wait()).await;
    connection.close(if ended.is_ok() { code } else { EXCESSIVE_LOAD }, b"");
}

/// One stream's query. Errors are codes to close the connection with: the client breaks the protocol.
struct Query<'c> {
    connection: &'c Connection,
    handler: &'c Handler,
}

impl Query<'_> {
    async fn serve(&self, mut send: SendStream, mut receive: RecvStream) -> Result<(), VarInt> {
        let patience = self.handler.limiter.message_timeout();
        let Ok(read) = timeout(patience, read(&mut receive)).await else {
            // Too slow: this query is given up, others go on.
            let _ = receive.stop(REQUEST_CANCELLED);
            let _ = send.reset(REQUEST_CANCELLED);
            return Ok(());
        };
        let Some(query) = read? else { return Ok(()) };
        // RFC 9250 sections 4.2.1 and 5.5.2: the identifier is 0, and edns-tcp-keepalive has no place here.
        if query.first_chunk() != Some(&[0, 0]) || has_keepalive(&query) {
            return Err(PROTOCOL_ERROR);
        }
        let mut answer = Vec::new();
        match self.handler.respond(&query, self.connection.remote_address(), &mut answer) {
            None => return Err(PROTOCOL_ERROR),
            Some(Response::Message) => {
                if !self.write(&mut send, &answer).await {
                    return Ok(());
                }
            }
            Some(Response::Transfer(transfer, transfers)) => {
                let messages = transfers.messages(transfer).await;
                for message in messages.into_iter().flatten() {
                    if !self.write(&mut send, &message).await {
                        return Ok(());
                    }
                }
            }
        }
        // An error: the client has gone.
        let _ = send.finish();
        match timeout(patience, receive.read_chunk(1, true)).await {
            // More than one query on a stream (RFC 9250 section 4.3.3).
            Ok(Ok(Some(_))) => Err(PROTOCOL_ERROR),
            _ => Ok(()),
        }
    }

    /// False: the client does not take it.
    async fn write(&self, send: &mut SendStream, message: &[u8]) -> bool {
        let Ok(length) = u16::try_from(message.len()) else { return false };
        let written = async {
            send.write_all(&length.to_be_bytes()).await?;
            send.write_all(message).await
        };
        let taken = matches!(timeout(self.handler.limiter.message_timeout(), written).await, Ok(Ok(())));
        if !taken {
            let _ = send.reset(REQUEST_CANCELLED);
        }
        taken
    }
}

/// The stream's message. None: the client has given it up. An error: it ends too early.
async fn read(receive: &mut RecvStream) -> Result<Option<Vec<u8>>, VarInt> {
    let fault = |error| match error {
        // RFC 9250 section 4.3.3.
        ReadExactError::FinishedEarly(_) => Err(PROTOCOL_ERROR),
        ReadExactError::ReadError(_) => Ok(None),
    };
    let mut length = [0; 2];
    if let Err(error) = receive.read_exact(&mut length).await {
        return fault(error);
    }
    let mut message = vec![0; u16::from_be_bytes(length) as usize];
    match receive.read_exact(&mut message).await {
        Ok(()) => Ok(Some(message)),
        Err(error) => fault(error),
    }
}
