//! Regions of clients and their neighbours: all ClientRegions objects as one table.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{ClientRegion, ClientRegions, Proximity};

use super::{ClusterTraffic, Latency, Prefix};

/// Octets of a region's name at most: it is a DNS label where it is a region of clusters.
const REGION_NAME_MAX: usize = 63;
/// Prefixes of all objects together: a whole table of a continent's networks, and 5 MiB on the wire.
pub const PREFIXES_MAX: usize = 200_000;

/// Regions of clients of all objects together: each may be a variant of every name, and dns-lb takes no more of one name.
pub const REGIONS_MAX: usize = 255;

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// By name.
    pub regions: BTreeMap<String, ClientRegion>,
    /// The region of each prefix.
    pub prefixes: BTreeMap<Prefix, String>,
    /// Region by country code.
    pub countries: BTreeMap<String, String>,
    /// Region by continent code.
    pub continents: BTreeMap<String, String>,
    /// What was left out, and why: by the object's name.
    pub problems: BTreeMap<String, Vec<String>>,
}

impl Places {
    /// One table from all objects. What cannot be used is left out and told of.
    pub fn new(objects: &[ClientRegions]) -> Self {
        let mut places = Self::default();
        let mut objects: Vec<&ClientRegions> = objects.iter().collect();
        objects.sort_by_key(|object| object.name());
        for object in objects {
            let mut problems = Vec::new();
            for (name, region) in &object.spec.regions {
                places.add(name, region, &mut problems);
            }
            if !problems.is_empty() {
                places.problems.insert(object.name().to_owned(), problems);
            }
        }
        places
    }

    fn add(&mut self, name: &str, region: &ClientRegion, problems: &mut Vec<String>) {
        if !is_region_name(name) {
            problems.push(format!("{name:?}: a region's name is at most 63 of [A-Za-z0-9._-]"));
            return;
        }
        if !self.regions.contains_key(name) && self.regions.len() >= REGIONS_MAX {
            problems.push(format!("{name:?} and the rest are more than {REGIONS_MAX} regions"));
            return;
        }
        for text in &region.prefixes {
            let prefix = match text.parse::<Prefix>() {
                Ok(prefix) => prefix,
                Err(error) => {
                    problems.push(format!("{name}: {error}"));
                    continue;
                }
            };
            if self.prefixes.len() >= PREFIXES_MAX {
                problems.push(format!("{name}: {text} and the rest are more than {PREFIXES_MAX} prefixes"));
                break;
            }
            claim(&mut self.prefixes, prefix, text, name, problems);
        }
        for country in &region.countries {
            if is_country(country) {
                claim(&mut self.countries, country.clone(), country, name, problems);
            } else {
                problems.push(format!(
                    "{name}: {country:?} is no ISO 3166-1 alpha-2 code in upper case, such as TW"
                ));
            }
        }
        for continent in &region.continents {
            if CONTINENTS.contains(&continent.as_str()) {
                claim(&mut self.continents, continent.clone(), continent, name, problems);
            } else {
                problems.push(format!("{name}: {continent:?} is none of {}", CONTINENTS.join(", ")));
            }
        }
        if !region.location.is_empty() && location(&region.location).is_none() {
            problems.push(format!("{name}: location {:?} is no latitude,longitude", region.location));
        }
        // What the first object says of a region holds; a later one only adds to it.
        let known = self.regions.entry(name.to_owned()).or_default();
        if known.location.is_empty() {
            known.location.clone_from(&region.location);
        }
        if known.nearest.is_empty() {
            known.nearest.clone_from(&region.nearest);
        }
        known.vantages.extend(region.vantages.iter().cloned());
    }

    /// Regions that clients can be in.
    pub fn client_regions(&self) -> BTreeSet<&str> {
        self.prefixes
            .values()
            .chain(self.countries.values())
            .chain(self.continents.values())
            .map(String::as_str)
            .collect()
    }

    /// The region of a client and the length of the prefix that says so, by prefixes alone.
    pub fn region_of(&self, client: Prefix) -> Option<(&str, u8)> {
        (0..=client.length()).rev().find_map(|length| {
            let region = self.prefixes.get(&Prefix::of(client.address(), length))?;
            Some((region.as_str(), length))
        })
    }

    /// How many leading bits of a client's address decide its region (the scope of RFC 7871): whoever shares them is in the same region, or in none.
    pub fn scope_of(&self, client: Prefix) -> u8 {
        let address = client.address();
        let whole = Prefix::of(address, u8::MAX);
        let own = self.region_of(whole).map(|(region, _)| region);
        let alone = |length: &u8| {
            let piece = Prefix::of(address, *length);
            let mut inside = self
                .prefixes
                .range(piece..)
                .take_while(|(prefix, _)| piece.holds(&Prefix::of(prefix.address(), u8::MAX)));
            self.region_of(piece).map(|(region, _)| region) == own
                && inside.all(|(_, region)| Some(region.as_str()) == own)
        };
        (0..whole.length()).find(alone).unwrap_or_else(|| whole.length())
    }

    /// The region that a DNS server's probes measure for.
    pub fn region_of_vantage(&self, instance: &str) -> Option<&str> {
        let here = |region: &ClientRegion| region.vantages.iter().any(|vantage| vantage == instance);
        self.regions.iter().find(|(_, region)| here(region)).map(|(name, _)| name.as_str())
    }

    /// Clusters ranked for the clients of a region; those of no rank come after.
    pub(super) fn near(
        &self,
        proximity: Proximity,
        region: &str,
        clusters: &BTreeMap<String, ClusterTraffic>,
        latency: &Latency,
    ) -> Vec<BTreeSet<String>> {
        let there: BTreeSet<&str> = clusters
            .values()
            .map(|cluster| cluster.region.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        let order: Vec<&str> = match proximity {
            Proximity::None => Vec::new(),
            Proximity::Region => vec![region],
            Proximity::Nearest => self.nearest(region, &there),
            Proximity::Latency => {
                let mut order: Vec<&str> =
                    latency.order(region).into_iter().filter(|name| there.contains(name)).collect();
                let rest = self.nearest(region, &there);
                order.extend(rest.iter().filter(|name| !order.contains(name)).copied().collect::<Vec<_>>());
                order
            }
        };
        let of = |place: &str| -> BTreeSet<String> {
            clusters
                .iter()
                .filter(|(_, cluster)| cluster.region == place)
                .map(|(name, _)| name.clone())
                .collect()
        };
        order.into_iter().map(of).filter(|rank| !rank.is_empty()).collect()
    }

    /// Regions of clusters, nearest to `region` first: itself, those that it declares, and the rest by distance as far as known.
    fn nearest<'a>(&'a self, region: &'a str, there: &BTreeSet<&'a str>) -> Vec<&'a str> {
        let mut order = vec![region];
        let declared = self.regions.get(region).map_or(&[][..], |known| &known.nearest);
        for name in declared {
            if !order.contains(&name.as_str()) {
                order.push(name);
            }
        }
        if let Some(here) = self.location(region) {
            let mut rest: Vec<(u32, &str)> = there
                .iter()
                .filter(|name| !order.contains(name))
                .filter_map(|name| Some((distance_km(here, self.location(name)?), *name)))
                .collect();
            rest.sort_unstable();
            order.extend(rest.into_iter().map(|(_, name)| name));
        }
        order
    }

    fn location(&self, region: &str) -> Option<(f64, f64)> {
        location(&self.regions.get(region)?.location)
    }
}

fn claim<K: Ord>(
    table: &mut BTreeMap<K, String>,
    key: K,
    text: &str,
    region: &str,
    problems: &mut Vec<String>,
) {
    match table.get(&key) {
        Some(other) if other != region => problems.push(format!("{region}: {other} has {text} already")),
        Some(_) => {}
        None => {
            table.insert(key, region.to_owned());
        }
    }
}

/// Codes of continents.
pub const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

/// Whether a code can be a country's (ISO 3166-1 alpha-2): what dns-lb takes.
pub fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether a name can be a region's: what dns-lb takes.
pub fn is_region_name(name: &str) -> bool {
    (1..=REGION_NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Latitude and longitude in degrees.
pub fn location(text: &str) -> Option<(f64, f64)> {
    let (latitude, longitude) = text.split_once(',')?;
    let latitude: f64 = latitude.trim().parse().ok()?;
    let longitude: f64 = longitude.trim().parse().ok()?;
    let sound = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
    sound.then_some((latitude, longitude))
}

/// Great-circle distance (haversine) on a sphere of the Earth's mean radius.
fn distance_km(from: (f64, f64), to: (f64, f64)) -> u32 {
    const EARTH_KM: f64 = 6371.0;
    let (from_latitude, to_latitude) = (from.0.to_radians(), to.0.to_radians());
    let latitude = (to_latitude - from_latitude) / 2.0;
    let longitude = (to.1 - from.1).to_radians() / 2.0;
    let chord = latitude.sin().powi(2) + from_latitude.cos() * to_latitude.cos() * longitude.sin().powi(2);
    (2.0 * EARTH_KM * chord.clamp(0.0, 1.0).sqrt().asin()).round() as u32
}
