//! Answering from the snapshot: no allocation, no lock.

use super::parse::{Edns, Parsed, Question, Refusal, Scratch, parse};
use super::{Context, EDE_STALE, OPTION_EDE, OPTION_NSID};
use crate::compile::{Choices, Lookup, Node, Pick, Records, Set, Sink, Snapshot, Target, ZoneAnswers};
use crate::metrics::{Counters, Transport};
use crate::wire::{HEADER, Rcode, Type, UDP_MAX, UDP_PLAIN};
use crate::zone::{Asker, CHAIN_MAX, draw, scale, step, sticky};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The buffer holds an answer of this length.
    Reply((usize, Rcode)),
    /// There is nothing to send.
    Drop,
    /// The buffer is untouched: the cold path must read it.
    Cold,
}

/// Records copied so far.
struct Body {
    rcode: Rcode,
    authoritative: bool,
    answers: u16,
    authorities: u16,
}

/// Answers the query in the first `length` octets of `buffer`, if it is of the usual form.
#[inline]
pub fn hot(
    buffer: &mut [u8],
    length: usize,
    scratch: &mut Scratch,
    context: &Context<'_>,
    counters: &Counters,
) -> Outcome {
    let Some(message) = buffer.get(..length) else { return Outcome::Drop };
    let question = match parse(message, scratch) {
        Parsed::Question(question) => question,
        Parsed::Cold => return Outcome::Cold,
        Parsed::Refused(Refusal::Drop) => return Outcome::Drop,
        Parsed::Refused(Refusal::NotImplemented) => return bare(buffer, Rcode::NOTIMP),
        Parsed::Refused(Refusal::FormErr) => return bare(buffer, Rcode::FORMERR),
    };
    let limit = size_limit(context.transport, question.edns).min(buffer.len());
    // What OPT takes at the end is kept free.
    let reserve = question.edns.map_or(0, |edns| opt_length(edns, context));
    let mut sink = Sink { at: question.end, limit: limit.saturating_sub(reserve), buffer, origin: 0 };
    let written = if question.edns.is_some_and(|edns| edns.version != 0) {
        Ok(Body { rcode: Rcode::BADVERS, authoritative: false, answers: 0, authorities: 0 })
    } else {
        zones(&question, &mut sink, context, counters)
    };
    let (body, truncated) = match written {
        Ok(body) => (body, false),
        // RFC 2181 section 9: what is there is not to be used, so nothing is there.
        Err(Truncated { rcode }) => {
            sink.at = question.end;
            counters.truncated();
            (Body { rcode, authoritative: true, answers: 0, authorities: 0 }, true)
        }
    };
    sink.limit = limit;
    if let Some(edns) = question.edns {
        write_opt(&mut sink, edns, body.rcode, context);
    }
    let length = sink.at;
    let additionals = u16::from(question.edns.is_some());
    header(buffer, &body, truncated, additionals);
    Outcome::Reply((length, body.rcode))
}

struct Truncated {
    rcode: Rcode,
}

/// The most that an answer may have.
#[inline]
pub(super) fn size_limit(transport: Transport, edns: Option<Edns>) -> usize {
    match (transport, edns) {
        (Transport::Tcp, _) => u16::MAX as usize,
        (Transport::Udp, None) => UDP_PLAIN as usize,
        (Transport::Udp, Some(edns)) => edns.payload.clamp(UDP_PLAIN, UDP_MAX) as usize,
    }
}

#[inline]
fn zones(
    question: &Question<'_>,
    sink: &mut Sink<'_>,
    context: &Context<'_>,
    counters: &Counters,
) -> Result<Body, Truncated> {
    let snapshot = context.snapshot;
    let mut body = Body { rcode: Rcode::REFUSED, authoritative: false, answers: 0, authorities: 0 };
    if question.kind == Type::AXFR || question.kind == Type::IXFR {
        return Ok(body);
    }
    let (node, encloser) = match snapshot.table.find(question.name, question.starts) {
        Lookup::Outside => return Ok(body),
        Lookup::Exact(node) => (snapshot.nodes.get(node as usize), node),
        Lookup::Below(encloser) => {
            let wildcard = snapshot.nodes.get(encloser as usize).and_then(|node| node.wildcard);
            (wildcard.and_then(|node| snapshot.nodes.get(node as usize)), encloser)
        }
    };
    let zone =
        snapshot.nodes.get(encloser as usize).and_then(|node| snapshot.answers.get(node.zone as usize));
    let Some(zone) = zone else { return Ok(body) };
    body.rcode = Rcode::NOERROR;
    body.authoritative = true;
    sink.origin = (HEADER + question.name.len()) as u16 - zone.origin_length;
    let negative = match node {
        None => {
            body.rcode = Rcode::NXDOMAIN;
            true
        }
        Some(node) => positive(question, node, zone, sink, &mut body, context, counters)?,
    };
    if negative {
        let origin = sink.origin;
        put(&zone.negative, sink, origin, body.rcode)?;
        body.authorities = 1;
    }
    Ok(body)
}

/// Copies the answer, along the chain of aliases. True: the SOA must say that there is no (more) answer.
#[inline]
fn positive<'s>(
    question: &Question<'_>,
    first: &'s Node,
    zone: &ZoneAnswers,
    sink: &mut Sink<'_>,
    body: &mut Body,
    context: &Context<'s>,
    counters: &Counters,
) -> Result<bool, Truncated> {
    let snapshot: &'s Snapshot = context.snapshot;
    let asker = &context.asker;
    let (mut node, mut owner, mut dice) = (first, HEADER as u16, context.dice);
    let mut links = 0;
    loop {
        if node.types.is_empty() && !node.apex {
            return Ok(true);
        }
        if question.kind == Type::SOA && node.apex {
            put(&zone.soa, sink, owner, body.rcode)?;
            body.answers += 1;
            return Ok(false);
        }
        if question.kind == Type::ANY {
            put(&zone.hinfo, sink, owner, body.rcode)?;
            body.answers += 1;
            return Ok(false);
        }
        if let Some(set) = node.set(question.kind).and_then(|set| snapshot.set(set, asker.region)) {
            let before = body.answers;
            every(set, asker, dice, |choices| {
                put(&choices.records, sink, owner, body.rcode)?;
                body.answers += choices.records.count();
                counters.chosen(choices.cluster);
                Ok(())
            })?;
            return Ok(body.answers == before);
        }
        let alias = node.alias.and_then(|set| snapshot.set(set, asker.region));
        let Some(choices) = alias.and_then(|set| one(set, asker, dice)) else { return Ok(true) };
        if links == CHAIN_MAX {
            return Ok(false);
        }
        links += 1;
        owner = put(&choices.records, sink, owner, body.rcode)?;
        body.answers += 1;
        counters.chosen(choices.cluster);
        match choices.target {
            Target::End => return Ok(false),
            Target::Missing => {
                // RFC 6604 section 3: the code is the last name's.
                body.rcode = Rcode::NXDOMAIN;
                return Ok(true);
            }
            Target::Node(next) => match snapshot.nodes.get(next as usize) {
                Some(next) => node = next,
                None => return Ok(false),
            },
        }
        dice = step(dice);
    }
}

#[inline]
fn one<'s>(set: &'s Set, asker: &Asker, dice: u64) -> Option<&'s Choices> {
    match &set.pick {
        Pick::One(table) | Pick::Some(table, _) => set.choices.get(table.pick(dice)),
        Pick::Sticky(tickets) => set.choices.get(sticky(tickets, asker.key)?),
        Pick::All => set.choices.first(),
        Pick::None => None,
    }
}

#[inline]
fn every<'s>(
    set: &'s Set,
    asker: &Asker,
    dice: u64,
    mut put: impl FnMut(&'s Choices) -> Result<(), Truncated>,
) -> Result<(), Truncated> {
    match &set.pick {
        Pick::None => Ok(()),
        Pick::One(_) | Pick::Sticky(_) => one(set, asker, dice).map_or(Ok(()), put),
        Pick::Some(table, picks) => draw(table, set.choices.len(), *picks as usize, dice, |index| {
            set.choices.get(index).map_or(Ok(()), &mut put)
        }),
        Pick::All => {
            let (before, after) =
                set.choices.split_at_checked(scale(dice, set.choices.len())).unwrap_or_default();
            after.iter().chain(before).try_for_each(&mut put)
        }
    }
}

#[inline]
fn put(records: &Records, sink: &mut Sink<'_>, owner: u16, rcode: Rcode) -> Result<u16, Truncated> {
    records.write(sink, owner).map_err(|_| Truncated { rcode })
}

/// An answer of a header alone: where the question could not be read, it is not repeated.
#[inline]
fn bare(buffer: &mut [u8], rcode: Rcode) -> Outcome {
    let Some(header) = buffer.first_chunk_mut::<HEADER>() else { return Outcome::Drop };
    header[2] = 0x80 | header[2] & 0x79;
    header[3] = header[3] & 0x10 | rcode.0 & 0x0f;
    header[4..].fill(0);
    Outcome::Reply((HEADER, rcode))
}

/// Turns the query's header into the answer's: the identifier, the opcode, RD and CD stay (RFC 1035 section 4.1.1, RFC 4035
/// section 3.1.6).
#[inline]
fn header(buffer: &mut [u8], body: &Body, truncated: bool, additionals: u16) {
    let Some(header) = buffer.first_chunk_mut::<HEADER>() else { return };
    header[2] = 0x80 | header[2] & 0x79 | u8::from(body.authoritative) << 2 | u8::from(truncated) << 1;
    header[3] = header[3] & 0x10 | body.rcode.0 & 0x0f;
    header[6..8].copy_from_slice(&body.answers.to_be_bytes());
    header[8..10].copy_from_slice(&body.authorities.to_be_bytes());
    header[10..12].copy_from_slice(&additionals.to_be_bytes());
}

#[inline]
fn opt_length(edns: Edns, context: &Context<'_>) -> usize {
    11 + if edns.nsid { 4 + context.instance.len() } else { 0 } + if context.snapshot.stale { 6 } else { 0 }
}

/// Writes our OPT; the space for it was kept free.
#[inline]
fn write_opt(sink: &mut Sink<'_>, edns: Edns, rcode: Rcode, context: &Context<'_>) {
    let length = opt_length(edns, context);
    let Some(place) = sink.buffer.get_mut(sink.at..sink.at + length) else { return };
    let [size_high, size_low] = UDP_MAX.to_be_bytes();
    let [rdata_high, rdata_low] = (length as u16 - 11).to_be_bytes();
    let flags = u8::from(edns.dnssec_ok) << 7;
    let (fixed, mut options) = place.split_at_mut(11);
    fixed.copy_from_slice(&[0, 0, 41, size_high, size_low, rcode.0 >> 4, 0, flags, 0, rdata_high, rdata_low]);
    if edns.nsid {
        let (nsid, rest) = options.split_at_mut(4 + context.instance.len());
        let [high, low] = (context.instance.len() as u16).to_be_bytes();
        nsid[..4].copy_from_slice(&[0, OPTION_NSID as u8, high, low]);
        nsid[4..].copy_from_slice(context.instance);
        options = rest;
    }
    if context.snapshot.stale {
        options.copy_from_slice(&[0, OPTION_EDE as u8, 0, 2, 0, EDE_STALE as u8]);
    }
    sink.at += length;
}
