//! What kube-apiserver's store says of an object that is not the one that a write is meant for (`storage.Preconditions.Check`).

use apimachinery::ApiError;

use super::Call;
use crate::{registry::Kind, store::ResourceKey};

/// Groups whose servers keep their objects below the group: all others of Kubernetes' own are told apart by the resource alone.
const BELOW_GROUP: [&str; 3] = ["apiextensions.k8s.io", "apiregistration.k8s.io", "federation.rs"];

/// Resources that etcd has by another name than the API (`kubeapiserver.SpecialDefaultResourcePrefixes`).
const OTHERWISE: [(&str, &str, &str); 5] = [
    ("", "replicationcontrollers", "controllers"),
    ("", "endpoints", "services/endpoints"),
    ("", "nodes", "minions"),
    ("", "services", "services/specs"),
    ("networking.k8s.io", "ingresses", "ingress"),
];

/// Refuses a write whose body names another uid than the object has; `found` is empty if there is none.
pub(super) fn check_uid(call: &Call, wanted: &str, found: &str, dry_run: bool) -> Result<(), ApiError> {
    if wanted.is_empty() || wanted == found {
        Ok(())
    } else {
        Err(failed(call, "UID", wanted, found, dry_run))
    }
}

/// 409 of a field that must be another one.
pub(super) fn failed(call: &Call, field: &str, wanted: &str, found: &str, dry_run: bool) -> ApiError {
    // What is not written is not looked for below the root of all keys.
    let root = if dry_run { "" } else { "/registry" };
    let key = key(&call.kind, call.namespace(), call.name());
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {root}{key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {found}"
    );
    ApiError::conflict(&call.resource(), call.name(), &why)
}

/// Where etcd has an object.
fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    let ResourceKey { group, resource } = kind.storage();
    let other = OTHERWISE.iter().find(|other| (other.0, other.1) == (&*group, &*resource));
    let prefix = match other {
        Some((.., prefix)) => (*prefix).to_owned(),
        None if kind.custom.is_some() || BELOW_GROUP.contains(&&*group) => format!("{group}/{resource}"),
        None => resource.to_string(),
    };
    if namespace.is_empty() { format!("/{prefix}/{name}") } else { format!("/{prefix}/{namespace}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn keys_are_those_of_etcd() {
        let cases = [
            ("", "v1", "pods", "ns", "/pods/ns/x"),
            ("", "v1", "nodes", "", "/minions/x"),
            ("", "v1", "services", "ns", "/services/specs/ns/x"),
            ("", "v1", "endpoints", "ns", "/services/endpoints/ns/x"),
            ("", "v1", "replicationcontrollers", "ns", "/controllers/ns/x"),
            ("networking.k8s.io", "v1", "ingresses", "ns", "/ingress/ns/x"),
            ("events.k8s.io", "v1", "events", "ns", "/events/ns/x"),
            ("apps", "v1", "deployments", "ns", "/deployments/ns/x"),
            (
                "apiextensions.k8s.io",
                "v1",
                "customresourcedefinitions",
                "",
                "/apiextensions.k8s.io/customresourcedefinitions/x",
            ),
        ];
        for (group, version, plural, namespace, expect) in cases {
            let kind = Registry::get().find(group, version, plural).expect("a kind of the table");
            assert_eq!(key(kind, namespace, "x"), expect);
        }
    }
}
