//! Length-prefixed messages on a connection (RFC 7766): TCP, and TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::handler::{Handler, Response};
use crate::transfer::{Transfer, Transfers};

/// Queries on one connection; a client with more opens another, so that connections move between servers.
const QUERIES_MAX: u32 = 100_000;
/// Octets read at once, if the message at hand needs no more: some 60 queries.
const READ: usize = 4096;
/// Answers that wait to be sent together, octets. Beyond it they are sent first, so that a client that does not read is not answered on.
const TOGETHER: usize = 16 * 1024;
/// Buffers up to this size are kept while a client is silent.
const KEPT: usize = 512;
/// Octets of a message's length before it (RFC 1035 section 4.2.2).
const LENGTH: usize = 2;
/// How long a client is listened to after the shutdown has begun: what it sent before is answered.
const DRAIN: Duration = Duration::from_millis(300);
/// The same where a successor answers already, so that nobody waits: a client that has just connected has time to ask.
const DRAIN_SUCCEEDED: Duration = Duration::from_secs(3);

/// Answers the queries that come by `io` until the client is done, silent for too long, or asks nothing that deserves an answer.
///
/// Answers go out in the order of their queries. None waits for another: each is made without awaiting anything, so that RFC 7766
/// section 6.2.1.1 has nothing to reorder. Queries that came together are answered together.
///
/// # Errors
/// When the connection breaks, or the client takes too long for a message.
pub async fn serve<S>(io: S, client: SocketAddr, handler: Handler) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (input, output) = (Vec::with_capacity(KEPT), Vec::new());
    let mut connection = Connection { io, client, handler, input, output, queries: 0, ending: None };
    while connection.receive().await? {
        if !connection.answer().await? {
            return connection.io.shutdown().await;
        }
    }
    Ok(())
}

struct Connection<S> {
    io: S,
    client: SocketAddr,
    handler: Handler,
    // What came, and is not answered yet.
    input: Vec<u8>,
    // Answers that are not sent yet.
    output: Vec<u8>,
    queries: u32,
    // When it ends at the latest, once the shutdown has begun.
    ending: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Waits for a message, or for the first octets of one. False: the client is done, or was silent for too long.
    async fn receive(&mut self) -> io::Result<bool> {
        // One deadline for a whole message, so that an octet now and then does not keep a connection.
        let unfinished = !self.input.is_empty();
        let limiter = &self.handler.limiter;
        let timeout = if unfinished { limiter.message_timeout() } else { limiter.idle_timeout() };
        let deadline = Instant::now() + timeout;
        loop {
            let wanted = announced(&self.input).unwrap_or(0).saturating_sub(self.input.len()).max(READ);
            self.input.reserve_exact(wanted);
            let deadline = self.ending.map_or(deadline, |ending| ending.min(deadline));
            let read = tokio::select! {
                read = timeout_at(deadline, self.io.read_buf(&mut self.input)) => read,
                () = self.handler.shutdown.wait(), if self.ending.is_none() => {
                    let succeeded = self.handler.succeeded.load(Relaxed);
                    let drain = if succeeded { DRAIN_SUCCEEDED } else { DRAIN };
                    self.ending = Some(Instant::now() + drain);
                    continue;
                }
            };
            match read {
                Ok(Ok(0)) => return Ok(false),
                Ok(Ok(_)) if first(&self.input).is_some() => return Ok(true),
                // The first octets of a message: its own deadline begins.
                Ok(Ok(_)) if !unfinished => return Ok(true),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                // Silence is how most clients end.
                Err(_) if self.input.is_empty() => {
                    self.io.shutdown().await?;
                    return Ok(false);
                }
                Err(late) => return Err(late.into()),
            }
        }
    }

    /// Answers the messages that are there in full. False: the client has no business to go on.
    async fn answer(&mut self) -> io::Result<bool> {
        let (mut at, mut goes_on) = (0, true);
        while goes_on && let Some(query) = first(self.input.get(at..).unwrap_or_default()) {
            at += LENGTH + query.len();
            self.queries += 1;
            let begin = self.output.len();
            self.output.extend_from_slice(&[0; LENGTH]);
            goes_on = match self.handler.respond(query, self.client, &mut self.output) {
                Some(Response::Message) => frame(&mut self.output, begin),
                Some(Response::Transfer(transfer, transfers)) => {
                    self.output.truncate(begin);
                    self.transfer(transfer, &transfers).await?
                }
                // No answer to what is no query: here the client cannot be spoofed.
                None => {
                    self.output.truncate(begin);
                    false
                }
            };
            goes_on &= self.queries < QUERIES_MAX;
            if goes_on && self.output.len() >= TOGETHER {
                self.send().await?;
            }
        }
        self.input.drain(..at);
        self.send().await?;
        if self.input.is_empty() {
            self.input.shrink_to(KEPT);
        }
        self.output.shrink_to(KEPT);
        Ok(goes_on)
    }

    /// Sends a zone. False: a message is longer than any may be.
    async fn transfer(&mut self, transfer: Transfer, transfers: &Arc<Transfers>) -> io::Result<bool> {
        let messages = transfers.messages(transfer).await;
        for message in messages.into_iter().flatten() {
            let begin = self.output.len();
            self.output.extend_from_slice(&[0; LENGTH]);
            self.output.extend_from_slice(&message);
            if !frame(&mut self.output, begin) {
                return Ok(false);
            }
            // Each in its time: a secondary that reads slowly is waited for, one that stops is not.
            self.send().await?;
        }
        Ok(true)
    }

    /// Sends the answers that wait.
    async fn send(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            timeout(self.handler.limiter.message_timeout(), async {
                self.io.write_all(&self.output).await?;
                self.io.flush().await
            })
            .await??;
            self.output.clear();
        }
        Ok(())
    }
}

/// Octets of the first message with its length, as far as that has come.
fn announced(input: &[u8]) -> Option<usize> {
    input.first_chunk().map(|length| LENGTH + u16::from_be_bytes(*length) as usize)
}

/// The first message, if it is there in full.
fn first(input: &[u8]) -> Option<&[u8]> {
    input.get(LENGTH..announced(input)?)
}

/// Writes the length of the message that begins behind the two octets at `begin`. False: it is longer than any may be, and dropped.
fn frame(output: &mut Vec<u8>, begin: usize) -> bool {
    let length = output.len().checked_sub(begin + LENGTH).and_then(|length| u16::try_from(length).ok());
    match length.zip(output.get_mut(begin..begin + LENGTH)) {
        Some((length, place)) => {
            place.copy_from_slice(&length.to_be_bytes());
            true
        }
        None => {
            output.truncate(begin);
            false
        }
    }
}
