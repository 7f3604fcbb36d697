//! Which clusters may be lost together: the losses that plans are made for.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::marks;
use crate::placement::ClusterView;

/// Clusters that may be lost together.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// `cluster/NAME`, `zone/REGION/ZONE`, `region/REGION` or `domain/NAME`.
    pub name: String,
    /// Names.
    pub clusters: BTreeSet<String>,
}

/// Every loss that is prepared for, by name: that of each member, and that of each failure domain of two members or more. Of domains
/// with the same members only the first is there: a zone before its region, and a region before a label.
pub fn losses(clusters: &[ClusterView]) -> Vec<Loss> {
    let mut domains: BTreeMap<(u8, String), BTreeSet<String>> = BTreeMap::new();
    let mut put = |rank: u8, name: String, cluster: &ClusterView| {
        domains.entry((rank, name)).or_default().insert(cluster.name.clone());
    };
    for cluster in clusters.iter().filter(|cluster| cluster.joined) {
        let (region, zone) = (&cluster.spec.region, &cluster.spec.zone);
        put(0, format!("cluster/{}", cluster.name), cluster);
        if !zone.is_empty() {
            put(1, format!("zone/{region}/{zone}"), cluster);
        }
        if !region.is_empty() {
            put(2, format!("region/{region}"), cluster);
        }
        if let Some(domain) = cluster.labels.get(marks::FAILURE_DOMAIN).filter(|domain| !domain.is_empty()) {
            put(3, format!("domain/{domain}"), cluster);
        }
    }
    let mut seen = BTreeSet::new();
    let mut found: Vec<Loss> = domains
        .into_iter()
        .filter(|((rank, _), members)| *rank == 0 || members.len() > 1)
        .filter(|(_, members)| seen.insert(members.clone()))
        .map(|((_, name), clusters)| Loss { name, clusters })
        .collect();
    found.sort();
    found
}
