//! What the record sets of a balanced name hold: the same tiers, said as addresses and as service bindings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::api::{BindingType, ServiceBinding, TrafficPolicySpec};
use crate::dns::{Name, RECORDS_MAX, TEXT_MAX};

use super::pipeline::Share;
use super::record::{Choice, RecordType, Tier};
use super::zone::{by_family, is_label};
use super::{ServicePort, ServiceView};

/// Addresses of one cluster that a set names: all, and fewer where so many would be more than DNS servers take in one set, for they refuse such
/// zones altogether.
const ADDRESSES: [usize; 5] = [usize::MAX, 64, 16, 4, 1];

/// What one record set of a name says of a cluster.
pub(super) enum Content<'a> {
    /// Its addresses of one family.
    Addresses(RecordType),
    /// How it is spoken to: all bindings with one type and prefix.
    Bindings(BindingType, &'a str, Vec<&'a ServiceBinding>),
    /// Where one of its ports is: the port, its labels, and the Service's name there.
    Port(&'a ServicePort, String, &'a str),
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

    /// Whether no other set is sure to stand at the same name before it.
    pub(super) fn is_first(&self) -> bool {
        match self {
            Self::Addresses(family) => *family == RecordType::A,
            Self::Bindings(_, prefix, _) => !prefix.is_empty(),
            Self::Port(..) => true,
        }
    }

    /// The tiers of `name` as far as there is something to say, and as much of it as DNS servers take.
    pub(super) fn tiers(&self, service: &ServiceView, name: &str, tiers: &[Vec<Share>]) -> Vec<Tier> {
        let of = |most: usize| -> Vec<Tier> {
            let choice = |share: &Share| {
                let data = self.data(service, name, &share.cluster, &share.addresses, most, share.weight)?;
                Some(Choice { data, weight: share.weight, cluster: share.cluster.clone() })
            };
            let tiers = tiers.iter().map(|tier| Tier { choices: tier.iter().filter_map(choice).collect() });
            tiers.filter(|tier| !tier.choices.is_empty()).collect()
        };
        bounded(of)
    }

    /// One tier of addresses that are in no cluster.
    pub(super) fn fixed(&self, service: &ServiceView, name: &str, addresses: &[IpAddr]) -> Vec<Tier> {
        let of = |most: usize| -> Vec<Tier> {
            let data = self.data(service, name, "", addresses, most, 0).into_iter();
            let choice = |data| Choice { data, weight: 1, cluster: String::new() };
            data.map(|data| Tier { choices: vec![choice(data)] }).collect()
        };
        bounded(of)
    }

    /// At most `most` addresses of each family.
    fn data(
        &self,
        service: &ServiceView,
        base: &str,
        cluster: &str,
        addresses: &[IpAddr],
        most: usize,
        weight: u32,
    ) -> Option<Vec<String>> {
        match self {
            Self::Addresses(family) => {
                let mut data = by_family(addresses).remove(family)?;
                data.truncate(most);
                Some(data)
            }
            Self::Bindings(rtype, prefix, bindings) => {
                let own = *rtype == BindingType::Https && prefix.is_empty();
                let port = own.then(|| https_port(service, cluster)).flatten();
                let target = if prefix.is_empty() { "." } else { base };
                let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
                    addresses.iter().copied().partition(IpAddr::is_ipv4);
                let hints: Vec<IpAddr> = v4.into_iter().take(most).chain(v6.into_iter().take(most)).collect();
                Some(bindings.iter().map(|binding| binding.data(target, port, &hints)).collect())
            }
            Self::Port(port, _, name) => {
                let there = service.port_in(port, cluster);
                let same = service.backends.keys().all(|other| service.port_in(port, other) == port.number);
                Some(vec![if same || !is_label(cluster) {
                    format!("0 0 {there} {name}")
                } else {
                    // Who takes this port has to come to this cluster.
                    format!("0 {} {there} {cluster}.{name}", weight.min(u32::from(u16::MAX)))
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
