//! Labels, annotations, finalizers and namespaces that the federation uses. See docs/ARCHITECTURE.md, "Names on objects".

/// Finalizer on a template while copies may exist in members.
pub const FINALIZER: &str = "federation.rs/member-copies";
/// Annotation on a deleted template, written by the API server: the propagation policy of the delete.
pub const DELETION_PROPAGATION: &str = "federation.rs/deletion-propagation";
/// Label, value "true": never federated.
pub const LOCAL: &str = "federation.rs/local";
/// Label, value "true", on every member copy.
pub const MANAGED: &str = "federation.rs/managed";
/// Label on a Cluster: clusters with the same value may fail together, whatever their regions and zones.
pub const FAILURE_DOMAIN: &str = "federation.rs/failure-domain";
/// Annotation on a Cluster, written by `fedctl failback`: when an operator allowed it to take its shares back, RFC 3339.
pub const FAILBACK: &str = "federation.rs/failback";
/// Annotation on a member copy: uid of its template.
pub const TEMPLATE_UID: &str = "federation.rs/template-uid";
/// Annotation on a member copy: generation of its template.
pub const TEMPLATE_GENERATION: &str = "federation.rs/template-generation";
/// Annotation on a member copy: epoch of the decision that placed it.
pub const EPOCH: &str = "federation.rs/epoch";
/// Annotation on a member copy of an exclusive workload: its agent's lease in milliseconds.
pub const LEASE: &str = "federation.rs/lease-ms";
/// Annotation on a member copy that existed before the federation: never removed, only released.
pub const ADOPTED: &str = "federation.rs/adopted";
/// Server-side apply manager of everything that an agent writes in a member.
pub const FIELD_MANAGER: &str = "federation";
/// Namespace for the federation's own objects.
pub const SYSTEM_NAMESPACE: &str = "federation-system";
/// Type of the Secrets that hold one-time join tokens.
pub const JOIN_TOKEN_TYPE: &str = "federation.rs/join-token";
/// Taint that `fedctl drain` puts on a Cluster (effect NoExecute).
pub const DRAIN_TAINT: &str = "federation.rs/drain";
/// Federation v1: JSON preferences for the replicas of a ReplicaSet.
pub const V1_REPLICA_SET_PREFERENCES: &str = "federation.kubernetes.io/replica-set-preferences";
/// Federation v1: JSON preferences for the replicas of a Deployment.
pub const V1_DEPLOYMENT_PREFERENCES: &str = "federation.kubernetes.io/deployment-preferences";
/// Federation v1: JSON list of label requirements on clusters.
pub const V1_CLUSTER_SELECTOR: &str = "federation.alpha.kubernetes.io/cluster-selector";
