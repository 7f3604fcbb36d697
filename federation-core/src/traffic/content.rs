//! What the record sets of a balanced name hold: the same tiers, said as addresses and as service bindings.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::api::{BindingType, ServiceBinding, TrafficPolicySpec};
use crate::dns::Name;

use super::pipeline::Share;
use super::record::{Choice, RecordType, Tier};
use super::zone::{by_family, is_label};
use super::{ServicePort, ServiceView};

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
            _ => return Ok(name.to_owned()),
        };
        if name.starts_with('*') {
            return Err(format!("{field}: nothing can stand in front of the wildcard {name}"));
        }
        let name = format!("{prefix}.{name}");
        match Name::parse(&name) {
            Ok(_) => Ok(name),
            Err(error) => Err(format!("{field}: {name}: {error}")),
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

    /// The tiers as far as there is something to say.
    pub(super) fn tiers(&self, service: &ServiceView, tiers: &[Vec<Share>]) -> Vec<Tier> {
        let choice = |share: &Share| {
            let data = self.data(service, &share.cluster, &share.addresses, share.weight)?;
            Some(Choice { data, weight: share.weight, cluster: share.cluster.clone() })
        };
        tiers
            .iter()
            .map(|tier| Tier { choices: tier.iter().filter_map(choice).collect() })
            .filter(|tier| !tier.choices.is_empty())
            .collect()
    }

    /// One tier of addresses that are in no cluster.
    pub(super) fn fixed(&self, service: &ServiceView, addresses: &[IpAddr]) -> Vec<Tier> {
        let data = self.data(service, "", addresses, 0).into_iter();
        data.map(|data| Tier { choices: vec![Choice { data, weight: 1, cluster: String::new() }] }).collect()
    }

    fn data(
        &self,
        service: &ServiceView,
        cluster: &str,
        addresses: &[IpAddr],
        weight: u32,
    ) -> Option<Vec<String>> {
        match self {
            Self::Addresses(family) => by_family(addresses).remove(family),
            Self::Bindings(rtype, prefix, bindings) => {
                let own = *rtype == BindingType::Https && prefix.is_empty();
                let port = own.then(|| https_port(service, cluster)).flatten();
                Some(bindings.iter().map(|binding| binding.data(port, addresses)).collect())
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
