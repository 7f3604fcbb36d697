//! When a cluster's users have left it: no answer points there any more, every DNS server has acknowledged that, and the last such answer has
//! expired in every cache.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use federation_core::api::TaintEffect;
use federation_core::traffic::{Answers, selects};
use federation_runtime::clock::Instant;

use super::{Traffic, TrafficContext};
use crate::decide::cluster_state::Snapshot;
use crate::decide::queue::Priority;
use crate::observe::{Key, Template, World};

/// A little more than the TTL, for clocks and for answers that were on their way.
const AFTER_TTL: Duration = Duration::from_secs(1);

/// Which clusters' users have left, by Service.
#[derive(Default)]
pub(super) struct DrainTracker {
    // By namespace/service and cluster: since when no answer points there.
    withdrawn: HashMap<(String, String), Withdrawn>,
    // What the last decision answers, and the longest time that an answer may be cached.
    answers: Answers,
    // The first zones of this process: what was answered before, and when, is not known, so it counts as answered until then.
    first: Option<Withdrawn>,
    // They have run out, and every object was looked at again.
    first_over: bool,
    // The longest TTL of the last zones.
    ttl: Duration,
    // Until when answers from the zones before those are cached: TTLs shrink before a change, and older answers outlive newer ones.
    cached: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Withdrawn {
    epoch: u64,
    ttl: Duration,
    // When every DNS server was seen to serve it.
    served: Option<Instant>,
    // It has run out, and the objects behind it were looked at again.
    told: bool,
}

impl Withdrawn {
    fn is_over(&self) -> bool {
        self.served.is_some_and(|served| served.elapsed() >= self.ttl + AFTER_TTL)
    }
}

impl DrainTracker {
    /// Whether a decision was noted.
    pub(super) fn has_begun(&self) -> bool {
        self.first.is_some()
    }

    /// Starts the clock of every cluster that lost its place in an answer, and stops that of those that came back. `ttl` is the
    /// longest of the new zones.
    pub(super) fn note_published(&mut self, before: &Answers, now: &Answers, epoch: u64, ttl: Duration) {
        let moment = Instant::now();
        let older = self.cached.map(|until| until.saturating_duration_since(moment)).unwrap_or_default();
        let lives = ttl.max(self.ttl).max(older);
        for (service, clusters) in &before.0 {
            for cluster in clusters.keys() {
                if !now.0.get(service).is_some_and(|now| now.contains_key(cluster)) {
                    let withdrawn = Withdrawn { epoch, ttl: lives, served: None, told: false };
                    self.withdrawn.entry((service.clone(), cluster.clone())).or_insert(withdrawn);
                }
            }
        }
        self.withdrawn.retain(|(service, cluster), _| {
            !now.0.get(service).is_some_and(|clusters| clusters.contains_key(cluster))
        });
        self.answers = now.clone();
        self.cached = self.cached.max(Some(moment + self.ttl));
        self.ttl = ttl;
        self.first.get_or_insert(Withdrawn { epoch, ttl, served: None, told: false });
    }

    /// Looks whether every DNS server serves what; returns the namespaces of Services that some cluster was left by since the last look, and
    /// whether what was answered before this process has just run out.
    fn note_acknowledged(&mut self, all_serve: impl Fn(u64) -> bool) -> (BTreeSet<String>, bool) {
        if let Some(first) = &mut self.first
            && first.served.is_none()
            && all_serve(first.epoch)
        {
            first.served = Some(Instant::now());
        }
        let first_over = self.first.is_some_and(|first| first.is_over());
        let just_now = first_over && !std::mem::replace(&mut self.first_over, first_over);
        let mut over = BTreeSet::new();
        self.withdrawn.retain(|(service, _), withdrawn| {
            if withdrawn.served.is_none() && all_serve(withdrawn.epoch) {
                withdrawn.served = Some(Instant::now());
            }
            if withdrawn.is_over() && !std::mem::replace(&mut withdrawn.told, true) {
                over.insert(service.split('/').next().unwrap_or_default().to_owned());
            }
            // What has run out says no more than the first zones that have.
            !(withdrawn.told && first_over)
        });
        (over, just_now)
    }

    /// When the next withdrawal runs out.
    pub(super) fn next_end(&self) -> Option<Duration> {
        self.withdrawn
            .values()
            .chain(&self.first)
            .filter_map(|withdrawn| {
                let served = withdrawn.served?;
                let end = served + withdrawn.ttl + AFTER_TTL;
                end.checked_duration_since(Instant::now())
            })
            .min()
            .map(|wait| wait + Duration::from_millis(1))
    }

    fn is_left(&self, service: &str, cluster: &str) -> bool {
        let Some(first) = &self.first else { return false };
        let answered = self.answers.0.get(service).is_some_and(|clusters| clusters.contains_key(cluster));
        let withdrawn = self.withdrawn.get(&(service.to_owned(), cluster.to_owned()));
        !answered && withdrawn.unwrap_or(first).is_over()
    }
}

impl Traffic {
    /// Clusters that no cached DNS answer sends users of this object to any more.
    ///
    /// Users come to an object by the Services of its namespace that select its Pods. With no such Service no user comes.
    pub(crate) fn drained(
        &self,
        template: &Template,
        world: &World,
        snapshot: &Snapshot,
    ) -> BTreeSet<String> {
        let services = selecting(template, world);
        let drains = self.0.drains.lock();
        snapshot
            .views
            .iter()
            .map(|view| &view.name)
            .filter(|cluster| services.iter().all(|service| drains.is_left(service, cluster)))
            .cloned()
            .collect()
    }

    /// Looks who serves what; when a cluster is left by its last user, the objects are looked at again.
    pub(super) fn note_acknowledged(&self, context: &TrafficContext) {
        let zones = &context.zones;
        let (over, first_over) = self.0.drains.lock().note_acknowledged(|epoch| zones.all_serve(epoch));
        let snapshot = context.cluster_state.snapshot();
        let draining = snapshot
            .views
            .iter()
            .any(|view| view.spec.taints.iter().any(|taint| taint.effect == TaintEffect::NoExecute));
        // A policy that leaves a cluster out drains it of one object.
        let leaves = |key: &Key| {
            let decided = context.world.decided(key);
            decided.is_some_and(|decided| decided.spec.clusters.iter().any(|target| target.leaving))
        };
        let keys = if first_over {
            context.world.keys()
        } else {
            over.iter().flat_map(|namespace| context.world.keys_in(namespace)).collect()
        };
        for key in keys {
            if federation_core::template::has_replicas(key.kind.kind) && (draining || leaves(&key)) {
                context.queue.add(key, Priority::Urgent);
            }
        }
    }
}

/// Names (`namespace/name`) of the Services that select an object's Pods.
fn selecting(template: &Template, world: &World) -> Vec<String> {
    let Some(labels) = template.pod_labels() else { return Vec::new() };
    world
        .services_in(&template.key.namespace)
        .iter()
        .filter(|service| service.selector().is_some_and(|selector| selects(selector, labels)))
        .map(|service| format!("{}/{}", service.key.namespace, service.key.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use federation_runtime::clock::{Time, set};

    use super::*;

    fn at(seconds: u64) {
        set(Some(Time { running: Duration::from_secs(seconds), unix_ms: 0 }));
    }

    fn answers(service: &str, clusters: &[&str]) -> Answers {
        let clusters: BTreeMap<_, _> =
            clusters.iter().map(|cluster| ((*cluster).to_owned(), Default::default())).collect();
        Answers([(service.to_owned(), clusters)].into())
    }

    #[test]
    fn that_a_cluster_was_left_is_told_once_and_then_forgotten_but_not_unlearnt() {
        at(100);
        let ttl = Duration::from_secs(5);
        let (both, tokyo) = (answers("shop/web", &["taiwan", "tokyo"]), answers("shop/web", &["tokyo"]));
        let mut drains = DrainTracker::default();
        drains.note_published(&Answers::default(), &both, 1, ttl);
        assert_eq!(drains.note_acknowledged(|_| true), (BTreeSet::new(), false));
        at(200);
        assert_eq!(drains.note_acknowledged(|_| true), (BTreeSet::new(), true));
        drains.note_published(&both, &tokyo, 2, ttl);
        assert_eq!(drains.note_acknowledged(|epoch| epoch < 2), (BTreeSet::new(), false));
        assert_eq!(drains.note_acknowledged(|_| true), (BTreeSet::new(), false));
        assert!(!drains.is_left("shop/web", "taiwan"), "caches still have it");
        at(300);
        assert_eq!(drains.note_acknowledged(|_| true), (BTreeSet::from(["shop".to_owned()]), false));
        assert_eq!(drains.note_acknowledged(|_| true), (BTreeSet::new(), false), "and no more");
        assert!(drains.withdrawn.is_empty());
        assert!(drains.is_left("shop/web", "taiwan") && !drains.is_left("shop/web", "tokyo"));
        set(None);
    }
}
