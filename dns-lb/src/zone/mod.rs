//! Zones as the hub describes them, validated: the model that answers are compiled from, and that the cold path reads directly.

mod after;
mod keep;
mod packed;
mod pick;
mod resolve;
mod set;
mod validate;
mod withdraw;

pub use after::Unfit;
pub use federation_core::dns::{Data, DataError, RECORDS_MAX};
pub use packed::Sets;
pub use pick::{AliasTable, Drawn, Ticket, draw, scale, seed, step, sticky};
pub use resolve::{Answer, Asker, CHAIN_MAX, Resolution, resolve};
pub use set::{Choice, How, RecordSet, Selection, Unit, Units, Variant, units};
pub use validate::{Problem, Problems};
pub use withdraw::Down;

use std::sync::Arc;

use federation_core::probe::Target;

use crate::client::Regions;
use crate::dnssec::Signing;
use crate::wire::{Name, Type};

/// Every zone at one epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Zones {
    /// The decision of the hub that these zones follow from.
    pub epoch: u64,
    /// The store that the epoch counts in.
    pub incarnation: String,
    /// No two have the same origin, and none lies within another.
    pub zones: Vec<Arc<Zone>>,
    /// Where clients are.
    pub regions: Arc<Regions>,
    /// Secrets of server cookies: the first makes them, all are accepted.
    pub cookie_secrets: Vec<[u8; 16]>,
    /// What users reach, to be probed from here.
    pub probes: Arc<Vec<Target>>,
}

/// One zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// The apex.
    pub origin: Name,
    /// Of the SOA record.
    pub serial: u32,
    /// Seconds; for SOA, NS, and sets without a TTL of their own.
    pub default_ttl: u32,
    /// Seconds; SOA minimum (RFC 2308).
    pub negative_ttl: u32,
    /// SOA MNAME.
    pub primary: Name,
    /// SOA RNAME.
    pub hostmaster: Name,
    /// How the zone is signed, if it is.
    pub signing: Option<Arc<Signing>>,
    /// The sets of each name; the apex has its NS set here, the SOA is made when answered.
    pub names: im::OrdMap<Name, Sets>,
}

/// SOA REFRESH, seconds. These three are for secondaries that no NOTIFY reaches.
pub const SOA_REFRESH: u32 = 3600;
/// SOA RETRY, seconds.
pub const SOA_RETRY: u32 = 600;
/// SOA EXPIRE, seconds, at most: see [`Zone::expire`].
const SOA_EXPIRE: u32 = 604_800;
/// Seconds after which a zone has another serial at the latest: a quarter of the shortest validity that signatures have.
pub const SERIAL_LIFE: u32 = 21_600;

/// Sets at the apex that are made from the zone's own fields.
const MADE: [Type; 4] = [Type::NS, Type::DNSKEY, Type::CDS, Type::CDNSKEY];

impl Zone {
    /// How long resolvers keep a negative answer, seconds (RFC 2308 section 5).
    pub fn soa_negative_ttl(&self) -> u32 {
        self.default_ttl.min(self.negative_ttl)
    }

    /// SOA EXPIRE, seconds: for how long a secondary answers that nothing more is heard by. Its signatures had half of their validity left when it
    /// had the serial first, and it may have had that for some hours (RFC 6781 section 4.4.1).
    pub fn expire(&self) -> u32 {
        let signed = self.signing.as_ref().map(|signing| (signing.validity / 2).saturating_sub(SERIAL_LIFE));
        signed.unwrap_or(SOA_EXPIRE).min(SOA_EXPIRE)
    }

    /// How many record sets there are besides those that every zone has at its apex.
    pub fn set_count(&self) -> usize {
        let sets: usize = self.names.values().map(Sets::len).sum();
        let made = |sets: &Sets| MADE.iter().filter(|kind| sets.has(**kind)).count();
        sets - self.names.get(&self.origin).map_or(0, made)
    }

    /// Whether there is none besides those that every zone has at its apex.
    pub fn is_bare(&self) -> bool {
        self.names
            .iter()
            .all(|(name, sets)| *name == self.origin && sets.kinds().all(|kind| MADE.contains(&kind)))
    }

    /// The highest name at or above `name` that is delegated to others (RFC 9499: a zone cut).
    pub fn cut(&self, name: &Name) -> Option<Name> {
        let mut cut = None;
        let mut next = Some(name.clone());
        while let Some(name) = next.filter(|name| *name != self.origin && name.is_within(&self.origin)) {
            next = name.parent();
            if self.names.get(&name).is_some_and(|sets| sets.has(Type::NS)) {
                cut = Some(name);
            }
        }
        cut
    }
}

impl Zones {
    /// The zones as they are served in the `quarter` of a day ([`SERIAL_LIFE`]), counted since 1970: serials are the hub's and that number. So they
    /// rise with every change, and four times a day besides, and secondaries take over signatures that were renewed before their own run out,
    /// though nothing else has changed. Every server whose clock was never ahead says the same, and a serial stays as high when a zone is no longer signed.
    #[must_use]
    pub fn on(&self, quarter: u32) -> Self {
        let dated = |zone: &Arc<Zone>| {
            let serial = zone.serial.wrapping_add(quarter);
            Arc::new(Zone { serial, ..zone.as_ref().clone() })
        };
        Self { zones: self.zones.iter().map(dated).collect(), ..self.clone() }
    }

    /// Takes from `old` whatever is the same there, so that it is held once, and known to be the same by where it is.
    pub fn share(&mut self, old: &Self) {
        for zone in &mut self.zones {
            let Some(old) = old.zones.iter().find(|old| old.origin == zone.origin) else { continue };
            if zone == old {
                *zone = old.clone();
                continue;
            }
            // Names that are not the old zone's are put into it, so that the pieces of the map are shared too.
            let mut names = old.names.clone();
            for (name, sets) in &zone.names {
                if old.names.get(name) != Some(sets) {
                    names.insert(name.clone(), sets.clone());
                }
            }
            if names.len() > zone.names.len() {
                for name in old.names.keys().filter(|name| !zone.names.contains_key(name)) {
                    names.remove(name);
                }
            }
            Arc::make_mut(zone).names = names;
        }
        if self.regions == old.regions {
            self.regions = old.regions.clone();
        }
    }

    /// The zone that `name` lies in.
    pub fn zone_of(&self, name: &Name) -> Option<&Arc<Zone>> {
        self.zones.iter().find(|zone| name.is_within(&zone.origin))
    }
}
