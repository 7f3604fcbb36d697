//! Which objects are federated, and which policy decides for one.

use thiserror::Error;

use crate::api::{
    ClusterPlacementPolicy, GROUP, PlacementPolicy, PlacementPolicySpec, PlacementSpec, ResourceSelector,
    marks,
};
use crate::labels;
use crate::template::Template;

/// Kinds that are federated without a policy, as (group, kind).
///
/// Job, CronJob and HorizontalPodAutoscaler are not among them: a Job copied to every cluster does its work once in each, and an
/// autoscaler beside each copy fights with the dividing of replicas.
pub const DEFAULT_KINDS: [(&str, &str); 16] = [
    ("", "Namespace"),
    ("", "Secret"),
    ("", "ConfigMap"),
    ("", "ServiceAccount"),
    ("", "Service"),
    ("", "PersistentVolumeClaim"),
    ("apps", "ReplicaSet"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("storage.k8s.io", "StorageClass"),
];

/// Kinds that no policy can select, as (group, kind): what one cluster says of itself, or makes from other objects.
const LOCAL_KINDS: [(&str, &str); 19] = [
    ("", "Node"),
    ("", "Pod"),
    ("", "Event"),
    ("", "Endpoints"),
    ("", "PersistentVolume"),
    ("", "ComponentStatus"),
    ("apps", "ControllerRevision"),
    ("apiregistration.k8s.io", "APIService"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("coordination.k8s.io", "Lease"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("events.k8s.io", "Event"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("networking.k8s.io", "IPAddress"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("resource.k8s.io", "ResourceSlice"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "VolumeAttachment"),
];

/// Whether objects of a kind may leave the federation's API at all. Those of the federation's own group never do.
pub fn may_select(group: &str, kind: &str) -> bool {
    group != GROUP && !LOCAL_KINDS.contains(&(group, kind))
}

/// Whether a kind is federated without a policy.
pub fn is_default(group: &str, kind: &str) -> bool {
    DEFAULT_KINDS.contains(&(group, kind))
}

/// Secret types that belong to one cluster or to the bootstrap of one.
const LOCAL_SECRET_TYPES: [&str; 3] =
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", marks::JOIN_TOKEN_TYPE];

/// Why an object is not federated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotFederated {
    /// The label `federation.rs/local: "true"`.
    #[error("it has the label federation.rs/local=true")]
    Local,
    /// A namespace of Kubernetes, or of the federation itself.
    #[error("its namespace belongs to the control plane")]
    SystemNamespace,
    /// Every cluster has its own.
    #[error("every cluster has its own")]
    EveryClusterHasOne,
    /// A token that is worth something in one cluster only.
    #[error("Secrets of this type belong to one cluster")]
    SecretType,
    /// A controller in the member makes it from its owner.
    #[error("a controller creates it from its owner")]
    Controlled,
    /// The kind belongs to one cluster, whatever policies say.
    #[error("objects of this kind belong to one cluster")]
    LocalKind,
    /// Neither by default nor by a policy.
    #[error("its kind is federated only where a policy selects it")]
    NotSelected,
}

/// Whether the template is spread over members, or why not. `selected` tells whether a policy selects it; it is asked only of kinds
/// that are not federated by default.
///
/// # Errors
/// Why it stays at home.
pub fn federated(template: &Template, selected: impl FnOnce() -> bool) -> Result<(), NotFederated> {
    if template.labels.get(marks::LOCAL).is_some_and(|value| value == "true") {
        return Err(NotFederated::Local);
    }
    let namespace = if template.kind == "Namespace" { &template.name } else { &template.namespace };
    if namespace.starts_with("kube-") || namespace == marks::SYSTEM_NAMESPACE {
        return Err(NotFederated::SystemNamespace);
    }
    if !may_select(template.group(), &template.kind) {
        return Err(NotFederated::LocalKind);
    }
    match (template.kind.as_str(), template.name.as_str()) {
        ("Namespace" | "ServiceAccount", "default") | ("ConfigMap", "kube-root-ca.crt") => {
            return Err(NotFederated::EveryClusterHasOne);
        }
        // The API server's own Service.
        ("Service", "kubernetes") if template.namespace == "default" => {
            return Err(NotFederated::EveryClusterHasOne);
        }
        _ => {}
    }
    if LOCAL_SECRET_TYPES.contains(&template.secret_type.as_str()) {
        return Err(NotFederated::SecretType);
    }
    if template.controlled && matches!(template.kind.as_str(), "ReplicaSet" | "Job") {
        return Err(NotFederated::Controlled);
    }
    if !is_default(template.group(), &template.kind) && !selected() {
        return Err(NotFederated::NotSelected);
    }
    Ok(())
}

/// The policy that decides for one template.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected<'a> {
    /// `PlacementPolicy/x` or `ClusterPlacementPolicy/x`.
    pub name: String,
    /// It is a PlacementPolicy.
    pub of_namespace: bool,
    /// metadata.generation.
    pub generation: Option<i64>,
    /// What it says.
    pub spec: &'a PlacementPolicySpec,
}

/// A PlacementPolicy wins over a ClusterPlacementPolicy, a selector with a name over one without, the older policy over the
/// younger, and the name decides between two of one age.
pub fn policy<'a>(
    template: &Template,
    policies: &'a [PlacementPolicy],
    cluster_policies: &'a [ClusterPlacementPolicy],
) -> Option<Selected<'a>> {
    let namespaced = policies
        .iter()
        .filter(|policy| {
            !template.namespace.is_empty()
                && policy.metadata.namespace.as_deref() == Some(&template.namespace)
        })
        .map(|policy| (0, "PlacementPolicy", &policy.metadata, &policy.spec));
    let cluster =
        cluster_policies.iter().map(|policy| (1, "ClusterPlacementPolicy", &policy.metadata, &policy.spec));
    namespaced
        .chain(cluster)
        .filter(|(_, _, metadata, _)| metadata.deletion_timestamp.is_none())
        .filter_map(|(scope, kind, metadata, spec)| {
            let specificity = specificity(template, &spec.resource_selectors)?;
            let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
            let name = metadata.name.as_deref().unwrap_or_default();
            // A policy without a creation time has not been stored yet, and so is the youngest.
            Some(((scope, specificity, created.is_none(), created, name), kind, metadata.generation, spec))
        })
        .min_by(|a, b| a.0.cmp(&b.0))
        .map(|((scope, .., name), kind, generation, spec)| Selected {
            name: format!("{kind}/{name}"),
            of_namespace: scope == 0,
            generation,
            spec,
        })
}

/// The group of an `apiVersion`; "" for core.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// 0 if a selector names the template, 1 if one selects it otherwise.
fn specificity(template: &Template, selectors: &[ResourceSelector]) -> Option<u8> {
    selectors
        .iter()
        .filter(|selector| {
            // One object is served in every version of its group: a selector that names another one means it too.
            group_of(&selector.api_version) == template.group()
                && selector.kind == template.kind
                && (selector.name.is_empty() || selector.name == template.name)
                && selector
                    .label_selector
                    .as_ref()
                    .is_none_or(|selector| labels::matches(selector, &template.labels))
        })
        .map(|selector| u8::from(selector.name.is_empty()))
        .min()
}

/// Whether the policy that would decide about a template now (none: an empty name) decided about it before, so that it may go on to decide while
/// another policy cannot be read. If another one decided, or none has yet, it cannot be told which would.
pub fn goes_on(last: Option<&PlacementSpec>, uid: &str, policy: &str) -> bool {
    last.is_some_and(|last| last.template.uid == uid && last.policy == policy)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_policy_that_decided_about_this_template_goes_on() {
        let mut last = PlacementSpec { policy: "PlacementPolicy/a".into(), ..PlacementSpec::default() };
        last.template.uid = "u".into();
        assert!(goes_on(Some(&last), "u", "PlacementPolicy/a"));
        assert!(!goes_on(Some(&last), "u", "") && !goes_on(Some(&last), "other", "PlacementPolicy/a"));
        assert!(!goes_on(None, "u", ""));
    }

    fn template(api_version: &str, kind: &str, namespace: &str, name: &str) -> Template {
        Template {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Template::default()
        }
    }

    #[track_caller]
    fn check(template: &Template, expect: Result<(), NotFederated>) {
        assert_eq!(federated(template, || false), expect, "{} {}", template.kind, template.key());
    }

    #[test]
    fn what_is_never_federated_is_refused_with_its_reason() {
        check(&template("apps/v1", "Deployment", "shop", "web"), Ok(()));
        check(&template("v1", "Namespace", "", "shop"), Ok(()));
        check(&template("v1", "ConfigMap", "default", "settings"), Ok(()));
        check(&template("v1", "Namespace", "", "default"), Err(NotFederated::EveryClusterHasOne));
        check(&template("v1", "Namespace", "", "kube-system"), Err(NotFederated::SystemNamespace));
        check(&template("v1", "Secret", "federation-system", "x"), Err(NotFederated::SystemNamespace));
        check(
            &template("v1", "ConfigMap", "shop", "kube-root-ca.crt"),
            Err(NotFederated::EveryClusterHasOne),
        );
        check(&template("v1", "ServiceAccount", "shop", "default"), Err(NotFederated::EveryClusterHasOne));
        check(&template("v1", "Event", "shop", "e"), Err(NotFederated::LocalKind));
        check(&template("coordination.k8s.io/v1", "Lease", "shop", "l"), Err(NotFederated::LocalKind));
        let mut secret = template("v1", "Secret", "shop", "token");
        secret.secret_type = "kubernetes.io/service-account-token".into();
        check(&secret, Err(NotFederated::SecretType));
        let mut replica_set = template("apps/v1", "ReplicaSet", "shop", "web-1");
        check(&replica_set, Ok(()));
        replica_set.controlled = true;
        check(&replica_set, Err(NotFederated::Controlled));
        let mut local = template("v1", "ConfigMap", "shop", "x");
        local.labels.insert(marks::LOCAL.into(), "true".into());
        check(&local, Err(NotFederated::Local));
    }

    #[test]
    fn other_kinds_are_federated_where_a_policy_selects_them_but_never_what_is_one_clusters_own() {
        let widget = template("example.test/v1", "Widget", "shop", "w");
        assert_eq!(federated(&widget, || false), Err(NotFederated::NotSelected));
        assert_eq!(federated(&widget, || true), Ok(()));
        let mut job = template("batch/v1", "Job", "shop", "report");
        assert_eq!(federated(&job, || true), Ok(()));
        job.controlled = true;
        assert_eq!(federated(&job, || true), Err(NotFederated::Controlled));
        for (api_version, kind) in [
            ("v1", "Pod"),
            ("v1", "Node"),
            ("federation.rs/v1alpha1", "Cluster"),
            ("events.k8s.io/v1", "Event"),
        ] {
            let own = template(api_version, kind, "shop", "x");
            assert_eq!(federated(&own, || true), Err(NotFederated::LocalKind), "{kind}");
        }
    }

    #[test]
    fn a_policy_selects_an_object_by_any_version_of_its_group() {
        let scaler = template("autoscaling/v2", "HorizontalPodAutoscaler", "shop", "web");
        let policy_of = |api_version: &str| -> ClusterPlacementPolicy {
            let selector = json!({"apiVersion": api_version, "kind": "HorizontalPodAutoscaler"});
            serde_json::from_value(
                json!({"metadata": {"name": "p"}, "spec": {"resourceSelectors": [selector]}}),
            )
            .unwrap()
        };
        assert!(policy(&scaler, &[], &[policy_of("autoscaling/v1")]).is_some());
        assert!(policy(&scaler, &[], &[policy_of("apps/v1")]).is_none());
    }

    fn cluster_policy(name: &str, selects: &str, created: &str) -> ClusterPlacementPolicy {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": selects}]},
        }))
        .unwrap()
    }

    #[test]
    fn the_more_specific_then_the_older_policy_wins() {
        let web = template("apps/v1", "Deployment", "shop", "web");
        let all_old = cluster_policy("z", "", "2020-01-01T00:00:00Z");
        let all_new = cluster_policy("a", "", "2024-01-01T00:00:00Z");
        let named = cluster_policy("n", "web", "2025-01-01T00:00:00Z");
        let other = cluster_policy("o", "api", "2019-01-01T00:00:00Z");
        let winner =
            |policies: &[ClusterPlacementPolicy]| policy(&web, &[], policies).map(|selected| selected.name);
        assert_eq!(winner(&[all_new, all_old.clone()]).unwrap(), "ClusterPlacementPolicy/z");
        assert_eq!(winner(&[all_old.clone(), named, other.clone()]).unwrap(), "ClusterPlacementPolicy/n");
        assert_eq!(winner(&[other]), None);

        let mut own = PlacementPolicy::new("own", all_old.spec.clone());
        own.metadata.namespace = Some("shop".into());
        let policies = [own.clone()];
        assert_eq!(
            policy(&web, &policies, std::slice::from_ref(&all_old)).unwrap().name,
            "PlacementPolicy/own"
        );
        own.metadata.namespace = Some("elsewhere".into());
        let policies = [own];
        assert_eq!(
            policy(&web, &policies, std::slice::from_ref(&all_old)).unwrap().name,
            "ClusterPlacementPolicy/z"
        );

        let mut leaving = all_old;
        leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
        assert_eq!(winner(&[leaving]), None);
    }
}
