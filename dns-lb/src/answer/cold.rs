//! The cold path: answers queries of unusual form with hickory-proto, directly from the model.
//!
//! Slower by an order of magnitude and it allocates, but it is bounded: one message in, at most one out.

use std::ops::Range;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, MX, NS, NULL, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::hot::{Outcome, hot, size_limit};
use super::options::{self, OPTION_KEEPALIVE, OPTION_SUBNET, Options};
use super::state::{QueryState, Subject};
use super::{Context, Reply, parse};
use crate::compile::every;
use crate::metrics::Counters;
use crate::wire::{HEADER, Name, Opcode, Rcode, Type, name_end};
use crate::zone::{Answer, Data, Resolution, SOA_REFRESH, SOA_RETRY, Zone, resolve};

/// Answers `query`. None: it deserves no answer.
pub fn cold(query: &[u8], context: &Context<'_>) -> Option<(Vec<u8>, Reply)> {
    let header = query.first_chunk::<HEADER>()?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    if Opcode(header[2] >> 3 & 0x0f) != Opcode::QUERY {
        return Some(bare(header, Rcode::NOTIMP));
    }
    let malformed = || Some(bare(header, Rcode::FORMERR));
    if !is_written_out(query) {
        return malformed();
    }
    // hickory-proto reads options less strictly than we do, and some not at all: we read them, and show it but their frame.
    let mut shown = query.to_vec();
    let at = opt_data(query);
    let options = at.clone().map(|data| query.get(data).and_then(Options::read));
    let data = match (at, options) {
        (Some(at), Some(None)) => {
            shown.get_mut(at.start - 2..at.start)?.fill(0);
            shown.drain(at);
            None
        }
        (Some(at), Some(Some(_))) => {
            hide_subnet(shown.get_mut(at.clone())?);
            query.get(at)
        }
        _ => None,
    };
    let mut decoder = BinDecoder::new(&shown);
    let decoded = Message::read(&mut decoder).ok().filter(|_| decoder.is_empty());
    let failed = || Some(bare(header, Rcode::SERVFAIL));
    match decoded {
        Some(message) if message.queries.len() == 1 => {
            respond(&message, data, options == Some(None), context).or_else(failed)
        }
        Some(message) if message.queries.is_empty() && message.signature.is_none() => {
            match (edns_of(&message), options.flatten()) {
                (Some(edns), Some(options)) if options.cookie.is_some() => {
                    cookie_alone(header, &parse::Edns { options, ..edns }, context).or_else(failed)
                }
                _ => malformed(),
            }
        }
        _ => malformed(),
    }
}

/// The OPT of `query`, but for its options.
fn edns_of(query: &Message) -> Option<parse::Edns> {
    query.edns.as_ref().map(|edns| parse::Edns {
        payload: edns.max_payload(),
        version: edns.version(),
        dnssec_ok: edns.flags().dnssec_ok,
        compact_ok: edns.flags().z & 0x4000 != 0,
        options: Options::default(),
        malformed: false,
    })
}

/// Without a question: a cookie, and whether the one that came is good (RFC 7873 section 5.4).
fn cookie_alone(query: &[u8; HEADER], edns: &parse::Edns, context: &Context<'_>) -> Option<(Vec<u8>, Reply)> {
    let mut state = QueryState::new(Some(&edns.options), context);
    state.about(Subject::Error, 0);
    let had_one = edns.options.cookie.is_some_and(|cookie| cookie.server.is_some());
    let rcode = match state.facts.cookie {
        _ if edns.version != 0 => Rcode::BADVERS,
        Some(cookie) if had_one && !cookie.known => Rcode::BADCOOKIE,
        _ => Rcode::NOERROR,
    };
    let (mut bytes, _) = bare(query, rcode);
    let room = options::reserve(edns, &state.facts, context) + options::MORE;
    bytes.resize(HEADER + room, 0);
    let length = options::write(&mut bytes, HEADER, HEADER + room, edns, rcode, &state.facts, context)?;
    bytes.truncate(length);
    *bytes.get_mut(11)? = 1;
    let (subject, facts) = (state.subject, state.facts);
    let edns = Some(*edns);
    Some((bytes, Reply { length, rcode, subject, cluster: None, question_end: HEADER, edns, facts }))
}

/// Whether the question's name is: before it there is nothing but the header, into which hickory-proto follows a pointer.
fn is_written_out(query: &[u8]) -> bool {
    let mut at = HEADER;
    loop {
        match query.get(at) {
            Some(0) => return true,
            Some(&length @ 1..=63) => at += 1 + usize::from(length),
            _ => return false,
        }
    }
}

/// As the hot path: a header alone.
fn bare(query: &[u8; HEADER], rcode: Rcode) -> (Vec<u8>, Reply) {
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&query[..2]);
    header[2] = 0x80 | query[2] & 0x79;
    header[3] = query[3] & 0x10 | rcode.0 & 0x0f;
    (header.to_vec(), Reply::bare(HEADER, rcode))
}

/// Where the data of the first OPT record is. None: there is none, or the message ends before it.
fn opt_data(message: &[u8]) -> Option<Range<usize>> {
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let mut at = HEADER;
    for _ in 0..number(4)? {
        at = name_end(message, at)? + 4;
    }
    let records = u32::from(number(6)?) + u32::from(number(8)?) + u32::from(number(10)?);
    for _ in 0..records {
        at = name_end(message, at)?;
        let (kind, length) = (Type(number(at)?), number(at + 8)? as usize);
        let data = at + 10..at + 10 + length;
        if kind == Type::OPT {
            return (data.end <= message.len()).then_some(data);
        }
        at = data.end;
    }
    None
}

/// Whether `message` has the option edns-tcp-keepalive, which has no place in QUIC (RFC 9250 section 5.5.2).
pub fn has_keepalive(message: &[u8]) -> bool {
    let mut data = opt_data(message).and_then(|data| message.get(data)).unwrap_or_default();
    while let Some((&[c1, c2, l1, l2], rest)) = data.split_first_chunk::<4>() {
        if u16::from_be_bytes([c1, c2]) == OPTION_KEEPALIVE {
            return true;
        }
        data = rest.get(u16::from_be_bytes([l1, l2]) as usize..).unwrap_or_default();
    }
    false
}

/// Gives Client Subnet options a code that nobody reads.
fn hide_subnet(mut data: &mut [u8]) {
    while let Some((head, rest)) = data.split_first_chunk_mut::<4>() {
        if u16::from_be_bytes([head[0], head[1]]) == OPTION_SUBNET {
            head[..2].fill(0xff);
        }
        let length = u16::from_be_bytes([head[2], head[3]]) as usize;
        data = rest.get_mut(length..).unwrap_or_default();
    }
}

// None: the answer cannot be encoded.
fn respond(
    query: &Message,
    data: Option<&[u8]>,
    malformed: bool,
    context: &Context<'_>,
) -> Option<(Vec<u8>, Reply)> {
    let asked = query.queries.first()?;
    let name = of_hickory(&asked.name)?;
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.checking_disabled = query.metadata.checking_disabled;
    response.add_query(asked.clone());
    let edns = match (edns_of(query), data) {
        (Some(edns), Some(data)) => Some(parse::Edns { options: Options::read(data)?, ..edns }),
        (edns, _) => edns.map(|edns| parse::Edns { malformed, ..edns }),
    };
    if let Some((edns, data)) = edns.filter(|edns| edns.dnssec_ok).zip(data)
        && let Some(signed) = usual(query, &edns, data, context)
    {
        return Some(signed);
    }
    let mut state = QueryState::new(edns.as_ref().map(|edns| &edns.options), context);
    state.about(Subject::Error, 0);
    let rcode = if query.signature.is_some() {
        // We hold no key (RFC 8945 section 5.2.1).
        Rcode::NOTAUTH
    } else if edns.is_some_and(|edns| edns.version != 0) {
        Rcode::BADVERS
    } else if malformed {
        Rcode::FORMERR
    } else if state.bad_cookie() {
        Rcode::BADCOOKIE
    } else {
        match asked.query_class {
            DNSClass::IN if Type(asked.query_type.into()) == Type::NXNAME => {
                state.facts.error = Some(options::EDE_INVALID_TYPE);
                Rcode::FORMERR
            }
            DNSClass::IN => {
                let kind = Type(asked.query_type.into());
                let asker = state.place().asker;
                let resolution = resolve(&context.snapshot.zones, &name, kind, &asker, context.random);
                state.facts.silent = resolution.silent;
                if context.snapshot.zones.zone_of(&name).is_none() {
                    state.facts.error = Some(options::outside(context.snapshot));
                } else if matches!(kind, Type::AXFR | Type::IXFR) {
                    state.facts.error = Some(options::transfer(context.transport));
                }
                learn(&resolution, &mut state, context);
                internet(&resolution, asked, &mut response)?
            }
            DNSClass::CH => {
                let rcode = chaos(asked, context, &mut response);
                state.facts.error = (rcode == Rcode::REFUSED).then_some(options::EDE_NOT_AUTHORITATIVE);
                rcode
            }
            _ => {
                state.facts.error = Some(options::EDE_NOT_SUPPORTED);
                Rcode::REFUSED
            }
        }
    };
    response.metadata.response_code = ResponseCode::from(rcode.0 >> 4, rcode.0 & 0x0f);
    let limit = size_limit(context.transport, edns);
    let reserve = edns.map_or(0, |edns| options::reserve(&edns, &state.facts, context));
    let mut bytes = response.to_vec().ok()?;
    if bytes.len() + reserve > limit {
        response.metadata.truncation = true;
        response.answers.clear();
        response.authorities.clear();
        response.additionals.clear();
        bytes = response.to_vec().ok()?;
    }
    let mut length = bytes.len();
    if let Some(edns) = &edns {
        bytes.resize(length + reserve + options::MORE, 0);
        length = options::write(&mut bytes, length, limit, edns, rcode, &state.facts, context)?;
        bytes.truncate(length);
        let count = response.additionals.len() as u16 + 1;
        bytes.get_mut(10..12)?.copy_from_slice(&count.to_be_bytes());
    }
    let question_end = name_end(&bytes, HEADER)? + 4;
    let facts = state.facts;
    Some((bytes, Reply { length, rcode, subject: state.subject, cluster: None, question_end, edns, facts }))
}

/// The hot path's answer to a query for signatures, which the model does not hold: the same question and options, in the usual form.
fn usual(
    query: &Message,
    edns: &parse::Edns,
    data: &[u8],
    context: &Context<'_>,
) -> Option<(Vec<u8>, Reply)> {
    let asked = query.queries.first()?;
    if query.signature.is_some() || asked.query_class != DNSClass::IN {
        return None;
    }
    let mut plain = Message::new(query.metadata.id, MessageType::Query, OpCode::Query);
    plain.metadata.recursion_desired = query.metadata.recursion_desired;
    plain.metadata.checking_disabled = query.metadata.checking_disabled;
    plain.add_query(asked.clone());
    let mut plain = plain.to_vec().ok()?;
    *plain.get_mut(11)? = 1;
    plain.extend_from_slice(&[0, 0, 41]);
    plain.extend_from_slice(&edns.payload.to_be_bytes());
    plain.extend_from_slice(&[0, edns.version, 0x80 | u8::from(edns.compact_ok) << 6, 0]);
    plain.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
    plain.extend_from_slice(data);
    let mut buffer = vec![0; u16::MAX as usize];
    buffer.get_mut(..plain.len())?.copy_from_slice(&plain);
    let counters = Counters::new(context.transport);
    match hot(&mut buffer, plain.len(), &mut parse::Scratch::default(), context, &counters) {
        Outcome::Reply(reply) => {
            buffer.truncate(reply.length);
            Some((buffer, reply))
        }
        Outcome::Drop | Outcome::Cold => None,
    }
}

fn learn(resolution: &Resolution<'_>, state: &mut QueryState<'_>, context: &Context<'_>) {
    let Some(zone) = resolution.zone else { return };
    let zones = &context.snapshot.zones.zones;
    let index = zones.iter().position(|one| one.origin == zone.origin).map(|index| index as u32);
    state.facts.zone = index;
    state.about(Subject::Missing, index.unwrap_or(0));
    if resolution.by_region {
        state.region();
    }
    if resolution.by_key {
        state.key();
    }
}

fn internet(resolution: &Resolution<'_>, asked: &Query, response: &mut Message) -> Option<Rcode> {
    let Some(zone) = resolution.zone else { return Some(resolution.rcode) };
    if let Some(cut) = &resolution.referral {
        refer(zone, cut, response)?;
        return Some(resolution.rcode);
    }
    response.metadata.authoritative = true;
    // The question's own spelling stands in the answer too (as a pointer to it does on the hot path).
    let mut owner = asked.name.clone();
    for answer in &resolution.answers {
        let record = match answer {
            Answer::Soa => soa(zone, owner.clone(), zone.default_ttl)?,
            Answer::Hinfo => {
                let data = HINFO::from_bytes(Box::from(*b"RFC8482"), Box::default());
                Record::from_rdata(owner.clone(), zone.default_ttl, RData::HINFO(data))
            }
            Answer::Record { ttl, data, .. } => {
                let record = Record::from_rdata(owner.clone(), *ttl, rdata(data)?);
                if let Data::Cname(target) = data {
                    owner = to_hickory(target)?;
                }
                record
            }
        };
        response.add_answer(record);
    }
    if resolution.negative {
        response.add_authority(soa(zone, to_hickory(&zone.origin)?, zone.soa_negative_ttl())?);
    }
    Some(resolution.rcode)
}

/// The servers of a delegated part of the zone, with their addresses as far as they are known here.
fn refer(zone: &Zone, cut: &Name, response: &mut Message) -> Option<()> {
    let sets = |name: &Name, kind| every(zone.names.get(name).and_then(|sets| sets.get(kind)).as_ref());
    for (data, ttl) in sets(cut, Type::NS) {
        response.add_authority(Record::from_rdata(to_hickory(cut)?, ttl, rdata(&data)?));
        let Data::Ns(server) = &data else { continue };
        for kind in [Type::A, Type::AAAA] {
            for (address, ttl) in sets(server, kind) {
                response.add_additional(Record::from_rdata(to_hickory(server)?, ttl, rdata(&address)?));
            }
        }
    }
    Some(())
}

/// What servers are asked about themselves (RFC 4892 section 3.1).
fn chaos(asked: &Query, context: &Context<'_>, response: &mut Message) -> Rcode {
    let text: &[u8] = match asked.name.to_ascii().to_ascii_lowercase().as_str() {
        "version.bind." | "version.server." => b"dns-lb",
        "id.server." | "hostname.bind." => context.instance,
        _ => return Rcode::REFUSED,
    };
    response.metadata.authoritative = true;
    if matches!(asked.query_type, RecordType::TXT | RecordType::ANY) {
        let mut record = Record::from_rdata(asked.name.clone(), 0, RData::TXT(TXT::from_bytes(vec![text])));
        record.dns_class = DNSClass::CH;
        response.add_answer(record);
    }
    Rcode::NOERROR
}

fn soa(zone: &Zone, owner: HickoryName, ttl: u32) -> Option<Record> {
    let soa = SOA::new(
        to_hickory(&zone.primary)?,
        to_hickory(&zone.hostmaster)?,
        zone.serial,
        SOA_REFRESH as i32,
        SOA_RETRY as i32,
        zone.expire() as i32,
        zone.negative_ttl,
    );
    Some(Record::from_rdata(owner, ttl, RData::SOA(soa)))
}

fn rdata(data: &Data) -> Option<RData> {
    Some(match data {
        Data::A(address) => RData::A(A(*address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Data::Cname(name) => RData::CNAME(CNAME(to_hickory(name)?)),
        Data::Ns(name) => RData::NS(NS(to_hickory(name)?)),
        Data::Ptr(name) => RData::PTR(PTR(to_hickory(name)?)),
        Data::Mx { preference, exchange } => RData::MX(MX::new(*preference, to_hickory(exchange)?)),
        Data::Txt(strings) => RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect())),
        Data::Srv { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, *port, to_hickory(target)?))
        }
        Data::Other(kind, octets) => {
            RData::Unknown { code: RecordType::from(kind.0), rdata: NULL::with(octets.to_vec()) }
        }
    })
}

fn to_hickory(name: &Name) -> Option<HickoryName> {
    HickoryName::from_bytes(name.wire()).ok()
}

fn of_hickory(name: &HickoryName) -> Option<Name> {
    let mut wire = Vec::with_capacity(64);
    for label in name {
        wire.push(u8::try_from(label.len()).ok()?);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    Name::from_wire(&wire)
}
