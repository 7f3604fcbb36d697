//! What is done at a start, by the names that kube-apiserver's post-start hooks have: probes, tests and scripts ask for them.
//!
//! A check is declared where a server is started as a part of its own (`service.rs`), and holds from the moment on at which what it stands for
//! here is done. Hooks for which there is nothing here have no check: leases of several servers, and the record of legacy tokens.

use federation_runtime::endpoints::Health;

/// When a hook is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
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
const ALL: [(&str, When); 29] = [
    ("poststarthook/start-apiserver-admission-initializer", When::Followed),
    ("poststarthook/start-kube-apiserver-admission-initializer", When::Followed),
    ("poststarthook/generic-apiserver-start-informers", When::Followed),
    ("poststarthook/priority-and-fairness-config-consumer", When::Levels),
    ("poststarthook/priority-and-fairness-filter", When::Assembled),
    ("poststarthook/storage-object-count-tracker-hook", When::Assembled),
    ("poststarthook/start-apiextensions-informers", When::Assembled),
    ("poststarthook/start-apiextensions-controllers", When::Followed),
    ("poststarthook/crd-informer-synced", When::Assembled),
    ("poststarthook/start-system-namespaces-controller", When::Namespaces),
    ("poststarthook/start-cluster-authentication-info-controller", When::Authentication),
    ("poststarthook/storage-readiness", When::Assembled),
    ("poststarthook/start-service-ip-repair-controllers", When::Networks),
    ("poststarthook/rbac/bootstrap-roles", When::Roles),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", When::Classes),
    ("poststarthook/priority-and-fairness-config-producer", When::Levels),
    ("poststarthook/bootstrap-controller", When::Endpoint),
    ("poststarthook/start-kubernetes-service-cidr-controller", When::Networks),
    ("poststarthook/aggregator-reload-proxy-client-cert", When::Assembled),
    ("poststarthook/start-kube-aggregator-informers", When::Checked),
    ("poststarthook/apiservice-status-local-available-controller", When::Services),
    (CHECKER, When::Checked),
    ("poststarthook/apiservice-status-available-controller", When::Checked),
    ("poststarthook/apiservice-registration-controller", When::Services),
    ("poststarthook/apiservice-discovery-controller", When::Checked),
    ("poststarthook/kube-apiserver-autoregistration", When::Services),
    ("autoregister-completion", When::Services),
    ("poststarthook/apiservice-openapi-controller", When::Checked),
    ("poststarthook/apiservice-openapiv3-controller", When::Checked),
];

/// Their names, in order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// Declares that readiness waits for all of them, but for what this server does not do.
pub(crate) fn declare(health: &Health, without: Option<When>) {
    for (name, _) in ALL.iter().filter(|(_, when)| Some(*when) != without) {
        health.wait_for(name, "not finished");
    }
}

/// Declares that those are done which stand for `when`.
pub(crate) fn done(health: &Health, when: When) {
    for (name, _) in ALL.iter().filter(|(_, of)| *of == when) {
        health.ready(name);
    }
    if when == When::Followed {
        health.ready(INFORMERS);
    }
}
