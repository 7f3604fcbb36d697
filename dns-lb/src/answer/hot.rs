//! The hot path: answers from the snapshot without allocation or locks.

use super::parse::{Edns, Parsed, Question, Refusal, Scratch, parse};
use super::proofs::Proofs;
use super::state::{QueryState, Subject};
use super::{Context, Reply, options};
use crate::compile::{Alias, Choice, Lookup, Node, Pick, Records, RecordsRef, Set, Sink, Snapshot};
use crate::metrics::{ClusterSlot, Counters, Transport};
use crate::wire::{HEADER, Rcode, Type, UDP_MAX, UDP_PLAIN, name_end};
use crate::zone::{CHAIN_MAX, draw, scale, step, sticky};

/// The result for a message.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The buffer holds an answer.
    Reply(Reply),
    /// There is nothing to send.
    Drop,
    /// The buffer is untouched: the cold path must read it.
    Cold,
}

/// Records copied so far.
pub(super) struct Body {
    pub(super) rcode: Rcode,
    pub(super) authoritative: bool,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) additionals: u16,
    /// The last cluster that is named.
    cluster: Option<ClusterSlot>,
}

impl Body {
    fn empty(rcode: Rcode, authoritative: bool) -> Self {
        Self { rcode, authoritative, answers: 0, authorities: 0, additionals: 0, cluster: None }
    }
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
    let mut state = QueryState::new(question.edns.as_ref().map(|edns| &edns.options), context);
    state.prefetch_place();
    let reserve = question.edns.map_or(0, |edns| options::reserve(&edns, &state.facts, context));
    let mut sink = Sink { at: question.end, limit: limit.saturating_sub(reserve), buffer, origin: 0 };
    let written = if question.edns.is_some_and(|edns| edns.version != 0) {
        Ok(Body::empty(Rcode::BADVERS, false))
    } else if question.edns.is_some_and(|edns| edns.malformed) {
        // With an OPT all the same: without one the client would take us for a server that does not speak EDNS (RFC 6891 section 7).
        Ok(Body::empty(Rcode::FORMERR, false))
    } else if state.bad_cookie() {
        Ok(Body::empty(Rcode::BADCOOKIE, false))
    } else {
        zones(&question, &mut sink, &mut state, counters)
    };
    let (body, truncated) = match written {
        Ok(body) => (body, false),
        // RFC 2181 section 9: what is there is not to be used, so nothing is there.
        Err(Truncated { rcode, authoritative }) => {
            sink.at = question.end;
            counters.truncated();
            (Body::empty(rcode, authoritative), true)
        }
    };
    let (mut length, mut additionals) = (sink.at, body.additionals);
    if let Some(edns) = &question.edns
        && let Some(end) = options::write(buffer, length, limit, edns, body.rcode, &state.facts, context)
    {
        (length, additionals) = (end, additionals + 1);
    }
    header(buffer, &body, truncated, additionals);
    Outcome::Reply(Reply {
        length,
        rcode: body.rcode,
        subject: state.subject,
        cluster: body.cluster,
        question_end: question.end,
        edns: question.edns,
        facts: state.facts,
    })
}

pub(super) struct Truncated {
    pub(super) rcode: Rcode,
    pub(super) authoritative: bool,
}

/// The most that an answer may have.
#[inline]
pub(super) fn size_limit(transport: Transport, edns: Option<Edns>) -> usize {
    match (transport, edns) {
        (Transport::Udp, None) => UDP_PLAIN as usize,
        (Transport::Udp, Some(edns)) => edns.payload.clamp(UDP_PLAIN, UDP_MAX) as usize,
        _ => u16::MAX as usize,
    }
}

#[inline]
fn zones(
    question: &Question<'_>,
    sink: &mut Sink<'_>,
    state: &mut QueryState<'_>,
    counters: &Counters,
) -> Result<Body, Truncated> {
    let snapshot = state.context.snapshot;
    let mut body = Body::empty(Rcode::REFUSED, false);
    if question.kind == Type::NXNAME {
        // RFC 9824 section 3.5.
        state.facts.error = Some(options::EDE_INVALID_TYPE);
        body.rcode = Rcode::FORMERR;
        return Ok(body);
    }
    let (node, encloser, exact) = match snapshot.table.find(question.name, question.starts) {
        Lookup::Outside => {
            state.facts.error = Some(options::outside(snapshot));
            return Ok(body);
        }
        _ if question.kind == Type::AXFR || question.kind == Type::IXFR => {
            state.facts.error = Some(options::transfer(state.context.transport));
            return Ok(body);
        }
        Lookup::Exact(node) => (Some(node), node, true),
        Lookup::Below(encloser) => (snapshot.table.wildcard(encloser), encloser, false),
    };
    let Some(zone) = snapshot.answers.get(encloser.zone as usize) else { return Ok(body) };
    state.facts.zone = Some(encloser.zone);
    match node {
        Some(node) => state.about(Subject::Name, node.hash.index()),
        None => state.about(Subject::Missing, encloser.zone),
    }
    body.rcode = Rcode::NOERROR;
    sink.origin = (HEADER + question.name.len()) as u16 - zone.origin_length;
    let mut proofs = Proofs::new(question, zone, state.context.now);
    // The parent's side answers for the DS of a cut (RFC 4035 section 3.1.4.1).
    let at_cut = exact && question.name.len() == encloser.cut as usize;
    if encloser.cut > 0 && !(at_cut && question.kind == Type::DS) {
        if let Some(cut) = snapshot.table.cut(encloser) {
            refer(question, cut, sink, &mut body, proofs)?;
        }
        return Ok(body);
    }
    body.authoritative = true;
    let negative = match node {
        None => {
            body.rcode = Rcode::NXDOMAIN;
            proofs.missing(question.name, question.starts, HEADER as u16, encloser);
            true
        }
        Some(node) => {
            if !exact {
                proofs.absent(question.name, question.starts);
            }
            let kind = question.kind;
            let (body, proofs) = (&mut body, &mut proofs);
            Positive { kind, sink: &mut *sink, body, proofs, state: &mut *state, counters }.write(node)?
        }
    };
    proofs.write(negative, sink, &mut body)?;
    Ok(body)
}

/// Sends the client to the servers of a delegated part of the zone.
fn refer<'s>(
    question: &Question<'_>,
    cut: &'s Node,
    sink: &mut Sink<'_>,
    body: &mut Body,
    mut proofs: Proofs<'s>,
) -> Result<(), Truncated> {
    let Some(referral) = cut.referral() else { return Ok(()) };
    let owner = (HEADER + question.name.len()) as u16 - cut.cut;
    let (ns, ds) = (referral.ns.records(), referral.ds.records());
    put(ns, sink, owner, body)?;
    body.authorities += ns.count();
    if ds.count() == 0 {
        proofs.closest(cut);
    } else if proofs.wanted() {
        put(ds, sink, owner, body)?;
        let signature = cut.records(referral.ds_signature);
        body.authorities += ds.count() + proofs.sign(signature, sink, owner, body)?;
    }
    proofs.write(false, sink, body)?;
    for glue in &referral.glue {
        // Without all of it the client could not go on (RFC 9471): what does not fit truncates.
        put(glue.records(), sink, owner, body)?;
        body.additionals += glue.records().count();
    }
    Ok(())
}

/// An answer from a name's records: what it depends on, and where it is written.
struct Positive<'a, 's, 'b> {
    kind: Type,
    sink: &'a mut Sink<'b>,
    body: &'a mut Body,
    proofs: &'a mut Proofs<'s>,
    state: &'a mut QueryState<'s>,
    counters: &'a Counters,
}

impl<'s> Positive<'_, 's, '_> {
    /// Copies the answer, along the chain of aliases. True: the SOA must say that there is no (more) answer.
    #[inline]
    fn write(mut self, first: &'s Node) -> Result<bool, Truncated> {
        let (mut node, mut owner, mut random) = (first, HEADER as u16, self.state.context.random);
        for links in 0.. {
            if let Some(negative) = self.without_set(node, owner)? {
                return Ok(negative);
            }
            if let Some(set) = self.asked(node) {
                return self.set(node, set, owner, random);
            }
            let alias = node.typed(Type::CNAME).and_then(|typed| node.set(typed, || self.state.region()));
            let Some(choice) = alias.and_then(|set| one(node, set, self.state, random)) else {
                self.state.facts.silent = alias.is_some();
                self.proofs.nothing(node, alias);
                return Ok(true);
            };
            if links == CHAIN_MAX {
                break;
            }
            let target = put(node.records(choice.records), self.sink, owner, self.body)?;
            self.body.answers += 1;
            let signature = node.records(choice.signature);
            self.body.answers += self.proofs.sign(signature, self.sink, owner, self.body)?;
            owner = target;
            self.chose(node, choice);
            let Some(alias) = node.alias(choice) else { break };
            node = match self.follow(alias, owner) {
                Next::Name(next) => next,
                Next::Missing => return Ok(true),
                Next::Elsewhere => break,
            };
            random = step(random);
        }
        Ok(false)
    }

    /// Answers that are not a set of the name's: that it has none, its SOA, its place in the chain of names, or HINFO in place of everything.
    /// None: a set answers, if there is one.
    #[inline]
    fn without_set(&mut self, node: &'s Node, owner: u16) -> Result<Option<bool>, Truncated> {
        let Self { kind, sink, body, proofs, .. } = self;
        let zone = proofs.zone;
        if node.types().is_empty() && !node.apex {
            proofs.closest(node);
            return Ok(Some(true));
        }
        if *kind == Type::SOA && node.apex {
            put(zone.soa.records(), sink, owner, body)?;
            body.answers += 1;
            if let Some(denial) = &zone.denial {
                body.answers += proofs.sign(denial.soa.records(), sink, owner, body)?;
            }
            return Ok(Some(false));
        }
        if zone.denial.is_some() && matches!(*kind, Type::NSEC | Type::RRSIG) {
            return chain(*kind, node, sink, owner, body, proofs).map(Some);
        }
        // Only where there is no alias (RFC 8482 section 4.2).
        if *kind == Type::ANY && !proofs.wanted() && node.typed(Type::CNAME).is_none() {
            put(zone.hinfo.records(), sink, owner, body)?;
            body.answers += 1;
            return Ok(Some(false));
        }
        Ok(None)
    }

    /// The set that is asked for, as this client gets it.
    #[inline]
    fn asked(&mut self, node: &'s Node) -> Option<&'s Set> {
        let state = &mut *self.state;
        let typed = match self.kind {
            // HINFO is not signed, so one set that is answers (RFC 8482 section 4.1).
            Type::ANY => node.types().iter().find(|typed| {
                node.set(typed, || state.region()).is_some_and(|set| !node.choices(set).is_empty())
            }),
            kind => node.typed(kind),
        };
        node.set(typed?, || state.region())
    }

    /// Copies what is chosen of a set. True: nothing is.
    #[inline]
    fn set(&mut self, node: &'s Node, set: &'s Set, owner: u16, random: u64) -> Result<bool, Truncated> {
        let before = self.body.answers;
        // Where several of the choices are answered together, their signature says which can be.
        if let Some(picks) = set.picks().filter(|_| self.proofs.wanted()) {
            let Some(combination) = picks.pick(random) else { return Ok(true) };
            let choices = node.choices(set);
            for choice in combination.choices.iter().filter_map(|&at| choices.get(at as usize)) {
                self.choice(node, choice, owner)?;
            }
            self.sign(node, combination.signature, owner)?;
            return Ok(false);
        }
        self.choices(node, set, owner, random)?;
        self.sign(node, set.signature(), owner)?;
        let nothing = self.body.answers == before;
        if nothing {
            self.state.facts.silent = true;
            self.proofs.nothing(node, Some(set));
        }
        Ok(nothing)
    }

    /// Copies every choice that is chosen, each with its signature.
    #[inline]
    fn choices(&mut self, node: &'s Node, set: &Set, owner: u16, random: u64) -> Result<(), Truncated> {
        let choices = node.choices(set);
        match &set.pick {
            Pick::None => Ok(()),
            Pick::One(_) | Pick::Sticky(_) => {
                let choice = one(node, set, self.state, random);
                choice.map_or(Ok(()), |choice| self.signed_choice(node, choice, owner))
            }
            Pick::Some(table, picks) => draw(table, choices.len(), *picks as usize, random, |index| {
                choices.get(index).map_or(Ok(()), |choice| self.signed_choice(node, choice, owner))
            }),
            Pick::All => {
                let (before, after) =
                    choices.split_at_checked(scale(random, choices.len())).unwrap_or_default();
                let mut in_turn = after.iter().chain(before);
                in_turn.try_for_each(|choice| self.signed_choice(node, choice, owner))
            }
        }
    }

    #[inline]
    fn signed_choice(&mut self, node: &Node, choice: &Choice, owner: u16) -> Result<(), Truncated> {
        self.choice(node, choice, owner)?;
        self.sign(node, choice.signature, owner)
    }

    /// Copies a choice's records.
    #[inline]
    fn choice(&mut self, node: &Node, choice: &Choice, owner: u16) -> Result<(), Truncated> {
        let records = node.records(choice.records);
        put(records, self.sink, owner, self.body)?;
        self.body.answers += records.count();
        self.chose(node, choice);
        Ok(())
    }

    /// Copies signatures, if the client wants them.
    #[inline]
    fn sign(&mut self, node: &Node, signature: RecordsRef, owner: u16) -> Result<(), Truncated> {
        self.body.answers += self.proofs.sign(node.records(signature), self.sink, owner, self.body)?;
        Ok(())
    }

    #[inline]
    fn chose(&mut self, node: &Node, choice: &Choice) {
        self.counters.chosen(node.counter, choice.cluster);
        self.body.cluster = Some(choice.cluster);
    }

    /// Where an alias leads, whose name was written at `owner`.
    #[inline]
    fn follow(&mut self, alias: &'s Alias, owner: u16) -> Next<'s> {
        let snapshot: &'s Snapshot = self.state.context.snapshot;
        let (name, starts) = (alias.target.wire(), &alias.starts);
        match snapshot.table.find(name, starts) {
            Lookup::Exact(next) if next.cut == 0 => Next::Name(next),
            Lookup::Below(encloser) if encloser.cut == 0 => {
                let Some(next) = snapshot.table.wildcard(encloser) else {
                    self.proofs.missing(name, starts, owner, encloser);
                    // RFC 6604 section 3: the code is the last name's.
                    self.body.rcode = Rcode::NXDOMAIN;
                    return Next::Missing;
                };
                self.proofs.absent(name, starts);
                Next::Name(next)
            }
            // Resolvers go on by themselves from a name that others answer for.
            _ => Next::Elsewhere,
        }
    }
}

/// Where an alias leads.
enum Next<'s> {
    /// To a name of this server, or a wildcard for it.
    Name(&'s Node),
    /// To a name that does not exist.
    Missing,
    /// To a name that others answer for.
    Elsewhere,
}

#[inline]
fn one<'s>(node: &'s Node, set: &Set, state: &mut QueryState<'_>, random: u64) -> Option<&'s Choice> {
    let choices = node.choices(set);
    match &set.pick {
        Pick::One(table) | Pick::Some(table, _) => choices.get(table.pick(random)),
        Pick::Sticky(tickets) => choices.get(sticky(tickets, state.key())?),
        Pick::All => choices.first(),
        Pick::None => None,
    }
}

#[inline]
pub(super) fn put(
    records: Records<'_>,
    sink: &mut Sink<'_>,
    owner: u16,
    body: &Body,
) -> Result<u16, Truncated> {
    let truncated = |_| Truncated { rcode: body.rcode, authoritative: body.authoritative };
    records.write(sink, owner).map_err(truncated)
}

/// The NSEC record of a name; for RRSIG, its signatures, which are some of those that there are (RFC 8482 section 7 likewise).
fn chain(
    kind: Type,
    node: &Node,
    sink: &mut Sink<'_>,
    owner: u16,
    body: &mut Body,
    proofs: &Proofs<'_>,
) -> Result<bool, Truncated> {
    let Some(proof) = node.proof else { return Ok(true) };
    let signature = node.records(proof.signature);
    if kind == Type::RRSIG {
        put(signature, sink, owner, body)?;
        body.answers += signature.count();
        return Ok(false);
    }
    let mut at = sink.at as u16;
    let nsec = node.records(proof.nsec);
    put(nsec, sink, owner, body)?;
    if node.name.is_wildcard() {
        // Its owner is written out; a name that the wildcard stands for has the record as its own (RFC 4592 section 4.8).
        own(sink, at as usize, owner);
        at = owner;
    }
    body.answers += nsec.count() + proofs.sign(signature, sink, at, body)?;
    Ok(false)
}

/// Makes the name at offset `owner` the owner of the record at `at`, the last one in `sink`, whose owner is at least as long as a pointer.
fn own(sink: &mut Sink<'_>, at: usize, owner: u16) {
    let message = sink.buffer.get(..sink.at).unwrap_or_default();
    let (Some(end), Some(fixed)) = (name_end(message, at), at.checked_add(2)) else { return };
    sink.buffer.copy_within(end..sink.at, fixed);
    if let Some(place) = sink.buffer.get_mut(at..fixed) {
        place.copy_from_slice(&(0xc000 | owner).to_be_bytes());
    }
    sink.at -= end - fixed;
}

/// An answer of a header alone: where the question could not be read, it is not repeated.
#[inline]
fn bare(buffer: &mut [u8], rcode: Rcode) -> Outcome {
    let Some(header) = buffer.first_chunk_mut::<HEADER>() else { return Outcome::Drop };
    header[2] = 0x80 | header[2] & 0x79;
    header[3] = header[3] & 0x10 | rcode.0 & 0x0f;
    header[4..].fill(0);
    Outcome::Reply(Reply::bare(HEADER, rcode))
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
