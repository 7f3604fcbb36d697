//! Where queries are answered that came by a connection.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::answer::{Context, CookiePolicy, Scratch, answer};
use crate::metrics::{Counters, Transport};
use crate::publish::Published;
use crate::udp::Clock;
use crate::zone::step;

/// Octets of the longest message.
pub(super) const MESSAGE_MAX: usize = u16::MAX as usize;

/// What one door answers from.
#[derive(Debug)]
pub struct Desk {
    /// The zones.
    pub published: Arc<Published>,
    /// This server's name.
    pub instance: Arc<[u8]>,
    /// Bumped for each message.
    pub counters: Arc<Counters>,
    /// How queries come.
    pub transport: Transport,
    /// For choices: as the UDP threads' dice, but shared.
    pub dice: AtomicU64,
}

thread_local! {
    // Answers are made in place, in a buffer that could hold the longest: one for each thread, so that a connection holds only the
    // octets that it is to send.
    static ROOM: RefCell<(Vec<u8>, Scratch)> = RefCell::new((vec![0; MESSAGE_MAX], Scratch::default()));
}

impl Desk {
    /// The answer to `query` by itself. None: it deserves none.
    #[must_use]
    pub fn message(&self, query: &[u8], source: IpAddr) -> Option<Vec<u8>> {
        self.make(query, source, <[u8]>::to_vec)
    }

    /// Appends the answer to `query`, its length in two octets before it (RFC 1035 section 4.2.2), to `out`. False: it deserves none.
    #[must_use]
    pub fn answer(&self, query: &[u8], source: IpAddr, out: &mut Vec<u8>) -> bool {
        let taken = self.make(query, source, |octets| {
            out.extend_from_slice(&(octets.len() as u16).to_be_bytes());
            out.extend_from_slice(octets);
        });
        taken.is_some()
    }

    fn make<T>(&self, query: &[u8], source: IpAddr, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        ROOM.with_borrow_mut(|(room, scratch)| {
            room.get_mut(..query.len())?.copy_from_slice(query);
            // A new snapshot is seen by the next query: nothing is kept over an await.
            let snapshot = self.published.snapshot();
            let context = Context {
                snapshot: &snapshot,
                instance: &self.instance,
                transport: self.transport,
                source,
                now: Clock::seconds(),
                cookies: CookiePolicy::Answer,
                dice: step(self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed)),
                keys: None,
            };
            let reply = answer(room, query.len(), scratch, &context, &self.counters)?;
            Some(take(room.get(..reply.length)?))
        })
    }
}
