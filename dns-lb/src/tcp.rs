//! TCP (RFC 7766): pipelined queries, answered in order, on tokio.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use federation_runtime::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::answer::{Context, CookiePolicy, Scratch, answer};
use crate::metrics::{Counters, Transport};
use crate::publish::Published;
use crate::udp::{Clock, Dice};

/// Connections at a time. Each holds at most a 64 KiB buffer: 64 MiB when all are in use by somebody who fills them.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may be silent, or may take to read an answer or to finish a query (RFC 7766 section 6.2.3: "of the order of
/// a few seconds").
const IDLE: Duration = Duration::from_secs(10);
/// Queries on one connection; a client with more opens another, so that connections move between servers.
const QUERIES_MAX: u32 = 100_000;
/// Octets of a message.
const MESSAGE_MAX: usize = u16::MAX as usize;
/// What a query usually fits in.
const QUERY: usize = 512;

/// What connections answer from.
#[derive(Debug)]
pub struct Server {
    /// The zones.
    pub published: Arc<Published>,
    /// This server's name.
    pub instance: Arc<[u8]>,
    /// Bumped for each message.
    pub counters: Arc<Counters>,
    /// Seed of each connection's dice.
    pub seed: u64,
}

impl Server {
    /// Accepts until `shutdown`.
    pub async fn run(self: Arc<Self>, listener: TcpListener, shutdown: Shutdown) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut dice = Dice::new(self.seed);
        loop {
            // The permit first: beyond the limit clients wait in the kernel's queue.
            let permit = tokio::select! {
                permit = permits.clone().acquire_owned() => permit,
                () = shutdown.wait() => return,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.wait() => return,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a TCP connection was not accepted");
                    // Out of descriptors, most likely: they come back when connections end.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (server, shutdown, dice) = (self.clone(), shutdown.clone(), Dice::new(dice.roll()));
            tokio::spawn(async move {
                tokio::select! {
                    outcome = server.connection(stream, client.ip(), dice) => {
                        if let Err(error) = outcome {
                            tracing::debug!(%error, "a TCP connection ended");
                        }
                    }
                    () = shutdown.wait() => {}
                }
                drop(permit);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream, source: IpAddr, mut dice: Dice) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut scratch = Scratch::default();
        let mut query = Vec::with_capacity(QUERY);
        let mut reply = Vec::new();
        for _ in 0..QUERIES_MAX {
            let Some(length) = receive(&mut stream, &mut query).await? else { return Ok(()) };
            // A new snapshot is seen by the next query: nothing is kept over an await.
            let answered = {
                let snapshot = self.published.snapshot();
                let context = Context {
                    snapshot: &snapshot,
                    instance: &self.instance,
                    transport: Transport::Tcp,
                    source,
                    now: Clock::seconds(),
                    cookies: CookiePolicy::Answer,
                    dice: dice.roll(),
                };
                // Two octets of length in front; the message is made behind them.
                reply.resize(2 + MESSAGE_MAX, 0);
                reply[2..2 + length].copy_from_slice(&query);
                answer(&mut reply[2..], length, &mut scratch, &context, &self.counters)
            };
            // No answer to what is no query: over TCP the client cannot be spoofed, and has no business to go on.
            let Some(answered) = answered.map(|reply| reply.length) else { return Ok(()) };
            reply[..2].copy_from_slice(&(answered as u16).to_be_bytes());
            timeout(IDLE, stream.write_all(&reply[..2 + answered])).await??;
        }
        Ok(())
    }
}

/// Reads one message. None: the client is done.
async fn receive(stream: &mut TcpStream, query: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut length = [0; 2];
    match timeout(IDLE, stream.read_exact(&mut length)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Ok(Err(error)) => return Err(error),
        // Silence is how most clients end.
        Err(_) => return Ok(None),
    }
    let length = u16::from_be_bytes(length) as usize;
    query.clear();
    query.resize(length, 0);
    // One deadline for the whole message, so that an octet now and then does not keep a connection.
    timeout(IDLE, stream.read_exact(query)).await??;
    Ok(Some(length))
}
