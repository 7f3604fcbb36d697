//! Adds keys and static records to the zones.

use std::collections::BTreeMap;

use federation_core::dns::Name;
use proto::v1;

use super::records::within;

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
    /// When its DNSZone was made, seconds since 1970.
    pub(crate) made: Option<i64>,
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
    /// is not served, by object, or a zone, by its name without the final dot; the others are.
    pub(crate) fn dress(&self, apex: &str, zones: &mut Vec<v1::Zone>) -> BTreeMap<String, String> {
        let model = zones.iter().find(|zone| zone.origin == apex).cloned().unwrap_or_default();
        let mut refused = BTreeMap::new();
        // Of two that lie within each other the older one is served: it may be signed, and its DS be known.
        let mut origins: Vec<(&String, Option<i64>)> =
            self.zones.iter().map(|(origin, extras)| (origin, extras.made)).collect();
        origins.sort_by_key(|(origin, made)| (made.is_none(), *made, *origin));
        let mut older: Vec<&String> = Vec::new();
        for (origin, _) in origins {
            match add(origin, apex, &older, &model, zones) {
                Ok(()) => older.push(origin),
                Err(why) => {
                    refused.insert(origin.trim_end_matches('.').to_owned(), why);
                }
            }
        }
        refused.extend(super::records::place(&self.records, apex, zones));
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

/// Has the zone `origin` among `zones`. It is served as `model` is. `older` are those of DNSZones that are served.
///
/// # Errors
/// In words, when other zones answer for its names.
fn add(
    origin: &str,
    apex: &str,
    older: &[&String],
    model: &v1::Zone,
    zones: &mut Vec<v1::Zone>,
) -> Result<(), String> {
    if zones.iter().any(|zone| zone.origin == *origin) {
        return Ok(());
    }
    let hostmaster = format!("hostmaster.{origin}");
    Name::parse(&hostmaster).map_err(|error| error.to_string())?;
    // Within another zone its names would be that zone's (a delegation to ourselves).
    if let Some(around) = zones.iter().find(|zone| within(origin, &zone.origin)) {
        return Err(format!("its names are those of the zone {}", around.origin));
    }
    if within(apex, origin) {
        return Err(format!("it lies around {apex}, which the federation answers for"));
    }
    if let Some(inside) = older.iter().find(|older| within(older, origin)) {
        return Err(format!("the zone {inside} lies within it, and its DNSZone is older"));
    }
    // The names of a region, which a cluster that joined has brought: they do not take the zone away, but stand in it.
    let (inside, others) = std::mem::take(zones).into_iter().partition(|zone| within(&zone.origin, origin));
    *zones = others;
    let inside: Vec<v1::Zone> = inside;
    let records = inside.into_iter().flat_map(|zone| zone.records).collect();
    zones.push(v1::Zone { origin: origin.to_owned(), hostmaster, records, ..model.clone() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(origin: &str, names: &[&str]) -> v1::Zone {
        let record = |name: &&str| v1::RecordSet {
            name: format!("{name}.{origin}"),
            r#type: "A".into(),
            service: "shop/web".into(),
            ..v1::RecordSet::default()
        };
        v1::Zone { origin: origin.into(), records: names.iter().map(record).collect(), ..v1::Zone::default() }
    }

    #[test]
    fn a_zone_of_ones_own_stays_when_a_cluster_of_a_region_within_it_joins() {
        let own = |names: &[&str]| Extras {
            zones: names.iter().map(|name| ((*name).to_owned(), ZoneExtras::default())).collect(),
            records: vec![Static {
                object: "default/www".into(),
                zone: Some("asia.example.test".into()),
                name: "www".into(),
                kind: "A".into(),
                ttl: 0,
                data: vec!["192.0.2.1".into()],
            }],
            ..Extras::default()
        };
        let mut zones = vec![zone("fed.example.test.", &["web"])];
        let extras = own(&["asia.example.test."]);
        assert_eq!(extras.dress("fed.example.test.", &mut zones), BTreeMap::new());
        assert_eq!(zones.len(), 2);
        let mut zones =
            vec![zone("fed.example.test.", &["web"]), zone("fed.svc.asia.example.test.", &["web.shop"])];
        assert_eq!(extras.dress("fed.example.test.", &mut zones), BTreeMap::new());
        let names: Vec<&str> = zones[1].records.iter().map(|set| set.name.as_str()).collect();
        assert_eq!(zones[1].origin, "asia.example.test.");
        assert_eq!(names, ["web.shop.fed.svc.asia.example.test.", "www.asia.example.test."]);
        assert_eq!(zones.len(), 2, "no zone lies within another");
        // What cannot be served is said to be so.
        let mut zones = vec![zone("fed.example.test.", &["web"])];
        let long = format!("{0}.{0}.{0}.{1}.", "x".repeat(62), "x".repeat(60));
        let refused = own(&["asia.example.test.", "example.test.", "a.fed.example.test.", &long])
            .dress("fed.example.test.", &mut zones);
        let which: Vec<&str> = refused.keys().map(String::as_str).collect();
        assert_eq!(which, ["a.fed.example.test", "example.test", long.trim_end_matches('.')]);
        assert_eq!(zones.len(), 2);
    }

    #[test]
    fn of_two_zones_of_ones_own_within_each_other_the_older_one_is_served() {
        let (outer, inner) = ("asia.example.test.", "fed.svc.asia.example.test.");
        for (outer_made, inner_made, refused) in
            [(Some(1), Some(2), inner), (Some(2), Some(1), outer), (None, Some(9), outer)]
        {
            let made = |made| ZoneExtras { validity: 60, made, ..ZoneExtras::default() };
            let own = [(outer.to_owned(), made(outer_made)), (inner.to_owned(), made(inner_made))];
            let extras = Extras { zones: own.into(), ..Extras::default() };
            let mut zones = vec![zone("fed.example.test.", &["web"]), zone(inner, &["web.shop"])];
            let told = extras.dress("fed.example.test.", &mut zones);
            assert_eq!(told.keys().collect::<Vec<_>>(), [refused.trim_end_matches('.')], "{told:?}");
            assert_eq!(zones.len(), 2, "the names of the region stand in one of them");
            assert!(
                zones[1].origin != refused
                    && zones[1].signature_validity == 60
                    && zones[1].records.len() == 1
            );
        }
    }
}
