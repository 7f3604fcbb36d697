//! What kube-apiserver's admission plugins add to a new Pod: a service account, a priority, tolerations for lost nodes, its runtime's
//! overhead, and topology labels.

use apimachinery::{ApiError, field::quoted, names::SUFFIX_LEN};
use serde_json::{Value, json};

use super::{default_class, limit_ranger, pod_topology_labels, ranges, runtime_class, service_account};
use crate::{
    store::{Key, ResourceKey, Snapshot},
    validation::{mirror_pod, text, topology_spread},
    verbs::{Call, called},
};

/// How long a pod stays on a lost node unless it has a toleration of its own: the plugin `DefaultTolerationSeconds`.
const TOLERATION_SECONDS: i64 = 300;
const LOST: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Fills in the fields of a new Pod that come from other objects.
pub(super) fn complete(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    for range in ranges(call) {
        limit_ranger::default_pod(&range, object);
    }
    topology_spread::settle_keys(object);
    let name = called(object).to_owned();
    // A mirror pod has no service account: its kubelet runs it by itself.
    let is_mirror = mirror_pod::is_mirror(object);
    if is_mirror && let Some(why) = mirror_pod::wrong_reference(object) {
        return Err(ApiError::forbidden(&call.resource(), &name, why));
    }
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return Ok(());
    }
    if !is_mirror && spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        let name =
            spec["serviceAccount"].as_str().filter(|name| !name.is_empty()).unwrap_or("default").to_owned();
        spec["serviceAccountName"] = name.as_str().into();
        spec["serviceAccount"] = name.into();
    }
    let account = spec["serviceAccountName"].as_str().unwrap_or_default();
    let namespace = call.namespace();
    let key = Key::new(ResourceKey::new("", "serviceaccounts"), namespace, account);
    let found = call.shared.storage.get(&key);
    // The account `default` is on its way in any case.
    if !is_mirror && account != "default" && found.is_none() {
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {} not found",
            quoted(account)
        );
        return Err(ApiError::forbidden(&call.resource(), &name, &why));
    }
    let account = found.and_then(|stored| stored.value().ok());
    if !is_mirror {
        let random: [u8; SUFFIX_LEN] = rand::random();
        service_account::apply_account(spec, account.as_ref(), random);
    }
    tolerate(spec);
    prioritise(&call.shared.storage.snapshot(), spec)
        .map_err(|why| ApiError::forbidden(&call.resource(), &name, &why))?;
    runtime_class::complete(call, &name, spec)?;
    let node = text(spec, "nodeName").to_owned();
    pod_topology_labels::label(&call.shared.storage, &node, object);
    Ok(())
}

fn tolerate(spec: &mut Value) {
    for key in LOST {
        let known = spec["tolerations"].as_array().into_iter().flatten().any(|toleration| {
            let text = |name: &str| toleration[name].as_str().unwrap_or_default();
            (text("key") == key || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
        });
        if known {
            continue;
        }
        if !spec["tolerations"].is_array() {
            spec["tolerations"] = json!([]);
        }
        if let Some(tolerations) = spec["tolerations"].as_array_mut() {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
}

/// The plugin `Priority`: sets the number of the pod's priority class.
fn prioritise(snapshot: &Snapshot, spec: &mut Value) -> Result<(), String> {
    let asked = spec["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let class = if asked.is_empty() {
        default_class::of_pods(snapshot)
    } else {
        let key = Key::new(ResourceKey::new("scheduling.k8s.io", "priorityclasses"), "", asked.as_str());
        let found = snapshot.get(&key).and_then(|stored| stored.value().ok());
        Some(found.ok_or_else(|| format!("no PriorityClass with name {asked} was found"))?)
    };
    let priority = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or_default();
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != priority) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    spec["priority"] = priority.into();
    if let Some(name) = class.as_ref().and_then(|class| class["metadata"]["name"].as_str()) {
        spec["priorityClassName"] = name.into();
    }
    let policy = class.as_ref().and_then(|class| class["preemptionPolicy"].as_str());
    let policy = policy.unwrap_or("PreemptLowerPriority");
    if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}
