//! Answers the queries of connections.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::answer::{Context, CookiePolicy, Scratch, answer};
use crate::metrics::{Counters, Transport};
use crate::publish::Published;
use crate::tap::{Outcome, Tap};
use crate::udp::Clock;
use crate::zone::step;

/// Octets of the longest message.
pub(super) const MESSAGE_MAX: usize = u16::MAX as usize;

/// Everything that the queries of one transport are answered from.
#[derive(Debug)]
pub struct Responder {
    /// The zones.
    pub published: Arc<Published>,
    /// This server's name.
    pub instance: Arc<[u8]>,
    /// Metrics of this transport.
    pub counters: Arc<Counters>,
    /// How queries come.
    pub transport: Transport,
    /// For choices: as the UDP threads' generators, but shared.
    pub random: AtomicU64,
    /// The query log and dnstap, if enabled.
    pub tap: Option<Mutex<Tap>>,
}

thread_local! {
    // Answers are made in place, in a buffer that could hold the longest: one for each thread, so that a connection holds only the
    // octets that it is to send.
    static BUFFER: RefCell<(Vec<u8>, Scratch)> = RefCell::new((vec![0; MESSAGE_MAX], Scratch::default()));
}

impl Responder {
    /// Appends the answer to `query` to `output`. False: it deserves none.
    #[must_use]
    pub fn answer(&self, query: &[u8], client: SocketAddr, output: &mut Vec<u8>) -> bool {
        BUFFER.with_borrow_mut(|(buffer, scratch)| {
            let Some(start) = buffer.get_mut(..query.len()) else { return false };
            start.copy_from_slice(query);
            // A new snapshot is seen by the next query: nothing is kept over an await.
            let snapshot = self.published.snapshot();
            let entry = self.tap.as_ref().and_then(|tap| tap.lock().query(query, client));
            let context = Context {
                snapshot: &snapshot,
                instance: &self.instance,
                transport: self.transport,
                source: client.ip(),
                now: Clock::seconds(),
                cookies: CookiePolicy::Answer,
                random: step(self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed)),
                keys: None,
            };
            let reply = answer(buffer, query.len(), scratch, &context, &self.counters);
            let octets = reply.as_ref().and_then(|reply| buffer.get(..reply.length));
            if let (Some(tap), Some(entry)) = (&self.tap, entry) {
                let outcome = if octets.is_some() { Outcome::Sent } else { Outcome::None };
                let cluster = reply.as_ref().and_then(|reply| reply.cluster);
                tap.lock().answer(entry, octets.unwrap_or_default(), cluster, outcome);
            }
            let Some(octets) = octets else { return false };
            output.extend_from_slice(octets);
            true
        })
    }
}
