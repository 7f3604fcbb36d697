//! Which clusters a Service leaves by decision, or the Pods behind it, though they serve there still.
//!
//! The copy of a Service that leaves a cluster may be gone before its agent says so: its answers leave as soon as that is decided. A policy may leave a cluster out for a workload and not for its Service. Then the Service's answers must leave before the workload does, as
//! with a drain: it waits for its last user, and users would come for as long as it is ready.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::api::ClusterTarget;

/// Something that makes Pods.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// Of its Pods.
    pub labels: &'a Map<String, Value>,
    /// Where it is decided to be.
    pub clusters: &'a [ClusterTarget],
}

/// Whether a Service's selector selects Pods with these labels. An empty one selects none.
pub fn selects(selector: &Map<String, Value>, labels: &Map<String, Value>) -> bool {
    !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Clusters that the Service leaves, which is decided to be in those of `own`; and those that a workload behind it leaves, and in which none stays.
pub fn left<'a>(
    own: &'a [ClusterTarget],
    selector: &Map<String, Value>,
    workloads: impl IntoIterator<Item = &'a Workload<'a>>,
) -> BTreeSet<&'a str> {
    let (mut left, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for workload in workloads.into_iter().filter(|workload| selects(selector, workload.labels)) {
        for target in workload.clusters {
            if target.leaving {
                left.insert(target.name.as_str());
            } else if target.replicas != Some(0) {
                kept.insert(target.name.as_str());
            }
        }
    }
    left.retain(|cluster| !kept.contains(cluster));
    left.extend(own.iter().filter(|target| target.leaving).map(|target| target.name.as_str()));
    left
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn target(name: &str, replicas: i64, leaving: bool) -> ClusterTarget {
        ClusterTarget { name: name.into(), replicas: Some(replicas), leaving, ..ClusterTarget::default() }
    }

    #[test]
    fn a_cluster_is_left_when_a_workload_leaves_it_and_none_stays() {
        let web = labels(&json!({"app": "web", "tier": "front"}));
        let other = labels(&json!({"app": "other"}));
        let leaves = [target("taiwan", 2, true), target("tokyo", 4, false)];
        let stays = [target("taiwan", 1, false)];
        let scaled_down = [target("taiwan", 0, false)];
        let selector = labels(&json!({"app": "web"}));
        let of = |workloads: &[Workload<'_>]| -> Vec<String> {
            left(&[], &selector, workloads).into_iter().map(str::to_owned).collect()
        };
        let leaving = Workload { labels: &web, clusters: &leaves };
        assert_eq!(of(&[leaving]), ["taiwan"]);
        assert_eq!(of(&[leaving, Workload { labels: &web, clusters: &scaled_down }]), ["taiwan"]);
        assert_eq!(of(&[leaving, Workload { labels: &other, clusters: &stays }]), ["taiwan"]);
        assert!(of(&[leaving, Workload { labels: &web, clusters: &stays }]).is_empty());
        assert!(of(&[Workload { labels: &other, clusters: &leaves }]).is_empty());
        assert!(
            left(&[], &Map::new(), &[leaving]).is_empty(),
            "a Service without a selector has endpoints by hand"
        );
    }

    #[test]
    fn a_cluster_is_left_when_the_service_itself_leaves_it_whatever_stays() {
        let web = labels(&json!({"app": "web"}));
        let stays = Workload { labels: &web, clusters: &[target("taiwan", 2, false)] };
        let own = [target("taiwan", 0, true), target("tokyo", 0, false)];
        assert_eq!(left(&own, &web, &[stays]), ["taiwan"].into());
    }
}
