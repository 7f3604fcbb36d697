//! Which targets follow from Services and policies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::api::TrafficPolicy;

use super::{Alone, Check, Key, Target};

/// A federated Service, as far as probing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbedService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its first port: name and number; none if it has no TCP port.
    pub port: Option<(String, u16)>,
    /// By cluster: how users reach it there.
    pub clusters: BTreeMap<String, Reached>,
}

/// How users reach a Service in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Literal addresses.
    pub addresses: Vec<IpAddr>,
    /// Where there are none: a name, lower case and with the final dot.
    pub host: Option<String>,
    /// Ports by name where they are not the Service's own.
    pub ports: BTreeMap<String, u32>,
    /// Its agent says that no endpoint is ready: a failing probe would say nothing that is not known.
    pub unready: bool,
}

/// What is to be probed: each Service where users reach it, by the oldest policy of the Service, or a connection to its first port if no
/// policy says anything.
pub fn targets(services: &[ProbedService], policies: &[TrafficPolicy]) -> Vec<Target> {
    let mut found = Vec::new();
    for service in services {
        let policy = oldest(service, policies);
        let spec = policy.map(|policy| &policy.spec);
        let check = spec.and_then(|spec| spec.health_check.as_ref());
        let hostname = spec.and_then(|spec| {
            // A wildcard is no host.
            spec.hostnames.iter().map(String::as_str).find(|hostname| !hostname.starts_with('*'))
        });
        let Some(checked) = Check::of(check, hostname) else { continue };
        let safety = spec.map(|spec| spec.safety.clone()).unwrap_or_default();
        let alone = Alone {
            may_withdraw: check.and_then(|check| check.withdraw_without_hub).unwrap_or(true),
            min_clusters: safety.min_clusters.unwrap_or(0),
            max_withdrawn_percent: safety.max_withdrawn_percent.unwrap_or(100),
        };
        for (cluster, reached) in &service.clusters {
            let Some(port) = port(service, reached, check.and_then(|check| check.port)) else { continue };
            let addresses: Vec<IpAddr> =
                reached.addresses.iter().copied().filter(|address| may_be_probed(*address)).collect();
            // Beside addresses that are none to probe a name would be no better.
            let host = reached.host.clone().filter(|_| reached.addresses.is_empty());
            if reached.unready || addresses.is_empty() && host.is_none() {
                continue;
            }
            let check = match &host {
                Some(host) => checked.clone().at(host),
                None => checked.clone(),
            };
            found.push(Target {
                key: Key {
                    service: format!("{}/{}", service.namespace, service.name),
                    cluster: cluster.clone(),
                },
                addresses,
                host,
                port,
                check,
                alone,
            });
        }
    }
    found
}

/// Where clouds tell a machine what nobody else is to know, beside 169.254.169.254: Alibaba's, Azure's and Oracle's.
const CLOUD_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same by IPv6, as prefixes of 64 bits: Amazon's, Google's and Oracle's.
const CLOUD_V6: [[u16; 4]; 3] = [[0xfd00, 0x0ec2, 0, 0], [0xfd20, 0x00ce, 0, 0], [0xfd00, 0x00c1, 0, 0]];

/// Members say what is probed, from machines that reach more than they do: never what is on the prober's own link, cloud metadata
/// services above all, nor what is no host's address. A name is theirs to lead anywhere, too, so that probers ask this of
/// every address that they find for one.
pub fn may_be_probed(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let nobody = v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified();
            !(nobody || CLOUD_V4.contains(&v4))
        }
        IpAddr::V6(v6) => match v6.segments() {
            // NAT64 leads to an IPv4 address (RFC 6052 section 2.1).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                may_be_probed(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into())
            }
            [a, b, c, d, ..] => {
                let nobody = v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified();
                !(nobody || CLOUD_V6.contains(&[a, b, c, d]))
            }
        },
    }
}

/// The policy's port as it is; the Service's first port as users of this cluster reach it.
fn port(service: &ProbedService, reached: &Reached, wanted: Option<u16>) -> Option<u16> {
    if wanted.is_some() {
        return wanted;
    }
    let (name, number) = service.port.as_ref()?;
    match reached.ports.get(name) {
        Some(other) => u16::try_from(*other).ok(),
        None => Some(*number),
    }
}

fn oldest<'a>(service: &ProbedService, policies: &'a [TrafficPolicy]) -> Option<&'a TrafficPolicy> {
    policies
        .iter()
        .filter(|policy| {
            policy.metadata.namespace.as_deref() == Some(&service.namespace)
                && policy.spec.service == service.name
        })
        .min_by_key(|policy| {
            let created = policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (created.is_none(), created, policy.name().to_owned())
        })
}
