//! Whatever octets come, by whatever transport, from a signed zone and with keys for transfers: an answer is one, fits, and belongs to its query.

use dns_lb::testing::answer::{Context, Scratch, answer};
use dns_lb::testing::compile::Snapshot;
use dns_lb::testing::dnssec::Signatures;
use dns_lb::testing::metrics::{Counters, Transport};
use dns_lb::testing::transfer::{Keys, Session};
use dns_lb::testing::udp::Rng;
use dns_lb::testing::wire::Name;

use crate::differential::{damaged, number, sent};
use crate::dnssec::{NOW, compiled, key, signed};
use crate::support::context;

const KEYS: &str = "hmac-sha256:transfer:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";

fn check(
    snapshot: &Snapshot,
    keys: &Keys,
    message: &[u8],
    transport: Transport,
    random: u64,
) -> Result<bool, String> {
    let limit = if transport == Transport::Udp { 1232 } else { 65535 };
    let mut buffer = vec![0; limit];
    let Some(place) = buffer.get_mut(..message.len()) else { return Ok(false) };
    place.copy_from_slice(message);
    let context = Context { keys: Some(keys), now: NOW, ..context(snapshot, transport, random) };
    let counters = Counters::new(transport);
    let Some(reply) = answer(&mut buffer, message.len(), &mut Scratch::default(), &context, &counters) else {
        return Ok(false);
    };
    let octets = buffer.get(..reply.length).ok_or("longer than its buffer")?;
    let asked = message.get(2..12).ok_or("an answer to what has no header")?;
    if octets.len() < 12 || octets[..2] != message[..2] || octets[2] & 0x80 == 0 {
        return Err(format!("no answer to it: {octets:02x?}"));
    }
    if asked[0] & 0x80 != 0 {
        return Err("an answer is answered".into());
    }
    // What a slip leaves is no longer than what came, but for a cookie.
    let mut cut = buffer.clone();
    match reply.slip(&mut cut, &context) {
        Some(length) if length <= message.len().max(12) + 28 => Ok(true),
        other => Err(format!("cut to {other:?} of {}", message.len())),
    }
}

/// For `DNS_FUZZ_SECONDS` (5 if not set; an hour by hand), from `DNS_FUZZ_SEED`.
#[test]
fn no_octets_bring_an_answer_that_is_none() {
    let (seed, seconds) = (number("DNS_FUZZ_SEED", 2026), number("DNS_FUZZ_SECONDS", 5));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let snapshot = compiled(&signed(7, vec![key(1)]), &mut Signatures::default(), NOW);
    let keys = Keys::parse(KEYS).unwrap();
    let own = keys.get(&Name::parse("transfer.").unwrap()).unwrap();
    let (mut rng, mut answered, mut count) = (Rng::new(seed), 0_u64, 0_u64);
    while std::time::Instant::now() < end {
        let mut message = sent(&mut rng);
        if message.len() > 12 && rng.next_u64().is_multiple_of(3) {
            Session::request(own.clone()).sign(&mut message, u64::from(NOW));
            if rng.next_u64().is_multiple_of(2) {
                damaged(&mut message, &mut rng);
            }
        }
        let transport = Transport::ALL[(rng.next_u64() % 5) as usize];
        match check(&snapshot, &keys, &message, transport, rng.next_u64()) {
            Ok(one) => answered += u64::from(one),
            Err(error) => panic!("seed {seed}, message {count} by {transport:?}: {message:02x?}: {error}"),
        }
        count += 1;
    }
    assert!(answered > count / 2, "{answered} of {count}");
    println!("{count} messages, {answered} answered");
}
