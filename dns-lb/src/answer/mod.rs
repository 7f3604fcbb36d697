//! From a query's octets to the answer's, in place.
//!
//! [`answer`] is all that a socket needs. The hot path reads the message with [`parse`] and copies a compiled answer; what it
//! hands on (see [`Outcome::Cold`]) is read again, from the same octets, with hickory-proto.

mod cold;
mod cookie;
mod hot;
mod options;
mod parse;
mod proofs;
mod signed;
mod state;

pub use cold::{cold, has_keepalive};
pub use cookie::{Checked, Cookie, Secrets};
pub use hot::{Outcome, hot};
pub use options::{
    EDE_INVALID_TYPE, EDE_NOT_AUTHORITATIVE, EDE_NOT_READY, EDE_NOT_SUPPORTED, EDE_OTHER, EDE_PROHIBITED,
    EDE_STALE, Facts, Options, PADDING_BLOCK, SILENT, VERSION_EPOCH, VERSION_SERIAL,
};
pub use parse::{Edns, Parsed, Question, Refusal, Scratch, parse};

use std::net::IpAddr;

use crate::compile::Snapshot;
use crate::metrics::{ClusterSlot, Counters, Transport};
use crate::transfer::Keys;
use crate::wire::{HEADER, Rcode};

/// What an answer depends on besides the query.
#[derive(Clone, Copy)]
pub struct Context<'s> {
    /// The zones.
    pub snapshot: &'s Snapshot,
    /// This server's name, at most [`INSTANCE_MAX`] octets.
    pub instance: &'s [u8],
    /// How the query came.
    pub transport: Transport,
    /// Where the query came from.
    pub source: IpAddr,
    /// Seconds since 1970.
    pub now: u32,
    /// What is asked of clients with cookies.
    pub cookies: CookiePolicy,
    /// 64 random bits for this query.
    pub random: u64,
    /// Of those who may sign queries (RFC 8945). None: signatures were looked at before.
    pub keys: Option<&'s Keys>,
}

/// What is asked of clients that speak of cookies, over UDP. The others are answered alike in any case (RFC 7873 section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CookiePolicy {
    /// Nothing: they are answered, and get a cookie for the next time.
    #[default]
    Answer,
    /// A good server cookie: without one they get BADCOOKIE with a good one, and ask again (RFC 7873 section 5.2.3).
    Require,
}

/// An answer that is ready in its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Its octets.
    pub length: usize,
    /// Its code.
    pub rcode: Rcode,
    /// What was asked for, as far as a limit on answers goes: the name that answered, the zone where it does not exist, or the kind
    /// of error.
    pub subject: u64,
    /// The cluster that the answer names, the last one if there are several.
    pub cluster: Option<ClusterSlot>,
    /// Where the question ends; the header's end if there is none.
    pub question_end: usize,
    /// The query's OPT.
    pub edns: Option<Edns>,
    /// What the answer's OPT says.
    pub facts: Facts,
}

impl Reply {
    /// Of so many octets that say nothing but this.
    #[inline]
    fn bare(length: usize, rcode: Rcode) -> Self {
        let facts = Facts::default();
        Self { length, rcode, subject: 0, cluster: None, question_end: HEADER, edns: None, facts }
    }

    /// Whether the client has shown by a cookie that it is where it says.
    #[inline]
    pub fn known(&self) -> bool {
        self.facts.cookie.is_some_and(|cookie| cookie.known)
    }

    /// Cuts the answer in `buffer` to next to nothing, for a client that may not be who it says it is: BADCOOKIE if it knows cookies, so
    /// that it can show who it is, and else a truncated answer, so that it comes by TCP. Never longer than the query was, but for the
    /// cookie. Gives the length.
    #[must_use]
    pub fn slip(&self, buffer: &mut [u8], context: &Context<'_>) -> Option<usize> {
        let header = buffer.first_chunk_mut::<HEADER>()?;
        let has_cookie = self.facts.cookie.is_some();
        let rcode = if has_cookie { Rcode::BADCOOKIE } else { Rcode::NOERROR };
        header[2] = 0x80 | header[2] & 0x79 | u8::from(!has_cookie) << 1;
        header[3] = header[3] & 0x10 | rcode.0 & 0x0f;
        // Without its question it has none.
        let from = if self.question_end == HEADER { 4 } else { 6 };
        header.get_mut(from..)?.fill(0);
        let Some(edns) = self.edns else { return Some(self.question_end) };
        header[11] = 1;
        let asked = Options { cookie: edns.options.cookie, ..Options::default() };
        let edns = Edns { options: asked, ..edns };
        options::write(buffer, self.question_end, 0, &edns, rcode, &self.facts, context)
    }
}

/// Longest instance name: with it, every error and every truncated answer fits the 512 octets of plain UDP.
pub const INSTANCE_MAX: usize = 64;

/// Answers the query in the first `length` octets of `buffer`, in place. None: it deserves no answer.
///
/// `buffer` should hold what the transport can carry: 1232 octets for UDP, 65,535 for the others.
#[inline]
pub fn answer(
    buffer: &mut [u8],
    length: usize,
    scratch: &mut Scratch,
    context: &Context<'_>,
    counters: &Counters,
) -> Option<Reply> {
    match reply(buffer, length, scratch, context, counters) {
        Some(reply) => {
            counters.answered(&reply);
            Some(reply)
        }
        None => {
            counters.dropped();
            None
        }
    }
}

#[inline]
fn reply(
    buffer: &mut [u8],
    length: usize,
    scratch: &mut Scratch,
    context: &Context<'_>,
    counters: &Counters,
) -> Option<Reply> {
    match hot(buffer, length, scratch, context, counters) {
        Outcome::Reply(reply) => Some(reply),
        Outcome::Drop => None,
        Outcome::Cold => {
            counters.cold();
            if let Some(keys) = context.keys
                && let Some(reply) = signed::reply(buffer, length, keys, scratch, context, counters)
            {
                return Some(reply);
            }
            let (bytes, reply) = cold(buffer.get(..length)?, context)?;
            buffer.get_mut(..bytes.len())?.copy_from_slice(&bytes);
            Some(reply)
        }
    }
}
