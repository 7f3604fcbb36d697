//! Answers that depend on who asks: Client Subnet, cookies, versions, and what is said of errors.

use std::sync::Arc;
use std::time::Duration;

use dns_lb::testing::answer::{Context, CookiePolicy, Scratch, Secrets, answer};
use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::hub::Fence;
use dns_lb::testing::metrics::{Counters, Transport};
use dns_lb::testing::state::{OwnSecrets, State};
use dns_lb::testing::transfer::{Keys, Session};
use federation_runtime::endpoints::Health;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::support::{context, query, records, shown, snapshot, update};

/// A query with an OPT of these options.
fn with_options(name: &str, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = query(name, RecordType::A).to_vec().unwrap();
    let data: Vec<u8> = options
        .iter()
        .flat_map(|(code, data)| [&code.to_be_bytes(), &(data.len() as u16).to_be_bytes(), *data].concat())
        .collect();
    message[11] = 1;
    message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0]);
    message.extend_from_slice(&(data.len() as u16).to_be_bytes());
    message.extend_from_slice(&data);
    message
}

/// The answer's octets, and its options.
fn reply(sent: &[u8], context: &Context<'_>) -> (Vec<u8>, Vec<(u16, Vec<u8>)>) {
    let mut buffer = [0; 1232];
    buffer[..sent.len()].copy_from_slice(sent);
    let counters = Counters::new(context.transport);
    let reply = answer(&mut buffer, sent.len(), &mut Scratch::default(), context, &counters).unwrap();
    let octets = buffer[..reply.length].to_vec();
    let mut options = Vec::new();
    if let Some(opt) = octets.windows(5).rposition(|window| window == [0, 0, 41, 4, 208]) {
        let mut rest = &octets[opt + 11..];
        while let Some((&[c1, c2, l1, l2], data)) = rest.split_first_chunk::<4>() {
            let (data, after) = data.split_at(u16::from_be_bytes([l1, l2]).into());
            options.push((u16::from_be_bytes([c1, c2]), data.to_vec()));
            rest = after;
        }
    }
    (octets, options)
}

fn option(options: &[(u16, Vec<u8>)], code: u16) -> Option<&[u8]> {
    options.iter().find(|(of, _)| *of == code).map(|(_, data)| data.as_slice())
}

fn last_octets(octets: &[u8]) -> Vec<u8> {
    let message = Message::from_vec(&shown(octets)).unwrap();
    let mut last: Vec<u8> = message
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .map(|address| match address {
            std::net::IpAddr::V4(v4) => v4.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        })
        .collect();
    last.sort_unstable();
    last
}

/// What `name` is answered for `subnet`, and the scope.
#[track_caller]
fn ask(name: &str, subnet: &[u8]) -> (Vec<u8>, Option<u8>) {
    let snapshot = snapshot(false);
    let sent = with_options(&format!("{name}.fed.example.test."), &[(8, subnet)]);
    let (octets, options) = reply(&sent, &context(&snapshot, Transport::Udp, 1));
    let echoed = option(&options, 8);
    if let Some(echoed) = echoed {
        assert_eq!((&echoed[..3], &echoed[4..]), (&subnet[..3], &subnet[4..]), "all but the scope is echoed");
    }
    (last_octets(&octets), echoed.map(|echoed| echoed[3]))
}

#[test]
fn a_subnet_is_answered_by_its_region_with_the_scope_that_decided() {
    // Europe, a /24 within Asia's /16.
    assert_eq!(ask("geo", &[0, 1, 24, 0, 198, 51, 100]), (vec![53], Some(24)));
    let (asia, scope) = ask("geo", &[0, 1, 24, 0, 198, 51, 7]);
    assert!(asia == [51] || asia == [52]);
    // 198.51.0.0/18 is all Asia; the next half has Europe in it.
    assert_eq!(scope, Some(18));
    assert_eq!(ask("geo", &[0, 1, 24, 0, 203, 0, 113]).0, [50]);
    // Too short to tell: what holds all of it, and the scope says that more would help.
    assert_eq!(ask("geo", &[0, 1, 8, 0, 198]), (vec![50], Some(11)));
    let (v6, scope) = ask("geo", &[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0xa, 0]);
    assert!(v6 == [51] || v6 == [52]);
    assert_eq!(scope, Some(48));
}

#[test]
fn who_does_not_say_is_where_the_resolver_is() {
    // 192.0.2.7 is in Africa.
    let snapshot = snapshot(false);
    let (octets, _) = reply(
        &query("geo.fed.example.test.", RecordType::A).to_vec().unwrap(),
        &context(&snapshot, Transport::Udp, 1),
    );
    assert_eq!(last_octets(&octets), [53]);
    for nobody in [&[0, 1, 0, 0][..], &[0, 2, 0, 0], &[0, 0, 0, 0]] {
        assert_eq!(ask("geo", nobody).1, Some(0));
    }
    // A private address, which the table does not name: the resolver's, for as much of the block as nothing else is said of.
    assert_eq!(ask("geo", &[0, 1, 24, 0, 172, 16, 1]), (vec![53], Some(12)));
    // One that it names, with nothing to answer.
    assert_eq!(ask("geo", &[0, 1, 24, 0, 10, 9, 1]), (vec![], Some(16)));
}

#[test]
fn answers_that_are_the_same_for_all_have_scope_0() {
    for name in ["web.default", "alias", "nothing", "x.wild", "some"] {
        assert_eq!(ask(name, &[0, 1, 24, 0, 198, 51, 100]).1, Some(0), "{name}");
    }
}

#[test]
fn sticky_answers_stay_and_follow_aliases() {
    let (first, scope) = ask("stuck", &[0, 1, 24, 0, 203, 0, 113]);
    assert_eq!((first.len(), scope), (1, Some(24)));
    assert_eq!(ask("stuck", &[0, 1, 32, 0, 203, 0, 113, 9]), (first, Some(24)));
    let seen: std::collections::BTreeSet<Vec<u8>> =
        (0..200).map(|network| ask("stuck", &[0, 1, 24, 0, 203, 0, network]).0).collect();
    assert_eq!(seen.into_iter().flatten().collect::<Vec<u8>>(), [61, 62, 63]);
    // The alias leads there in Asia: the region decides by 18 bits, the key by 24.
    assert_eq!(ask("geoalias", &[0, 1, 24, 0, 198, 51, 7]).1, Some(24));
    assert_eq!(ask("geoalias", &[0, 1, 24, 0, 203, 0, 113]).1, ask("geo", &[0, 1, 24, 0, 203, 0, 113]).1);
}

#[test]
fn two_picks_are_two_addresses() {
    let snapshot = snapshot(false);
    let sent = query("some.fed.example.test.", RecordType::A).to_vec().unwrap();
    for random in 0..100 {
        let (octets, _) =
            reply(&sent, &context(&snapshot, Transport::Udp, dns_lb::testing::zone::step(random)));
        let mut addresses = last_octets(&octets);
        addresses.dedup();
        assert_eq!(addresses.len(), 2);
    }
}

#[test]
fn malformed_options_are_form_errors() {
    let snapshot = snapshot(false);
    for (code, data) in [(8, &[0, 1, 24, 0, 192, 0][..]), (8, &[0, 1, 24, 8, 192, 0, 2]), (10, &[1; 9])] {
        let sent = with_options("geo.fed.example.test.", &[(code, data)]);
        let (octets, _) = reply(&sent, &context(&snapshot, Transport::Udp, 1));
        assert_eq!(octets[3] & 0x0f, 1, "{code} {data:?}");
    }
}

#[test]
fn cookies_are_given_renewed_and_where_wanted_required() {
    let snapshot = snapshot(false);
    let name = "web.default.fed.example.test.";
    let asking = context(&snapshot, Transport::Udp, 1);
    let (_, options) = reply(&with_options(name, &[(10, &[9; 8])]), &asking);
    let whole = option(&options, 10).unwrap().to_vec();
    assert_eq!((whole.len(), &whole[..8]), (24, &[9; 8][..]));
    // It comes back as it was.
    let (_, options) = reply(&with_options(name, &[(10, &whole)]), &asking);
    assert_eq!(option(&options, 10), Some(&whole[..]));
    let strict = Context { cookies: CookiePolicy::Require, ..asking };
    for (sent, context, expected) in [
        (&with_options(name, &[(10, &[9; 8])]), strict, ResponseCode::BADCOOKIE),
        (&with_options(name, &[(10, &whole)]), strict, ResponseCode::NoError),
        (&with_options(name, &[]), strict, ResponseCode::NoError),
        (
            &with_options(name, &[(10, &[9; 8])]),
            Context { transport: Transport::Tcp, ..strict },
            ResponseCode::NoError,
        ),
    ] {
        let (octets, _) = reply(sent, &context);
        let message = Message::from_vec(&octets).unwrap();
        assert_eq!(message.metadata.response_code, expected);
        assert_eq!(message.answers.is_empty(), expected == ResponseCode::BADCOOKIE);
    }
    // Without secrets there are no cookies.
    let bare = Snapshot { secrets: Secrets::default(), ..crate::support::snapshot(false) };
    let (_, options) = reply(&with_options(name, &[(10, &[9; 8])]), &context(&bare, Transport::Udp, 1));
    assert_eq!(option(&options, 10), None);
}

#[test]
fn the_zones_version_tells_serial_and_epoch() {
    let snapshot = snapshot(false);
    for name in ["web.default.fed.example.test.", "nothing.fed.example.test."] {
        let (_, options) = reply(&with_options(name, &[(19, &[])]), &context(&snapshot, Transport::Udp, 1));
        let versions: Vec<&[u8]> =
            options.iter().filter(|(code, _)| *code == 19).map(|(_, data)| data.as_slice()).collect();
        assert_eq!(versions, [&[3, 0, 0, 0, 0, 7][..], &[3, 246, 0, 0, 0, 0, 0, 0, 0, 7]]);
    }
    let (_, options) =
        reply(&with_options("elsewhere.", &[(19, &[])]), &context(&snapshot, Transport::Udp, 1));
    assert_eq!(option(&options, 19), None);
}

#[tokio::test]
async fn secrets_are_the_operators_else_the_hubs_else_this_servers_own() {
    let state = || State::new(Arc::default(), Health::new(), None, Fence::default(), Duration::ZERO);
    let (own, of_hub) = (Secrets(vec![[1; 16]]), Secrets(vec![[7; 16]]));
    let without = |epoch| proto::v1::ZoneUpdate { cookie_secrets: Vec::new(), ..update(epoch, records()) };
    let given = state();
    given.prepare(OwnSecrets::Given(own.clone()), None);
    given.offer(update(7, records())).await;
    assert_eq!(given.published().snapshot().secrets, own);
    let spare = state();
    spare.prepare(OwnSecrets::Spare(own.clone()), None);
    for (offered, expected) in
        [(update(7, records()), &of_hub), (without(8), &own), (update(9, records()), &of_hub)]
    {
        spare.offer(offered).await;
        assert_eq!(spare.published().snapshot().secrets, *expected);
    }
}

#[test]
fn errors_say_what_they_are() {
    let code = |snapshot: &Snapshot, name: &str| {
        let (_, options) = reply(&with_options(name, &[]), &context(snapshot, Transport::Udp, 1));
        option(&options, 15).map(|data| data[1])
    };
    let (fresh, stale) = (snapshot(false), snapshot(true));
    let empty = Snapshot::compile(Default::default(), false, &Default::default(), &mut Default::default());
    assert_eq!(code(&fresh, "fed.example.test."), None);
    assert_eq!(code(&stale, "fed.example.test."), Some(3));
    assert_eq!(code(&fresh, "elsewhere."), Some(20));
    assert_eq!(code(&stale, "elsewhere."), Some(20), "nothing is answered that could be stale");
    assert_eq!(code(&empty, "fed.example.test."), Some(14));
}

#[test]
fn who_is_refused_is_told_why_and_so_is_who_asks_for_what_nobody_serves() {
    let (snapshot, stale) = (snapshot(false), snapshot(true));
    let told = |snapshot: &Snapshot, name: &str, kind: u16, class: u8, transport| {
        let mut sent = with_options(name, &[]);
        let end = sent.len() - 11;
        sent[end - 4..end].copy_from_slice(&[(kind >> 8) as u8, kind as u8, 0, class]);
        let (octets, options) = reply(&sent, &context(snapshot, transport, 1));
        let told: Vec<Vec<u8>> =
            options.into_iter().filter(|(code, _)| *code == 15).map(|(_, data)| data).collect();
        (octets[3] & 0x0f, told)
    };
    let apex = "fed.example.test.";
    let code = |code: u8| vec![vec![0, code]];
    for (transport, expected) in [(Transport::Udp, 21), (Transport::Https, 21), (Transport::Tcp, 18)] {
        for kind in [251, 252] {
            assert_eq!(told(&snapshot, apex, kind, 1, transport), (5, code(expected)));
        }
        assert_eq!(told(&snapshot, "elsewhere.", 252, 1, transport), (5, code(20)));
    }
    assert_eq!(told(&snapshot, apex, 1, 4, Transport::Udp), (5, code(21)), "Hesiod");
    assert_eq!(told(&snapshot, "nobody.", 16, 3, Transport::Udp), (5, code(20)));
    let silent = [&[0, 0], dns_lb::testing::answer::SILENT].concat();
    assert_eq!(told(&snapshot, "gone.fed.example.test.", 1, 1, Transport::Udp), (0, vec![silent.clone()]));
    assert_eq!(told(&stale, "gone.fed.example.test.", 1, 1, Transport::Udp), (0, vec![vec![0, 3], silent]));
    assert_eq!(told(&snapshot, "gone.fed.example.test.", 28, 1, Transport::Udp), (0, vec![]));
}

#[test]
fn what_is_beyond_the_limit_is_cut_to_less_than_was_asked() {
    let snapshot = snapshot(false);
    let context = context(&snapshot, Transport::Udp, 1);
    let slip = |sent: &[u8]| {
        let mut buffer = [0; 1232];
        buffer[..sent.len()].copy_from_slice(sent);
        let counters = Counters::new(Transport::Udp);
        let reply = answer(&mut buffer, sent.len(), &mut Scratch::default(), &context, &counters).unwrap();
        let length = reply.slip(&mut buffer, &context).unwrap();
        Message::from_vec(&buffer[..length]).map(|message| (message, length)).unwrap()
    };
    let plain = query("big.fed.example.test.", RecordType::AAAA).to_vec().unwrap();
    let (message, length) = slip(&plain);
    assert!(message.metadata.truncation && message.answers.is_empty() && length <= plain.len());
    let edns = with_options("geo.fed.example.test.", &[(8, &[0, 1, 24, 0, 198, 51, 100])]);
    let (message, length) = slip(&edns);
    assert!(message.metadata.truncation && message.edns.is_some() && length <= edns.len());
    let (message, _) = slip(&with_options("geo.fed.example.test.", &[(10, &[9; 8])]));
    assert_eq!(message.metadata.response_code, ResponseCode::BADCOOKIE);
    assert!(!message.metadata.truncation);
    // The answer to a signature that is not good has a question, and is cut to a header without one.
    let (mut forged, other) = (plain, Keys::parse("hmac-sha256:other:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap());
    let key = other.get(&dns_lb::testing::wire::Name::parse("other.").unwrap()).unwrap();
    Session::request(key.clone()).sign(&mut forged, u64::from(context.now));
    let ours = Keys::parse("hmac-sha256:ours:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
    let context = Context { keys: Some(&ours), ..context };
    let mut buffer = [0; 1232];
    buffer[..forged.len()].copy_from_slice(&forged);
    let counters = Counters::new(Transport::Udp);
    let reply = answer(&mut buffer, forged.len(), &mut Scratch::default(), &context, &counters).unwrap();
    assert_eq!((reply.rcode, buffer[5]), (dns_lb::testing::wire::Rcode::NOTAUTH, 1));
    let length = reply.slip(&mut buffer, &context).unwrap();
    let message = Message::from_vec(&buffer[..length]).unwrap();
    assert!(message.metadata.truncation && message.queries.is_empty() && length == 12);
}
