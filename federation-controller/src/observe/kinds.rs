//! The kinds that are federated: one row each. Which of them are watched is decided by what the API server serves and, beyond
//! those that are federated by default, by what policies select.

use std::sync::LazyLock;

use parking_lot::RwLock;
use proto::v1;

/// One kind, as the API names it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// API group; "" for core.
    pub(crate) group: &'static str,
    /// Version.
    pub(crate) version: &'static str,
    /// Kind, for example `Deployment`.
    pub(crate) kind: &'static str,
    /// Plural, as in the URL.
    pub(crate) plural: &'static str,
    /// Whether objects live in namespaces.
    pub(crate) namespaced: bool,
}

const fn row(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, version, kind, plural, namespaced: true }
}

const fn cluster_row(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Kind {
    Kind { group, version, kind, plural, namespaced: false }
}

/// Kinds that are known beforehand. Namespace comes first: contents follow it.
pub(crate) static KINDS: &[Kind] = &[
    cluster_row("", "v1", "Namespace", "namespaces"),
    row("", "v1", "Secret", "secrets"),
    row("", "v1", "ConfigMap", "configmaps"),
    row("", "v1", "ServiceAccount", "serviceaccounts"),
    row("", "v1", "Service", "services"),
    row("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    row("apps", "v1", "ReplicaSet", "replicasets"),
    row("apps", "v1", "Deployment", "deployments"),
    row("apps", "v1", "StatefulSet", "statefulsets"),
    row("apps", "v1", "DaemonSet", "daemonsets"),
    row("batch", "v1", "Job", "jobs"),
    row("batch", "v1", "CronJob", "cronjobs"),
    row("networking.k8s.io", "v1", "Ingress", "ingresses"),
    row("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    row("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    row("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    row("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    row("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    cluster_row("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
];

/// Members themselves: never federated, but Events are about them.
pub(crate) static CLUSTER: Kind = cluster_row("federation.rs", "v1alpha1", "Cluster", "clusters");

/// Kinds that policies brought: of custom resources above all.
static LEARNT: LazyLock<RwLock<Vec<&'static Kind>>> = LazyLock::new(RwLock::default);

impl Kind {
    /// The row of a kind that discovery, or an earlier decision, tells of. Rows live as long as the process: there are as many as
    /// kinds, not as objects.
    pub(crate) fn learn(
        group: &str,
        version: &str,
        kind: &str,
        plural: &str,
        namespaced: bool,
    ) -> &'static Self {
        let mut learnt = LEARNT.write();
        let known =
            KINDS.iter().chain(learnt.iter().copied()).find(|row| row.group == group && row.plural == plural);
        if let Some(known) = known {
            return known;
        }
        let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let (group, version, kind, plural) = (leak(group), leak(version), leak(kind), leak(plural));
        let row: &'static Self = Box::leak(Box::new(Self { group, version, kind, plural, namespaced }));
        learnt.push(row);
        row
    }

    fn first(is_it: impl Fn(&Self) -> bool) -> Option<&'static Self> {
        let known = KINDS.iter().find(|row| is_it(row));
        known.or_else(|| LEARNT.read().iter().copied().find(|row| is_it(row)))
    }

    /// `apps/v1`, or `v1` for core.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }

    /// URL path of the collection: of one namespace, or of all of them when `namespace` is "".
    pub(crate) fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if namespace.is_empty() {
            format!("{root}/{}", self.plural)
        } else {
            format!("{root}/namespaces/{namespace}/{}", self.plural)
        }
    }

    /// Finds the row of a collection's URL path, of all namespaces.
    pub(crate) fn of_path(path: &str) -> Option<&'static Self> {
        let (root, plural) = path.rsplit_once('/')?;
        let group = match root.strip_prefix("/apis/") {
            Some(group_version) => group_version.rsplit_once('/')?.0,
            None => "",
        };
        Self::find(group, plural)
    }

    /// Finds the row of an API group and plural.
    pub(crate) fn find(group: &str, plural: &str) -> Option<&'static Self> {
        Self::first(|row| row.group == group && row.plural == plural)
    }

    /// Finds the row of an `apiVersion` and `kind`, whatever the version.
    pub(crate) fn of_manifest(api_version: &str, kind: &str) -> Option<&'static Self> {
        let group = federation_core::select::group_of(api_version);
        Self::first(|row| row.group == group && row.kind == kind)
    }

    /// Whether this is the kind Namespace.
    pub(crate) fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.kind == "Namespace"
    }

    /// Whether this is the kind DaemonSet.
    pub(crate) fn is_daemon_set(&self) -> bool {
        self.group == "apps" && self.kind == "DaemonSet"
    }

    /// Whether this is the kind Service.
    pub(crate) fn is_service(&self) -> bool {
        self.group.is_empty() && self.kind == "Service"
    }
}

/// Identity of one template. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Namespace; "" for cluster-scoped kinds.
    pub(crate) namespace: std::sync::Arc<str>,
    /// Name.
    pub(crate) name: std::sync::Arc<str>,
    /// Which kind.
    pub(crate) kind: &'static Kind,
}

impl Key {
    /// Builds a key.
    pub(crate) fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// URL path of the object.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.kind.path(&self.namespace), self.name)
    }

    /// Name of the Placement (or ClusterPlacement) of this template: `<plural>[.<group>].<name>`.
    pub(crate) fn placement_name(&self) -> String {
        if self.kind.group.is_empty() {
            format!("{}.{}", self.kind.plural, self.name)
        } else {
            format!("{}.{}.{}", self.kind.plural, self.kind.group, self.name)
        }
    }

    /// The key on the wire.
    pub(crate) fn to_wire(&self) -> v1::Key {
        v1::Key {
            group: self.kind.group.into(),
            version: self.kind.version.into(),
            kind: self.kind.kind.into(),
            resource: self.kind.plural.into(),
            namespace: self.namespace.to_string(),
            name: self.name.to_string(),
        }
    }

    /// The key of a wire key; `None` for kinds that are not federated.
    pub(crate) fn from_wire(key: &v1::Key) -> Option<Self> {
        Kind::find(&key.group, &key.resource).map(|kind| Self::new(kind, &key.namespace, &key.name))
    }
}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.group.hash(state);
        self.plural.hash(state);
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.kind.plural)?;
        if !self.kind.group.is_empty() {
            write!(formatter, ".{}", self.kind.group)?;
        }
        if !self.namespace.is_empty() {
            write!(formatter, "/{}", self.namespace)?;
        }
        write!(formatter, "/{}", self.name)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_named_after_its_templates_resource() {
        let key = Key::new(Kind::find("apps", "deployments").unwrap(), "default", "web");
        assert_eq!(key.placement_name(), "deployments.apps.web");
        assert_eq!(key.path(), "/apis/apps/v1/namespaces/default/deployments/web");
        let key = Key::new(Kind::find("", "namespaces").unwrap(), "", "shop");
        assert_eq!(key.placement_name(), "namespaces.shop");
        assert_eq!(key.path(), "/api/v1/namespaces/shop");
    }

    #[test]
    fn a_learnt_kind_is_found_like_one_that_was_known_and_is_learnt_once() {
        let widget = Kind::learn("kinds.test", "v1", "Widget", "widgets", true);
        assert!(std::ptr::eq(widget, Kind::learn("kinds.test", "v2", "Widget", "widgets", true)));
        assert_eq!(Kind::of_manifest("kinds.test/v2", "Widget"), Some(widget));
        let key = Key::new(widget, "shop", "w");
        assert_eq!(Key::from_wire(&key.to_wire()), Some(key.clone()));
        assert_eq!(key.placement_name(), "widgets.kinds.test.w");
        assert!(std::ptr::eq(Kind::learn("", "v1", "Secret", "secrets", true), &raw const KINDS[1]));
    }

    #[test]
    fn a_wire_key_returns_as_it_went() {
        for kind in KINDS {
            let key = Key::new(kind, if kind.namespaced { "ns" } else { "" }, "x");
            assert_eq!(Key::from_wire(&key.to_wire()), Some(key));
        }
    }
}
