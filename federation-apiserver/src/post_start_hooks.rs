//! What is done at a start, by the names that kube-apiserver's post-start hooks have: probes, tests and scripts ask for them.
//!
//! A check is declared where a server is started as a part of its own (`service.rs`), and holds from the moment on at which what it stands for
//! here is done. Hooks for which there is nothing here have no check: leases of several servers, and the record of legacy tokens.

use federation_runtime::endpoints::Health;

/// When a hook is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Milestone {
    /// The store is open and read, and the server is put together over it.
    Assembled,
    /// Housekeeping has looked at everything that is stored: its graph, quotas, policies, definitions.
    Followed,
    /// There are the system's namespaces, with what is in each.
    Namespaces,
    /// Servers behind this one can read whom to believe.
    Authentication,
    /// There are the default roles and bindings.
    Roles,
    /// There are the system's priority classes.
    Classes,
    /// There are the levels and schemas by which requests wait.
    Levels,
    /// There is the Service of this server, and it leads here.
    Endpoint,
    /// There are the ServiceCIDR of the flag and the IPAddresses of all Services.
    Networks,
    /// There is an APIService for each group version of this server.
    Services,
    /// Somebody looks after the servers behind APIServices.
    Checked,
}

/// What follows the store's changes; it fails `/readyz` only.
pub(crate) const INFORMERS: &str = "informer-sync";
/// The check of the task that looks after APIServices, which fails while that has panicked.
pub(crate) const CHECKER: &str = "poststarthook/apiservice-status-remote-available-controller";

/// In kube-apiserver's order. Two have changed their names, and are there by the older ones, too.
const ALL: [(&str, Milestone); 29] = [
    ("poststarthook/start-apiserver-admission-initializer", Milestone::Followed),
    ("poststarthook/start-kube-apiserver-admission-initializer", Milestone::Followed),
    ("poststarthook/generic-apiserver-start-informers", Milestone::Followed),
    ("poststarthook/priority-and-fairness-config-consumer", Milestone::Levels),
    ("poststarthook/priority-and-fairness-filter", Milestone::Assembled),
    ("poststarthook/storage-object-count-tracker-hook", Milestone::Assembled),
    ("poststarthook/start-apiextensions-informers", Milestone::Assembled),
    ("poststarthook/start-apiextensions-controllers", Milestone::Followed),
    ("poststarthook/crd-informer-synced", Milestone::Assembled),
    ("poststarthook/start-system-namespaces-controller", Milestone::Namespaces),
    ("poststarthook/start-cluster-authentication-info-controller", Milestone::Authentication),
    ("poststarthook/storage-readiness", Milestone::Assembled),
    ("poststarthook/start-service-ip-repair-controllers", Milestone::Networks),
    ("poststarthook/rbac/bootstrap-roles", Milestone::Roles),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", Milestone::Classes),
    ("poststarthook/priority-and-fairness-config-producer", Milestone::Levels),
    ("poststarthook/bootstrap-controller", Milestone::Endpoint),
    ("poststarthook/start-kubernetes-service-cidr-controller", Milestone::Networks),
    ("poststarthook/aggregator-reload-proxy-client-cert", Milestone::Assembled),
    ("poststarthook/start-kube-aggregator-informers", Milestone::Checked),
    ("poststarthook/apiservice-status-local-available-controller", Milestone::Services),
    (CHECKER, Milestone::Checked),
    ("poststarthook/apiservice-status-available-controller", Milestone::Checked),
    ("poststarthook/apiservice-registration-controller", Milestone::Services),
    ("poststarthook/apiservice-discovery-controller", Milestone::Checked),
    ("poststarthook/kube-apiserver-autoregistration", Milestone::Services),
    ("autoregister-completion", Milestone::Services),
    ("poststarthook/apiservice-openapi-controller", Milestone::Checked),
    ("poststarthook/apiservice-openapiv3-controller", Milestone::Checked),
];

/// Their names, in order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// Declares that readiness waits for all of them, but for what this server does not do.
pub(crate) fn declare(health: &Health, without: Option<Milestone>) {
    for (name, _) in ALL.iter().filter(|(_, when)| Some(*when) != without) {
        health.wait_for(name, "not finished");
    }
}

/// Declares that those are done which stand for `when`.
pub(crate) fn done(health: &Health, when: Milestone) {
    for (name, _) in ALL.iter().filter(|(_, of)| *of == when) {
        health.ready(name);
    }
    if when == Milestone::Followed {
        health.ready(INFORMERS);
    }
}
