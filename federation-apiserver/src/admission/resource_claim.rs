//! ResourceClaims: the permissions for admin access to devices, and for the parts of a claim's status.
//!
//! Admin access needs a label on the namespace. The status of a claim has parts that the scheduler writes and parts that drivers write, and each
//! needs a permission of its own beside the one for the status (`registry/resource/utils.go`).

use std::collections::{BTreeSet, HashMap};

use apimachinery::{ApiError, FieldError, FieldPath, labels::labels_of, names, rbac::Attributes};
use serde_json::Value;

use crate::{
    auth::{
        User,
        authz::{self, Decision},
    },
    http::negotiate::content_type,
    kinds::admin_access,
    store::{Key, ResourceKey},
    validation::{items, text},
    verbs::Call,
};

const LABEL: &str = "resource.kubernetes.io/admin-access";
/// The user extra of a pod's token that names its node.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Checks a write of a claim of devices, or of a template of claims. Other kinds pass.
pub(super) async fn check(call: &Call, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    if call.kind.group != "resource.k8s.io" {
        return Ok(());
    }
    let mut errors: Vec<_> = unlabelled(call, old, new).into_iter().collect();
    let is_status =
        call.kind.plural == "resourceclaims" && call.path.subresource.as_deref() == Some("status");
    if let Some(old) = old.filter(|_| is_status) {
        let (old, new) = (&old["status"], &new["status"]);
        errors.extend(binding(call, old, new).await);
        errors.extend(drivers(call, old, new).await);
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(call.kind.group, call.kind.kind, name, &errors))
}

/// Admin access in a namespace without the label that allows it.
fn unlabelled(call: &Call, old: Option<&Value>, new: &Value) -> Option<FieldError> {
    let path = admin_access(call.kind.plural, old, new)?;
    let key = Key::new(ResourceKey::new("", "namespaces"), "", call.namespace());
    let namespace = call.shared.storage.get(&key).and_then(|stored| stored.value().ok());
    if namespace.is_some_and(|namespace| labels_of(&namespace).get(LABEL).is_some_and(|said| said == "true"))
    {
        return None;
    }
    let message =
        format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    Some(FieldError::forbidden(&path, &message))
}

/// The allocation and the consumers of a claim need the scheduler's permission.
async fn binding(call: &Call, old: &Value, new: &Value) -> Option<FieldError> {
    if ["allocation", "reservedFor"].iter().all(|part| old[*part] == new[*part]) {
        return None;
    }
    let verb = verb(call);
    let asked = Attributes {
        namespace: "",
        name: "",
        subresource: "binding",
        ..authz::of_path(verb, &call.path, None)
    };
    let why = refusal(call, &asked).await?;
    let message = format!(
        "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"{verb}\" permission: {why}"
    );
    Some(FieldError::forbidden(&FieldPath::new("status"), &message))
}

/// The status of a device needs the permission of its driver, which may be limited to the devices of the driver's own node.
async fn drivers(call: &Call, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut verbs = vec![format!("arbitrary-node:{}", verb(call))];
    if node_of(&new["allocation"]).is_some_and(|node| is_on(&call.user, node)) {
        verbs.insert(0, format!("associated-node:{}", verb(call)));
    }
    let mut errors = Vec::new();
    for driver in changed(old, new) {
        if let Some(why) = refused(call, &verbs, driver).await {
            let message = format!(
                "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: {why}",
                verbs.join(" ")
            );
            errors.push(FieldError::forbidden(&FieldPath::new("status.devices"), &message));
        }
    }
    errors
}

/// Why the user has none of these permissions for a driver: the reason for the first one.
async fn refused(call: &Call, verbs: &[String], driver: &str) -> Option<String> {
    let mut first = None;
    for verb in verbs {
        let of_status = authz::of_path(verb, &call.path, None);
        let asked = Attributes { name: driver, subresource: "driver", ..of_status };
        let why = refusal(call, &asked).await?;
        first.get_or_insert(why);
    }
    first
}

/// The verb of a write. A patch is known by its media type.
fn verb(call: &Call) -> &'static str {
    let patches = content_type(&call.headers).is_some_and(|format| format.contains("patch+"));
    if patches { "patch" } else { "update" }
}

/// Why the user is not permitted to do this; none if he is.
async fn refusal(call: &Call, asked: &Attributes<'_>) -> Option<String> {
    let reason = match call.shared.authorizer().decide(&call.user, asked).await {
        Decision::Allow(_) => return None,
        Decision::NoOpinion(reason) | Decision::Deny(reason) | Decision::Failed(reason) => reason,
    };
    Some(authz::refuse(&call.user, asked, &reason).message)
}

/// The drivers whose device statuses change.
fn changed<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let key = |device: &'a Value| ["driver", "pool", "device", "shareID"].map(|part| text(device, part));
    let mut before: HashMap<_, _> = items(old, "devices").map(|device| (key(device), device)).collect();
    let told = items(new, "devices").filter(|&device| before.remove(&key(device)) != Some(device));
    let mut drivers: BTreeSet<_> = told.map(|device| text(device, "driver")).collect();
    drivers.extend(before.values().map(|device| text(device, "driver")));
    drivers
}

/// The single node that an allocation is for; none if several are possible.
fn node_of(allocation: &Value) -> Option<&str> {
    let [term] = allocation["nodeSelector"]["nodeSelectorTerms"].as_array()?.as_slice() else { return None };
    if items(term, "matchExpressions").next().is_some() {
        return None;
    }
    let [field] = term["matchFields"].as_array()?.as_slice() else { return None };
    let [node] = field["values"].as_array()?.as_slice() else { return None };
    let by_name = text(field, "key") == "metadata.name" && text(field, "operator") == "In";
    node.as_str().filter(|node| by_name && !node.is_empty())
}

/// Whether a user is a service account whose pod is on a node.
fn is_on(user: &User, node: &str) -> bool {
    let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let places = user.extra.get(NODE_NAME).map(Vec::as_slice).unwrap_or_default();
    account.is_some() && places == [node] && names::dns1123_subdomain(node).is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn drivers_are_asked_for_what_they_tell_of_their_devices() {
        let told = |devices: &[(&str, &str, bool)]| {
            let device = |(driver, device, data): &(&str, &str, bool)| json!({"driver": driver, "pool": "p", "device": device, "data": data});
            json!({"devices": devices.iter().map(device).collect::<Vec<_>>()})
        };
        let old = told(&[("a", "1", true), ("b", "1", true), ("c", "1", true)]);
        let new = told(&[("c", "1", true), ("b", "1", false), ("d", "1", true)]);
        assert_eq!(changed(&old, &new).into_iter().collect::<Vec<_>>(), ["a", "b", "d"]);
        assert!(changed(&old, &old).is_empty());
    }

    #[test]
    fn a_driver_is_associated_with_the_node_of_its_pod() {
        let of = |values: Value| {
            let fields = json!([{"key": "metadata.name", "operator": "In", "values": values}]);
            json!({"nodeSelector": {"nodeSelectorTerms": [{"matchFields": fields}]}})
        };
        assert_eq!(node_of(&of(json!(["n"]))), Some("n"));
        assert_eq!(node_of(&of(json!(["n", "m"]))), None);
        assert_eq!(node_of(&Value::Null), None);
        let user = |name: &str, places: &[&str]| {
            let mut user = User { name: name.to_owned(), ..User::default() };
            user.extra.insert(NODE_NAME.to_owned(), places.iter().map(|place| (*place).to_owned()).collect());
            user
        };
        assert!(is_on(&user("system:serviceaccount:a:b", &["n"]), "n"));
        assert!(!is_on(&user("system:serviceaccount:a:b", &["m"]), "n"));
        assert!(!is_on(&user("system:serviceaccount:a:b", &["n", "m"]), "n"));
        assert!(!is_on(&user("system:node:n", &["n"]), "n"));
    }
}
