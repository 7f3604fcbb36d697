//! From the wire's `ZoneUpdate` to [`Zones`]: all of it, or the list of what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use federation_core::dns::{RECORDS_MAX, TEXT_MAX};
use proto::v1;

use super::packed::Packed;
use super::{Choice, Data, DataError, RecordSet, Selection, Sets, Variant, Zone, Zones, seed};
use crate::client::{Region, RegionNames, RegionProblem, Regions};
use crate::dnssec::{Key, KeyError, Signing, VALIDITY_DEFAULT, VALIDITY_MIN};
use crate::wire::{Name, NameError, Type};

/// Longest TTL (RFC 2181 section 8).
const TTL_MAX: u32 = i32::MAX as u32;
/// TTL of a zone that names none, seconds.
pub(super) const DEFAULT_TTL: u32 = 30;
/// SOA minimum of a zone that names none, seconds.
pub(super) const DEFAULT_NEGATIVE_TTL: u32 = 5;
/// Variants of one set: one for each region of the largest federation there is, and some.
const VARIANTS_MAX: usize = 255;
/// Secrets of server cookies: the one that makes them, the next, the last, and one to spare.
const SECRETS_MAX: usize = 4;
/// Problems kept of one update: enough to see the pattern, few enough to log.
const PROBLEMS_MAX: usize = 32;

/// Everything that is wrong with an update, up to [`PROBLEMS_MAX`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Problems {}

/// One thing that is wrong with a zone or a record set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A name is none.
    #[error("{field}: {source}")]
    Name {
        /// Which field holds it.
        field: &'static str,
        /// Why not.
        source: NameError,
    },
    /// Two zones overlap.
    #[error("is the same as, or lies within, another zone: {0}")]
    Overlap(Name),
    /// Nobody serves the zone.
    #[error("nameservers: name at least one")]
    NoNameservers,
    /// A type that zones do not hold.
    #[error(
        "type: {0:?} is no type of records that zones hold: write a mnemonic such as A, AAAA, CNAME, HTTPS, or TYPE and the number"
    )]
    Type(String),
    /// A name outside its zone.
    #[error("name: is not within {0}")]
    Outside(Name),
    /// Two sets for one name and type.
    #[error("is there twice")]
    Twice,
    /// Something beside a delegation that the delegated zone would answer.
    #[error("a delegation may have only NS and DS records, and addresses as glue")]
    Delegation,
    /// A DS without a delegation (RFC 4034 section 5).
    #[error("DS records are allowed only at a delegation, beside its NS records")]
    Digest,
    /// A key of the zone.
    #[error("keys: {0}")]
    Key(#[from] KeyError),
    /// A signed zone of which no key signs.
    #[error("keys: at least one needs its private half")]
    NoSigner,
    /// Too short a validity.
    #[error("signature_validity: {0} seconds are less than {VALIDITY_MIN}")]
    Validity(u32),
    /// An alias beside other data, or at the apex (RFC 1034 section 3.6.2).
    #[error("a CNAME must be the only record of its name, and must not be at the origin")]
    Alias,
    /// An alias with several targets in one choice.
    #[error("a CNAME's choice has one target")]
    Targets,
    /// More than 2^31-1.
    #[error("ttl: {0} is more than 2147483647")]
    Ttl(u32),
    /// No data in any choice, withdrawn ones aside.
    #[error("tiers: at least one choice is required")]
    NoChoice,
    /// Too many records.
    #[error("tiers: more than {RECORDS_MAX} records")]
    Records,
    /// Too much data.
    #[error("tiers: more than {TEXT_MAX} octets of data")]
    Large,
    /// A record's data is none.
    #[error("data: {0}")]
    Data(#[from] DataError),
    /// A selection that this version does not know.
    #[error("selection: {0} is unknown to this version: upgrade dns-lb before using it")]
    Selection(i32),
    /// A variant for nobody.
    #[error("variants: name at least one region in each")]
    NoRegion,
    /// A region in two variants.
    #[error("variants: the region {0:?} is listed twice")]
    RegionTwice(String),
    /// Too many variants.
    #[error("variants: more than {VARIANTS_MAX}")]
    Variants,
    /// The table of regions, or a region of a variant.
    #[error("regions: {0}")]
    Regions(#[from] RegionProblem),
    /// Secrets of cookies that are none.
    #[error("cookie_secrets: give at most {SECRETS_MAX} of 16 octets each")]
    CookieSecrets,
}

pub(super) struct Sink(pub(super) Problems);

impl Sink {
    pub(super) fn add(&mut self, at: impl fmt::Display, problem: Problem) {
        if self.0.0.len() < PROBLEMS_MAX {
            self.0.0.push(format!("{at}: {problem}"));
        }
    }
}

impl Zones {
    /// Validates an update as a whole: one with any problem is refused entirely, so that all servers at an epoch answer the same.
    ///
    /// # Errors
    /// What is wrong, each with its zone, name and field.
    pub fn from_update(update: &v1::ZoneUpdate) -> Result<Self, Problems> {
        let mut sink = Sink(Problems::default());
        let mut regions =
            Regions::from_wire(&update.regions.clone().unwrap_or_default()).unwrap_or_else(|problem| {
                sink.add("update", problem.into());
                Regions::default()
            });
        let secrets = update.cookie_secrets.iter().map(|secret| <[u8; 16]>::try_from(&secret[..]));
        let cookie_secrets: Vec<[u8; 16]> = secrets.collect::<Result<_, _>>().unwrap_or_default();
        if cookie_secrets.len() != update.cookie_secrets.len() || cookie_secrets.len() > SECRETS_MAX {
            sink.add("update", Problem::CookieSecrets);
        }
        let mut zones: Vec<Arc<Zone>> = Vec::with_capacity(update.zones.len());
        for described in &update.zones {
            match zone(described, &mut regions.names, &mut sink) {
                Ok(zone) => {
                    let overlap = zones.iter().find(|other| {
                        zone.origin.is_within(&other.origin) || other.origin.is_within(&zone.origin)
                    });
                    match overlap {
                        Some(other) => sink.add(&zone.origin, Problem::Overlap(other.origin.clone())),
                        None => zones.push(Arc::new(zone)),
                    }
                }
                Err(problem) => sink.add(&described.origin, problem),
            }
        }
        if !sink.0.0.is_empty() {
            return Err(sink.0);
        }
        let incarnation = update.incarnation.clone();
        // Not a reason to refuse answers: what is not understood here is not probed from here.
        let mut probes = federation_prober::targets(&update.probes);
        probes.sort_by(|a, b| a.key.cmp(&b.key));
        let probes = Arc::new(probes);
        Ok(Self {
            epoch: update.epoch,
            incarnation,
            zones,
            regions: Arc::new(regions),
            cookie_secrets,
            probes,
        })
    }
}

pub(super) fn named(field: &'static str, text: &str) -> Result<Name, Problem> {
    Name::parse(text).map_err(|source| Problem::Name { field, source })
}

pub(super) fn ttl(given: u32, otherwise: u32) -> Result<u32, Problem> {
    match given {
        0 => Ok(otherwise),
        1..=TTL_MAX => Ok(given),
        _ => Err(Problem::Ttl(given)),
    }
}

fn zone(described: &v1::Zone, regions: &mut RegionNames, sink: &mut Sink) -> Result<Zone, Problem> {
    let origin = named("origin", &described.origin)?;
    let default_ttl = ttl(described.default_ttl, DEFAULT_TTL)?;
    let negative_ttl = ttl(described.negative_ttl, DEFAULT_NEGATIVE_TTL)?;
    let mut names: BTreeMap<Name, BTreeMap<Type, Packed>> = BTreeMap::new();
    for described in &described.records {
        let at = format_args!("{} {}", described.name, described.r#type).to_string();
        match record_set(described, &origin, default_ttl, regions) {
            Ok((name, kind, set)) => {
                if names.entry(name).or_default().insert(kind, Packed::new(&set)).is_some() {
                    sink.add(at, Problem::Twice);
                }
            }
            Err(problem) => sink.add(at, problem),
        }
    }
    let (primary, apex) = servers(described, default_ttl)?;
    names.entry(origin.clone()).or_default().entry(Type::NS).or_insert_with(|| Packed::new(&apex));
    let signing = signing(described)?;
    if let Some(signing) = &signing {
        let apex = names.entry(origin.clone()).or_default();
        for (kind, data) in apex_keys(&origin, signing) {
            apex.insert(kind, Packed::new(&RecordSet::fixed(default_ttl, data)));
        }
    }
    for (name, sets) in &names {
        beside(&origin, name, &sets.keys().copied().collect::<Vec<_>>(), sink);
    }
    let hostmaster = hostmaster(described)?;
    let signing = signing.map(Arc::new);
    Ok(Zone {
        origin,
        serial: described.serial,
        default_ttl,
        negative_ttl,
        primary,
        hostmaster,
        signing,
        names: names.into_iter().map(|(name, sets)| (name, Sets::of(&sets))).collect(),
    })
}

/// The first server, and the NS set of all.
pub(super) fn servers(described: &v1::Zone, ttl: u32) -> Result<(Name, RecordSet), Problem> {
    let nameservers: Vec<Name> =
        described.nameservers.iter().map(|text| named("nameservers", text)).collect::<Result<_, _>>()?;
    let primary = nameservers.first().cloned().ok_or(Problem::NoNameservers)?;
    Ok((primary, RecordSet::fixed(ttl, nameservers.into_iter().map(Data::Ns).collect())))
}

pub(super) fn hostmaster(described: &v1::Zone) -> Result<Name, Problem> {
    match described.hostmaster.as_str() {
        "" => named("origin", &format!("hostmaster.{}", described.origin)),
        text => named("hostmaster", text),
    }
}

/// Whether these types may stand beside each other at `name`.
pub(super) fn beside(origin: &Name, name: &Name, kinds: &[Type], sink: &mut Sink) {
    if kinds.contains(&Type::CNAME) && kinds.len() > 1 {
        sink.add(name, Problem::Alias);
    }
    let cut = name != origin && kinds.contains(&Type::NS);
    if cut && kinds.iter().any(|kind| ![Type::NS, Type::DS, Type::A, Type::AAAA].contains(kind)) {
        sink.add(name, Problem::Delegation);
    }
    if !cut && kinds.contains(&Type::DS) {
        sink.add(name, Problem::Digest);
    }
}

pub(super) fn signing(described: &v1::Zone) -> Result<Option<Signing>, Problem> {
    if described.keys.is_empty() {
        return Ok(None);
    }
    let key = |key: &v1::DnsKey| Key::new(&key.public_key, &key.private_key, key.wanted_at_parent);
    let keys: Vec<Key> = described.keys.iter().map(key).collect::<Result<_, _>>()?;
    if !keys.iter().any(Key::signs) {
        return Err(Problem::NoSigner);
    }
    let validity = match described.signature_validity {
        0 => VALIDITY_DEFAULT,
        short @ ..VALIDITY_MIN => return Err(Problem::Validity(short)),
        validity => validity,
    };
    Ok(Some(Signing { keys, validity, compact: described.compact_denial }))
}

/// DNSKEY, CDS and CDNSKEY of the apex.
fn apex_keys(origin: &Name, signing: &Signing) -> Vec<(Type, Vec<Data>)> {
    let mut sets = BTreeMap::from([(Type::DNSKEY, Vec::new())]);
    for key in &signing.keys {
        let mut add = |kind, data: Vec<u8>| {
            sets.entry(kind).or_insert_with(Vec::new).push(Data::Other(kind, data.into()));
        };
        add(Type::DNSKEY, key.public().dnskey());
        if key.wanted_at_parent {
            add(Type::CDS, key.public().ds(origin.wire()));
            add(Type::CDNSKEY, key.public().dnskey());
        }
    }
    sets.into_iter().collect()
}

pub(super) fn record_set(
    described: &v1::RecordSet,
    origin: &Name,
    default_ttl: u32,
    regions: &mut RegionNames,
) -> Result<(Name, Type, RecordSet), Problem> {
    let name = named("name", &described.name)?;
    if !name.is_within(origin) {
        return Err(Problem::Outside(origin.clone()));
    }
    let kind = Type::of_zone(&described.r#type).ok_or_else(|| Problem::Type(described.r#type.clone()))?;
    let ttl = ttl(described.ttl, default_ttl)?;
    let mut size = Size::default();
    let own = selection(described.selection, described.picks)?;
    let tiers = tiers(&name, kind, own, &described.tiers, &mut size)?;
    let variants = variants(&name, kind, &described.variants, regions)?;
    let service = (!described.service.is_empty()).then(|| described.service.as_str().into());
    if tiers.iter().all(Vec::is_empty) && variants.is_empty() {
        return Err(Problem::NoChoice);
    }
    Ok((name, kind, RecordSet { ttl, selection: own, tiers, service, variants }))
}

fn selection(described: i32, picks: u32) -> Result<Selection, Problem> {
    Ok(match v1::Selection::try_from(described) {
        Ok(v1::Selection::All) => Selection::All,
        // More picks than a tier can have choices are all of them.
        Ok(v1::Selection::Weighted) => Selection::Weighted(picks.clamp(1, RECORDS_MAX as u32) as u16),
        Ok(v1::Selection::Sticky) => Selection::Sticky,
        Err(_) => return Err(Problem::Selection(described)),
    })
}

fn variants(
    name: &Name,
    kind: Type,
    described: &[v1::Variant],
    names: &mut RegionNames,
) -> Result<Vec<Variant>, Problem> {
    if described.len() > VARIANTS_MAX {
        return Err(Problem::Variants);
    }
    let mut seen = BTreeSet::new();
    let mut variants = Vec::with_capacity(described.len());
    for described in described {
        if described.regions.is_empty() {
            return Err(Problem::NoRegion);
        }
        let mut regions: Vec<Region> = Vec::with_capacity(described.regions.len());
        for name in &described.regions {
            let region = names.region(name)?;
            if !seen.insert(region) {
                return Err(Problem::RegionTwice(name.clone()));
            }
            regions.push(region);
        }
        regions.sort_unstable();
        let selection = selection(described.selection, described.picks)?;
        // Each variant is an answer of its own, with the bounds of one.
        let tiers = tiers(name, kind, selection, &described.tiers, &mut Size::default())?;
        variants.push(Variant { regions, selection, tiers });
    }
    Ok(variants)
}

/// What one answer could come to.
#[derive(Default)]
struct Size {
    records: usize,
    text: usize,
}

fn tiers(
    name: &Name,
    kind: Type,
    selection: Selection,
    described: &[v1::Tier],
    size: &mut Size,
) -> Result<Vec<Vec<Choice>>, Problem> {
    let mut tiers = Vec::with_capacity(described.len());
    for tier in described {
        let mut choices = Vec::with_capacity(tier.choices.len());
        for choice in &tier.choices {
            size.records += choice.data.len();
            if kind == Type::CNAME && choice.data.len() > 1 {
                return Err(Problem::Targets);
            }
            size.text += choice.data.iter().map(String::len).sum::<usize>();
            if size.text > TEXT_MAX {
                return Err(Problem::Large);
            }
            if size.records > RECORDS_MAX {
                return Err(Problem::Records);
            }
            let data = choice.data.iter().map(|text| Data::parse(kind, text)).collect::<Result<_, _>>()?;
            let cluster = (!choice.cluster.is_empty()).then(|| Arc::from(choice.cluster.as_str()));
            let others = tier.choices.iter().filter(|other| other.cluster == choice.cluster).count();
            let seed = match selection {
                Selection::Sticky if cluster.is_some() && others == 1 => {
                    seed(name.wire(), choice.cluster.as_bytes())
                }
                Selection::Sticky => seed(name.wire(), choice.data.join("\n").as_bytes()),
                _ => 0,
            };
            choices.push(Choice { data, weight: choice.weight, cluster, seed });
        }
        tiers.push(choices);
    }
    Ok(tiers)
}
