//! Names of Multi-Cluster Services (KEP-1645, "DNS"), in a zone of their own, such as `clusterset.local`.
//!
//! | name | answered by |
//! |---|---|
//! | `<svc>.<ns>.svc.<zone>` | all clusters, as the Service's other names |
//! | `_<port>._<protocol>.<svc>.<ns>.svc.<zone>` | SRV of each named port |
//! | `<cluster>.<svc>.<ns>.svc.<zone>` | that cluster alone, whatever its health, unless it is switched off; a CNAME if it is reached by a name |
//! | `<host>.<cluster>.<svc>.<ns>.svc.<zone>` | one endpoint of a headless Service |
//! | `dns-version.<zone>` | TXT, the version of these rules |
//!
//! Every federated Service counts as exported by each cluster that it is placed on. A port that users reach by another number in some cluster (a
//! node port) has each cluster's own name for its SRV target. A headless Service is answered with the endpoints themselves, which who asks must be
//! able to reach; those of clusters that do not serve are left out as long as another one does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::api::Verdict;

use super::super::address::{host, ips};
use super::super::content::{Content, cut, of_cluster, port_label};
use super::super::{Backend, Endpoint};
use super::{
    Builder, Choice, Decided, RecordSet, RecordType, Selection, Spot, Tier, by_family, is_label, qualified,
};

/// Version of the rules.
const VERSION: &str = "1.0.0";
/// Endpoints of a headless Service in one answer: as SRV records they have at most 27 KiB.
const ENDPOINTS_MAX: usize = 100;

impl Builder<'_> {
    /// Origin of the zone; none: there is none.
    fn clusterset_origin(&self) -> Option<String> {
        self.input.clusterset.map(qualified)
    }

    /// The zone itself.
    pub(super) fn clusterset_zone(&mut self) {
        let Some(origin) = self.clusterset_origin() else { return };
        self.zones.insert(origin.clone(), BTreeMap::new());
        let version = Choice { data: vec![format!("\"{VERSION}\"")], weight: 1, cluster: String::new() };
        let name = format!("dns-version.{origin}");
        self.all(&origin, name, RecordType::Txt, String::new(), self.input.ttl_seconds, vec![version]);
    }

    /// The names of a Service.
    pub(in super::super) fn clusterset(&mut self, decided: &Decided<'_>) {
        let Some(origin) = self.clusterset_origin() else { return };
        let service = decided.front.service;
        if !is_label(&service.name) || !is_label(&service.namespace) {
            return;
        }
        let name = format!("{}.{}.svc.{origin}", service.name, service.namespace);
        if self.headless(&origin, &name, decided) {
            return;
        }
        let mut contents = Content::of(decided.front.spec);
        contents.extend(Content::ports(service, &name));
        self.global(Spot::of_service(&origin, &name), decided, &contents);
        let on = decided.chosen.on.iter().map(|(cluster, on)| (cluster, &on.addresses));
        for (cluster, addresses) in on.chain(&decided.chosen.down).filter(|(name, _)| is_label(name)) {
            let alias = host(addresses).map(|host| (RecordType::Cname, vec![host.to_owned()]));
            for (rtype, data) in by_family(&ips(addresses)).into_iter().chain(alias) {
                let choice = Choice { data, weight: 1, cluster: cluster.clone() };
                let name = format!("{cluster}.{name}");
                self.all(&origin, name, rtype, decided.front.object(), decided.ttl, vec![choice]);
            }
        }
    }

    /// Says whether it is a headless Service of which endpoints are known.
    fn headless(&mut self, origin: &str, name: &str, decided: &Decided<'_>) -> bool {
        let service = decided.front.service;
        let known = |(cluster, backend): &(&String, &Backend)| {
            is_label(cluster) && !backend.absent && !backend.endpoints.is_empty()
        };
        let ready: BTreeMap<&String, &Backend> = service.backends.iter().filter(known).collect();
        if ready.is_empty() {
            return false;
        }
        let serves = |name: &str| {
            let left = service.backends.get(name).is_some_and(|backend| backend.leaving);
            self.input.clusters.get(name).is_some_and(|cluster| {
                let lost = matches!(cluster.verdict, Verdict::ApiDown | Verdict::DataPlaneDown);
                !lost && !left && !cluster.draining && cluster.weight != Some(0)
            })
        };
        let any = ready.keys().any(|cluster| serves(cluster));
        let most = (ENDPOINTS_MAX / ready.len()).max(1);
        let answering: Vec<(&String, Vec<&Endpoint>)> = ready
            .iter()
            .filter(|(cluster, _)| !any || serves(cluster))
            .map(|(cluster, backend)| {
                let labelled = backend.endpoints.iter().filter(|endpoint| is_label(&endpoint.host));
                (*cluster, labelled.take(most).collect())
            })
            .take(ENDPOINTS_MAX)
            .collect();
        let (object, ttl) = (decided.front.object(), decided.ttl);
        let choices = |data: &dyn Fn(&str, &Endpoint) -> Vec<String>| -> Vec<Choice> {
            let of = |(cluster, endpoints): &(&String, Vec<&Endpoint>)| Choice {
                data: endpoints.iter().flat_map(|endpoint| data(cluster, endpoint)).collect(),
                weight: 1,
                cluster: (*cluster).clone(),
            };
            answering.iter().map(of).filter(|choice| !choice.data.is_empty()).collect()
        };
        let family =
            |rtype: RecordType, addresses: &[IpAddr]| by_family(addresses).remove(&rtype).unwrap_or_default();
        let mut sets: Vec<(String, RecordType, Vec<Choice>)> = Vec::new();
        for rtype in [RecordType::A, RecordType::Aaaa] {
            sets.push((name.to_owned(), rtype, choices(&|_, endpoint| family(rtype, &endpoint.addresses))));
        }
        for (port, label) in service.ports.iter().filter_map(|port| Some((port, port_label(port)?))) {
            let target = |cluster: &str, endpoint: &Endpoint| {
                let target = of_cluster(&endpoint.host, &format!("{cluster}.{name}"));
                target.map(|target| format!("0 0 {} {target}", port.number)).into_iter().collect()
            };
            sets.push((format!("{label}.{name}"), RecordType::Srv, choices(&target)));
        }
        for (cluster, endpoints) in &answering {
            for (endpoint, rtype) in endpoints
                .iter()
                .flat_map(|endpoint| [RecordType::A, RecordType::Aaaa].map(|rtype| (endpoint, rtype)))
            {
                let data = family(rtype, &endpoint.addresses);
                let choice = Choice { data, weight: 1, cluster: (*cluster).clone() };
                sets.push((format!("{}.{cluster}.{name}", endpoint.host), rtype, vec![choice]));
            }
        }
        for (name, rtype, choices) in sets {
            self.all(origin, name, rtype, object.clone(), ttl, choices);
        }
        true
    }

    /// A record set that answers all it has.
    fn all(
        &mut self,
        origin: &str,
        name: String,
        rtype: RecordType,
        service: String,
        ttl: u32,
        choices: Vec<Choice>,
    ) {
        let fits = crate::dns::Name::parse(&name).is_ok();
        if !fits || choices.iter().all(|choice| choice.data.is_empty()) {
            return;
        }
        // A Service in thousands of nodes has as many addresses, and an endpoint as many as somebody writes there.
        let (selection, tiers) = (Selection::All, cut(vec![Tier { choices }]));
        let record =
            RecordSet { name, ttl, rtype, service, selection, picks: 1, tiers, variants: Vec::new() };
        self.insert(origin, record);
    }
}
