//! The names of Services and policies, and the zones that they are in.

mod alias;
mod clusterset;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::api::{Proximity, Strategy, TrafficPolicy};

use super::choose::{Chosen, Front, Otherwise};
use super::content::{At, Content};
use super::pipeline::{self, Share};
use super::record::{Choice, RecordSet, RecordType, Selection, Tier, Variant, Zone, serial};
use super::{Explanation, NameServer, Owner, TrafficInput, places_of_clusters};

/// A front with what was decided for it.
pub(super) struct Decided<'a> {
    pub(super) front: Front<'a>,
    pub(super) chosen: Chosen,
    /// Seconds.
    pub(super) ttl: u32,
}

/// Whether the text is a DNS label (RFC 1123): such names only become part of a zone.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name that is balanced.
#[derive(Clone, Copy)]
struct Spot<'s> {
    origin: &'s str,
    name: &'s str,
    /// Where the name is an alias, what the clusters' own names have behind `<cluster>.`.
    clusters: &'s str,
}

impl<'s> Spot<'s> {
    /// A Service's own name.
    fn of_service(origin: &'s str, name: &'s str) -> Self {
        Self { origin, name, clusters: name }
    }
}

/// Collects record sets into zones.
pub(super) struct Builder<'a> {
    input: &'a TrafficInput<'a>,
    apex: String,
    v1: String,
    places: BTreeMap<String, BTreeSet<String>>,
    zones: BTreeMap<String, BTreeMap<(String, RecordType), RecordSet>>,
    owners: BTreeMap<String, Owner>,
    /// What cannot be in a zone, though its policy says so.
    pub(super) problems: Vec<Explanation>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(input: &'a TrafficInput<'a>) -> Self {
        let (federation, suffix) = (input.federation.to_ascii_lowercase(), input.suffix.to_ascii_lowercase());
        let suffix = suffix.trim_end_matches('.');
        let apex = format!("{federation}.{suffix}.");
        let v1 = format!("{federation}.svc.{suffix}.");
        let places = places_of_clusters(input);
        let mut zones: BTreeMap<String, _> =
            BTreeMap::from([(apex.clone(), BTreeMap::new()), (v1.clone(), BTreeMap::new())]);
        let mut own = |origin: String| {
            // A region or zone that is called as the federation is: DNS servers take no zone that lies within another, nor anything else with it.
            if !zones.keys().any(|other| inside(&origin, other) || inside(other, &origin)) {
                zones.insert(origin, BTreeMap::new());
            }
        };
        for (region, inner) in &places {
            own(format!("{federation}.svc.{region}.{suffix}."));
            for zone in inner {
                own(format!("{federation}.svc.{zone}.{region}.{suffix}."));
            }
        }
        let mut builder =
            Self { input, apex, v1, places, zones, owners: BTreeMap::new(), problems: Vec::new() };
        builder.clusterset_zone();
        builder.servers();
        builder
    }

    /// Origins of all zones.
    pub(super) fn origins(&self) -> Vec<String> {
        self.zones.keys().cloned().collect()
    }

    /// Addresses of the servers whose names are ours to answer.
    fn servers(&mut self) {
        for NameServer { name, addresses } in self.input.nameservers {
            let name = qualified(name);
            let Some(origin) =
                self.zones.keys().filter(|origin| inside(&name, origin)).max_by_key(|origin| origin.len())
            else {
                continue;
            };
            let origin = origin.clone();
            for (rtype, data) in by_family(addresses) {
                let choices = vec![Choice { data, weight: 1, cluster: String::new() }];
                let record = RecordSet {
                    name: name.clone(),
                    ttl: self.input.ttl_seconds,
                    rtype,
                    service: String::new(),
                    selection: Selection::All,
                    picks: 1,
                    tiers: vec![Tier { choices }],
                    variants: Vec::new(),
                };
                self.insert(&origin, record);
            }
        }
    }

    /// The names that a Service has by itself.
    pub(super) fn service(&mut self, decided: &Decided<'_>, explanations: &mut Vec<Explanation>) {
        let service = decided.front.service;
        if !is_label(&service.name) || !is_label(&service.namespace) {
            explanations.push(Explanation {
                object: decided.front.object(),
                policy: String::new(),
                cluster: String::new(),
                answered: false,
                rule: "Label",
                message: "its name or namespace is no DNS label".into(),
            });
            return;
        }
        let relative = format!("{}.{}", service.name, service.namespace);
        let (apex, v1) = (self.apex.clone(), self.v1.clone());
        let contents = Content::of(decided.front.spec);
        let (name, v1_name) = (format!("{relative}.svc.{apex}"), format!("{relative}.{v1}"));
        self.global(Spot::of_service(&apex, &name), decided, &contents);
        self.global(Spot::of_service(&v1, &v1_name), decided, &contents);
        let (federation, suffix) = (self.input.federation.to_ascii_lowercase(), self.v1_suffix());
        for (region, zones) in self.places.clone() {
            let near = self.clusters_of(|cluster| cluster.region == region);
            let origin = format!("{federation}.svc.{region}.{suffix}");
            let name = format!("{relative}.{origin}");
            let ranks = std::slice::from_ref(&near);
            self.names(Spot::of_service(&origin, &name), decided, &contents, ranks, Vec::new());
            for zone in zones {
                let nearest = self.clusters_of(|cluster| cluster.region == region && cluster.zone == zone);
                let origin = format!("{federation}.svc.{zone}.{region}.{suffix}");
                let ranks = [nearest, near.clone()];
                let name = format!("{relative}.{origin}");
                self.names(Spot::of_service(&origin, &name), decided, &contents, &ranks, Vec::new());
            }
        }
    }

    fn clusters_of(&self, is: impl Fn(&super::ClusterTraffic) -> bool) -> BTreeSet<String> {
        let clusters = self.input.clusters.iter();
        clusters.filter(|(_, cluster)| is(cluster)).map(|(name, _)| name.clone()).collect()
    }

    /// The hostnames of the policies.
    pub(super) fn hostnames(&mut self, decided: &[Decided<'_>], explanations: &mut Vec<Explanation>) {
        let mut policies: Vec<&TrafficPolicy> = self.input.policies.iter().collect();
        policies.sort_by_key(|policy| {
            let created = policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created.is_none(), created, policy.metadata.namespace.clone(), policy.metadata.name.clone())
        });
        // The first of each: a policy decides for one Service.
        let mut of_policies: HashMap<(&str, &str), &Decided<'_>> = HashMap::new();
        for decided in decided {
            let name = (decided.front.service.namespace.as_str(), decided.front.policy);
            of_policies.entry(name).or_insert(decided);
        }
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for policy in policies {
            let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
            let object = format!("{namespace}/{}", policy.name());
            let of_policy = of_policies.get(&(namespace, policy.name())).copied();
            for hostname in &policy.spec.hostnames {
                let mut refuse = |message: String| {
                    explanations.push(Explanation {
                        object: object.clone(),
                        policy: policy.name().to_owned(),
                        cluster: String::new(),
                        answered: false,
                        rule: "Hostname",
                        message,
                    });
                };
                let name = match self.hostname(hostname) {
                    Ok(name) => name,
                    Err(message) => {
                        refuse(message);
                        continue;
                    }
                };
                if let Some(other) = taken.get(&name) {
                    refuse(format!("{hostname}: the older TrafficPolicy {other} has it"));
                    continue;
                }
                taken.insert(name.clone(), object.clone());
                if let Some(decided) = of_policy {
                    let apex = self.apex.clone();
                    let service = decided.front.service;
                    let clusters = format!("{}.{}.svc.{apex}", service.name, service.namespace);
                    let spot = Spot { origin: &apex, name: &name, clusters: &clusters };
                    self.global(spot, decided, &Content::of(decided.front.spec));
                }
            }
        }
    }

    /// The zones, and whose each name is.
    pub(super) fn finish(self) -> (Vec<Zone>, BTreeMap<String, Owner>) {
        let input = self.input;
        let hostmaster = if input.hostmaster.is_empty() {
            format!("hostmaster.{}", self.apex)
        } else {
            qualified(input.hostmaster)
        };
        let zones = self
            .zones
            .into_iter()
            .map(|(origin, records)| Zone {
                origin,
                serial: serial(input.epoch),
                default_ttl: input.ttl_seconds,
                negative_ttl: input.negative_ttl_seconds,
                nameservers: input.nameservers.iter().map(|server| qualified(&server.name)).collect(),
                hostmaster: hostmaster.clone(),
                records: records.into_values().collect(),
            })
            .collect();
        (zones, self.owners)
    }

    fn v1_suffix(&self) -> String {
        qualified(self.input.suffix)
    }

    /// A hostname inside the apex zone, fully qualified. One without the zone's name is relative to it.
    fn hostname(&self, hostname: &str) -> Result<String, String> {
        let absolute = qualified(hostname);
        let name = if inside(&absolute, &self.apex) { absolute } else { format!("{absolute}{}", self.apex) };
        if hostname.ends_with('.') && name != qualified(hostname) {
            return Err(format!("{hostname}: must be inside the zone {}", self.apex));
        }
        let relative = name.strip_suffix(&self.apex).unwrap_or_default().trim_end_matches('.');
        // A wildcard stands in front of what it is for (RFC 4592 section 2.1.1).
        let plain = if relative == "*" { "" } else { relative.strip_prefix("*.").unwrap_or(relative) };
        let mut labels = plain.split('.').filter(|_| !plain.is_empty());
        if name.len() > 254 || !labels.all(is_label) {
            return Err(format!(
                "{hostname}: must consist of DNS labels ([a-z0-9-], at most 63 characters each), the first of which may be *"
            ));
        }
        // Services' own names must not be shadowed.
        if relative.rsplit('.').next() == Some("svc") {
            return Err(format!("{hostname}: names under svc.{} belong to Services", self.apex));
        }
        Ok(name)
    }

    /// A name for everybody: clients of some regions may get it otherwise.
    fn global(&mut self, spot: Spot<'_>, decided: &Decided<'_>, contents: &[Content<'_>]) {
        let input = self.input;
        let spec = decided.front.spec;
        let mut regions = Vec::new();
        if spec.proximity != Proximity::None {
            for region in input.places.client_regions() {
                let near = input.places.near(spec.proximity, region, input.clusters, input.latency);
                regions.push((region.to_owned(), pipeline::tiers(input, spec, &decided.chosen, &near)));
            }
        }
        self.names(spot, decided, contents, &[], regions);
    }

    /// Record sets of one name, with these contents. `near` ranks clusters before the policy does; `regions` are the tiers for the clients of
    /// each.
    fn names(
        &mut self,
        spot: Spot<'_>,
        decided: &Decided<'_>,
        contents: &[Content<'_>],
        near: &[BTreeSet<String>],
        regions: Vec<(String, Vec<Vec<Share>>)>,
    ) {
        let Spot { origin, name: base, clusters } = spot;
        let Decided { front, chosen, ttl } = decided;
        let shares = pipeline::tiers(self.input, front.spec, chosen, near);
        let owner = Owner { service: front.object(), policy: front.policy.to_owned() };
        let alias = self.is_alias(spot, decided);
        if alias {
            self.clusters(spot, decided, contents);
        }
        let at = At { service: front.service, base, clusters: alias.then_some(clusters) };
        let beside = contents.iter().filter(|content| !alias || !content.is_plain());
        for content in alias.then_some(&Content::Alias).into_iter().chain(beside) {
            let name = match content.name(base) {
                Ok(name) => name,
                Err(message) => {
                    self.problem(decided, message);
                    continue;
                }
            };
            let tiers = match &chosen.otherwise {
                None => content.tiers(at, &shares),
                Some(Otherwise::Fallback(addresses)) => content.fixed(at, addresses),
                // One record set is enough for the name to exist.
                Some(Otherwise::NoData) if content.is_first() => {
                    vec![Tier {
                        choices: vec![Choice { data: Vec::new(), weight: 1, cluster: String::new() }],
                    }]
                }
                Some(Otherwise::NoData) => Vec::new(),
            };
            if tiers.is_empty() {
                continue;
            }
            let mut variants: Vec<Variant> = Vec::new();
            for (region, tiers_there) in &regions {
                let there = content.tiers(at, tiers_there);
                if there.is_empty() || there == tiers {
                    continue;
                }
                match variants.iter_mut().find(|variant| variant.tiers == there) {
                    Some(same) => same.regions.push(region.clone()),
                    None => variants.push(Variant { regions: vec![region.clone()], tiers: there }),
                }
            }
            let selection = match front.spec.strategy {
                _ if chosen.otherwise.is_some() => Selection::All,
                Strategy::All => Selection::All,
                Strategy::Weighted | Strategy::Failover => Selection::Weighted,
                Strategy::Sticky => Selection::Sticky,
            };
            let picks = front.spec.picks.filter(|_| selection == Selection::Weighted).unwrap_or(1).max(1);
            self.owners.entry(name.clone()).or_insert_with(|| owner.clone());
            let record = RecordSet {
                name,
                ttl: *ttl,
                rtype: content.rtype(),
                service: front.object(),
                selection,
                picks,
                tiers,
                variants,
            };
            self.insert(origin, record);
        }
        self.owners.entry(base.to_owned()).or_insert(owner);
    }

    /// Says once what is wrong with a policy.
    fn problem(&mut self, decided: &Decided<'_>, message: String) {
        let front = decided.front;
        let Front { service, policy, .. } = front;
        let problem = Explanation {
            object: if policy.is_empty() {
                front.object()
            } else {
                format!("{}/{policy}", service.namespace)
            },
            policy: policy.to_owned(),
            cluster: String::new(),
            answered: false,
            rule: "Hostname",
            message,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn insert(&mut self, origin: &str, record: RecordSet) {
        if let Some(zone) = self.zones.get_mut(origin) {
            zone.entry((record.name.clone(), record.rtype)).or_insert(record);
        }
    }
}

pub(super) fn by_family(addresses: &[IpAddr]) -> BTreeMap<RecordType, Vec<String>> {
    let mut families: BTreeMap<RecordType, Vec<String>> = BTreeMap::new();
    for address in addresses {
        families.entry(RecordType::of(address)).or_default().push(address.to_string());
    }
    families
}

/// Lower case, with the final dot.
fn qualified(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

pub(super) fn inside(name: &str, origin: &str) -> bool {
    name == origin || name.strip_suffix(origin).is_some_and(|rest| rest.ends_with('.'))
}
