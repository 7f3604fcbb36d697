//! Signatures made when a query arrives: that a name does not exist, in an NSEC record of its own (RFC 9824).
//!
//! Anybody can ask for names that do not exist, so that these signatures are bounded: so many a second, whoever asks, and those that were made
//! are kept for whoever asks again. Over the bound nothing is signed, and the answer is proven by the zone's chain, which was signed before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::{Key, Signing, Window, type_bitmap};
use crate::wire::{Class, NAME_MAX, Name, Type};

/// Parts of the cache, each with a lock of its own, so that threads seldom meet.
const SHARDS: usize = 16;
/// Signatures that one of two generations of a part holds. In all some 3 MiB, if anybody asks for as many names.
const KEPT_MAX: usize = 512;
/// Keys that sign at the same time: there are two while one takes over.
const SIGNERS_MAX: usize = 2;
/// Octets in front of a nonexistent name that make the next one (RFC 9824 section 3.2).
const NEXT: [u8; 2] = [1, 0];
/// Octets of an RRSIG's data before the signer's name (RFC 4034 section 3.1).
const HEAD: usize = 18;

/// What signs and remembers, for one zone.
#[derive(Debug)]
pub struct Online {
    bound: u32,
    rate_limit: RateLimit,
    began: Instant,
    shards: [Mutex<Cached>; SHARDS],
}

#[derive(Debug, Default)]
struct Cached {
    new: HashMap<Digest, Entry>,
    old: HashMap<Digest, Entry>,
}

type Digest = [u8; 16];

#[derive(Clone, Copy, Debug)]
struct Entry {
    window: Window,
    signature: [u8; 64],
}

/// How often something may be done: so many times a second, and evenly, so that what waits behind a burst of it is not lost meanwhile.
#[derive(Debug)]
struct RateLimit {
    /// Nanoseconds from one to the next; none if it may never be done.
    apart: Option<u64>,
    /// Nanoseconds by which they may come too early: a 32nd of a second's at once, if there was quiet before.
    early: u64,
    /// When the next would be due if they came evenly, in nanoseconds.
    due: AtomicU64,
}

impl RateLimit {
    const SECOND: u64 = 1_000_000_000;
    /// A burst's part of a second.
    const BURST: u64 = 32;

    fn new(per_second: u32) -> Self {
        let apart = Self::SECOND.checked_div(per_second.into());
        // One is a burst, too.
        let early = apart.map_or(0, |apart| (Self::SECOND / Self::BURST).saturating_sub(apart));
        Self { apart, early, due: AtomicU64::new(0) }
    }

    /// Whether it may be done once more at this time, which is counted from anywhere. Threads may come out of order.
    fn take(&self, now: u64) -> bool {
        let Some(apart) = self.apart else { return false };
        let one_more = |due: u64| {
            let due = due.max(now);
            (due - now <= self.early).then(|| due.saturating_add(apart))
        };
        self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

/// A signed NSEC record that says that a name does not exist.
#[derive(Clone, Debug)]
pub struct Nonexistence {
    /// Data of the NSEC record.
    pub nsec: Vec<u8>,
    /// Data of its RRSIG records.
    pub signatures: Vec<Vec<u8>>,
}

impl Online {
    /// What makes at most `bound` signatures a second.
    pub fn new(bound: u32) -> Self {
        Self { bound, rate_limit: RateLimit::new(bound), began: Instant::now(), shards: Default::default() }
    }

    /// Signatures a second at most.
    pub fn bound(&self) -> u32 {
        self.bound
    }

    /// That the lower-case wire name `name`, of so many labels, does not exist in the zone `origin`. None: there is no room for the next name,
    /// or too many signatures were made lately.
    pub fn nonexistence(
        &self,
        signing: &Signing,
        origin: &Name,
        name: &[u8],
        labels: usize,
        ttl: u32,
        now: u32,
    ) -> Option<Nonexistence> {
        if NEXT.len() + name.len() > NAME_MAX {
            return None;
        }
        let signers = || signing.keys.iter().filter(|key| key.signs());
        if signers().count() > SIGNERS_MAX {
            return None;
        }
        let bitmap = type_bitmap(&[Type::RRSIG, Type::NSEC, Type::NXNAME]);
        let nsec = [&NEXT, name, &bitmap].concat();
        // A wildcard's own label does not count (RFC 4034 section 3.1.3).
        let labels = labels - usize::from(name.starts_with(b"\x01*"));
        let mut records = Vec::with_capacity(name.len() + 10 + nsec.len());
        records.extend_from_slice(name);
        records.extend_from_slice(&Type::NSEC.0.to_be_bytes());
        records.extend_from_slice(&Class::IN.0.to_be_bytes());
        records.extend_from_slice(&ttl.to_be_bytes());
        records.extend_from_slice(&(nsec.len() as u16).to_be_bytes());
        records.extend_from_slice(&nsec);
        let head = |key: &Key, window: Window| {
            let mut head = Vec::with_capacity(HEAD + origin.wire().len() + 64);
            head.extend_from_slice(&Type::NSEC.0.to_be_bytes());
            head.extend_from_slice(&[federation_core::dnssec::ALGORITHM, labels as u8]);
            for number in [ttl, window.expiration, window.inception] {
                head.extend_from_slice(&number.to_be_bytes());
            }
            head.extend_from_slice(&key.public().tag().to_be_bytes());
            head.extend_from_slice(origin.wire());
            head
        };
        let mut signatures = Vec::with_capacity(1);
        for key in signers() {
            let digest = Sha256::new()
                .chain_update(key.public().0)
                .chain_update(signing.validity.to_be_bytes())
                .chain_update(&records)
                .finalize();
            let id: Digest = *digest.first_chunk()?;
            let seed = u64::from_le_bytes(*digest.get(16..)?.first_chunk()?);
            // The same at every server, as all others are: see [`super::Signatures`].
            let window = Window::at(now, signing.validity, seed);
            let mut data = head(key, window);
            let signature = match self.kept(&id, window) {
                Some(signature) => signature,
                None => {
                    let elapsed = self.began.elapsed().as_nanos();
                    if !self.rate_limit.take(u64::try_from(elapsed).unwrap_or(u64::MAX)) {
                        return None;
                    }
                    let signature = key.sign(&[&data, &records[..]].concat())?;
                    self.keep(id, Entry { window, signature });
                    signature
                }
            };
            data.extend_from_slice(&signature);
            signatures.push(data);
        }
        Some(Nonexistence { nsec, signatures })
    }

    fn shard(&self, id: &Digest) -> &Mutex<Cached> {
        // The remainder is below SHARDS.
        &self.shards[id[0] as usize % SHARDS]
    }

    fn kept(&self, id: &Digest, window: Window) -> Option<[u8; 64]> {
        let mut kept = self.shard(id).lock();
        let entry = match kept.new.get(id) {
            Some(entry) => *entry,
            None => {
                let entry = kept.old.remove(id)?;
                kept.put(*id, entry);
                entry
            }
        };
        (entry.window == window).then_some(entry.signature)
    }

    fn keep(&self, id: Digest, entry: Entry) {
        self.shard(&id).lock().put(id, entry);
    }
}

impl Cached {
    /// What was not asked for since a whole generation goes.
    fn put(&mut self, id: Digest, entry: Entry) {
        if self.new.len() >= KEPT_MAX {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(id, entry);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: u32 = 1_795_500_000;

    fn signing() -> Signing {
        let secret = p256::ecdsa::SigningKey::from_slice(&[1; 32]).unwrap();
        let public = secret.verifying_key().to_sec1_point(false).as_bytes()[1..].to_vec();
        Signing { keys: vec![Key::new(&public, &[1; 32], true).unwrap()], validity: 1_209_600, compact: 5 }
    }

    fn ask(online: &Online, label: &str, now: u32) -> Option<Nonexistence> {
        let (origin, name) = (Name::parse("t.").unwrap(), Name::parse(&format!("{label}.t.")).unwrap());
        online.nonexistence(&signing(), &origin, name.wire(), name.label_count(), 5, now)
    }

    #[test]
    fn what_was_made_is_kept_and_is_the_same_at_every_server() {
        let (online, began) = (Online::new(1), Instant::now());
        let first = ask(&online, "n0", NOW).unwrap();
        let made = (1..50).filter(|n| ask(&online, &format!("n{n}"), NOW).is_some()).count();
        assert!(made as u64 <= 1 + began.elapsed().as_secs(), "{made}");
        let again = ask(&online, "n0", NOW).expect("it was made before");
        assert_eq!(again.signatures, first.signatures);
        assert_eq!(again.signatures, ask(&Online::new(1), "n0", NOW).unwrap().signatures);
        assert!(ask(&Online::new(0), "n0", NOW).is_none());
        let long = format!("{0}.{0}.{0}.{1}", "x".repeat(62), "x".repeat(61));
        assert!(ask(&Online::new(1), &long, NOW).is_none(), "no room");
    }

    #[test]
    fn a_flood_is_met_evenly() {
        let rate_limit = RateLimit::new(500);
        let made: Vec<u64> = (0..20_000)
            .map(|n| 7 * RateLimit::SECOND + n * 100_000)
            .filter(|&now| rate_limit.take(now))
            .collect();
        assert!((1000..=1016).contains(&made.len()), "{} in two seconds", made.len());
        for from in made.iter().skip(16) {
            let close = made.iter().filter(|at| (*from..*from + 20_000_000).contains(*at)).count();
            assert!(
                (9..=11).contains(&close) || from + 20_000_000 > 9 * RateLimit::SECOND,
                "{close} in 20 ms"
            );
        }
        let at_once = (0..100).filter(|_| rate_limit.take(60 * RateLimit::SECOND)).count();
        assert_eq!(at_once, 15, "after a quiet minute");
        let slow = RateLimit::new(1);
        assert!(slow.take(5) && !slow.take(6) && !slow.take(4) && slow.take(RateLimit::SECOND + 5));
        assert!(!RateLimit::new(0).take(1));
    }

    #[test]
    fn a_flood_of_names_does_not_fill_the_memory() {
        let online = Online::new(1);
        let window = Window::at(NOW, 86_400, 0);
        for n in 0..100_000_u64 {
            let id: Digest = *Sha256::digest(n.to_be_bytes()).first_chunk().unwrap();
            online.keep(id, Entry { window, signature: [0; 64] });
        }
        let kept = |shard: &Mutex<Cached>| {
            let kept = shard.lock();
            kept.new.len() + kept.old.len()
        };
        let held: usize = online.shards.iter().map(kept).sum();
        assert!(held <= 2 * SHARDS * KEPT_MAX, "{held}");
    }

    #[test]
    fn the_record_says_that_the_name_does_not_exist_and_what_is_next() {
        let made = ask(&Online::new(1), "a", NOW).unwrap();
        let bitmap = [&[0, 17, 0, 0, 0, 0, 0, 3][..], &[0; 10], &[0x80]].concat();
        assert_eq!(made.nsec, [&b"\x01\x00\x01a\x01t\x00"[..], &bitmap].concat());
        // NSEC, ECDSA P-256, two labels, TTL.
        assert_eq!(made.signatures[0][..8], [0, 47, 13, 2, 0, 0, 0, 5]);
    }
}
