//! Non-blocking queues from the answering threads to the writer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Thread;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::metrics::{ClusterSlot, Transport};
use crate::udp::Rng;
use crate::wire::UDP_MAX;

/// Entries of a queue: with the octets of the longest datagrams 1.3 MiB, and 2 ms at 250,000 a second. Who wants to know more of such a flood
/// than that samples it. What longer messages need is let go when they are written.
pub(super) const ENTRIES: usize = 512;
/// The writer is woken when so many entries may wait.
const WAKE: u32 = 64;

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent.
    Sent,
    /// It was cut by the limit on answers.
    Cut,
    /// It was withheld by the limit on answers.
    Withheld,
    /// There was none.
    None,
}

/// A query and its answer.
#[derive(Debug)]
pub struct Entry {
    pub(super) transport: Transport,
    pub(super) client: SocketAddr,
    pub(super) server: Option<SocketAddr>,
    /// Nanoseconds since 1970.
    pub(super) asked: u64,
    /// Nanoseconds since 1970.
    pub(super) answered: u64,
    pub(super) query: Vec<u8>,
    pub(super) answer: Vec<u8>,
    /// The last one that the answer names.
    pub(super) cluster: Option<ClusterSlot>,
    pub(super) outcome: Outcome,
    pub(super) log: bool,
    pub(super) dnstap: bool,
}

impl Entry {
    fn empty(transport: Transport) -> Self {
        let room = if transport == Transport::Udp { UDP_MAX as usize } else { 0 };
        Self {
            transport,
            client: SocketAddr::from(([0, 0, 0, 0], 0)),
            server: None,
            asked: 0,
            answered: 0,
            query: Vec::with_capacity(room),
            answer: Vec::with_capacity(room),
            cluster: None,
            outcome: Outcome::None,
            log: false,
            dnstap: false,
        }
    }

    /// Lets go of the room that only connections need.
    pub(super) fn shrink(&mut self) {
        for octets in [&mut self.query, &mut self.answer] {
            octets.clear();
            octets.shrink_to(UDP_MAX as usize);
        }
    }
}

/// One in how many queries each output gets; 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The log of queries.
    pub log: u32,
    /// dnstap.
    pub dnstap: u32,
}

/// Of one output: what became of what it wanted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Written.
    pub written: AtomicU64,
    /// Lost: the writer was behind, or what it writes to did not take it.
    pub dropped: AtomicU64,
}

/// Counts of both outputs.
#[derive(Debug, Default)]
pub(super) struct OutputCounts {
    pub(super) log: Counts,
    pub(super) dnstap: Counts,
}

/// The side of whoever answers: one for each thread.
#[derive(Debug)]
pub struct Tap {
    transport: Transport,
    server: Option<SocketAddr>,
    sampling: Sampling,
    rng: Rng,
    free: Receiver<Box<Entry>>,
    full: SyncSender<Box<Entry>>,
    counts: Arc<OutputCounts>,
    writer: Thread,
    sent: u32,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) full: Receiver<Box<Entry>>,
    pub(super) free: SyncSender<Box<Entry>>,
}

/// Makes [`Tap`]s.
#[derive(Debug)]
pub struct Taps {
    pub(super) sampling: Sampling,
    pub(super) counts: Arc<OutputCounts>,
    pub(super) queues: Arc<Mutex<Vec<Queue>>>,
    pub(super) writer: Thread,
}

impl Taps {
    /// One more, for queries that come to `server` by `transport`.
    pub fn tap(&self, transport: Transport, server: Option<SocketAddr>, rng: Rng) -> Tap {
        let (full, taken) = sync_channel(ENTRIES);
        let (back, free) = sync_channel(ENTRIES);
        for _ in 0..ENTRIES {
            // There is room for all of them.
            let _ = back.try_send(Box::new(Entry::empty(transport)));
        }
        self.queues.lock().push(Queue { full: taken, free: back });
        let (sampling, counts, writer) = (self.sampling, self.counts.clone(), self.writer.clone());
        Tap { transport, server, sampling, rng, free, full, counts, writer, sent: 0 }
    }
}

impl Tap {
    /// Takes down a query of `client`, if an output wants it and there is room.
    #[inline]
    pub fn query(&mut self, octets: &[u8], client: SocketAddr) -> Option<Box<Entry>> {
        let Sampling { log, dnstap } = self.sampling;
        let (log, dnstap) = (self.chance(log), self.chance(dnstap));
        if !log && !dnstap {
            return None;
        }
        let Ok(mut entry) = self.free.try_recv() else {
            self.drop(log, dnstap);
            return None;
        };
        entry.transport = self.transport;
        (entry.client, entry.server) = (client, self.server);
        (entry.log, entry.dnstap) = (log, dnstap);
        entry.asked = nanoseconds();
        entry.query.clear();
        entry.query.extend_from_slice(octets);
        entry.answer.clear();
        Some(entry)
    }

    /// Takes down the answer, and hands both on.
    #[inline]
    pub fn answer(
        &mut self,
        mut entry: Box<Entry>,
        octets: &[u8],
        cluster: Option<ClusterSlot>,
        outcome: Outcome,
    ) {
        entry.answered = nanoseconds();
        entry.answer.extend_from_slice(octets);
        (entry.cluster, entry.outcome) = (cluster, outcome);
        let (log, dnstap) = (entry.log, entry.dnstap);
        // There are no more entries than there is room: it fails only when the writer is gone.
        if self.full.try_send(entry).is_err() {
            self.drop(log, dnstap);
            return;
        }
        self.sent = self.sent.wrapping_add(1);
        if self.sent.is_multiple_of(WAKE) {
            self.writer.unpark();
        }
    }

    #[inline]
    fn chance(&mut self, every: u32) -> bool {
        match every {
            0 => false,
            1 => true,
            every => self.rng.next_u64().is_multiple_of(u64::from(every)),
        }
    }

    fn drop(&self, log: bool, dnstap: bool) {
        if log {
            self.counts.log.dropped.fetch_add(1, Relaxed);
        }
        if dnstap {
            self.counts.dnstap.dropped.fetch_add(1, Relaxed);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "logs tell nanoseconds, and nothing is decided by them")]
fn nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
