//! Applies the watches' changes to the world, and queues the objects that must be reconciled.

use std::sync::Arc;

use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;

use federation_core::api::{
    ClientRegions, Cluster, ClusterPlacementPolicy, DeletionBudget, FailoverDrill, HeldRemoval,
    PlacementPolicy, PlacementSpec, ResourceSelector, TemplateReference, TrafficPolicy, Verdict, marks,
};
use federation_core::gate::accounts::Limits;
use federation_runtime::endpoints::Health as Readiness;
use federation_runtime::shutdown::Shutdown;
use federation_runtime::tasks;

use super::kinds::{KINDS, Key, Kind};
use super::selected::Wanted;
use super::template::Template;
use super::watch::{Change, Watch, identity};
use super::world::{Decided, World};
use crate::act::events;
use crate::act::write::Writer;
use crate::decide::cluster_state::{ClusterState, Unjoin};
use crate::decide::queue::{Priority, Queue};
use crate::decide::removal::Gate;
use crate::drill::Drills;
use crate::health::Health;
use crate::hub::sessions::Sessions;
use crate::metrics::Metrics;
use crate::traffic::Traffic;

/// Changes on their way from one watch: a page of a list, so that the next page is read while this one is taken in.
const CHANGES: usize = 512;

/// What the watches feed.
#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) world: World,
    pub(crate) cluster_state: ClusterState,
    pub(crate) queue: Queue<Key>,
    pub(crate) leaving: Queue<String>,
    pub(crate) health: Health,
    pub(crate) traffic: Traffic,
    pub(crate) drills: Drills,
    pub(crate) sessions: Sessions,
    pub(crate) writer: Writer,
    pub(crate) gate: Gate,
    pub(crate) readiness: Readiness,
    pub(crate) wanted: Wanted,
    pub(crate) metrics: Metrics,
}

/// Where our own collections are.
const OWN: &str = "/apis/federation.rs/v1alpha1/";
/// Our own collections that decisions are made from.
const OURS: [&str; 10] = [
    "clusters",
    "placementpolicies",
    "clusterplacementpolicies",
    "trafficpolicies",
    "clientregions",
    "deletionbudgets",
    "heldremovals",
    "failoverdrills",
    "placements",
    "clusterplacements",
];

/// How long a collection is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// As long as the API: that it is missing is a failure.
    Always,
    /// As long as its CustomResourceDefinition.
    WhileDefined,
}

/// Readiness waits for this check: every view is whole.
pub(crate) const SYNCED: &str = "caches";

impl Observer {
    /// Starts one watch for each kind that the API serves. Returns when all are started; [`World::is_synced`] tells the rest.
    pub(crate) async fn start(&self, client: &Client, shutdown: &Shutdown) -> Result<(), kube::Error> {
        let served = served(client).await?;
        let collections = self.declare(KINDS.iter().filter(|kind| served(kind)));
        for path in collections {
            self.watch(client, Served::Always, path, shutdown);
        }
        self.watch_events(client, shutdown);
        self.watch_definitions(client, shutdown);
        let (observer, client, ending) = (self.clone(), client.clone(), shutdown.clone());
        let serve = move || observer.wanted.clone().serve(observer.clone(), client.clone(), ending.clone());
        tokio::spawn(tasks::supervise("selected-kinds", self.readiness.clone(), shutdown.clone(), serve));
        Ok(())
    }

    /// Declares our own collections and those of `kinds`; says which they are.
    pub(crate) fn declare<'k>(&self, kinds: impl Iterator<Item = &'k Kind>) -> Vec<String> {
        let ours = OURS.iter().map(|plural| format!("{OWN}{plural}"));
        let collections: Vec<String> = ours.chain(kinds.map(|kind| kind.path(""))).collect();
        self.world.declare(collections.iter().cloned());
        collections
    }

    /// Watches one kind more. Nothing is removed before its view is whole.
    pub(super) fn watch_templates(&self, client: &Client, kind: &'static Kind, shutdown: &Shutdown) {
        self.world.declare([kind.path("")]);
        self.watch(client, Served::WhileDefined, kind.path(""), shutdown);
    }

    fn watch(&self, client: &Client, served: Served, path: String, shutdown: &Shutdown) {
        let heard = Arc::new(self.world.heard());
        let observer = self.clone();
        let watch = Watch::new(client.clone(), path.clone(), CHANGES, shutdown.clone());
        watch.follow(self.readiness.clone(), move |change| {
            heard.now();
            observer.take(served, &path, change);
            std::future::ready(())
        });
    }

    /// Takes in what the watch of a collection says.
    pub(crate) fn take(&self, served: Served, path: &str, change: Change) {
        match change {
            Change::Synced => {
                self.world.synced(path);
                self.say_whether_synced();
            }
            Change::Untaken(object) => self.untaken(path, object),
            Change::NotServed if served == Served::WhileDefined => {
                // With its definition went its objects, one by one; that none can be listed now says nothing more of them.
                self.world.withdraw(path);
                self.metrics.untaken.set(self.world.count_untaken() as i64);
                self.say_whether_synced();
            }
            Change::Broken | Change::NotServed => {
                self.world.unsynced(path);
                self.say_whether_synced();
            }
            Change::Alive => {}
            Change::Present(ref object) | Change::Gone(ref object) => {
                let object = identity(object);
                if self.read(path, change).is_none() {
                    tracing::error!(
                        path,
                        object,
                        "nothing is removed until this object can be read, or is gone"
                    );
                    self.untaken(path, object);
                } else if self.world.taken(path, &object) {
                    self.catch_up(path, &object);
                }
            }
        }
    }

    /// Takes in what became of an object. Nothing if it is of ours and cannot be read.
    fn read(&self, path: &str, change: Change) -> Option<()> {
        match path.strip_prefix(OWN) {
            Some("clusters") => return self.cluster(change),
            Some("placementpolicies") => return self.policy(change),
            Some("clusterplacementpolicies") => return self.cluster_policy(change),
            Some("placements" | "clusterplacements") => return self.placement(change),
            Some("deletionbudgets") => return self.deletion_budget(change),
            Some("heldremovals") => return self.held_removal(change),
            Some("trafficpolicies") => return self.traffic_policy(change),
            Some("clientregions") => return self.client_regions(change),
            Some("failoverdrills") => return self.drill(change),
            Some(_) => {}
            None => {
                if let Some(kind) = Kind::of_path(path) {
                    self.template(kind, change);
                }
            }
        }
        Some(())
    }

    /// What an object says is not known, until it can be taken in.
    fn untaken(&self, path: &str, object: String) {
        let namespace = object.split_once('/').map(|(namespace, _)| namespace.to_owned());
        self.world.untaken(path, object);
        self.metrics.untaken.set(self.world.count_untaken() as i64);
        // Its Services say so.
        if let Some(namespace) = namespace.filter(|_| path.strip_prefix(OWN) == Some("trafficpolicies")) {
            let services = self.world.keys_in(&namespace).into_iter().filter(|key| key.kind.is_service());
            services.for_each(|key| self.queue.add(key, Priority::Normal));
        }
        // A cluster of which nothing else is known is there all the same.
        self.cluster_state.rebuild();
    }

    fn say_whether_synced(&self) {
        match self.world.unread() {
            None => self.readiness.ready(SYNCED),
            Some(path) => self.readiness.wait_for(SYNCED, format!("{path} is not read to its end")),
        }
    }

    /// An object that could not be taken in at first is taken in, or gone. What differed in it may have been kept before it was told on, and does
    /// not differ any more; and what was held up because of it may be decided.
    fn catch_up(&self, path: &str, object: &str) {
        let left = self.world.count_untaken();
        self.metrics.untaken.set(left as i64);
        match path.strip_prefix(OWN) {
            // There may be as many as templates: one holds up its own alone.
            Some("placements" | "clusterplacements") => {
                let (namespace, name) = object.split_once('/').unwrap_or(("", object));
                let keys = self.world.keys_in(namespace).into_iter();
                for key in keys.filter(|key| key.placement_name() == name) {
                    self.queue.add(key, Priority::Normal);
                }
            }
            None if left > 0 => {}
            _ => {
                for name in self.world.clusters().keys() {
                    self.sessions.look_again(name);
                }
                self.cluster_state.rebuild();
                self.traffic.poke();
                self.look_at_all(Priority::Normal);
            }
        }
    }

    /// Events are delivered, not kept; nothing waits for their view to be whole.
    fn watch_events(&self, client: &Client, shutdown: &Shutdown) {
        let observer = self.clone();
        let watch = Watch::new(client.clone(), "/api/v1/events".into(), CHANGES, shutdown.clone());
        watch.follow(self.readiness.clone(), move |change| {
            let observer = observer.clone();
            async move {
                if let Change::Present(event) = change {
                    events::deliver(&observer.world, &observer.sessions, &observer.writer, &event).await;
                }
            }
        });
    }

    /// CustomResourceDefinitions are looked at as templates only where a policy selects them; here, any that comes may serve a
    /// kind that is waited for.
    fn watch_definitions(&self, client: &Client, shutdown: &Shutdown) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".into();
        let wanted = self.wanted.clone();
        let watch = Watch::new(client.clone(), path, CHANGES, shutdown.clone());
        watch.follow(self.readiness.clone(), move |change| {
            if matches!(change, Change::Present(_)) {
                wanted.look_again();
            }
            std::future::ready(())
        });
    }

    fn template(&self, kind: &'static Kind, change: Change) {
        match change {
            Change::Present(object) => {
                let template = Template::read(kind, object);
                let key = template.key.clone();
                let urgent = kind.is_namespace() || template.deleting;
                let object = template.object.clone();
                let last = self.world.put_template(template);
                // Its ports are in SRV records and probes, and by its selector users come to workloads.
                let differs = |last: Arc<Template>| last.object.get("spec") != object.get("spec");
                if kind.is_service() && last.is_none_or(differs) {
                    self.traffic.poke();
                }
                self.queue.add(key, if urgent { Priority::Urgent } else { Priority::Normal });
            }
            Change::Gone(object) => {
                let key = Template::read(kind, object).key;
                self.world.remove_template(&key);
                if kind.is_service() {
                    self.traffic.poke();
                }
                self.queue.add(key, Priority::Urgent);
            }
            Change::Synced | Change::Untaken(_) | Change::Broken | Change::NotServed | Change::Alive => {}
        }
    }

    fn cluster(&self, change: Change) -> Option<()> {
        match change {
            Change::Present(object) => {
                let cluster = read::<Cluster>(object)?;
                let name = cluster.name().to_owned();
                let leaving = Unjoin::of(&cluster).is_some();
                let status = cluster.status.clone().unwrap_or_default();
                let (spec, labels) = (cluster.spec.clone(), cluster.metadata.labels.clone());
                // An operator's word that it may have its shares again.
                let word = |cluster: &Cluster| {
                    cluster.metadata.annotations.as_ref().and_then(|all| all.get(marks::FAILBACK)).cloned()
                };
                let failback = word(&cluster);
                let uid = cluster.metadata.uid.clone();
                let mut last = self.world.put_cluster(cluster);
                // A list tells of no deletion: what has the name of one that was there before is another one all the same.
                if last.as_ref().is_some_and(|last| last.metadata.uid != uid) {
                    self.replaced(&name);
                    last = None;
                }
                // A join puts it there before the watch tells of it, and what is not judged is not heard.
                if last.is_none() || !self.health.judges(&name) {
                    self.health.restore(&name, status.verdict.unwrap_or(Verdict::Unknown), since_ms(&status));
                }
                let matters = last.as_ref().is_none_or(|last| {
                    last.spec != spec
                        || last.metadata.labels != labels
                        || word(last) != failback
                        || Unjoin::of(last).is_some() != leaving
                });
                if leaving {
                    self.leaving.add(name.clone(), Priority::Normal);
                }
                if matters {
                    self.sessions.look_again(&name);
                    self.cluster_state.rebuild();
                    self.traffic.poke();
                    self.look_at_all(if last.is_none() { Priority::Background } else { Priority::Normal });
                }
            }
            Change::Gone(object) => {
                let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                let name = text("/metadata/name");
                let uid = text("/metadata/uid");
                // A join may have put the next one of that name there already.
                if self.world.cluster(name).is_some_and(|kept| kept.metadata.uid.as_deref() != Some(uid)) {
                    self.replaced(name);
                } else {
                    self.world.remove_cluster(name);
                    self.sessions.forget(name);
                    self.health.remove(name);
                    self.cluster_state.forget(name);
                }
                self.traffic.poke();
                self.look_at_all(Priority::Normal);
            }
            Change::Synced | Change::Untaken(_) | Change::Broken | Change::NotServed | Change::Alive => {}
        }
        Some(())
    }

    /// A Cluster is another one than the last of its name: what was heard of that one says nothing. Its stream ends first, so that no word on
    /// its way is heard as the next one's.
    fn replaced(&self, name: &str) {
        self.sessions.restart(name);
        self.health.remove(name);
        self.cluster_state.forget(name);
        self.world.forget_member(name);
    }

    fn policy(&self, change: Change) -> Option<()> {
        let (namespace, name, policy) = parts::<PlacementPolicy>(change)?;
        let kinds = policy.as_ref().map(|policy| policy.spec.resource_selectors.clone());
        // First of all: whatever fails then, no object is placed as if there were no policy.
        let differs = self.world.set_policy(namespace.clone(), name, policy);
        self.name_kinds(kinds.unwrap_or_default());
        if differs {
            for key in self.world.keys_in(&namespace) {
                self.queue.add(key, Priority::Normal);
            }
        }
        Some(())
    }

    fn cluster_policy(&self, change: Change) -> Option<()> {
        let (_, name, policy) = parts::<ClusterPlacementPolicy>(change)?;
        let kinds = policy.as_ref().map(|policy| policy.spec.resource_selectors.clone());
        let differs = self.world.set_cluster_policy(name, policy);
        self.name_kinds(kinds.unwrap_or_default());
        if differs {
            self.look_at_all(Priority::Normal);
        }
        Some(())
    }

    fn name_kinds(&self, selectors: Vec<ResourceSelector>) {
        for selector in selectors {
            self.wanted.name(&selector.api_version, &selector.kind);
        }
    }

    fn traffic_policy(&self, change: Change) -> Option<()> {
        let (namespace, name, policy) = parts::<TrafficPolicy>(change)?;
        self.world.set_traffic(namespace, name, policy);
        self.traffic.poke();
        Some(())
    }

    fn client_regions(&self, change: Change) -> Option<()> {
        let (_, name, regions) = parts::<ClientRegions>(change)?;
        self.world.edit_client_regions(|all| {
            all.retain(|kept| kept.name() != name);
            all.extend(regions);
        });
        self.traffic.poke();
        Some(())
    }

    fn deletion_budget(&self, change: Change) -> Option<()> {
        let (_, name, budget) = parts::<DeletionBudget>(change)?;
        let limits = self.world.edit_budgets(|all| {
            all.retain(|kept| kept.name() != name);
            all.extend(budget);
            Limits::tightest(all.iter().map(|budget| &budget.spec))
        });
        self.gate.set_limits(limits);
        Some(())
    }

    fn held_removal(&self, change: Change) -> Option<()> {
        let (_, name, held) = parts::<HeldRemoval>(change)?;
        match held {
            Some(held) => {
                for key in self.gate.decide(&name, held.spec.decision) {
                    self.queue.add(key, Priority::Normal);
                }
            }
            None => self.gate.unhold(&name),
        }
        Some(())
    }

    fn drill(&self, change: Change) -> Option<()> {
        let (_, name, drill) = parts::<FailoverDrill>(change)?;
        match drill {
            Some(drill) => self.drills.put(drill),
            None => self.drills.remove(&name),
        }
        Some(())
    }

    /// The controller's own decisions, as an earlier run of it left them.
    fn placement(&self, change: Change) -> Option<()> {
        let (object, present) = match change {
            Change::Present(object) => (object, true),
            Change::Gone(object) => (object, false),
            Change::Synced | Change::Untaken(_) | Change::Broken | Change::NotServed | Change::Alive => {
                return Some(());
            }
        };
        let namespace =
            object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        // It went while nobody watched: what it said is known from before.
        if !present && object.get("spec").is_none() {
            if let Some(key) = self.world.decided_key(&namespace, name) {
                self.lost(key);
            }
            return Some(());
        }
        let template: TemplateReference =
            object.get("spec").and_then(|spec| part(spec, "template")).unwrap_or_default();
        let Some(kind) = kind_of(&template, name, !namespace.is_empty()) else {
            return if present { part::<PlacementSpec>(&object, "spec").map(drop) } else { Some(()) };
        };
        self.wanted.name(&template.api_version, &template.kind);
        let key = Key::new(kind, &namespace, &template.name);
        if present {
            // What this run decided, it knows.
            if self.world.decided(&key).is_none() {
                let spec = part(&object, "spec")?;
                let status = part(&object, "status").unwrap_or_default();
                self.world.put_decided(&key, Decided { spec, status, lost: false });
                self.queue.add(key, Priority::Background);
            }
        } else if self.world.decided(&key).is_some_and(|kept| kept.spec.template.uid == template.uid) {
            self.lost(key);
        }
        Some(())
    }

    /// Somebody deleted a decision that stands.
    fn lost(&self, key: Key) {
        if self.world.template(&key).is_some_and(|template| !template.deleting) {
            self.world.lose_decided(&key);
            self.queue.add(key, Priority::Normal);
        }
    }

    fn look_at_all(&self, priority: Priority) {
        for key in self.world.keys() {
            self.queue.add(key, priority);
        }
        for key in self.world.decided_keys() {
            self.queue.add(key, priority);
        }
    }
}

/// The kind that a decision is about. One that this run has not met yet is learnt from the Placement: its name says the plural.
fn kind_of(template: &TemplateReference, placement: &str, namespaced: bool) -> Option<&'static Kind> {
    if let Some(known) = Kind::of_manifest(&template.api_version, &template.kind) {
        return Some(known);
    }
    let (group, version) = template.api_version.split_once('/').unwrap_or(("", &template.api_version));
    let suffix =
        if group.is_empty() { format!(".{}", template.name) } else { format!(".{group}.{}", template.name) };
    let plural = placement.strip_suffix(&suffix).filter(|plural| !plural.is_empty())?;
    Some(Kind::learn(group, version, &template.kind, plural, namespaced))
}

/// Since when a restored verdict holds: the Ready condition's last turn.
fn since_ms(status: &federation_core::api::ClusterStatus) -> i64 {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == federation_core::api::conditions::READY)
        .map_or(0, |condition| condition.last_transition_time.0.as_millisecond())
}

/// Spec or status of an object.
fn part<T: DeserializeOwned>(object: &Value, part: &str) -> Option<T> {
    object.get(part).and_then(|part| T::deserialize(part).ok())
}

fn read<T: DeserializeOwned>(object: Value) -> Option<T> {
    match serde_json::from_value(object) {
        Ok(object) => Some(object),
        Err(error) => {
            // The API server validates: this is another version's object, and is left as it was.
            tracing::warn!(%error, kind = std::any::type_name::<T>(), "an object could not be read");
            None
        }
    }
}

/// Namespace, name, and the object unless it is gone.
fn parts<T: DeserializeOwned>(change: Change) -> Option<(String, String, Option<T>)> {
    let (object, present) = match change {
        Change::Present(object) => (object, true),
        Change::Gone(object) => (object, false),
        Change::Synced | Change::Untaken(_) | Change::Broken | Change::NotServed | Change::Alive => {
            return None;
        }
    };
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    Some((namespace, name, if present { Some(read(object)?) } else { None }))
}

/// Tells of a kind whether the API serves it, by discovery.
async fn served(client: &Client) -> Result<impl Fn(&Kind) -> bool, kube::Error> {
    let mut plurals: std::collections::HashSet<(String, String)> = std::collections::HashSet::new();
    for kind in KINDS {
        let api_version = kind.api_version();
        if plurals.contains(&(api_version.clone(), String::new())) {
            continue;
        }
        plurals.insert((api_version.clone(), String::new()));
        let found = if kind.group.is_empty() {
            client.list_core_api_resources(kind.version).await
        } else {
            client.list_api_group_resources(&api_version).await
        };
        match found {
            Ok(list) => {
                plurals
                    .extend(list.resources.into_iter().map(|resource| (api_version.clone(), resource.name)));
            }
            // Only what is said not to be there is not there: a kind that may not be read now would make its templates look gone.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let plurals = Arc::new(plurals);
    Ok(move |kind: &Kind| {
        let federated = federation_core::select::is_default(kind.group, kind.kind);
        federated && plurals.contains(&(kind.api_version(), kind.plural.to_owned()))
    })
}

#[cfg(test)]
mod tests;
