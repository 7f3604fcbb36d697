//! The loop of one UDP thread.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_runtime::shutdown::Shutdown;

use super::limit::{Limiter, Verdict};
use super::mmsg::Batch;
use super::socket::is_wildcard;
use crate::answer::{Context, CookiePolicy, Scratch, answer};
use crate::metrics::{Counters, Transport};
use crate::publish::Reader;
use crate::tap::{Outcome, Tap};
use crate::transfer::Keys;
use crate::zone::step;

/// How long a thread waits where the kernel is out of memory.
const OUT_OF_MEMORY_PAUSE: Duration = Duration::from_millis(10);

/// One thread's source of random bits: SplitMix64. It spreads load, it keeps no secret.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        step(self.0)
    }
}

/// One thread: its socket, its buffers, its counters.
pub struct Worker {
    /// Bound.
    pub socket: UdpSocket,
    /// Where the zones come from.
    pub reader: Reader,
    /// This server's name.
    pub instance: Arc<[u8]>,
    /// Bumped for each message.
    pub counters: Arc<Counters>,
    /// For weighted choices.
    pub rng: Rng,
    /// What is asked of clients with cookies.
    pub cookies: CookiePolicy,
    /// Of answers.
    pub limiter: Limiter,
    /// Read once per batch.
    pub clock: Clock,
    /// Of those who sign queries.
    pub keys: Keys,
    /// Where queries are taken down, if they are.
    pub tap: Option<Tap>,
}

/// The time, as far as answers depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// Milliseconds of a clock that goes round.
    #[inline]
    fn milliseconds(self) -> u32 {
        self.0.elapsed().as_millis() as u32
    }

    /// Seconds since 1970, for cookies.
    #[inline]
    pub fn seconds() -> u32 {
        (federation_runtime::clock::unix_ms() / 1000) as u32
    }
}

impl Worker {
    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// When the socket cannot be received from any more.
    pub fn run(&mut self, shutdown: &Shutdown) -> io::Result<()> {
        // One that panicked was not through with what it had.
        self.reader.leave();
        let mut batch = Batch::new(is_wildcard(self.socket.local_addr()?));
        let mut scratch = Scratch::default();
        while !shutdown.started() {
            match batch.receive(&self.socket) {
                Ok(_) => self.answer_batch(&mut batch, &mut scratch),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                    // An ICMP error for an earlier answer: news about a client, not about us.
                    io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable => {}
                    // The machine has no memory for this datagram; it may have for the next.
                    io::ErrorKind::OutOfMemory => std::thread::sleep(OUT_OF_MEMORY_PAUSE),
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Answers what `batch` has received.
    pub fn answer_batch(&mut self, batch: &mut Batch, scratch: &mut Scratch) {
        let Self { socket, reader, instance, counters, rng, cookies, limiter, clock, keys, tap } = self;
        let keys = Some(&*keys).filter(|keys| !keys.is_empty());
        let (now, milliseconds) = (Clock::seconds(), clock.milliseconds());
        let snapshot = reader.enter();
        batch.answer_each(|buffer, length, client| {
            let transport = Transport::Udp;
            let (random, cookies) = (rng.next_u64(), *cookies);
            let entry = tap.as_mut().and_then(|tap| tap.query(buffer.get(..length)?, client));
            let source = client.ip();
            let context = Context { snapshot, instance, transport, source, now, cookies, random, keys };
            let reply = answer(buffer, length, scratch, &context, counters);
            let (length, outcome) = match &reply {
                None => (None, Outcome::None),
                Some(reply) if reply.known() => (Some(reply.length), Outcome::Sent),
                Some(reply) => match limiter.judge(source, reply.subject, milliseconds) {
                    Verdict::Send => (Some(reply.length), Outcome::Sent),
                    Verdict::Slip => {
                        counters.slipped();
                        (reply.slip(buffer, &context), Outcome::Cut)
                    }
                    Verdict::Withhold => {
                        counters.limited();
                        (None, Outcome::Withheld)
                    }
                },
            };
            if let (Some(tap), Some(entry)) = (tap.as_mut(), entry) {
                let octets = buffer.get(..length.unwrap_or(0)).unwrap_or_default();
                tap.answer(entry, octets, reply.and_then(|reply| reply.cluster), outcome);
            }
            length
        });
        let (_, dropped) = batch.send(socket);
        reader.leave();
        if dropped > 0 {
            counters.unsent(dropped as u64);
        }
    }
}
