//! What a new Pod is given by the admission plugins of kube-apiserver: a service account, a priority, and some patience with its node.

use apimachinery::{ApiError, field::quoted, names::SUFFIX_LEN};
use serde_json::{Value, json};

use super::{accounts, limits, ranges};
use crate::{
    store::{Key, ResourceKey, Snapshot},
    validation::{mirror, spreading},
    verbs::Call,
};

/// How long a pod stays on a node that is lost, unless it says otherwise: `DefaultTolerationSeconds`.
const TOLERATION_SECONDS: i64 = 300;
const LOST: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Fills in what other objects, and nobody else, say about a new Pod.
pub(super) fn complete(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    for range in ranges(call) {
        limits::default_pod(&range, object);
    }
    spreading::settle_keys(object);
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    // What a kubelet runs by itself acts as nobody.
    let is_mirror = mirror::is_mirror(object);
    if is_mirror && let Some(why) = mirror::wrong_reference(object) {
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
        accounts::endow(spec, account.as_ref(), random);
    }
    tolerate(spec);
    prioritise(&call.shared.storage.snapshot(), spec)
        .map_err(|why| ApiError::forbidden(&call.resource(), &name, &why))?;
    if let Some(class) = spec["runtimeClassName"].as_str().filter(|class| !class.is_empty()) {
        let key = Key::new(ResourceKey::new("node.k8s.io", "runtimeclasses"), "", class);
        if call.shared.storage.get(&key).is_none() {
            let why = format!("pod rejected: RuntimeClass {} not found", quoted(class));
            return Err(ApiError::forbidden(&call.resource(), &name, &why));
        }
    }
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

/// The plugin `Priority`: the number that the class stands for.
fn prioritise(snapshot: &Snapshot, spec: &mut Value) -> Result<(), String> {
    let classes = ResourceKey::new("scheduling.k8s.io", "priorityclasses");
    let asked = spec["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let class = if asked.is_empty() {
        let all = snapshot.range(&classes, None, None).filter_map(|stored| stored.value().ok());
        all.filter(|class| class["globalDefault"] == true).min_by_key(|class| class["value"].as_i64())
    } else {
        let found =
            snapshot.get(&Key::new(classes, "", asked.as_str())).and_then(|stored| stored.value().ok());
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
    if spec["preemptionPolicy"].is_null() {
        let policy = class.as_ref().and_then(|class| class["preemptionPolicy"].as_str());
        spec["preemptionPolicy"] = policy.unwrap_or("PreemptLowerPriority").into();
    }
    Ok(())
}
