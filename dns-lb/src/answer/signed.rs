//! Queries that are signed (RFC 8945): secondaries ask for the SOA so, by UDP first.

use super::{Context, Reply, Scratch};
use crate::answer::hot::size_limit;
use crate::metrics::Counters;
use crate::transfer::{Keys, Opened, header, open};
use crate::wire::Rcode;

/// Answers the query in the first `length` octets of `buffer`, in place, if it is signed: signed if the signature is good, and else with what
/// is wrong with it. None: it is not signed, or its signature cannot be read; then the query is as it was.
pub(super) fn reply(
    buffer: &mut [u8],
    length: usize,
    keys: &Keys,
    scratch: &mut Scratch,
    context: &Context<'_>,
    counters: &Counters,
) -> Option<Reply> {
    let (bare, mut session) = match open(buffer.get(..length)?, keys, u64::from(context.now)) {
        Opened::Plain | Opened::Malformed => return None,
        Opened::Refused(answer) => {
            buffer.get_mut(..answer.len())?.copy_from_slice(&answer);
            return Some(Reply::bare(answer.len(), Rcode::NOTAUTH));
        }
        Opened::Signed(bare, session) => (bare, session),
    };
    buffer.get_mut(..bare.len())?.copy_from_slice(&bare);
    let inner = Context { keys: None, ..*context };
    let reply = super::reply(buffer, bare.len(), scratch, &inner, counters)?;
    let limit = size_limit(context.transport, reply.edns).min(buffer.len());
    let mut message = buffer.get(..reply.length)?.to_vec();
    if message.len() + session.room() > limit {
        // RFC 8945 section 5.3.2: what does not fit with its signature is truncated, and signed.
        message = header(&bare, reply.rcode);
        *message.get_mut(2)? |= 0x02;
        counters.truncated();
    }
    session.sign(&mut message, u64::from(context.now));
    buffer.get_mut(..message.len())?.copy_from_slice(&message);
    Some(Reply { length: message.len(), ..reply })
}
