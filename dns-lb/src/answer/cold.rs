//! Answering with hickory-proto, straight from the model: whatever has not the usual form.
//!
//! Slower by an order of magnitude and it allocates, but it is bounded: one message in, at most one out.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, MX, NS, NULL, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::hot::{Outcome, hot, size_limit};
use super::{Context, EDE_STALE, OPTION_EDE, parse};
use crate::compile::every;
use crate::metrics::Counters;
use crate::wire::{HEADER, Name, Opcode, Rcode, Type, UDP_MAX};
use crate::zone::{Answer, Data, Resolution, SOA_EXPIRE, SOA_REFRESH, SOA_RETRY, Zone, resolve};

/// Answers `query`. None: it deserves no answer.
pub fn cold(query: &[u8], context: &Context<'_>) -> Option<(Vec<u8>, Rcode)> {
    let header = query.first_chunk::<HEADER>()?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    if Opcode(header[2] >> 3 & 0x0f) != Opcode::QUERY {
        return Some(bare(header, Rcode::NOTIMP));
    }
    let mut decoder = BinDecoder::new(query);
    let decoded = Message::read(&mut decoder).ok().filter(|_| decoder.is_empty());
    match decoded {
        Some(message) if message.queries.len() == 1 => {
            respond(&message, context).or_else(|| Some(bare(header, Rcode::SERVFAIL)))
        }
        _ => Some(bare(header, Rcode::FORMERR)),
    }
}

/// As the hot path: a header alone.
fn bare(query: &[u8; HEADER], rcode: Rcode) -> (Vec<u8>, Rcode) {
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&query[..2]);
    header[2] = 0x80 | query[2] & 0x79;
    header[3] = query[3] & 0x10 | rcode.0 & 0x0f;
    (header.to_vec(), rcode)
}

// None: the answer cannot be encoded.
fn respond(query: &Message, context: &Context<'_>) -> Option<(Vec<u8>, Rcode)> {
    let asked = query.queries.first()?;
    let name = of_hickory(&asked.name)?;
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.checking_disabled = query.metadata.checking_disabled;
    response.add_query(asked.clone());
    if let Some(signed) =
        query.edns.as_ref().filter(|edns| edns.flags().dnssec_ok).and_then(|_| usual(query, context))
    {
        return Some(signed);
    }
    let rcode = if query.signature.is_some() {
        // We hold no key (RFC 8945 section 5.2.1).
        Rcode::NOTAUTH
    } else if query.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        Rcode::BADVERS
    } else {
        match asked.query_class {
            DNSClass::IN => {
                let kind = Type(asked.query_type.into());
                internet(
                    &resolve(&context.snapshot.zones, &name, kind, &context.asker, context.dice),
                    asked,
                    &mut response,
                )?
            }
            DNSClass::CH => chaos(asked, context, &mut response),
            _ => Rcode::REFUSED,
        }
    };
    response.metadata.response_code = ResponseCode::from(rcode.0 >> 4, rcode.0 & 0x0f);
    let client = query.edns.as_ref().map(client);
    if let Some(edns) = &query.edns {
        response.set_edns(server_edns(edns, rcode, context)?);
    }
    let bytes = response.to_vec().ok()?;
    if bytes.len() <= size_limit(context.transport, client) {
        return Some((bytes, rcode));
    }
    response.metadata.truncation = true;
    response.answers.clear();
    response.authorities.clear();
    Some((response.to_vec().ok()?, rcode))
}

/// The hot path's answer to a query for signatures, which the model does not hold: the same question and options, in the usual form.
fn usual(query: &Message, context: &Context<'_>) -> Option<(Vec<u8>, Rcode)> {
    let asked = query.queries.first()?;
    if query.signature.is_some() || asked.query_class != DNSClass::IN {
        return None;
    }
    let mut plain = Message::new(query.metadata.id, MessageType::Query, OpCode::Query);
    plain.metadata.recursion_desired = query.metadata.recursion_desired;
    plain.metadata.checking_disabled = query.metadata.checking_disabled;
    plain.add_query(asked.clone());
    plain.set_edns(query.edns.clone()?);
    let plain = plain.to_vec().ok()?;
    let mut buffer = vec![0; u16::MAX as usize];
    buffer.get_mut(..plain.len())?.copy_from_slice(&plain);
    let counters = Counters::new(context.transport);
    match hot(&mut buffer, plain.len(), &mut parse::Scratch::default(), context, &counters) {
        Outcome::Reply((length, rcode)) => {
            buffer.truncate(length);
            Some((buffer, rcode))
        }
        Outcome::Drop | Outcome::Cold => None,
    }
}

fn client(edns: &Edns) -> parse::Edns {
    parse::Edns {
        payload: edns.max_payload(),
        version: edns.version(),
        dnssec_ok: edns.flags().dnssec_ok,
        nsid: edns.option(EdnsCode::NSID).is_some(),
    }
}

fn server_edns(query: &Edns, rcode: Rcode, context: &Context<'_>) -> Option<Edns> {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_MAX).set_dnssec_ok(query.flags().dnssec_ok).set_rcode_high(rcode.0 >> 4);
    if query.option(EdnsCode::NSID).is_some() {
        edns.options_mut().insert(EdnsOption::NSID(NSIDPayload::new(context.instance).ok()?));
    }
    if context.snapshot.stale {
        edns.options_mut().insert(EdnsOption::Unknown(OPTION_EDE, EDE_STALE.to_be_bytes().to_vec()));
    }
    Some(edns)
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
    let sets = |name: &Name, kind| every(zone.names.get(name).and_then(|sets| sets.get(&kind)));
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
        SOA_EXPIRE as i32,
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
