//! The loop of one UDP thread.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;

use federation_runtime::shutdown::Shutdown;

use super::mmsg::Batch;
use super::socket::is_wildcard;
use crate::answer::{Context, Scratch, answer};
use crate::metrics::{Counters, Transport};
use crate::publish::Reader;
use crate::zone::{Asker, step};

/// One thread's source of random bits: SplitMix64. It spreads load, it keeps no secret.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub fn roll(&mut self) -> u64 {
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
    pub dice: Dice,
}

impl Worker {
    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// When the socket cannot be received from any more.
    pub fn run(mut self, shutdown: &Shutdown) -> io::Result<()> {
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
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Answers what `batch` has received.
    pub fn answer_batch(&mut self, batch: &mut Batch, scratch: &mut Scratch) {
        let Self { socket, reader, instance, counters, dice } = self;
        let snapshot = reader.enter();
        batch.answer_each(|buffer, length| {
            let context = Context {
                snapshot,
                instance,
                transport: Transport::Udp,
                asker: Asker::default(),
                dice: dice.roll(),
            };
            answer(buffer, length, scratch, &context, counters)
        });
        let (_, dropped) = batch.send(socket);
        reader.leave();
        if dropped > 0 {
            counters.unsent(dropped as u64);
        }
    }
}
