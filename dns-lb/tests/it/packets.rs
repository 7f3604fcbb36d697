//! What is answered, packet by packet.

use dns_lb::testing::metrics::Transport;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RData, RecordType};

use crate::support::{ask, query, snapshot, udp, with_edns};

fn owners(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.name.to_ascii()).collect()
}

#[test]
fn an_address_is_answered_with_authority() {
    let reply = udp("web.default.fed.example.test.", RecordType::AAAA);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.metadata.authoritative && !reply.metadata.recursion_available);
    assert!(reply.metadata.recursion_desired && !reply.metadata.truncation);
    assert_eq!(reply.metadata.id, 0x1234);
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(reply.answers[0].ttl, 10);
    assert!(reply.authorities.is_empty() && reply.edns.is_none());
}

#[test]
fn the_spelling_of_the_question_comes_back() {
    let sent = query("wEb.DeFault.FED.example.tesT.", RecordType::A).to_vec().unwrap();
    let reply = ask(&snapshot(false), &sent, Transport::Udp, 1).unwrap();
    assert_eq!(reply[12..sent.len()], sent[12..]);
}

#[test]
fn absent_names_and_absent_types_carry_the_soa() {
    for (name, kind, code) in [
        ("nothing.fed.example.test.", RecordType::A, ResponseCode::NXDomain),
        ("a.b.nothing.fed.example.test.", RecordType::A, ResponseCode::NXDomain),
        ("fed.example.test.", RecordType::AAAA, ResponseCode::NoError),
        ("ns1.fed.example.test.", RecordType::MX, ResponseCode::NoError),
        // Empty non-terminals.
        ("default.fed.example.test.", RecordType::A, ResponseCode::NoError),
        ("_tcp.web.fed.example.test.", RecordType::ANY, ResponseCode::NoError),
        ("deep.wild.fed.example.test.", RecordType::A, ResponseCode::NoError),
        // Every choice is withdrawn.
        ("gone.fed.example.test.", RecordType::A, ResponseCode::NoError),
        // The closest encloser is deep.wild, which has no wildcard.
        ("x.deep.wild.fed.example.test.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let reply = udp(name, kind);
        assert_eq!(reply.metadata.response_code, code, "{name}");
        assert!(reply.metadata.authoritative && reply.answers.is_empty(), "{name}");
        let [soa] = reply.authorities.as_slice() else { panic!("{name}: no SOA") };
        assert_eq!(soa.name.to_ascii(), "fed.example.test.");
        // RFC 2308: the lesser of the SOA's TTL and its minimum.
        assert_eq!(soa.ttl, 5);
        assert!(matches!(&soa.data, RData::SOA(soa) if soa.serial == 7 && soa.minimum == 5));
    }
}

#[test]
fn the_apex_has_soa_and_ns() {
    let soa = udp("fed.example.test.", RecordType::SOA);
    assert_eq!((soa.answers.len(), soa.answers[0].ttl), (1, 30));
    let ns = udp("fed.example.test.", RecordType::NS);
    let names: Vec<String> = ns.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"ns1.fed.example.test.".into()) && names.contains(&"ns2.elsewhere.test.".into()));
}

#[test]
fn names_outside_the_zones_are_refused() {
    for name in ["example.test.", ".", "fed.example.tes.", "xfed.example.test.", "com."] {
        let reply = udp(name, RecordType::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{name}");
        assert!(!reply.metadata.authoritative && reply.authorities.is_empty());
    }
    assert_eq!(udp("fed.example.test.", RecordType::AXFR).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn aliases_are_followed_within_the_zone() {
    let reply = udp("alias2.fed.example.test.", RecordType::AAAA);
    assert_eq!(
        owners(&reply),
        ["alias2.fed.example.test.", "alias.fed.example.test.", "web.default.fed.example.test."]
    );
    let dangling = udp("dangling.fed.example.test.", RecordType::A);
    assert_eq!(dangling.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!((dangling.answers.len(), dangling.authorities.len()), (1, 1));
    let wild = udp("towild.fed.example.test.", RecordType::A);
    assert_eq!(owners(&wild), ["towild.fed.example.test.", "any.wild.fed.example.test."]);
    assert_eq!(udp("alias.fed.example.test.", RecordType::CNAME).answers.len(), 1);
    assert_eq!(udp("circle.fed.example.test.", RecordType::A).answers.len(), 8);
}

#[test]
fn wildcards_answer_below_themselves() {
    assert_eq!(owners(&udp("x.y.wild.fed.example.test.", RecordType::A)), ["x.y.wild.fed.example.test."]);
    assert_eq!(udp("wild.fed.example.test.", RecordType::A).answers.len(), 0);
    assert_eq!(udp("*.wild.fed.example.test.", RecordType::A).answers.len(), 1);
    assert!(!udp("q.cwild.fed.example.test.", RecordType::A).answers.is_empty());
}

#[test]
fn weights_decide_how_often_a_choice_is_answered() {
    let (snapshot, sent) =
        (snapshot(false), query("web.default.fed.example.test.", RecordType::A).to_vec().unwrap());
    let (mut taiwan, mut tokyo) = (0, 0);
    let mut rng = dns_lb::testing::udp::Rng::new(99);
    for _ in 0..8000 {
        let reply = ask(&snapshot, &sent, Transport::Udp, rng.next_u64()).unwrap();
        match Message::from_vec(&reply).unwrap().answers.len() {
            2 => taiwan += 1,
            1 => tokyo += 1,
            other => panic!("{other} records"),
        }
    }
    assert!((5800..6200).contains(&taiwan), "seed 99: {taiwan} to {tokyo}");
}

#[test]
fn all_choices_are_rotated_and_none_repeated() {
    let (snapshot, sent) = (snapshot(false), query("all.fed.example.test.", RecordType::A).to_vec().unwrap());
    let mut rng = dns_lb::testing::udp::Rng::new(1);
    let firsts: std::collections::BTreeSet<String> = (0..100)
        .map(|_| {
            let reply =
                Message::from_vec(&ask(&snapshot, &sent, Transport::Udp, rng.next_u64()).unwrap()).unwrap();
            assert_eq!(reply.answers.len(), 3);
            reply.answers[0].data.to_string()
        })
        .collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn answers_that_do_not_fit_are_cut_and_tcp_has_them_whole() {
    let snapshot = snapshot(false);
    let plain = query("big.fed.example.test.", RecordType::AAAA);
    for (sent, most) in
        [(plain.clone(), 512), (with_edns(plain.clone(), 100), 512), (with_edns(plain.clone(), 65535), 1232)]
    {
        let reply = ask(&snapshot, &sent.to_vec().unwrap(), Transport::Udp, 1).unwrap();
        assert!(reply.len() <= most);
        let reply = Message::from_vec(&reply).unwrap();
        assert!(reply.metadata.truncation && reply.answers.is_empty());
        assert_eq!(reply.edns.is_some(), sent.edns.is_some());
    }
    let tcp = ask(&snapshot, &plain.to_vec().unwrap(), Transport::Tcp, 1).unwrap();
    assert_eq!(Message::from_vec(&tcp).unwrap().answers.len(), 60);
}

#[test]
fn edns_is_answered_with_our_size_and_name() {
    let mut sent = with_edns(query("ns1.fed.example.test.", RecordType::A), 4096);
    let edns = sent.edns.as_mut().unwrap();
    edns.set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(3, Vec::new()));
    let sent = sent.to_vec().unwrap();
    let reply = Message::from_vec(&ask(&snapshot(true), &sent, Transport::Udp, 1).unwrap()).unwrap();
    let edns = reply.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (1232, 0, true));
    assert!(
        matches!(edns.option(EdnsCode::NSID), Some(EdnsOption::NSID(name)) if name.as_ref() == b"test-1")
    );
    // The zones are stale here.
    assert_eq!(edns.option(EdnsCode::from(15)), Some(&EdnsOption::Unknown(15, vec![0, 3])));
    assert_eq!(reply.answers.len(), 1);
}

#[test]
fn an_unknown_edns_version_is_badvers() {
    let mut sent = with_edns(query("ns1.fed.example.test.", RecordType::A), 1232);
    sent.edns.as_mut().unwrap().set_version(1);
    let reply = ask(&snapshot(false), &sent.to_vec().unwrap(), Transport::Udp, 1).unwrap();
    let reply = Message::from_vec(&reply).unwrap();
    // hickory-proto calls 16 BADSIG, its other name.
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert!(reply.answers.is_empty());
}

#[test]
fn any_is_answered_minimally() {
    let reply = udp("web.default.fed.example.test.", RecordType::ANY);
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(reply.answers[0].record_type(), RecordType::HINFO);
}

/// RFC 8482 section 4.2 has HINFO only where there is no alias.
#[test]
fn any_of_an_alias_is_the_alias() {
    for (name, target) in [("alias", "web.default"), ("x.cwild", "web.default"), ("dangling", "nothing")] {
        let reply = udp(&format!("{name}.fed.example.test."), RecordType::ANY);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        let [record] = reply.answers.as_slice() else { panic!("{name}: {reply:#?}") };
        assert_eq!(record.data.to_string(), format!("{target}.fed.example.test."));
        assert!(reply.authorities.is_empty());
    }
}

/// With an OPT in the answer, as without one the client would hold us for a server that does not speak EDNS (RFC 6891 section 7).
#[test]
fn options_that_cannot_be_read_are_formerr_with_edns() {
    for data in [&[0, 8, 0, 3, 0, 1, 24][..], &[0, 10, 0, 3, 1, 2, 3], &[0, 3, 0, 9], &[0, 3, 0]] {
        for (class, dnssec_ok) in [(1, 0), (1, 0x80), (3, 0)] {
            let mut sent = query("ns1.fed.example.test.", RecordType::A).to_vec().unwrap();
            *sent.last_mut().unwrap() = class;
            sent[11] = 1;
            sent.extend([0, 0, 41, 4, 208, 0, 0, dnssec_ok, 0, 0, data.len() as u8]);
            sent.extend(data);
            let octets = ask(&snapshot(false), &sent, Transport::Udp, 1).unwrap();
            let reply = Message::from_vec(&octets).unwrap();
            assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{data:?}");
            assert_eq!((reply.queries.len(), reply.answers.len()), (1, 0));
            assert!(reply.edns.is_some() && octets.ends_with(&[0, 0]), "{data:?}: {octets:02x?}");
        }
    }
}

/// RFC 7873 section 5.4.
#[test]
fn a_cookie_is_to_be_had_without_a_question() {
    let snapshot = snapshot(false);
    let asked = |cookie: &[u8], version: u8| {
        let mut sent = vec![0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 41, 4, 208, 0, version, 0, 0];
        let length = cookie.len() as u8;
        sent.extend([0, length + 4, 0, 10, 0, length]);
        sent.extend(cookie);
        let reply = ask(&snapshot, &sent, Transport::Udp, 1).unwrap();
        assert_eq!(
            (&reply[..4], &reply[4..12]),
            (&[0x12, 0x34, 0x80, reply[3]][..], &[0, 0, 0, 0, 0, 0, 0, 1][..])
        );
        let code = u16::from(reply[3] & 15) | u16::from(reply[17]) << 4;
        let options = reply[23..].to_vec();
        (code, options)
    };
    let (code, options) = asked(&[7; 8], 0);
    assert_eq!((code, &options[..12]), (0, &[0, 10, 0, 24, 7, 7, 7, 7, 7, 7, 7, 7][..]));
    let good = options[4..28].to_vec();
    assert_eq!(asked(&good, 0), (0, options));
    let mut wrong = good.clone();
    wrong[20] ^= 1;
    let (code, options) = asked(&wrong, 0);
    assert_eq!((code, &options[4..]), (23, &good[..]), "and a good one comes with it");
    assert_eq!(asked(&good, 1).0, 16);
    // Without one it is malformed.
    let bare = [0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    assert_eq!(ask(&snapshot, &bare, Transport::Udp, 1).unwrap()[3] & 15, 1);
}

#[test]
fn malformed_messages_are_formerr_or_dropped() {
    let snapshot = snapshot(false);
    let good = query("ns1.fed.example.test.", RecordType::A).to_vec().unwrap();
    let code = |message: &[u8]| ask(&snapshot, message, Transport::Udp, 1).map(|reply| reply[3] & 15);
    assert_eq!(code(&good), Some(0));
    assert_eq!(code(&[]), None);
    assert_eq!(code(&good[..11]), None);
    let changed = |at: usize, to: u8| {
        let mut message = good.clone();
        message[at] = to;
        message
    };
    // An answer.
    assert_eq!(code(&changed(2, 0x80)), None);
    // Opcodes STATUS, NOTIFY and UPDATE.
    for opcode in [2, 4, 5] {
        assert_eq!(code(&changed(2, opcode << 3)), Some(4));
    }
    // No question; two; a name cut short; a pointer to itself; a reserved label type; octets after the end.
    assert_eq!(code(&good[..12]), Some(1));
    assert_eq!(code(&changed(5, 0)), Some(1));
    assert_eq!(code(&changed(5, 2)), Some(1));
    assert_eq!(code(&good[..20]), Some(1));
    assert_eq!(code(&changed(12, 0xc0)), Some(1));
    assert_eq!(code(&changed(12, 0x40)), Some(1));
    assert_eq!(code(&[&good[..], b"x"].concat()), Some(1));
    // A header with garbage behind it is answered by a header.
    assert_eq!(ask(&snapshot, &good[..20], Transport::Udp, 1).unwrap().len(), 12);
}

#[test]
fn class_chaos_tells_no_more_than_it_must() {
    let ask_chaos = |name: &str| {
        let mut sent = query(name, RecordType::TXT);
        sent.queries[0].query_class = DNSClass::CH;
        let reply = ask(&snapshot(false), &sent.to_vec().unwrap(), Transport::Udp, 1).unwrap();
        Message::from_vec(&reply).unwrap()
    };
    assert_eq!(ask_chaos("version.bind.").answers[0].data.to_string(), "dns-lb");
    assert_eq!(ask_chaos("id.server.").answers[0].data.to_string(), "test-1");
    assert_eq!(ask_chaos("authors.bind.").metadata.response_code, ResponseCode::Refused);
}
