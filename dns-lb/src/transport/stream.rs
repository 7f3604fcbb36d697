//! Length-prefixed messages on a connection (RFC 7766): TCP, and TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use federation_runtime::shutdown::Shutdown;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::{ConnectionLimiter, Responder};
use crate::transfer::{Special, Transfer, Transfers};
use crate::udp::Clock;

/// Queries on one connection; a client with more opens another, so that connections move between servers.
const QUERIES_MAX: u32 = 100_000;
/// Octets read at once, if the message at hand needs no more: some 60 queries.
const READ: usize = 4096;
/// Answers that wait to be sent together, octets. Beyond it they are sent first, so that a client that does not read is not answered on.
const TOGETHER: usize = 16 * 1024;
/// Buffers up to this size are kept while a client is silent.
const KEPT: usize = 512;
/// How long a client is listened to after the shutdown has begun: what it sent before is answered.
const DRAIN: Duration = Duration::from_millis(300);
/// The same where a successor answers already, so that nobody waits: a client that has just connected has time to ask.
const DRAIN_SUCCEEDED: Duration = Duration::from_secs(3);

/// What a connection is served with.
#[derive(Clone, Debug)]
pub struct Handler {
    /// Answers queries.
    pub responder: Arc<Responder>,
    /// Limits of the transport.
    pub limiter: Arc<ConnectionLimiter>,
    /// Zone transfers, if they are enabled.
    pub transfers: Option<Arc<Transfers>>,
    /// Ends the connection.
    pub shutdown: Shutdown,
    /// Whether the shutdown is because a successor has taken over.
    pub succeeded: Arc<AtomicBool>,
}

/// The response to a query.
#[derive(Debug)]
pub(super) enum Response {
    /// One message.
    Answer(Vec<u8>),
    /// A zone, in messages from there.
    Transfer(Transfer, Arc<Transfers>),
}

impl Handler {
    /// The response to `query`; `None` if it gets none.
    pub(super) fn respond(&self, query: &[u8], client: SocketAddr) -> Option<Response> {
        let special = self
            .transfers
            .as_ref()
            .and_then(|transfers| transfers.look(query, client.ip()).zip(Some(transfers)));
        match special {
            None => self.responder.message(query, client).map(Response::Answer),
            Some((Special::Answer(octets), _)) => Some(Response::Answer(octets)),
            Some((Special::Signed(query, mut session), _)) => {
                let mut answer = self.responder.message(&query, client)?;
                session.sign(&mut answer, seconds());
                Some(Response::Answer(answer))
            }
            Some((Special::Transfer(transfer), transfers)) => {
                Some(Response::Transfer(transfer, transfers.clone()))
            }
        }
    }

    /// The response to `query` where only one message is possible: transfers are refused (RFC 8484 section 5).
    pub(super) fn answer(&self, query: &[u8], client: SocketAddr) -> Option<Vec<u8>> {
        match self.respond(query, client)? {
            Response::Answer(answer) => Some(answer),
            Response::Transfer(..) => self.responder.message(query, client),
        }
    }
}

/// Answers the queries that come by `io` until the client is done, silent for too long, or asks nothing that deserves an answer.
///
/// Answers go out in the order of their queries. None waits for another: each is made without awaiting anything, so that RFC 7766
/// section 6.2.1.1 has nothing to reorder. Queries that came together are answered together.
///
/// # Errors
/// When the connection breaks, or the client takes too long for a message.
pub async fn serve<S>(mut io: S, client: SocketAddr, handler: Handler) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Handler { responder, limiter, transfers, shutdown, succeeded } = handler;
    let mut input: Vec<u8> = Vec::with_capacity(KEPT);
    let mut out: Vec<u8> = Vec::new();
    let mut queries = 0;
    let mut ending: Option<Instant> = None;
    loop {
        let mut at = 0;
        let mut over = false;
        while let Some(query) = first(input.get(at..).unwrap_or_default()) {
            at += 2 + query.len();
            queries += 1;
            // No answer to what is no query: here the client cannot be spoofed, and has no business to go on.
            over = match transfers
                .as_ref()
                .and_then(|transfers| transfers.look(query, client.ip()).zip(Some(transfers)))
            {
                None => !responder.answer(query, client, &mut out),
                Some((Special::Answer(answer), _)) => !frame(&answer, &mut out),
                Some((Special::Signed(query, mut session), _)) => {
                    let mut answer = Vec::new();
                    let answered = responder.answer(&query, client, &mut answer);
                    answer.drain(..2.min(answer.len()));
                    session.sign(&mut answer, seconds());
                    !answered || !frame(&answer, &mut out)
                }
                Some((Special::Transfer(transfer), transfers)) => {
                    let messages = transfers.messages(transfer).await;
                    for message in messages.into_iter().flatten() {
                        if !frame(&message, &mut out) {
                            return io.shutdown().await;
                        }
                        // Each in its time: a secondary that reads slowly is waited for, one that stops is not.
                        send(&mut io, &mut out, &limiter).await?;
                    }
                    false
                }
            };
            over |= queries == QUERIES_MAX;
            if over {
                break;
            }
            if out.len() >= TOGETHER {
                send(&mut io, &mut out, &limiter).await?;
            }
        }
        input.drain(..at);
        send(&mut io, &mut out, &limiter).await?;
        if over {
            return io.shutdown().await;
        }
        if input.is_empty() {
            input.shrink_to(KEPT);
        }
        out.shrink_to(KEPT);
        // One deadline for a whole message, so that an octet now and then does not keep a connection.
        let unfinished = !input.is_empty();
        let deadline =
            Instant::now() + if unfinished { limiter.message_timeout() } else { limiter.idle_timeout() };
        loop {
            let wanted = announced(&input).unwrap_or(0).saturating_sub(input.len()).max(READ);
            input.reserve_exact(wanted);
            let deadline = ending.map_or(deadline, |ending| ending.min(deadline));
            let read = tokio::select! {
                read = timeout_at(deadline, io.read_buf(&mut input)) => read,
                () = shutdown.wait(), if ending.is_none() => {
                    let drain = if succeeded.load(Relaxed) { DRAIN_SUCCEEDED } else { DRAIN };
                    ending = Some(Instant::now() + drain);
                    continue;
                }
            };
            match read {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) if first(&input).is_some() => break,
                // The first octets of a message: its own deadline begins.
                Ok(Ok(_)) if !unfinished => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                // Silence is how most clients end.
                Err(_) if input.is_empty() => return io.shutdown().await,
                Err(late) => return Err(late.into()),
            }
        }
    }
}

/// Octets of the first message with its length, as far as that has come.
fn announced(input: &[u8]) -> Option<usize> {
    input.first_chunk().map(|length| 2 + u16::from_be_bytes(*length) as usize)
}

/// The first message, if it is there in full.
fn first(input: &[u8]) -> Option<&[u8]> {
    input.get(2..announced(input)?)
}

/// Appends `message` with its length. False: it is longer than any message.
fn frame(message: &[u8], out: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(message.len()) else { return false };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    true
}

fn seconds() -> u64 {
    u64::from(Clock::seconds())
}

async fn send<S: AsyncWrite + Unpin>(
    io: &mut S,
    out: &mut Vec<u8>,
    limiter: &ConnectionLimiter,
) -> io::Result<()> {
    if !out.is_empty() {
        timeout(limiter.message_timeout(), async {
            io.write_all(out).await?;
            io.flush().await
        })
        .await??;
        out.clear();
    }
    Ok(())
}
