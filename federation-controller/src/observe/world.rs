//! Everything that was observed, in memory: templates, policies, clusters, decisions and the members' reports.
//!
//! One lock, held for a lookup or an insertion and never across an await. What is handed out is shared, not copied.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use tonic::Status;

use federation_core::api::{
    ClientRegions, Cluster, ClusterPlacementPolicy, DeletionBudget, PlacementPolicy, PlacementSpec,
    PlacementStatus, TrafficPolicy,
};
use federation_core::gate::Source;
use federation_core::membership::{self, Refusal, Shown};
use proto::v1;

use super::freshness::{Freshness, Heard};
use super::kinds::{CLUSTER, KINDS, Key, Kind};
use super::report::{Report, Reports};
use super::shelf::Shelf;
use super::template::Template;
use super::untaken::Untaken;

/// The clusters as they are now, by name.
pub(crate) type Clusters = Arc<BTreeMap<String, Arc<Cluster>>>;

/// Templates that make Pods, with where they are decided to be, by namespace.
pub(crate) type Workloads = BTreeMap<Arc<str>, Vec<(Arc<Template>, Arc<Decided>)>>;

/// A decision as the API holds it.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    /// The Placement's own name and resourceVersion are not kept: it is written by JSON patch.
    pub(crate) spec: PlacementSpec,
    /// Its status as last written.
    pub(crate) status: PlacementStatus,
    /// Somebody deleted the Placement, or it is older than what members hold: it is to be written again, as it was.
    pub(crate) lost: bool,
}

/// What was observed. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<RwLock<Inner>>, Freshness);

#[derive(Default)]
struct Inner {
    templates: BTreeMap<Key, Arc<Template>>,
    // Keys of Services: traffic looks at all of them.
    services: BTreeSet<Key>,
    clusters: Clusters,
    policies: Shelf<PlacementPolicy>,
    cluster_policies: Shelf<ClusterPlacementPolicy>,
    traffic: Shelf<TrafficPolicy>,
    client_regions: Arc<Vec<ClientRegions>>,
    budgets: Vec<DeletionBudget>,
    decided: BTreeMap<Key, Arc<Decided>>,
    reports: BTreeMap<Key, Reports>,
    // Collections that have not told everything yet.
    unsynced: HashSet<String>,
    untaken: Untaken,
    // Collections that were all told of; empty: nothing is synced before that.
    declared: HashSet<String>,
}

/// What all keys of a namespace come behind: they are in the order of their namespaces, and no name is empty.
fn first_in(namespace: &str) -> Key {
    Key::new(&KINDS[0], namespace, "")
}

impl Inner {
    /// Whether a collection's view is whole, and nothing is missing in it.
    fn is_complete(&self, collection: &str) -> bool {
        self.declared.contains(collection)
            && !self.unsynced.contains(collection)
            && !self.untaken.is_any_of(collection)
    }
}

impl World {
    /// Declares the collections whose views must be whole before anything is removed.
    pub(crate) fn declare(&self, collections: impl IntoIterator<Item = String>) {
        let mut inner = self.0.write();
        for collection in collections {
            inner.unsynced.insert(collection.clone());
            inner.declared.insert(collection);
        }
    }

    /// Whether objects of a kind are watched, so that it means something when one is not there.
    pub(crate) fn is_watched(&self, kind: &Kind) -> bool {
        self.0.read().declared.contains(&kind.path(""))
    }

    /// A watch that begins: what it says is noted by [`Heard::now`].
    pub(crate) fn heard(&self) -> Heard {
        self.1.watch()
    }

    /// What the gate may think of what is known.
    pub(crate) fn source(&self) -> Source {
        if self.is_complete() { Source::Synced { age_ms: self.1.age_ms() } } else { Source::Unsynced }
    }

    /// A collection is not served (any more): nothing waits for it, and nothing in it is taken to be gone. [`World::synced`] takes
    /// it back.
    pub(crate) fn withdraw(&self, collection: &str) {
        let mut inner = self.0.write();
        inner.unsynced.remove(collection);
        inner.untaken.forget(collection);
        inner.declared.remove(collection);
    }

    /// A collection's view is whole.
    pub(crate) fn synced(&self, collection: &str) {
        let mut inner = self.0.write();
        inner.unsynced.remove(collection);
        if !inner.declared.contains(collection) {
            inner.declared.insert(collection.to_owned());
        }
    }

    /// A collection's view has holes: its watch broke, and will tell everything anew.
    pub(crate) fn unsynced(&self, collection: &str) {
        self.0.write().unsynced.insert(collection.to_owned());
    }

    /// An object of a collection, `namespace/name`, could not be taken in: nothing is complete until it is, or is gone.
    pub(crate) fn untaken(&self, collection: &str, object: String) {
        self.0.write().untaken.add(collection, object);
    }

    /// An object was taken in, or is gone. Says whether it is one that could not be before.
    pub(crate) fn taken(&self, collection: &str, object: &str) -> bool {
        // Nearly always there is none.
        !self.0.read().untaken.is_empty() && self.0.write().untaken.remove(collection, object)
    }

    /// How many objects could not be taken in.
    pub(crate) fn count_untaken(&self) -> usize {
        self.0.read().untaken.len()
    }

    /// Policies that were not taken in and may decide for objects of a namespace, or for those of none.
    pub(crate) fn untaken_policies(&self, namespace: &str) -> Vec<String> {
        self.0.read().untaken.policies(namespace)
    }

    /// TrafficPolicies that were not taken in and may be about Services of a namespace.
    pub(crate) fn untaken_traffic(&self, namespace: &str) -> Vec<String> {
        self.0.read().untaken.traffic(namespace)
    }

    /// The Placement of a template, if it was not taken in.
    pub(crate) fn untaken_placement(&self, key: &Key) -> Option<String> {
        self.0.read().untaken.placement(key)
    }

    /// Clusters of which nothing is known but that they are there.
    pub(crate) fn untaken_clusters(&self) -> Vec<String> {
        let inner = self.0.read();
        let untaken = inner.untaken.clusters().filter(|name| !inner.clusters.contains_key(*name));
        untaken.map(str::to_owned).collect()
    }

    /// Whether every view is whole, but for objects that could not be taken in: what there is can be worked on.
    pub(crate) fn is_synced(&self) -> bool {
        let inner = self.0.read();
        !inner.declared.is_empty() && inner.unsynced.is_empty()
    }

    /// A collection whose view is not whole; none if [`Self::is_synced`].
    pub(crate) fn unread(&self) -> Option<String> {
        let inner = self.0.read();
        if inner.declared.is_empty() {
            Some("anything".into())
        } else {
            inner.unsynced.iter().next().cloned()
        }
    }

    /// Whether every view is whole, and nothing is missing in any: what is not there is gone.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_synced() && self.0.read().untaken.is_empty()
    }

    /// A template.
    pub(crate) fn template(&self, key: &Key) -> Option<Arc<Template>> {
        self.0.read().templates.get(key).cloned()
    }

    /// Keeps a template; returns what it replaces.
    pub(crate) fn put_template(&self, template: Template) -> Option<Arc<Template>> {
        let mut inner = self.0.write();
        if template.key.kind.is_service() {
            inner.services.insert(template.key.clone());
        }
        inner.templates.insert(template.key.clone(), Arc::new(template))
    }

    /// Forgets a template.
    pub(crate) fn remove_template(&self, key: &Key) -> Option<Arc<Template>> {
        let mut inner = self.0.write();
        inner.services.remove(key);
        inner.templates.remove(key)
    }

    /// Every template's key.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.0.read().templates.keys().cloned().collect()
    }

    /// Keys of one namespace's templates.
    pub(crate) fn keys_in(&self, namespace: &str) -> Vec<Key> {
        let inner = self.0.read();
        let from = inner.templates.range(first_in(namespace)..).map(|(key, _)| key);
        from.take_while(|key| &*key.namespace == namespace).cloned().collect()
    }

    /// Every Service with its reports.
    pub(crate) fn services(&self) -> Vec<(Arc<Template>, Reports)> {
        let inner = self.0.read();
        inner
            .services
            .iter()
            .filter_map(|key| {
                let template = inner.templates.get(key)?.clone();
                Some((template, inner.reports.get(key).cloned().unwrap_or_default()))
            })
            .collect()
    }

    /// Services of one namespace.
    pub(crate) fn services_in(&self, namespace: &str) -> Vec<Arc<Template>> {
        let inner = self.0.read();
        inner
            .services
            .range(first_in(namespace)..)
            .take_while(|key| &*key.namespace == namespace)
            .filter_map(|key| inner.templates.get(key).cloned())
            .collect()
    }

    /// The clusters.
    pub(crate) fn clusters(&self) -> Clusters {
        self.0.read().clusters.clone()
    }

    /// One cluster.
    pub(crate) fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.0.read().clusters.get(name).cloned()
    }

    /// Whether there is a cluster of that name, whatever is known of it.
    pub(crate) fn has_cluster(&self, name: &str) -> bool {
        let inner = self.0.read();
        inner.clusters.contains_key(name) || inner.untaken.clusters().any(|untaken| untaken == name)
    }

    /// Keeps a cluster; returns what it replaces.
    pub(crate) fn put_cluster(&self, cluster: Cluster) -> Option<Arc<Cluster>> {
        let mut inner = self.0.write();
        let clusters = Arc::make_mut(&mut inner.clusters);
        clusters.insert(cluster.name().to_owned(), Arc::new(cluster))
    }

    /// Forgets a cluster.
    pub(crate) fn remove_cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        let mut inner = self.0.write();
        let removed = Arc::make_mut(&mut inner.clusters).remove(name);
        drop(inner);
        self.forget_member(name);
        removed
    }

    /// Forgets everything that a member said.
    pub(crate) fn forget_member(&self, name: &str) {
        for reports in self.0.write().reports.values_mut() {
            reports.remove(name);
        }
    }

    /// The uid of the Cluster whose member shows this.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` if it is none (any more), `FAILED_PRECONDITION` while the hub does not accept it, `UNAVAILABLE` while the Clusters
    /// have not been read.
    pub(crate) fn member(&self, shown: &Shown) -> Result<String, Status> {
        let inner = self.0.read();
        let found = inner.clusters.get(&shown.cluster).map(Arc::as_ref);
        membership::check(shown, found)
            .map(|cluster| cluster.metadata.uid.clone().unwrap_or_default())
            .map_err(|refusal| match refusal {
                Refusal::NotMember(_) if !inner.is_complete(&CLUSTER.path("")) => {
                    Status::unavailable("the hub has not read its Clusters yet: try again")
                }
                Refusal::NotAccepted(_) => Status::failed_precondition(refusal.to_string()),
                Refusal::NotMember(_) | Refusal::Former(_) => Status::permission_denied(refusal.to_string()),
            })
    }

    /// Policies: those of namespaces, and those of the cluster.
    pub(crate) fn policies(&self) -> (Arc<Vec<PlacementPolicy>>, Arc<Vec<ClusterPlacementPolicy>>) {
        let inner = self.0.read();
        (inner.policies.all(), inner.cluster_policies.all())
    }

    /// Keeps a policy of a namespace, or forgets it. Says whether that changes anything.
    pub(crate) fn set_policy(
        &self,
        namespace: String,
        name: String,
        policy: Option<PlacementPolicy>,
    ) -> bool {
        self.0.write().policies.set(namespace, name, policy)
    }

    /// Keeps a policy of the whole federation, or forgets it. Says whether that changes anything.
    pub(crate) fn set_cluster_policy(&self, name: String, policy: Option<ClusterPlacementPolicy>) -> bool {
        self.0.write().cluster_policies.set(String::new(), name, policy)
    }

    /// Traffic policies.
    pub(crate) fn traffic(&self) -> Arc<Vec<TrafficPolicy>> {
        self.0.read().traffic.all()
    }

    /// Keeps a traffic policy, or forgets it.
    pub(crate) fn set_traffic(&self, namespace: String, name: String, policy: Option<TrafficPolicy>) {
        self.0.write().traffic.set(namespace, name, policy);
    }

    /// Where clients are.
    pub(crate) fn client_regions(&self) -> Arc<Vec<ClientRegions>> {
        self.0.read().client_regions.clone()
    }

    /// Changes where clients are.
    pub(crate) fn edit_client_regions(&self, edit: impl FnOnce(&mut Vec<ClientRegions>)) {
        edit(Arc::make_mut(&mut self.0.write().client_regions));
    }

    /// The decision for a template.
    pub(crate) fn decided(&self, key: &Key) -> Option<Arc<Decided>> {
        self.0.read().decided.get(key).cloned()
    }

    /// Keeps a decision, unless a newer one is kept.
    pub(crate) fn put_decided(&self, key: &Key, decided: Decided) {
        let mut inner = self.0.write();
        let newer = inner.decided.get(key).is_some_and(|kept| {
            kept.spec.epoch > decided.spec.epoch && kept.spec.template.uid == decided.spec.template.uid
        });
        if !newer {
            inner.decided.insert(key.clone(), Arc::new(decided));
        }
    }

    /// What came of the decision of that epoch. One that is to be written again gets its status when it is.
    pub(crate) fn set_outcome(&self, key: &Key, epoch: u64, status: PlacementStatus) {
        let mut inner = self.0.write();
        let kept = inner.decided.get_mut(key);
        if let Some(kept) = kept.filter(|kept| kept.spec.epoch == epoch && !kept.lost) {
            Arc::make_mut(kept).status = status;
        }
    }

    /// Somebody deleted the Placement of a template that is there. What it said is still known, and is written again: it is the
    /// record of where copies are.
    pub(crate) fn lose_decided(&self, key: &Key) {
        if let Some(kept) = self.0.write().decided.get_mut(key) {
            let status = PlacementStatus::default();
            *kept = Arc::new(Decided { spec: kept.spec.clone(), status, lost: true });
        }
    }

    /// A decision, if it is of this epoch or an older one, is to be written again with a newer one; says whether it is.
    pub(crate) fn outdate_decided(&self, key: &Key, epoch: u64) -> bool {
        let mut inner = self.0.write();
        let Some(kept) = inner.decided.get_mut(key).filter(|kept| kept.spec.epoch <= epoch) else {
            return false;
        };
        Arc::make_mut(kept).lost = true;
        true
    }

    /// Forgets a decision.
    pub(crate) fn remove_decided(&self, key: &Key) {
        self.0.write().decided.remove(key);
    }

    /// What the decision of this name is about.
    pub(crate) fn decided_key(&self, namespace: &str, placement: &str) -> Option<Key> {
        let inner = self.0.read();
        let from = inner.decided.range(first_in(namespace)..).map(|(key, _)| key);
        let mut within = from.take_while(|key| &*key.namespace == namespace);
        within.find(|key| key.placement_name() == placement).cloned()
    }

    /// Keys that have a decision.
    pub(crate) fn decided_keys(&self) -> Vec<Key> {
        self.0.read().decided.keys().cloned().collect()
    }

    /// What makes Pods in the namespaces where some of it leaves a cluster that has Services, by namespace.
    pub(crate) fn where_workloads_leave(&self) -> Workloads {
        let inner = self.0.read();
        let leaves = |decided: &Decided| decided.spec.clusters.iter().any(|target| target.leaving);
        // Nearly always there is none, of many: only who may lead users there is looked at.
        let mut served: HashMap<&str, Vec<(&Key, &Arc<Decided>)>> =
            inner.services.iter().map(|key| (&*key.namespace, Vec::new())).collect();
        let mut leaving = HashSet::new();
        for (key, decided) in &inner.decided {
            if !key.kind.namespaced {
                continue;
            }
            if let Some(found) = served.get_mut(&*key.namespace) {
                if leaves(decided) {
                    leaving.insert(key.namespace.clone());
                }
                found.push((key, decided));
            }
        }
        let workloads = |namespace: Arc<str>| {
            let decided = served.get(&*namespace).into_iter().flatten();
            let found = decided.filter_map(|(key, decided)| {
                let template = inner.templates.get(key)?;
                template.pod_labels().is_some().then(|| (template.clone(), Arc::clone(decided)))
            });
            (namespace, found.collect())
        };
        leaving.into_iter().map(workloads).collect()
    }

    /// How many copies all decisions want, or still have to see off.
    pub(crate) fn copies(&self) -> u64 {
        self.0.read().decided.values().map(|decided| decided.spec.clusters.len() as u64).sum()
    }

    /// How many copies go when a Namespace does, its own among them.
    pub(crate) fn copies_in(&self, namespace: &str) -> u64 {
        let inner = self.0.read();
        let from = inner.decided.range(first_in(namespace)..);
        let within = from.take_while(|(key, _)| &*key.namespace == namespace);
        // KINDS starts with Namespace.
        let own = inner.decided.get(&Key::new(&KINDS[0], "", namespace));
        let all = within.map(|(_, decided)| decided).chain(own);
        all.map(|decided| decided.spec.clusters.len() as u64).sum()
    }

    /// Deletion budgets.
    pub(crate) fn edit_budgets<T>(&self, edit: impl FnOnce(&mut Vec<DeletionBudget>) -> T) -> T {
        edit(&mut self.0.write().budgets)
    }

    /// What the members said of a template.
    pub(crate) fn reports(&self, key: &Key) -> Reports {
        self.0.read().reports.get(key).cloned().unwrap_or_default()
    }

    /// Takes in a member's word about a template.
    pub(crate) fn report<T>(&self, key: &Key, cluster: &str, word: impl FnOnce(&mut Report) -> T) -> T {
        let mut inner = self.0.write();
        let reports = inner.reports.entry(key.clone()).or_default();
        // Nearly always there already: no allocation for a lookup.
        if let Some(report) = reports.get_mut(cluster) {
            return word(Arc::make_mut(report));
        }
        word(Arc::make_mut(reports.entry(cluster.to_owned()).or_default()))
    }

    /// A member's agent connected anew: what it said of its copies' state before is no observation of now.
    pub(crate) fn age_reports(&self, cluster: &str) {
        for reports in self.0.write().reports.values_mut() {
            if let Some(report) = reports.get_mut(cluster) {
                Arc::make_mut(report).age();
            }
        }
    }

    /// A member's copy of a template may be gone, and is given anew by the decision of that epoch. Whether that changes how a Service is reached.
    pub(crate) fn give_anew(&self, key: &Key, cluster: &str, uid: &str, epoch: u64) -> bool {
        self.report(key, cluster, |report| report.give_anew(uid, epoch))
    }

    /// A member does not hold the copy of the template of that uid: forgets how it was reached before, if it was a Service's. Whether it was.
    pub(crate) fn unlisted(&self, key: &Key, cluster: &str, uid: &str) -> bool {
        let mut inner = self.0.write();
        let report = inner.reports.get_mut(key).and_then(|reports| reports.get_mut(cluster));
        report.is_some_and(|report| Arc::make_mut(report).unlisted(uid))
    }

    /// Forgets what one member said of the copy that was asked for at that epoch; what it said of a namesake's, or of one given since, stands.
    pub(crate) fn forget_report(&self, key: &Key, cluster: &str, uid: &str, epoch: u64) {
        let mut inner = self.0.write();
        if let Some(reports) = inner.reports.get_mut(key)
            && reports.get(cluster).is_some_and(|report| report.uid == uid && report.given_anew <= epoch)
        {
            reports.remove(cluster);
            if reports.is_empty() {
                inner.reports.remove(key);
            }
        }
    }

    /// Forgets what all members said.
    pub(crate) fn forget_reports(&self, key: &Key) {
        self.0.write().reports.remove(key);
    }

    /// A template by a key on the wire, if it has that uid.
    pub(crate) fn template_on_wire(&self, key: &v1::Key, uid: &str) -> Option<Arc<Template>> {
        let template = self.template(&Key::from_wire(key)?)?;
        (&*template.uid == uid).then_some(template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_taken_in_stops_no_work_and_permits_no_removal() {
        let world = World::default();
        let clusters = &CLUSTER.path("");
        world.declare(["/api/v1/secrets".into(), clusters.clone()]);
        world.synced("/api/v1/secrets");
        world.untaken(clusters, "/taiwan".into());
        world.synced(clusters);
        assert!(world.is_synced() && !world.is_complete());
        assert!(matches!(world.source(), Source::Unsynced));
        let shown = Shown { cluster: "taiwan".into(), uid: "u".into(), signed_s: 0 };
        let refused = world.member(&shown).expect_err("it is not known");
        assert_eq!(refused.code(), tonic::Code::Unavailable, "it may be the one that could not be taken in");
        assert_eq!(
            (world.untaken_clusters(), world.has_cluster("taiwan")),
            (vec!["taiwan".to_owned()], true)
        );
        // The watch breaks, and tells everything anew.
        world.unsynced(clusters);
        world.synced(clusters);
        assert!(!world.is_complete());
        assert!(!world.taken(clusters, "/tokyo") && world.taken(clusters, "/taiwan"));
        assert!(world.is_complete() && matches!(world.source(), Source::Synced { .. }));
    }

    #[test]
    fn a_decision_that_a_member_refused_as_older_is_written_again_but_not_one_made_since() {
        let (world, key) = (World::default(), Key::new(&CLUSTER, "", "a"));
        let spec = PlacementSpec { epoch: 7, ..PlacementSpec::default() };
        world.put_decided(&key, Decided { spec, status: PlacementStatus::default(), lost: false });
        let lost = || world.decided(&key).is_some_and(|decided| decided.lost);
        assert!(!world.outdate_decided(&key, 6) && !lost());
        assert!(world.outdate_decided(&key, 7) && lost());
    }

    #[test]
    fn a_status_is_of_its_decision_and_takes_no_mark_off_one_that_is_to_be_written_again() {
        let (world, key) = (World::default(), Key::new(&CLUSTER, "", "a"));
        let spec = PlacementSpec { epoch: 7, ..PlacementSpec::default() };
        world.put_decided(&key, Decided { spec, status: PlacementStatus::default(), lost: false });
        let status = PlacementStatus { clusters: vec![Default::default()], ..PlacementStatus::default() };
        let kept = || world.decided(&key).map(|kept| (kept.status.clusters.len(), kept.lost));
        world.set_outcome(&key, 6, status.clone());
        assert_eq!(kept(), Some((0, false)));
        world.set_outcome(&key, 7, status.clone());
        assert_eq!(kept(), Some((1, false)));
        world.lose_decided(&key);
        world.set_outcome(&key, 7, status);
        assert_eq!(kept(), Some((0, true)));
    }

    #[test]
    fn what_is_asked_of_a_namespace_is_answered_of_that_namespace_alone() {
        let (world, deployments) = (World::default(), Kind::find("apps", "deployments").expect("a kind"));
        let services = Kind::find("", "services").expect("a kind");
        let decide = |key: &Key| {
            let clusters = vec![federation_core::api::ClusterTarget::default()];
            let spec = PlacementSpec { clusters, ..PlacementSpec::default() };
            world.put_decided(key, Decided { spec, status: PlacementStatus::default(), lost: false });
        };
        for namespace in ["shop", "shop-2", "a"] {
            decide(&Key::new(&KINDS[0], "", namespace));
            decide(&Key::new(deployments, namespace, "web"));
            let service =
                serde_json::json!({"metadata": {"namespace": namespace, "name": "web", "uid": "u"}});
            world.put_template(Template::read(services, service));
        }
        assert_eq!(world.copies_in("shop"), 2, "its own copy, and that of the Deployment");
        assert_eq!(world.services_in("shop").len(), 1);
        assert_eq!(
            world.decided_key("shop", "deployments.apps.web"),
            Some(Key::new(deployments, "shop", "web"))
        );
        assert_eq!(world.decided_key("shop", "deployments.apps.other"), None);
        assert_eq!((world.copies_in("nothing"), world.services_in("nothing").len()), (0, 0));
    }
}
