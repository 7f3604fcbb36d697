//! Zones: names and record sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::api::{Strategy, TrafficPolicy, TrafficPolicySpec};

use super::{Answers, DEFAULT_WEIGHT, Explanation, NameServer, ServiceView, TrafficInput, places};

/// One zone, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Fully qualified, lower case, with the final dot.
    pub origin: String,
    /// See [`serial`].
    pub serial: u32,
    /// Seconds.
    pub default_ttl: u32,
    /// Seconds; SOA minimum.
    pub negative_ttl: u32,
    /// Host names of the zone's servers.
    pub nameservers: Vec<String>,
    /// SOA RNAME.
    pub hostmaster: String,
    /// Ordered by name and type.
    pub records: Vec<RecordSet>,
}

/// The answers to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSet {
    /// Fully qualified, lower case.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// Type of the records.
    #[serde(rename = "type")]
    pub rtype: RecordType,
    /// How a tier answers.
    pub selection: Selection,
    /// Tried in order.
    pub tiers: Vec<Tier>,
    /// `namespace/name` of the Service whose users ask; empty for static records.
    #[serde(default)]
    pub service: String,
}

/// Types of records that the federation makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    #[serde(rename = "AAAA")]
    Aaaa,
}

impl RecordType {
    /// As in a zone file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }

    fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::A } else { Self::Aaaa }
    }
}

/// How a tier answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// With every choice.
    All,
    /// With one choice, by weight.
    Weighted,
}

/// Choices of one rank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// Never empty.
    pub choices: Vec<Choice>,
}

/// What one cluster answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Presentation format of the records' data; never empty.
    pub data: Vec<String>,
    /// At least 1.
    pub weight: u32,
    /// The cluster; empty for static records.
    pub cluster: String,
}

/// The SOA serial of an epoch: its low 32 bits. Epochs only rise, and by less than 2^31 between two transfers, so that serials
/// compare as RFC 1982 wants. 0 is left out, because some secondaries take it for "none".
pub fn serial(epoch: u64) -> u32 {
    let low = (epoch & u64::from(u32::MAX)) as u32;
    low.max(1)
}

/// Whether the text is a DNS label (RFC 1123): such names only become part of a zone.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The share of a cluster in a weighted answer.
pub(super) fn weight(input: &TrafficInput<'_>, policy: &TrafficPolicySpec, cluster: &str) -> u32 {
    policy
        .weights
        .get(cluster)
        .copied()
        .or_else(|| input.clusters.get(cluster).and_then(|cluster| cluster.weight))
        .unwrap_or(DEFAULT_WEIGHT)
}

/// Clusters by rank: each named one for itself, the others together at the end.
pub(super) fn failover_tiers<'a>(
    order: &[String],
    clusters: impl Iterator<Item = &'a String>,
) -> Vec<Vec<String>> {
    let mut rest: BTreeSet<&String> = clusters.collect();
    let mut tiers: Vec<Vec<String>> =
        order.iter().filter(|name| rest.remove(name)).map(|name| vec![name.clone()]).collect();
    if !rest.is_empty() {
        tiers.push(rest.into_iter().cloned().collect());
    }
    tiers
}

/// Collects record sets into zones.
pub(super) struct Builder<'a> {
    input: &'a TrafficInput<'a>,
    apex: String,
    v1: String,
    places: BTreeMap<String, BTreeSet<String>>,
    zones: BTreeMap<String, BTreeMap<(String, RecordType), RecordSet>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(input: &'a TrafficInput<'a>) -> Self {
        let (federation, suffix) = (input.federation.to_ascii_lowercase(), input.suffix.to_ascii_lowercase());
        let suffix = suffix.trim_end_matches('.');
        let apex = format!("{federation}.{suffix}.");
        let v1 = format!("{federation}.svc.{suffix}.");
        let places = places(input);
        let mut zones: BTreeMap<String, _> =
            BTreeMap::from([(apex.clone(), BTreeMap::new()), (v1.clone(), BTreeMap::new())]);
        for (region, inner) in &places {
            zones.insert(format!("{federation}.svc.{region}.{suffix}."), BTreeMap::new());
            for zone in inner {
                zones.insert(format!("{federation}.svc.{zone}.{region}.{suffix}."), BTreeMap::new());
            }
        }
        let mut builder = Self { input, apex, v1, places, zones };
        builder.servers();
        builder
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
                    selection: Selection::All,
                    tiers: vec![Tier { choices }],
                    service: String::new(),
                };
                self.insert(&origin, record);
            }
        }
    }

    /// The names that a Service has by itself.
    pub(super) fn service(
        &mut self,
        service: &ServiceView,
        chosen: &BTreeMap<String, Vec<IpAddr>>,
        policy: &TrafficPolicy,
        explanations: &mut Vec<Explanation>,
    ) {
        if !is_label(&service.name) || !is_label(&service.namespace) {
            explanations.push(Explanation {
                object: format!("{}/{}", service.namespace, service.name),
                cluster: String::new(),
                answered: false,
                rule: "Label",
                message: "its name or namespace is no DNS label".into(),
            });
            return;
        }
        let relative = format!("{}.{}", service.name, service.namespace);
        let key = format!("{}/{}", service.namespace, service.name);
        let (apex, v1) = (self.apex.clone(), self.v1.clone());
        self.names(&apex.clone(), &format!("{relative}.svc.{apex}"), &key, policy, chosen, &[]);
        self.names(&v1.clone(), &format!("{relative}.{v1}"), &key, policy, chosen, &[]);
        let (federation, suffix) = (self.input.federation.to_ascii_lowercase(), self.v1_suffix());
        for (region, zones) in self.places.clone() {
            let in_region =
                |name: &String| self.input.clusters.get(name).is_some_and(|cluster| cluster.region == region);
            let near: BTreeSet<String> = chosen.keys().filter(|name| in_region(name)).cloned().collect();
            let origin = format!("{federation}.svc.{region}.{suffix}");
            let near_first = std::slice::from_ref(&near);
            self.names(&origin, &format!("{relative}.{origin}"), &key, policy, chosen, near_first);
            for zone in zones {
                let in_zone = |name: &&String| {
                    self.input.clusters.get(*name).is_some_and(|cluster| cluster.zone == zone)
                };
                let nearest: BTreeSet<String> = near.iter().filter(in_zone).cloned().collect();
                let origin = format!("{federation}.svc.{zone}.{region}.{suffix}");
                self.names(
                    &origin,
                    &format!("{relative}.{origin}"),
                    &key,
                    policy,
                    chosen,
                    &[nearest, near.clone()],
                );
            }
        }
    }

    /// The hostnames of the policies.
    pub(super) fn hostnames(
        &mut self,
        input: &TrafficInput<'_>,
        answers: &Answers,
        explanations: &mut Vec<Explanation>,
    ) {
        let mut policies: Vec<&TrafficPolicy> = input.policies.iter().collect();
        policies.sort_by_key(|policy| {
            let created = policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created.is_none(), created, policy.metadata.namespace.clone(), policy.metadata.name.clone())
        });
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for policy in policies {
            let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
            let object = format!("{namespace}/{}", policy.name());
            for hostname in &policy.spec.hostnames {
                let mut refuse = |message: String| {
                    explanations.push(Explanation {
                        object: object.clone(),
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
                let key = format!("{namespace}/{}", policy.spec.service);
                if let Some(chosen) = answers.0.get(&key) {
                    let apex = self.apex.clone();
                    self.names(&apex, &name, &key, policy, chosen, &[]);
                }
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Zone> {
        let input = self.input;
        let hostmaster = if input.hostmaster.is_empty() {
            format!("hostmaster.{}", self.apex)
        } else {
            qualified(input.hostmaster)
        };
        self.zones
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
            .collect()
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
        let mut labels = relative.split('.').filter(|_| !relative.is_empty());
        if name.len() > 254 || !labels.all(is_label) {
            return Err(format!(
                "{hostname}: must consist of DNS labels ([a-z0-9-], at most 63 characters each)"
            ));
        }
        // Services' own names must not be shadowed.
        if relative.rsplit('.').next() == Some("svc") {
            return Err(format!("{hostname}: names under svc.{} belong to Services", self.apex));
        }
        Ok(name)
    }

    /// Record sets of both families for one name. `near` ranks clusters before the policy does.
    fn names(
        &mut self,
        origin: &str,
        name: &str,
        service: &str,
        policy: &TrafficPolicy,
        chosen: &BTreeMap<String, Vec<IpAddr>>,
        near: &[BTreeSet<String>],
    ) {
        for rtype in [RecordType::A, RecordType::Aaaa] {
            let family: BTreeMap<&String, Vec<String>> = chosen
                .iter()
                .filter_map(|(cluster, addresses)| {
                    Some((cluster, by_family(addresses).remove(&rtype).filter(|data| !data.is_empty())?))
                })
                .collect();
            let mut left: BTreeSet<&String> = family.keys().copied().collect();
            let mut tiers = Vec::new();
            for rank in near {
                let here: Vec<&String> = rank.iter().filter(|cluster| left.remove(cluster)).collect();
                tiers.extend(self.tiers(&policy.spec, &here, &family));
            }
            let rest: Vec<&String> = left.into_iter().collect();
            tiers.extend(self.tiers(&policy.spec, &rest, &family));
            if tiers.is_empty() {
                continue;
            }
            let selection = match policy.spec.strategy {
                Strategy::All => Selection::All,
                Strategy::Weighted | Strategy::Failover => Selection::Weighted,
            };
            let ttl = policy.spec.ttl_seconds.unwrap_or(self.input.ttl_seconds);
            let (name, service) = (name.to_owned(), service.to_owned());
            self.insert(origin, RecordSet { name, ttl, rtype, selection, tiers, service });
        }
    }

    fn tiers(
        &self,
        policy: &TrafficPolicySpec,
        clusters: &[&String],
        family: &BTreeMap<&String, Vec<String>>,
    ) -> Vec<Tier> {
        let ranks = match policy.strategy {
            Strategy::Failover => failover_tiers(&policy.order, clusters.iter().copied()),
            Strategy::Weighted | Strategy::All => {
                vec![clusters.iter().map(|cluster| (*cluster).clone()).collect()]
            }
        };
        ranks
            .into_iter()
            .filter_map(|rank| {
                let choice = |cluster: &String, weight: u32| {
                    family.get(cluster).map(|data| Choice {
                        data: data.clone(),
                        weight,
                        cluster: cluster.clone(),
                    })
                };
                let weighted = |cluster: &String| match policy.strategy {
                    Strategy::All => DEFAULT_WEIGHT,
                    Strategy::Weighted | Strategy::Failover => weight(self.input, policy, cluster),
                };
                let mut choices: Vec<Choice> = rank
                    .iter()
                    .filter(|cluster| weighted(cluster) > 0)
                    .filter_map(|cluster| choice(cluster, weighted(cluster)))
                    .collect();
                if choices.is_empty() {
                    // All weights are 0, and a name never becomes empty by a weight.
                    choices = rank.iter().filter_map(|cluster| choice(cluster, 1)).collect();
                }
                (!choices.is_empty()).then_some(Tier { choices })
            })
            .collect()
    }

    fn insert(&mut self, origin: &str, record: RecordSet) {
        if let Some(zone) = self.zones.get_mut(origin) {
            zone.entry((record.name.clone(), record.rtype)).or_insert(record);
        }
    }
}

fn by_family(addresses: &[IpAddr]) -> BTreeMap<RecordType, Vec<String>> {
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

fn inside(name: &str, origin: &str) -> bool {
    name == origin || name.strip_suffix(origin).is_some_and(|rest| rest.ends_with('.'))
}
