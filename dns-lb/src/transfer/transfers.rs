//! Handling of TSIG-signed queries and zone transfers on connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::image::Image;
use super::tsig::{self, Keys, Opened, Session, header};
use crate::client::Prefix;
use crate::compile::Snapshot;
use crate::dnssec::Signatures;
use crate::publish::Published;
use crate::wire::{HEADER, Name, Rcode, Type, UDP_MAX, name_end};

/// Who may have zones, and the zones as they get them.
#[derive(Debug)]
pub struct Transfers {
    published: Arc<Published>,
    /// Who has one of them may have every zone.
    pub keys: Keys,
    prefixes: Vec<Prefix>,
    // For each zone that was asked for: signatures, so that the next version costs only what has changed; and the last image, while
    // somebody reads it.
    zones: Mutex<HashMap<Name, Arc<Mutex<Cached>>>>,
}

#[derive(Debug, Default)]
struct Cached {
    signatures: Signatures,
    of: Weak<Snapshot>,
    image: Weak<Image>,
}

/// A query that is not simply answered.
#[derive(Debug)]
pub enum Special {
    /// It is refused like this.
    Answer(Vec<u8>),
    /// It is answered as this, and the answer signed.
    Signed(Vec<u8>, Session),
    /// It asks for a zone.
    Transfer(Transfer),
}

/// A zone that is to be sent.
#[derive(Debug)]
pub struct Transfer {
    origin: Name,
    /// Of an IXFR: what the client has.
    has: Option<u32>,
    head: Vec<u8>,
    /// For a client that speaks EDNS.
    opt: Option<[u8; OPT]>,
    session: Option<Session>,
}

/// Octets of an OPT record without options (RFC 6891 section 6.1.2).
const OPT: usize = 11;

impl Transfers {
    /// For those who have one of `keys`, and those in `prefixes`.
    pub fn new(published: Arc<Published>, keys: Keys, prefixes: Vec<Prefix>) -> Self {
        Self { published, keys, prefixes, zones: Mutex::default() }
    }

    /// Looks whether `query` is special. None: it is answered as any other.
    pub fn inspect(&self, query: &[u8], source: IpAddr) -> Option<Special> {
        let is_query = query.get(2).is_some_and(|flags| flags & 0xf8 == 0);
        if !is_query {
            return None;
        }
        let (bare, session) = match tsig::open(query, &self.keys, now()) {
            Opened::Plain => (None, None),
            Opened::Signed(bare, session) => (Some(bare), Some(session)),
            Opened::Refused(answer) => return Some(Special::Answer(answer)),
            // Malformed: it is told so where all queries are read.
            Opened::Malformed => return None,
        };
        let plain = bare.as_deref().unwrap_or(query);
        let source = source.to_canonical();
        let may = session.is_some() || self.prefixes.iter().any(|prefix| prefix.contains(source));
        if may && let Some((origin, has, end)) = asked(plain) {
            let served = self.published.snapshot().zones.zones.iter().any(|zone| zone.origin == origin);
            if served {
                let mut head = header(plain.get(..end)?, Rcode::NOERROR);
                // With authority.
                *head.get_mut(2)? |= 0x04;
                let opt = opt(plain, end);
                return Some(Special::Transfer(Transfer { origin, has, head, opt, session }));
            }
        }
        Some(Special::Signed(bare?, session?))
    }

    /// The messages of `transfer`, each to be sent when the one before is. None: the zone has gone meanwhile.
    pub async fn messages(
        self: &Arc<Self>,
        transfer: Transfer,
    ) -> Option<impl Iterator<Item = Vec<u8>> + Send> {
        let Transfer { origin, has, head, mut opt, mut session } = transfer;
        let this = self.clone();
        // Signing a large zone takes a while.
        let image = tokio::task::spawn_blocking(move || this.image(&origin)).await.ok()??;
        // RFC 1995 section 2: a client whose serial is not older is told ours, and no more (RFC 1982).
        let unchanged =
            has.is_some_and(|has| image.serial.wrapping_sub(has) > i32::MAX as u32 || has == image.serial);
        let mut at = 0;
        Some(std::iter::from_fn(move || {
            let mut message = image.message(&head, &mut at, unchanged)?;
            // The first message has it (RFC 5936 section 2.2.5).
            if let Some(opt) = opt.take() {
                message.extend_from_slice(&opt);
                *message.get_mut(11)? = 1;
            }
            if let Some(session) = &mut session {
                session.sign(&mut message, now());
            }
            Some(message)
        }))
    }

    fn image(&self, origin: &Name) -> Option<Arc<Image>> {
        let snapshot = self.published.snapshot();
        let zone = snapshot.zones.zones.iter().find(|zone| zone.origin == *origin)?;
        let kept = {
            let mut zones = self.zones.lock();
            // What is no longer served is forgotten.
            zones.retain(|name, _| snapshot.zones.zones.iter().any(|zone| zone.origin == *name));
            zones.entry(origin.clone()).or_default().clone()
        };
        // Who asks for the same zone at the same time waits, and shares the image.
        let mut kept = kept.lock();
        if let Some(image) = kept.image.upgrade()
            && std::ptr::eq(kept.of.as_ptr(), Arc::as_ptr(&snapshot))
        {
            return Some(image);
        }
        // At the time of the answers, so that signatures are theirs.
        kept.signatures.begin(snapshot.made);
        let image = Arc::new(Image::new(zone, &mut kept.signatures));
        kept.signatures.finish();
        kept.of = Arc::downgrade(&snapshot);
        kept.image = Arc::downgrade(&image);
        Some(image)
    }
}

/// The zone that a query wants whole, the serial that its client has (for IXFR), and where the question ends.
fn asked(query: &[u8]) -> Option<(Name, Option<u32>, usize)> {
    if query.get(4..6)? != [0, 1] {
        return None;
    }
    let end = name_end(query, HEADER)?;
    let origin = Name::from_wire(&query.get(HEADER..end)?.to_ascii_lowercase())?;
    let [k0, k1, 0, 1] = *query.get(end..)?.first_chunk()? else { return None };
    match Type(u16::from_be_bytes([k0, k1])) {
        Type::AXFR => Some((origin, None, end + 4)),
        Type::IXFR => Some((origin, client_serial(query, end + 4), end + 4)),
        _ => None,
    }
}

/// The serial in the SOA of an IXFR's authority section (RFC 1995 section 3).
fn client_serial(query: &[u8], at: usize) -> Option<u32> {
    if query.get(6..10)? != [0, 0, 0, 1] {
        return None;
    }
    let fixed = name_end(query, at)?;
    if query.get(fixed..fixed + 2)? != Type::SOA.0.to_be_bytes() {
        return None;
    }
    let serial = name_end(query, name_end(query, fixed + 10)?)?;
    Some(u32::from_be_bytes(*query.get(serial..)?.first_chunk()?))
}

/// The OPT that answers the one among the records of `query` from `at` on, if there is one.
fn opt(query: &[u8], mut at: usize) -> Option<[u8; OPT]> {
    let [size_high, size_low] = UDP_MAX.to_be_bytes();
    while at < query.len() {
        let fixed = name_end(query, at)?;
        let [k0, k1, _, _, _, _, flags, _, l0, l1] = *query.get(fixed..)?.first_chunk()?;
        if [k0, k1] == [0, 41] {
            // DNSSEC OK is echoed (RFC 3225 section 3).
            return Some([0, 0, 41, size_high, size_low, 0, 0, flags & 0x80, 0, 0, 0]);
        }
        at = fixed + 10 + u16::from_be_bytes([l0, l1]) as usize;
    }
    None
}

pub(super) fn now() -> u64 {
    federation_runtime::clock::unix_ms().unsigned_abs() / 1000
}
