//! From a query's octets to the answer's, in place.
//!
//! [`answer`] is all that a socket needs. The hot path reads the message with [`parse`] and copies a compiled answer; what it
//! hands on (see [`Outcome::Cold`]) is read again, from the same octets, with hickory-proto.

mod cold;
mod hot;
mod parse;
mod proofs;

pub use cold::cold;
pub use hot::{Outcome, hot};
pub use parse::{Edns, Parsed, Question, Refusal, Scratch, parse};

use crate::compile::Snapshot;
use crate::metrics::{Counters, Transport};
use crate::zone::Asker;

/// EDNS option NSID (RFC 5001).
pub const OPTION_NSID: u16 = 3;
/// EDNS option extended error (RFC 8914).
pub const OPTION_EDE: u16 = 15;
/// Extended error "Stale Answer" (RFC 8914 section 4.4).
pub const EDE_STALE: u16 = 3;

/// What an answer depends on besides the query.
#[derive(Clone, Copy)]
pub struct Context<'s> {
    /// The zones.
    pub snapshot: &'s Snapshot,
    /// This server's name, at most [`INSTANCE_MAX`] octets.
    pub instance: &'s [u8],
    /// How the query came.
    pub transport: Transport,
    /// Who asks.
    pub asker: Asker,
    /// 64 random bits for this query.
    pub dice: u64,
}

/// Longest instance name: with it, every error and every truncated answer fits the 512 octets of plain UDP.
pub const INSTANCE_MAX: usize = 64;

/// Answers the query in the first `length` octets of `buffer`, in place. None: it deserves no answer.
///
/// `buffer` should hold what the transport can carry: 1232 octets for UDP, 65,535 for TCP.
#[inline]
pub fn answer(
    buffer: &mut [u8],
    length: usize,
    scratch: &mut Scratch,
    context: &Context<'_>,
    counters: &Counters,
) -> Option<usize> {
    let reply = match hot(buffer, length, scratch, context, counters) {
        Outcome::Reply(reply) => Some(reply),
        Outcome::Drop => None,
        Outcome::Cold => {
            counters.cold();
            buffer.get(..length).and_then(|query| cold(query, context)).and_then(|(bytes, rcode)| {
                buffer.get_mut(..bytes.len())?.copy_from_slice(&bytes);
                Some((bytes.len(), rcode))
            })
        }
    };
    match reply {
        Some((length, rcode)) => {
            counters.answered(rcode);
            Some(length)
        }
        None => {
            counters.dropped();
            None
        }
    }
}
