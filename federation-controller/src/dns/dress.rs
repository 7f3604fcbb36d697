//! Keys and records put into zones.

use std::collections::BTreeMap;

use proto::v1;

/// Added to zones before they are published.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Extras {
    /// By origin, lower case, with the final dot.
    pub(crate) zones: BTreeMap<String, ZoneExtras>,
    /// Records in order of age, the oldest first.
    pub(crate) records: Vec<Static>,
    /// Of server cookies, all zones': the first makes them. None: each dns-lb has its own.
    pub(crate) cookie_secrets: Vec<[u8; 16]>,
}

impl std::fmt::Debug for Extras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never a secret.
        write!(
            f,
            "Extras {{ zones: {:?}, records: {:?}, cookie_secrets: {} }}",
            self.zones,
            self.records,
            self.cookie_secrets.len()
        )
    }
}

/// Of one zone.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct ZoneExtras {
    /// None: not signed.
    pub(crate) keys: Vec<v1::DnsKey>,
    /// Seconds; 0 is the server's default.
    pub(crate) validity: u32,
    /// Signatures a second for compact denial; 0: the chain denies.
    pub(crate) compact: u32,
    /// The keys are lost: the zone is left out, so that every dns-lb holds it as it was, signed with the keys that it has still.
    pub(crate) lost: bool,
}

impl std::fmt::Debug for ZoneExtras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the private halves.
        write!(
            f,
            "ZoneExtras {{ keys: {}, validity: {}, compact: {}, lost: {} }}",
            self.keys.len(),
            self.validity,
            self.compact,
            self.lost
        )
    }
}

/// A record set that no Service makes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Static {
    /// `namespace/name` of the object.
    pub(crate) object: String,
    /// As the object says; none is the federation's own zone.
    pub(crate) zone: Option<String>,
    /// As the object says.
    pub(crate) name: String,
    /// Mnemonic or `TYPEnnn`.
    pub(crate) kind: String,
    /// Seconds; 0 is the zone's default.
    pub(crate) ttl: u32,
    /// Presentation format.
    pub(crate) data: Vec<String>,
}

impl Extras {
    /// Puts everything in. `zones` are the balanced ones; `apex` is the origin of the federation's own zone. Returns why a record set
    /// is not served, by object; the others are.
    pub(crate) fn dress(&self, apex: &str, zones: &mut Vec<v1::Zone>) -> BTreeMap<String, String> {
        let model = zones.iter().find(|zone| zone.origin == apex).cloned().unwrap_or_default();
        for origin in self.zones.keys() {
            // Within another zone its names would be that zone's (a delegation to ourselves).
            if !zones.iter().any(|zone| super::records::overlap(&zone.origin, origin)) {
                zones.push(v1::Zone {
                    origin: origin.clone(),
                    hostmaster: format!("hostmaster.{origin}"),
                    records: Vec::new(),
                    ..model.clone()
                });
            }
        }
        let refused = super::records::place(&self.records, apex, zones);
        for zone in zones.iter_mut() {
            if let Some(extras) = self.zones.get(&zone.origin) {
                zone.keys.clone_from(&extras.keys);
                zone.signature_validity = extras.validity;
                zone.compact_denial = extras.compact;
            }
        }
        zones.retain(|zone| !self.zones.get(&zone.origin).is_some_and(|extras| extras.lost));
        refused
    }
}
