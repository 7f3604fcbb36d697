//! Signatures made when a query arrives: that a name does not exist, in an NSEC record of its own (RFC 9824).
//!
//! Anybody can ask for names that do not exist, so that these signatures are bounded: so many a second, whoever asks, and those that were made
//! are kept for whoever asks again. Over the bound nothing is signed, and the answer is proven by the zone's chain, which was signed before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

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
    // The second that it is of in the upper half, and how many signatures were made in it.
    spent: AtomicU64,
    shards: [Mutex<Kept>; SHARDS],
}

#[derive(Debug, Default)]
struct Kept {
    new: HashMap<Digest, Entry>,
    old: HashMap<Digest, Entry>,
}

type Digest = [u8; 16];

#[derive(Clone, Copy, Debug)]
struct Entry {
    window: Window,
    signature: [u8; 64],
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
        Self { bound, spent: AtomicU64::new(0), shards: Default::default() }
    }

    /// Signatures a second at most.
    pub fn bound(&self) -> u32 {
        self.bound
    }

    /// That the lower-case wire name `name`, of so many labels, does not exist in the zone `origin`. None: there is no room for the next name,
    /// or too many signatures were made this second.
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
                    if !self.spend(now) {
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

    /// Whether one more signature may be made in the second `now`.
    fn spend(&self, now: u32) -> bool {
        let one_more = |spent: u64| {
            let second = (spent >> 32) as u32;
            // A thread in the midst of a batch still has the second before, which does not begin anew.
            let (second, count) =
                if second.wrapping_sub(now) <= 1 { (second, spent as u32) } else { (now, 0) };
            (count < self.bound).then(|| u64::from(second) << 32 | u64::from(count + 1))
        };
        self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn shard(&self, id: &Digest) -> &Mutex<Kept> {
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

impl Kept {
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
    fn so_many_are_made_in_a_second_and_those_that_were_made_are_kept() {
        let online = Online::new(5);
        let made = (0..100).filter(|n| ask(&online, &format!("n{n}"), NOW).is_some()).count();
        assert_eq!(made, 5);
        assert!(ask(&online, "n0", NOW).is_some(), "it was made before");
        assert!(ask(&online, "n99", NOW).is_none());
        let made = (50..100).filter(|n| ask(&online, &format!("n{n}"), NOW + 1).is_some()).count();
        assert_eq!(made, 5, "of the next second");
        let again = ask(&online, "n0", NOW + 1).unwrap();
        assert_eq!(
            again.signatures,
            ask(&Online::new(1), "n0", NOW).unwrap().signatures,
            "the same at every server"
        );
        assert!(
            ask(&online, &format!("{0}.{0}.{0}.{1}", "x".repeat(62), "x".repeat(61)), NOW + 2).is_none(),
            "no room"
        );
    }

    #[test]
    fn threads_on_both_sides_of_a_second_have_one_bound() {
        let online = Online::new(5);
        let made = (0..100).filter(|n| ask(&online, &format!("n{n}"), NOW + n % 2).is_some()).count();
        // Those of the second that ended, and those of the one that began.
        assert!((5..=10).contains(&made), "{made}");
        assert!(ask(&online, "later", NOW + 2).is_some());
        assert!(ask(&online, "earlier", NOW - 100).is_some(), "a clock that was set back");
    }

    #[test]
    fn a_flood_of_names_does_not_fill_the_memory() {
        let online = Online::new(1);
        let window = Window::at(NOW, 86_400, 0);
        for n in 0..100_000_u64 {
            let id: Digest = *Sha256::digest(n.to_be_bytes()).first_chunk().unwrap();
            online.keep(id, Entry { window, signature: [0; 64] });
        }
        let kept = |shard: &Mutex<Kept>| {
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
