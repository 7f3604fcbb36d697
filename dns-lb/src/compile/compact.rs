//! Signing of nonexistence in a zone with compact denial (RFC 9824).

use std::sync::Arc;

use super::Denial;
use crate::dnssec::{Nonexistence, Online, Signing};
use crate::wire::Name;
use crate::zone::Zone;

/// Of one zone. What was signed outlives the snapshot.
#[derive(Debug)]
pub struct Compact {
    online: Arc<Online>,
    signing: Arc<Signing>,
    origin: Name,
    /// Seconds (RFC 9077 section 3).
    pub ttl: u32,
}

impl Compact {
    /// Of `zone`, if it wants it; `old` is what there was.
    pub(super) fn new(zone: &Zone, old: Option<&Denial>) -> Option<Self> {
        let signing = zone.signing.clone().filter(|signing| signing.compact > 0)?;
        let online = old
            .and_then(|old| old.compact.as_ref())
            .map(|old| old.online.clone())
            .filter(|online| online.bound() == signing.compact)
            .unwrap_or_else(|| Arc::new(Online::new(signing.compact)));
        Some(Self { online, signing, origin: zone.origin.clone(), ttl: zone.soa_negative_ttl() })
    }

    /// That the lower-case wire name `name`, of so many labels, does not exist. None: the chain has to say so.
    pub fn nonexistence(&self, name: &[u8], labels: usize, now: u32) -> Option<Nonexistence> {
        self.online.nonexistence(&self.signing, &self.origin, name, labels, self.ttl, now)
    }
}
