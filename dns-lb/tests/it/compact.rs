//! Compact denial of existence (RFC 9824): validated by unbound and delv, bounded in a flood. Knot Resolver is asked in `delegation`.

use std::process::Command;
use std::time::Instant;

use dns_lb::testing::answer::{Scratch, answer};
use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::{Counters, Transport};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType as T;
use proto::v1;

use crate::dnssec::{NOW, ORIGIN, Unbound, compiled, ds, key, next, signed};
use crate::support::{Running, context, options, query, with_edns};

const DO: u16 = 0x8000;
/// COMPACT ANSWERS OK.
const CO: u16 = 0x4000;

fn compact(epoch: u64, bound: u32) -> v1::ZoneUpdate {
    let mut update = signed(epoch, vec![key(1)]);
    update.zones[0].compact_denial = bound;
    update
}

/// The answer at `now`, and its OPT's flags.
fn asked(snapshot: &Snapshot, name: &str, kind: T, flags: u16, now: u32) -> (Message, u16) {
    let mut sent = with_edns(query(name, kind), 1232).to_vec().unwrap();
    let at = sent.len() - 4;
    sent[at..at + 2].copy_from_slice(&flags.to_be_bytes());
    let mut buffer = vec![0; 1232];
    buffer[..sent.len()].copy_from_slice(&sent);
    let context = dns_lb::testing::answer::Context { now, ..context(snapshot, Transport::Udp, 1) };
    let counters = Counters::new(Transport::Udp);
    let reply = answer(&mut buffer, sent.len(), &mut Scratch::default(), &context, &counters).unwrap();
    let message = Message::from_vec(&buffer[..reply.length]).unwrap();
    let flags = message.edns.as_ref().unwrap().flags();
    let flags = u16::from(flags.dnssec_ok) << 15 | flags.z;
    (message, flags)
}

/// Codes of the NSEC records' types of an answer; 128 is NXNAME.
fn nsec_owners(message: &Message) -> Vec<String> {
    let nsec = message.authorities.iter().filter(|record| record.record_type() == T::NSEC);
    nsec.map(|record| record.name.to_string()).collect()
}

#[test]
fn a_name_that_does_not_exist_has_one_record_that_says_so() {
    let snapshot = compiled(&compact(7, 100), &mut Signatures::default(), NOW);
    let name = "Nothing.a.fed.example.test.";
    let (plain, flags) = asked(&snapshot, name, T::A, DO, NOW);
    assert_eq!((plain.metadata.response_code, flags), (ResponseCode::NoError, DO));
    let kinds: Vec<T> = plain.authorities.iter().map(hickory_proto::rr::Record::record_type).collect();
    assert_eq!(kinds, [T::SOA, T::RRSIG, T::NSEC, T::RRSIG]);
    assert_eq!(nsec_owners(&plain), [name], "as it was asked for");
    assert!(plain.authorities.iter().all(|record| record.ttl == 5));
    // Who knows what that means gets the code too, and his flag back.
    let (restored, flags) = asked(&snapshot, name, T::A, DO | CO, NOW);
    assert_eq!((restored.metadata.response_code, flags), (ResponseCode::NXDomain, DO | CO));
    assert_eq!(restored.authorities.len(), 4);
    // Who does not ask for proofs gets none, and the code.
    let (bare, flags) = asked(&snapshot, name, T::A, CO, NOW);
    assert_eq!((bare.metadata.response_code, bare.authorities.len(), flags), (ResponseCode::NXDomain, 1, CO));
    // At the end of an alias the record is the target's.
    let (dangling, _) = asked(&snapshot, "dangling.fed.example.test.", T::A, DO, NOW);
    assert_eq!((dangling.metadata.response_code, dangling.answers.len()), (ResponseCode::NoError, 2));
    assert_eq!(nsec_owners(&dangling), ["nothing.fed.example.test."]);
    // What exists is proven as ever.
    let (empty, _) = asked(&snapshot, "ns1.fed.example.test.", T::MX, DO, NOW);
    assert_eq!(nsec_owners(&empty), ["ns1.fed.example.test."]);
    let (wild, _) = asked(&snapshot, "x.wild.fed.example.test.", T::A, DO, NOW);
    assert_eq!((wild.answers.len(), nsec_owners(&wild).len()), (2, 1));
    // NXNAME itself cannot be asked for.
    let (refused, _) = asked(&snapshot, name, T::Unknown(128), DO, NOW);
    assert_eq!(refused.metadata.response_code, ResponseCode::FormErr);
    let longest = format!("{0}.{0}.{0}.{1}.{ORIGIN}", "x".repeat(62), "x".repeat(46));
    let (long, _) = asked(&snapshot, &longest, T::A, DO, NOW);
    assert_eq!(
        long.metadata.response_code,
        ResponseCode::NXDomain,
        "there is no next name: the chain says it"
    );
}

#[test]
fn a_flood_of_random_names_is_answered_and_signs_no_more_than_the_bound() {
    const BOUND: u32 = 40;
    let mut signatures = Signatures::default();
    let snapshot = compiled(&compact(7, BOUND), &mut signatures, NOW);
    let flood = |snapshot: &Snapshot| {
        let mut signed = 0;
        for n in 0..3000 {
            let (message, _) = asked(snapshot, &format!("r{n}.fed.example.test."), T::A, DO, NOW);
            match message.metadata.response_code {
                ResponseCode::NoError => signed += 1,
                // By the chain.
                code => assert_eq!((code, nsec_owners(&message).len()), (ResponseCode::NXDomain, 2)),
            }
        }
        signed
    };
    let began = Instant::now();
    let most = || 2 + (began.elapsed().as_secs_f64() * f64::from(BOUND)) as u32;
    let first = flood(&snapshot);
    assert!((1..=most()).contains(&first), "{first}");
    let second = flood(&snapshot);
    assert!((first..=most()).contains(&second), "those that were made are kept: {first}, {second}");
    // A change of the zone begins no new budget, and loses nothing that was made.
    let again = next(&snapshot, &compact(8, BOUND), &mut signatures, NOW + 1);
    let third = flood(&again);
    assert!((second..=most()).contains(&third), "{second}, {third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unbound_and_delv_validate_it() {
    let (server, below) = (Running::start(options()).await, Running::start(options()).await);
    server.state.offer(compact(7, 500)).await;
    let (at, below_at) = (server.address, below.address);
    let asking = tokio::task::spawn_blocking(move || {
        let unbound = Unbound::start(at, below_at, &ds(ORIGIN, &key(1)));
        for name in ["0", "nothing", "zzz", "below.ns1", "x.deep.wild", "a.b.c.d.e", "*.b"] {
            unbound.check(&format!("{name}.{ORIGIN}"), T::A, ResponseCode::NoError, true, 0);
        }
        unbound.check(&format!("dangling.{ORIGIN}"), T::A, ResponseCode::NoError, true, 1);
        unbound.check(&format!("ns1.{ORIGIN}"), T::A, ResponseCode::NoError, true, 1);
        unbound.check(&format!("ns1.{ORIGIN}"), T::MX, ResponseCode::NoError, true, 0);
        unbound.check(&format!("x.wild.{ORIGIN}"), T::A, ResponseCode::NoError, true, 1);
        unbound.check(&format!("plain.{ORIGIN}"), T::DS, ResponseCode::NoError, true, 0);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("anchor");
        let ds = ds(ORIGIN, &key(1));
        let (head, digest) = ds.rsplit_once(' ').unwrap();
        std::fs::write(&file, format!("trust-anchors {{ {ORIGIN} static-ds {head} \"{digest}\"; }};"))
            .unwrap();
        let output = Command::new("delv")
            .arg("-a")
            .arg(&file)
            .args([&format!("@{}", at.ip()), "-p", &at.port().to_string(), &format!("+root={ORIGIN}")])
            .args([&format!("nothing.{ORIGIN}"), "A"])
            .output()
            .expect("delv: apt-get install bind9-dnsutils");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("; negative response, fully validated"), "{said}");
        assert!(said.contains("NSEC \\000.nothing.fed.example.test. RRSIG NSEC"), "{said}");
    });
    asking.await.unwrap();
    server.stop().await;
    below.stop().await;
}
