//! The controllers that every control plane needs: garbage collection, namespaces, tokens, quotas and more.
//!
//! A cluster has kube-controller-manager for this; a federation has nobody else. One task follows the store's changes,
//! asks pure decisions for [`Action`]s and carries them out through the same deletion logic as HTTP:
//!
//! - [`namespace`]: the namespaces that must exist, what each must contain, and the end of those that are deleted;
//! - [`garbage`]: objects whose owners went, owners that wait for their dependents, and dependents that are released;
//! - [`roles`]: the default roles at a start, and aggregated roles;
//! - [`tokens`]: Secrets that hold the tokens of service accounts;
//! - [`protection`]: claims, volumes and their classes that are being deleted and no longer in use;
//! - [`quota`]: what namespaces use of their quotas;
//! - [`policy_status`]: what is wrong with the types of admission policies' expressions;
//! - [`certificate_requests`]: certificates for clients whose requests are approved, and the end of old requests;
//! - [`definitions`]: CustomResourceDefinitions that wait for a name, or for the end of their instances;
//! - [`service_cidrs`]: ServiceCIDRs: the one of the flag, and those that are still used;
//! - [`ip_addresses`]: an IPAddress for each cluster IP;
//! - [`pod_gc`]: pods that are being deleted, or whose node is gone, where no kubelet ends them;
//! - [`expiry`]: Events an hour old.
//!
//! Level-triggered: a change only says where to look. What failed is looked at again after [`RETRY`], and everything every
//! [`RESYNC`], which should find nothing.

mod action;
mod certificate_requests;
mod definitions;
mod executor;
mod expiry;
mod flow;
mod garbage;
mod graph;
mod ip_addresses;
mod kubernetes_service;
mod namespace;
mod pod_gc;
mod policy_status;
pub(crate) mod protection;
mod queue_metrics;
mod quota;
mod roles;
mod service_cidrs;
mod startup;
mod system;
mod tokens;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use federation_runtime::{endpoints::Health, pki::Authority, shutdown::Shutdown};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

pub use action::{Action, Edit};
use executor::Executor;
use graph::Graph;
use ip_addresses::Addresses;
pub use kubernetes_service::Endpoint;
pub use queue_metrics::QueueMetrics;
use startup::StartupChecks;

use crate::admission::Quotas;
use crate::allocation::Network;
use crate::auth::service_account_tokens::ServiceAccountTokens;
use crate::store::{EventKind, OwnerRef, ResourceKey, Storage};

/// After what time failed actions are decided anew.
const RETRY: Duration = Duration::from_secs(1);
/// How often everything is looked at without a reason.
const RESYNC: Duration = Duration::from_secs(60);
/// Looks at a start before anybody is let in; what is still missing then is made beside what clients do.
const BEGIN_LOOKS_MAX: usize = 4;
/// How often pods are looked for that nobody ends.
const PODS: Duration = Duration::from_secs(20);
/// After a write, others are let come for so long: a look at what changed costs about as much as a write does.
const GATHERING: Duration = Duration::from_millis(10);

/// What housekeeping must know of the kinds that are served.
pub trait Kinds: Send + Sync + 'static {
    /// The resource of a kind in a group, and whether it is namespaced; `None` if it is not served.
    fn resource_of(&self, group: &str, kind: &str) -> Option<(ResourceKey, bool)>;
    /// All namespaced resources.
    fn namespaced(&self) -> Vec<ResourceKey>;
    /// What the expressions of a ValidatingAdmissionPolicy's spec ask in vain of the kinds that it is for: `expressionWarnings`.
    fn type_warnings(&self, spec: &Value) -> Vec<Value>;
    /// The selectable field values of an object, for [`Meta::fields`](crate::store::Meta::fields).
    fn fields(&self, resource: &ResourceKey, object: &Value) -> BTreeMap<String, String>;
    /// Held by whoever accepts names of definitions, from the look at the names of others to the write.
    fn naming(&self) -> &tokio::sync::Mutex<()>;
    /// An object whose status this server has changed, with that among who owns its fields.
    fn own_status(&self, resource: &ResourceKey, old: &Value, object: Value, now: &str) -> Value;
}

/// What to keep, and how long.
#[derive(Clone)]
pub struct Options {
    /// The CA certificates, PEM, that every namespace gets in the ConfigMap `kube-root-ca.crt`; none without.
    pub root_ca_pem: Option<String>,
    /// Whether the default roles and bindings are made at the start, as with `--authorization-mode RBAC`.
    pub default_roles: bool,
    /// Makes the tokens of Secrets; none without.
    pub accounts: Option<Arc<ServiceAccountTokens>>,
    /// How long an Event lives after it was last written or seen.
    pub event_ttl: Duration,
    /// Where the Service `default/kubernetes` leads; it is not made without.
    pub endpoint: Option<Endpoint>,
    /// What servers of group versions behind this one are told of whom to believe: the data of a ConfigMap, which is not made without.
    pub extension_authentication: Option<Value>,
    /// Signs the certificates of clients whose requests are approved; nobody does without.
    pub authority: Option<Arc<Authority>>,
    /// The network of cluster IPs, which has a ServiceCIDR, and they IPAddresses; there are none without.
    pub cluster_ips: Option<Network>,
    /// Is told what there is of what must exist.
    pub health: Health,
    /// Counts what is done.
    pub work: QueueMetrics,
}

impl Default for Options {
    fn default() -> Self {
        let event_ttl = Duration::from_secs(3600);
        Self {
            root_ca_pem: None,
            default_roles: false,
            accounts: None,
            event_ttl,
            endpoint: None,
            extension_authentication: None,
            authority: None,
            cluster_ips: None,
            health: Health::new(),
            work: QueueMetrics::default(),
        }
    }
}

/// The controllers, as one task.
pub struct Service {
    storage: Storage,
    kinds: Arc<dyn Kinds>,
    options: Options,
    start: StartupChecks,
    graph: Graph,
    /// Changes up to this revision were taken into the graph; `None` before the first.
    seen: Option<u64>,
    /// Something that must exist may be missing.
    incomplete: bool,
    /// The default roles are not all as they must be yet.
    bootstrapping: bool,
    /// A ClusterRole has changed.
    roles_changed: bool,
    /// A ServiceAccount or a Secret with a token has changed.
    tokens_changed: bool,
    /// Something that quotas may count has changed.
    usage_changed: bool,
    quotas: Quotas,
    /// A definition has changed, or waits for its instances.
    definitions: bool,
    /// An admission policy has changed.
    policies: bool,
    /// A request for a certificate has changed.
    certificates: bool,
    /// The use of something that is protected may have ended.
    uses_changed: bool,
    /// A ServiceCIDR, or a Service that may need it, has changed.
    networks: bool,
    /// When to look at ServiceCIDRs though nothing has changed.
    networks_due: Option<Timestamp>,
    addresses: Addresses,
    missed_nodes: pod_gc::MissingNodes,
    /// When to look for pods that nobody ends.
    pods_due: Instant,
}

impl Service {
    /// Controllers over `storage`.
    pub fn new(storage: Storage, kinds: Arc<dyn Kinds>, options: Options) -> Self {
        Self {
            storage,
            kinds,
            bootstrapping: options.default_roles,
            start: StartupChecks::new(&options),
            options,
            graph: Graph::default(),
            seen: None,
            incomplete: true,
            roles_changed: true,
            tokens_changed: true,
            usage_changed: true,
            quotas: Quotas::default(),
            definitions: true,
            policies: true,
            certificates: true,
            uses_changed: true,
            networks: true,
            networks_due: None,
            addresses: Addresses::default(),
            missed_nodes: pod_gc::MissingNodes::default(),
            pods_due: Instant::now(),
        }
    }

    /// Works until the shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut resync = Instant::now();
        while !shutdown.started() && self.storage.is_open() {
            let now = Instant::now();
            let everything = now >= resync;
            if everything {
                resync = now + RESYNC;
                self.seen = None;
            }
            let failed = self.step(everything).await;
            let seen = self.seen.unwrap_or_default();
            let deadline = if failed > 0 { Instant::now() + RETRY } else { resync.min(self.due()) };
            tokio::select! {
                () = shutdown.wait() => {}
                _ = self.storage.wait_for(seen + 1, deadline) => {
                    // The writes of a burst are looked at together, and a failing action does not spin.
                    tokio::time::sleep(if failed > 0 { RETRY / 10 } else { GATHERING }).await;
                }
            }
        }
    }

    /// Looks at everything until what must exist does, which takes a second look where something is within what the first one makes.
    pub async fn begin(&mut self) {
        for _ in 0..BEGIN_LOOKS_MAX {
            self.step(true).await;
            if self.start.is_over() {
                return;
            }
        }
    }

    /// When time alone gives something to do.
    fn due(&self) -> Instant {
        let until =
            |due: Timestamp| Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
        let networks = self.networks_due.map(|due| Instant::now() + until(due));
        networks.map_or(self.pods_due, |due| due.min(self.pods_due))
    }

    /// Looks at what changed, or at everything, and acts. Returns how many actions failed.
    pub async fn step(&mut self, everything: bool) -> usize {
        self.step_at(everything, Timestamp::now()).await
    }

    /// The same as if it were `now`.
    pub async fn step_at(&mut self, everything: bool, now: Timestamp) -> usize {
        self.observe();
        let snapshot = self.storage.snapshot();
        let kinds = &*self.kinds;
        let mut actions = Vec::new();
        if std::mem::take(&mut self.incomplete) || everything {
            actions.extend(namespace::required(&snapshot, self.options.root_ca_pem.as_deref()));
            actions.extend(system::classes(&snapshot));
            actions.extend(system::services(&snapshot));
            actions.extend(flow::required(&snapshot));
            actions.extend(flow::conditions(&snapshot));
            let told = self.options.extension_authentication.as_ref();
            actions.extend(told.and_then(|data| system::extension_authentication(&snapshot, data)));
            actions.extend(
                self.options.endpoint.iter().flat_map(|to| kubernetes_service::required(&snapshot, *to)),
            );
        }
        let networks_due = self.networks_due.is_some_and(|due| due <= now);
        if std::mem::take(&mut self.networks) || networks_due || everything {
            let (settled, again) = service_cidrs::settle(&snapshot, self.options.cluster_ips, now);
            actions.extend(
                self.options.cluster_ips.and_then(|network| service_cidrs::required(&snapshot, network)),
            );
            actions.extend(settled);
            self.networks_due = again;
        }
        if self.options.cluster_ips.is_some() {
            actions.extend(self.addresses.settle(&snapshot));
        }
        if self.bootstrapping {
            let missing = roles::bootstrap(&snapshot);
            // Done once; what an administrator changes later stays so until the next start.
            self.bootstrapping = !missing.is_empty();
            actions.extend(missing);
        }
        if std::mem::take(&mut self.roles_changed) || everything {
            actions.extend(roles::aggregate(&snapshot));
        }
        if (std::mem::take(&mut self.tokens_changed) || everything)
            && let Some(accounts) = &self.options.accounts
        {
            actions.extend(tokens::settle(&snapshot, accounts, self.options.root_ca_pem.as_deref()));
        }
        if std::mem::take(&mut self.usage_changed) || everything {
            actions.extend(quota::statuses(&snapshot, &self.quotas));
        }
        actions.extend(namespace::endings(&snapshot, &kinds.namespaced()));
        if std::mem::take(&mut self.definitions) || everything {
            actions.extend(definitions::actions(&snapshot));
        }
        if std::mem::take(&mut self.policies) || everything {
            actions.extend(policy_status::statuses(&snapshot, kinds));
        }
        if (std::mem::take(&mut self.certificates) || everything)
            && let Some(authority) = &self.options.authority
        {
            actions.extend(certificate_requests::signatures(&snapshot, authority));
        }
        if std::mem::take(&mut self.uses_changed) || everything {
            actions.extend(protection::releases(&snapshot));
        }
        let dirty = self.graph.take_dirty();
        for key in &dirty {
            actions.extend(garbage::decide_key(&snapshot, &self.graph, kinds, key));
        }
        if everything || Instant::now() >= self.pods_due {
            self.pods_due = Instant::now() + PODS;
            actions.extend(pod_gc::endings(&snapshot, &mut self.missed_nodes, now));
        }
        if everything {
            actions.extend(expiry::expired(&snapshot, now, self.options.event_ttl));
            actions.extend(certificate_requests::outdated(&snapshot, now));
        }
        let failed = Executor::new(&self.storage, kinds, &self.options.work).run(actions).await;
        let count = failed.len();
        self.incomplete |= count > 0;
        self.roles_changed |= count > 0;
        self.tokens_changed |= count > 0;
        self.usage_changed |= count > 0;
        self.definitions |= count > 0;
        self.policies |= count > 0;
        self.certificates |= count > 0;
        self.uses_changed |= count > 0;
        self.networks |= count > 0;
        if count > 0 {
            self.addresses.mark_all();
        }
        for key in failed {
            self.graph.mark(key);
        }
        if !self.start.is_over() {
            self.start.look(&self.storage.snapshot(), &self.options);
        }
        count
    }

    /// Takes the changes since the last time into the graph, or everything if they are forgotten.
    fn observe(&mut self) {
        let resolve = |owner: &OwnerRef, namespace: &str| garbage::resolve(&*self.kinds, owner, namespace);
        if let Some(seen) = self.seen
            && let Ok(events) = self.storage.changes_after(seen)
        {
            for event in events {
                self.incomplete |= namespace::concerns(&event.object.key)
                    || system::concerns(&event.object.key)
                    || flow::concerns(&event.object.key)
                    || kubernetes_service::concerns(&event.object.key);
                self.roles_changed |= roles::concerns(&event.object.key);
                self.tokens_changed |= tokens::concerns(&event.object);
                self.usage_changed |= !event.object.key.namespace.is_empty();
                self.policies |= policy_status::concerns(&event.object.key);
                self.certificates |= certificate_requests::concerns(&event.object.key);
                self.uses_changed |= protection::concerns(&event.object.key);
                self.networks |= service_cidrs::concerns(&event.object.key);
                self.addresses.observe(event.previous.as_deref(), &event.object);
                self.definitions |= definitions::concerns(&event.object.key)
                    // The last instance may have gone for which one waits.
                    || (event.kind == EventKind::Deleted && !event.object.key.resource.group.is_empty());
                self.graph.observe(event.previous.as_deref(), &event.object, event.kind, &resolve);
                self.seen = Some(event.revision);
            }
            return;
        }
        let snapshot = self.storage.snapshot();
        self.incomplete = true;
        self.roles_changed = true;
        self.tokens_changed = true;
        self.usage_changed = true;
        self.definitions = true;
        self.policies = true;
        self.certificates = true;
        self.uses_changed = true;
        self.networks = true;
        self.addresses.mark_all();
        self.graph.rebuild(&snapshot, &resolve);
        self.seen = Some(snapshot.revision());
    }
}

#[cfg(test)]
mod pod_gc_tests;
#[cfg(test)]
mod protection_tests;
#[cfg(test)]
mod tests;
