//! Clusters that users reach by a name: a load balancer whose `status.loadBalancer.ingress` has a `hostname` and no `ip`, as some clouds make them.
//!
//! Such a cluster is answered with a CNAME, beside which nothing may stand (RFC 1034 section 3.6.2). So a name of which one cluster is so becomes
//! an alias for all of them: each is a choice of one record set, the others by a name of their own that has their addresses. Health, weights,
//! failover, stickiness and regions choose among them as ever, and what is chosen decides what is answered.
//!
//! | name | has |
//! |---|---|
//! | `<svc>.<ns>.svc.<apex>`, a hostname of the policy, … | CNAME to one cluster: the load balancer's name, or the next one |
//! | `<cluster>.<svc>.<ns>.svc.<apex>`, … | A and AAAA of a cluster that has addresses, and its HTTPS and SVCB records without a prefix |
//!
//! - An alias has one target, so that also the strategy All and `picks` answer one cluster at a time.
//! - A cluster that is not answered now keeps its name: caches may still lead there. For the same reason a name is an alias as long as one of
//!   its clusters would be, answered or not.
//! - SRV records, and bindings with a prefix, lead to the load balancer or the cluster's own name at once.
//! - The apex of a zone has SOA and NS records, and cannot be an alias. To answer there with the load balancer's addresses, they would have to be
//!   resolved here: they are its provider's to change at any moment, and to choose by who asks. So such a cluster is left out there, and the
//!   policy's status says so.

use super::super::address::{host, ips};
use super::super::content::{At, Content, of_cluster};
use super::super::pipeline::Share;
use super::{Builder, Decided, Owner, RecordSet, RecordType, Selection, Spot};

impl Builder<'_> {
    /// Whether the name is an alias.
    pub(super) fn is_alias(&mut self, spot: Spot<'_>, decided: &Decided<'_>) -> bool {
        let Spot { origin, name, .. } = spot;
        let chosen = &decided.chosen;
        let on = chosen.on.iter().map(|(cluster, on)| (cluster, &on.addresses));
        let mut by_name = on.chain(&chosen.down).filter(|(_, addresses)| host(addresses).is_some());
        let Some((cluster, _)) = by_name.next() else { return false };
        if chosen.otherwise.is_some() {
            return false;
        }
        let taken = self.zones.get(origin).is_some_and(|zone| {
            let mut here =
                zone.range((name.to_owned(), RecordType::A)..).take_while(|((at, _), _)| at == name);
            here.any(|(_, record)| record.service.is_empty())
        });
        let why = if name == origin {
            "the apex of a zone has SOA and NS records"
        } else if taken {
            "it has the addresses of a server of the zone"
        } else {
            return true;
        };
        let message = format!(
            "{name} cannot be a CNAME (RFC 1034 section 3.6.2), for {why}: {cluster}, whose load balancer has no address but a name, is \
             not answered there; use another hostname, such as www.{name}"
        );
        self.problem(decided, message);
        false
    }

    /// The names of the clusters that have addresses.
    pub(super) fn clusters(&mut self, spot: Spot<'_>, decided: &Decided<'_>, contents: &[Content<'_>]) {
        let Spot { origin, name, clusters } = spot;
        // A policy's hostnames share them with the Service's own names, whose policy says what stands there.
        let bindings = name == clusters;
        let Decided { front, chosen, ttl } = decided;
        let on = chosen.on.iter().map(|(cluster, on)| (cluster, &on.addresses));
        for (cluster, addresses) in on.chain(&chosen.down).chain(&chosen.off) {
            let Some(name) = of_cluster(cluster, clusters).filter(|_| !ips(addresses).is_empty()) else {
                continue;
            };
            let share = Share { cluster: cluster.clone(), addresses: addresses.clone(), weight: 1 };
            let tiers = [vec![share]];
            let at = At { service: front.service, base: &name, clusters: None };
            let own = |content: &&Content<'_>| match content {
                Content::Addresses(_) => true,
                content => bindings && content.is_plain(),
            };
            for content in contents.iter().filter(own) {
                let tiers = content.tiers(at, &tiers);
                if tiers.is_empty() {
                    continue;
                }
                let record = RecordSet {
                    name: name.clone(),
                    ttl: *ttl,
                    rtype: content.rtype(),
                    service: front.object(),
                    selection: Selection::All,
                    picks: 1,
                    tiers,
                    variants: Vec::new(),
                };
                self.insert(origin, record);
            }
            let owner = Owner { service: front.object(), policy: front.policy.to_owned() };
            self.owners.entry(name).or_insert(owner);
        }
    }
}
