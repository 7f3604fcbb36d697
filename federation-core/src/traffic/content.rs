//! The record sets of a balanced name: the same tiers as addresses and as service bindings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::api::{BindingType, ServiceBinding, TrafficPolicySpec};
use crate::dns::{Name, RECORDS_MAX, TEXT_MAX};

use super::address::{host, ips};
use super::pipeline::Share;
use super::record::{Choice, RecordType, Tier};
use super::zone::{by_family, is_label};
use super::{Address, ServicePort, ServiceView};

/// Addresses of one cluster that a set names: all, and fewer where so many would be more than DNS servers take in one set, for they refuse such
/// zones altogether.
const ADDRESSES: [usize; 5] = [usize::MAX, 64, 16, 4, 1];

/// What one record set of a name says of a cluster.
pub(super) enum Content<'a> {
    /// Its addresses of one family.
    Addresses(RecordType),
    /// The name that it is reached by, or its own name that has its addresses.
    Alias,
    /// How it is spoken to: all bindings with one type and prefix.
    Bindings(BindingType, &'a str, Vec<&'a ServiceBinding>),
    /// Where one of its ports is: the port, its labels, and the Service's name there.
    Port(&'a ServicePort, String, &'a str),
}

/// Where the sets of a name stand.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) service: &'a ServiceView,
    /// The name, without what stands in front of it.
    pub(super) base: &'a str,
    /// If the name is an alias, what the clusters' own names have behind `<cluster>.`.
    pub(super) clusters: Option<&'a str>,
}

/// The name of a cluster that has its addresses, if that is one.
pub(super) fn of_cluster(cluster: &str, clusters: &str) -> Option<String> {
    let name = format!("{}.{clusters}", cluster.to_ascii_lowercase());
    Name::parse(&name).is_ok().then_some(name)
}

/// The labels in front of a name that has SRV records of the port (RFC 2782); none for one without a name.
pub(super) fn port_label(port: &ServicePort) -> Option<String> {
    is_label(&port.name).then(|| format!("_{}._{}", port.name, port.protocol.to_ascii_lowercase()))
}

impl<'a> Content<'a> {
    /// All that names under this policy have.
    pub(super) fn of(spec: &'a TrafficPolicySpec) -> Vec<Self> {
        let mut groups: BTreeMap<(BindingType, &str), Vec<&ServiceBinding>> = BTreeMap::new();
        // What admission refuses may still be there from elsewhere, and would cost the whole zone.
        for binding in spec.service_bindings.iter().filter(|binding| binding.problems().is_empty()) {
            groups.entry((binding.type_, &binding.prefix)).or_default().push(binding);
        }
        let bindings =
            groups.into_iter().map(|((rtype, prefix), bindings)| Self::Bindings(rtype, prefix, bindings));
        [RecordType::A, RecordType::Aaaa].map(Self::Addresses).into_iter().chain(bindings).collect()
    }

    /// The ports of the Service called `name`.
    pub(super) fn ports(service: &'a ServiceView, name: &'a str) -> impl Iterator<Item = Self> {
        let labelled = service.ports.iter().filter_map(|port| Some((port, port_label(port)?)));
        labelled.map(move |(port, label)| Self::Port(port, label, name))
    }

    /// Type of the set.
    pub(super) fn rtype(&self) -> RecordType {
        match self {
            Self::Addresses(family) => *family,
            Self::Alias => RecordType::Cname,
            Self::Bindings(BindingType::Https, ..) => RecordType::Https,
            Self::Bindings(BindingType::Svcb, ..) => RecordType::Svcb,
            Self::Port(..) => RecordType::Srv,
        }
    }

    /// Where the set of `name` stands.
    ///
    /// # Errors
    /// When that is too long for a name.
    pub(super) fn name(&self, name: &str) -> Result<String, String> {
        let (field, prefix) = match self {
            Self::Bindings(_, prefix, _) if !prefix.is_empty() => ("serviceBindings", *prefix),
            Self::Port(_, label, _) => ("ports", label.as_str()),
            _ => return Name::parse(name).map(|_| name.to_owned()).map_err(|error| error.to_string()),
        };
        if name.starts_with('*') {
            return Err(format!("{field}: nothing can stand in front of the wildcard {name}"));
        }
        let name = format!("{prefix}.{name}");
        match Name::parse(&name) {
            Ok(_) => Ok(name),
            Err(error) => Err(format!("{field}: {error}")),
        }
    }

    /// Whether the set stands at the name itself, and not behind labels of its own.
    pub(super) fn is_plain(&self) -> bool {
        match self {
            Self::Addresses(_) | Self::Alias => true,
            Self::Bindings(_, prefix, _) => prefix.is_empty(),
            Self::Port(..) => false,
        }
    }

    /// Whether no other set is sure to stand at the same name before it.
    pub(super) fn is_first(&self) -> bool {
        match self {
            Self::Alias => true,
            Self::Addresses(family) => *family == RecordType::A,
            Self::Bindings(_, prefix, _) => !prefix.is_empty(),
            Self::Port(..) => true,
        }
    }

    /// The tiers as far as there is something to say, and as much of it as DNS servers take.
    pub(super) fn tiers(&self, at: At<'_>, tiers: &[Vec<Share>]) -> Vec<Tier> {
        let of = |most: usize| -> Vec<Tier> {
            let choice = |share: &Share| {
                let data = self.data(at, &share.cluster, &share.addresses, most, share.weight)?;
                Some(Choice { data, weight: share.weight, cluster: share.cluster.clone() })
            };
            let tiers = tiers.iter().map(|tier| Tier { choices: tier.iter().filter_map(choice).collect() });
            tiers.filter(|tier| !tier.choices.is_empty()).collect()
        };
        bounded(of)
    }

    /// One tier of addresses that are in no cluster.
    pub(super) fn fixed(&self, at: At<'_>, addresses: &[IpAddr]) -> Vec<Tier> {
        let addresses: Vec<Address> = addresses.iter().copied().map(Address::Ip).collect();
        let of = |most: usize| -> Vec<Tier> {
            let choice = |data| Choice { data, weight: 1, cluster: String::new() };
            let data = self.data(at, "", &addresses, most, 0).into_iter();
            data.map(|data| Tier { choices: vec![choice(data)] }).collect()
        };
        bounded(of)
    }

    /// At most `most` addresses of each family.
    fn data(
        &self,
        at: At<'_>,
        cluster: &str,
        addresses: &[Address],
        most: usize,
        weight: u32,
    ) -> Option<Vec<String>> {
        let host = host(addresses);
        let own = || at.clusters.and_then(|clusters| of_cluster(cluster, clusters));
        match self {
            Self::Addresses(family) => {
                let mut data = by_family(&ips(addresses)).remove(family)?;
                data.truncate(most);
                Some(data)
            }
            Self::Alias => Some(vec![host.map(str::to_owned).or_else(own)?]),
            Self::Bindings(rtype, prefix, bindings) => {
                let plain = *rtype == BindingType::Https && prefix.is_empty();
                let port = plain.then(|| https_port(at.service, cluster)).flatten();
                let target = match host {
                    // What the load balancer says of itself stands at its name.
                    Some(_) if prefix.is_empty() => return None,
                    Some(host) => host.to_owned(),
                    None if prefix.is_empty() => ".".into(),
                    None => own().unwrap_or_else(|| at.base.to_owned()),
                };
                let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
                    ips(addresses).into_iter().partition(IpAddr::is_ipv4);
                let hints: Vec<IpAddr> = v4.into_iter().take(most).chain(v6.into_iter().take(most)).collect();
                Some(bindings.iter().map(|binding| binding.data(&target, port, &hints)).collect())
            }
            Self::Port(port, _, name) => {
                let there = at.service.port_in(port, cluster);
                let same =
                    at.service.backends.keys().all(|other| at.service.port_in(port, other) == port.number);
                // Who takes a port that is not the same everywhere has to come to this cluster; and no SRV record may lead to an alias (RFC 2782).
                let target = match host {
                    Some(host) => Some(host.to_owned()),
                    None if at.clusters.is_some() => own(),
                    None if !same && is_label(cluster) => of_cluster(cluster, name),
                    None => None,
                };
                Some(vec![match target {
                    Some(target) => format!("0 {} {there} {target}", weight.min(u32::from(u16::MAX))),
                    None => format!("0 0 {there} {name}"),
                }])
            }
        }
    }
}

/// Where users of a cluster reach the Service's port `https`, if clients would not come there by themselves.
fn https_port(service: &ServiceView, cluster: &str) -> Option<u16> {
    let port = service.ports.iter().find(|port| port.name == ServiceBinding::PORT_NAME)?;
    Some(service.port_in(port, cluster)).filter(|port| *port != ServiceBinding::HTTPS_PORT)
}

/// The tiers with as many addresses of each cluster as fit in one set, in front of the rest those of the first clusters.
fn bounded(of: impl Fn(usize) -> Vec<Tier>) -> Vec<Tier> {
    let mut tiers = Vec::new();
    for most in ADDRESSES {
        tiers = of(most);
        let data = || tiers.iter().flat_map(|tier| &tier.choices).flat_map(|choice| &choice.data);
        if data().count() <= RECORDS_MAX && data().map(String::len).sum::<usize>() <= TEXT_MAX {
            return tiers;
        }
    }
    cut(tiers)
}

/// As many records of the tiers, from the front, as fit in one set.
pub(super) fn cut(mut tiers: Vec<Tier>) -> Vec<Tier> {
    let (mut records, mut text) = (0, 0);
    for tier in &mut tiers {
        for choice in &mut tier.choices {
            choice.data.retain(|data| {
                records += 1;
                text += data.len();
                records <= RECORDS_MAX && text <= TEXT_MAX
            });
        }
        tier.choices.retain(|choice| !choice.data.is_empty());
    }
    tiers.retain(|tier| !tier.choices.is_empty());
    tiers
}
