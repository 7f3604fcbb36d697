//! The hot path against hickory-proto: on any octets, both say the same or the hot path leaves it to the cold one.

use dns_lb::testing::answer::{Outcome, Scratch, cold, hot};
use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::metrics::{Counters, Transport};
use dns_lb::testing::udp::Rng;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use proptest::prelude::*;

use crate::support::{context, query, shown, snapshot, with_edns};

const NAMES: &[&str] = &[
    "fed.example.test.",
    "web.default.fed.example.test.",
    "WEB.default.FED.example.test.",
    "default.fed.example.test.",
    "all.fed.example.test.",
    "tiers.fed.example.test.",
    "gone.fed.example.test.",
    "big.fed.example.test.",
    "alias.fed.example.test.",
    "alias2.fed.example.test.",
    "split.fed.example.test.",
    "dangling.fed.example.test.",
    "towild.fed.example.test.",
    "circle.fed.example.test.",
    "x.wild.fed.example.test.",
    "x.cwild.fed.example.test.",
    "*.wild.fed.example.test.",
    "x.deep.wild.fed.example.test.",
    "_http._tcp.web.fed.example.test.",
    "nothing.fed.example.test.",
    "geo.fed.example.test.",
    "geoalias.fed.example.test.",
    "stuck.fed.example.test.",
    "some.fed.example.test.",
    "example.test.",
    ".",
];

const KINDS: &[u16] = &[1, 2, 5, 6, 15, 16, 28, 33, 128, 251, 252, 255];

/// Compares by meaning: order of records within a section, compression and unused space do not matter, the rest does.
fn same(hot: &[u8], cold: &[u8]) -> Result<(), String> {
    let read = |octets: &[u8], whose: &str| {
        Message::from_vec(&shown(octets)).map_err(|error| format!("{whose} answer cannot be read: {error}"))
    };
    if hot == cold {
        return Ok(());
    }
    let (mut left, mut right) = (read(hot, "the hot")?, read(cold, "the cold")?);
    // Where the size decides, compression may let one of them fit and not the other; then only one is cut.
    if left.metadata.truncation != right.metadata.truncation {
        let margin = hot.len().max(cold.len());
        if margin < 400 {
            return Err(format!("one is cut at {margin} octets"));
        }
        return Ok(());
    }
    for message in [&mut left, &mut right] {
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            section.sort_by_key(|record| format!("{record:?}").to_ascii_lowercase());
        }
    }
    let text = |message: &Message| format!("{message:#?}").to_ascii_lowercase();
    if text(&left) == text(&right) { Ok(()) } else { Err(format!("hot {left:#?}\ncold {right:#?}")) }
}

fn check(snapshot: &Snapshot, message: &[u8], transport: Transport, random: u64) -> Result<bool, String> {
    let context = context(snapshot, transport, random);
    let mut buffer = vec![0; if transport == Transport::Udp { 1232 } else { 65535 }];
    buffer[..message.len()].copy_from_slice(message);
    let counters = Counters::new(transport);
    let answered = hot(&mut buffer, message.len(), &mut Scratch::default(), &context, &counters);
    let reference = cold(message, &context);
    match (answered, reference) {
        (Outcome::Cold, _) => {
            assert_eq!(buffer[..message.len()], *message, "the cold path gets the query as it came");
            Ok(false)
        }
        (Outcome::Drop, None) => Ok(true),
        (Outcome::Reply(reply), Some((reference, expected))) if reply.rcode == expected.rcode => {
            same(&buffer[..reply.length], &reference).map(|()| true)
        }
        (hot, cold) => Err(format!("hot {hot:?}, cold {:?}", cold.map(|(_, reply)| reply.rcode))),
    }
}

#[test]
fn every_hot_answer_is_the_cold_answer() {
    let snapshots = [snapshot(false), snapshot(true)];
    let mut rng = Rng::new(2026);
    for name in NAMES {
        for &kind in KINDS {
            for payload in [None, Some(512), Some(4096)] {
                for transport in [Transport::Udp, Transport::Tcp] {
                    for snapshot in &snapshots {
                        for _ in 0..4 {
                            let plain = query(name, RecordType::from(kind));
                            let sent = match payload {
                                Some(payload) => with_edns(plain, payload),
                                None => plain,
                            };
                            let outcome = check(snapshot, &sent.to_vec().unwrap(), transport, rng.next_u64());
                            assert_eq!(
                                outcome,
                                Ok(true),
                                "{name} {kind} {payload:?} {transport:?} seed 2026"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = prop_oneof![
        (0..80_usize, any::<u8>()).prop_map(|(at, to)| Mutation::Set(at, to)),
        (0..80_usize, 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, 1 << bit)),
        (0..80_usize).prop_map(Mutation::Cut),
        (0..80_usize, prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(at, with)| Mutation::Insert(at, with)),
    ];
    prop::collection::vec(one, 0..4)
}

fn mutate(mut message: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        match mutation {
            Mutation::Set(at, to) => {
                if let Some(octet) = message.get_mut(*at) {
                    *octet = *to;
                }
            }
            Mutation::Flip(at, bit) => {
                if let Some(octet) = message.get_mut(*at) {
                    *octet ^= bit;
                }
            }
            Mutation::Cut(at) => message.truncate(*at),
            Mutation::Insert(at, with) => {
                let at = (*at).min(message.len());
                message.splice(at..at, with.iter().copied());
            }
        }
    }
    message
}

/// An option's code and data: those that are read, well formed or nearly so, and one that is not.
fn option(rng: &mut Rng) -> (u16, Vec<u8>) {
    let mut octets = |count: u64| (0..count).map(|_| rng.next_u64() as u8).collect::<Vec<u8>>();
    let [kind, one, two] = octets(3)[..] else { return (0, Vec::new()) };
    match kind % 8 {
        0 => (3, octets(u64::from(one % 2))),
        1 => (19, octets(u64::from(one % 3))),
        2 => (65001, octets(u64::from(one % 20))),
        3 => (10, octets([8, 8, 24, 24, 16, 40, 7, 41][usize::from(one % 8)])),
        4 => (8, octets(u64::from(one % 12))),
        _ => {
            let (family, whole, length) = match one % 4 {
                0 => (2_u8, octets(16), two % 129),
                1 => (1, vec![198, 51, 100, 1], two % 33),
                2 => (1, [&[198, 51][..], &octets(2)].concat(), 24),
                _ => (two % 3, octets(4), two % 34),
            };
            let mut data = vec![0, family, length, u8::from(two == 77)];
            data.extend(whole.iter().take(usize::from(length.div_ceil(8))));
            if let Some(last) = data.get_mut(4..).and_then(<[u8]>::last_mut)
                && length % 8 > 0
                && two % 5 > 0
            {
                *last &= 0xff << (8 - length % 8);
            }
            (8, data)
        }
    }
}

/// A query like those that come, but for what chance does to it.
pub fn sent(rng: &mut Rng) -> Vec<u8> {
    let below = |rng: &mut Rng, count: usize| (rng.next_u64() % count as u64) as usize;
    let (name, kind) = (NAMES[below(rng, NAMES.len())], KINDS[below(rng, KINDS.len())]);
    let mut message = query(name, RecordType::from(kind)).to_vec().unwrap();
    if !rng.next_u64().is_multiple_of(4) {
        let options: Vec<u8> = (0..below(rng, 4))
            .flat_map(|_| {
                let (code, data) = option(rng);
                [&code.to_be_bytes(), &(data.len() as u16).to_be_bytes(), &data[..]].concat()
            })
            .collect();
        let [size, flags] = [rng.next_u64() as u16, (rng.next_u64() as u16) & 0xc000];
        let version = u8::from(rng.next_u64().is_multiple_of(30));
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0, version]);
        message.extend_from_slice(&flags.to_be_bytes());
        message.extend_from_slice(&(options.len() as u16).to_be_bytes());
        message.extend_from_slice(&options);
    }
    for _ in 0..(rng.next_u64() % 8).saturating_sub(4) {
        damaged(&mut message, rng);
    }
    message
}

/// Cuts the message, or puts an octet into it, or in place of another.
pub fn damaged(message: &mut Vec<u8>, rng: &mut Rng) {
    let (at, octet) = ((rng.next_u64() % message.len().max(1) as u64) as usize, rng.next_u64() as u8);
    match rng.next_u64() % 4 {
        0 => message.truncate(at),
        1 => message.insert(at.min(message.len()), octet),
        _ => {
            if let Some(place) = message.get_mut(at) {
                *place = octet;
            }
        }
    }
}

/// What the variable `name` of the environment says.
pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What was found so.
#[test]
fn a_questions_name_that_points_into_the_header_is_malformed() {
    let snapshot = snapshot(false);
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for name in [&b"\x05stuck\xc0\x03"[..], b"\xc0\x03", b"\x01a\xc0\x0c"] {
        for class in [[0, 1], [0, 3], [7, 7]] {
            let message = [&header[..], name, &[0, 1], &class].concat();
            assert_eq!(check(&snapshot, &message, Transport::Udp, 1), Ok(true), "{message:02x?}");
            let (octets, _) = cold(&message, &context(&snapshot, Transport::Udp, 1)).unwrap();
            assert_eq!(octets[3] & 15, 1, "{message:02x?}");
        }
    }
}

/// For `DNS_FUZZ_SECONDS` (5 if not set; an hour by hand), from `DNS_FUZZ_SEED`.
#[test]
fn queries_with_options_are_read_alike() {
    let (seed, seconds) = (number("DNS_FUZZ_SEED", 2026), number("DNS_FUZZ_SECONDS", 5));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let snapshots = [snapshot(false), snapshot(true)];
    let (mut rng, mut hot, mut count) = (Rng::new(seed), 0_u64, 0_u64);
    while std::time::Instant::now() < end {
        let message = sent(&mut rng);
        let transport = if rng.next_u64() % 8 == 0 { Transport::Tcp } else { Transport::Udp };
        let snapshot = &snapshots[(rng.next_u64() % 2) as usize];
        match check(snapshot, &message, transport, rng.next_u64()) {
            Ok(answered) => hot += u64::from(answered),
            Err(error) => panic!("seed {seed}, query {count}: {message:02x?}: {error}"),
        }
        count += 1;
    }
    assert!(hot > count / 2, "{hot} of {count}");
    println!("{count} queries, {hot} of them on the hot path");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_queries_are_read_alike(
        name in prop::sample::select(NAMES),
        kind in prop::sample::select(KINDS),
        payload in prop::option::of(any::<u16>()),
        mutations in mutations(),
        random in any::<u64>(),
    ) {
        thread_local!(static SNAPSHOT: Snapshot = snapshot(false));
        let plain = query(name, RecordType::from(kind));
        let sent = match payload { Some(payload) => with_edns(plain, payload), None => plain }.to_vec().unwrap();
        let sent = mutate(sent, &mutations);
        let outcome = SNAPSHOT.with(|snapshot| check(snapshot, &sent, Transport::Udp, random));
        prop_assert!(outcome.is_ok(), "{sent:02x?}: {}", outcome.unwrap_err());
    }

    #[test]
    fn random_octets_are_read_alike(sent in prop::collection::vec(any::<u8>(), 0..100), random in any::<u64>()) {
        thread_local!(static SNAPSHOT: Snapshot = snapshot(true));
        let outcome = SNAPSHOT.with(|snapshot| check(snapshot, &sent, Transport::Udp, random));
        prop_assert!(outcome.is_ok(), "{sent:02x?}: {}", outcome.unwrap_err());
    }
}
