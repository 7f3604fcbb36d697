//! Fields of Pods behind features that are off in Kubernetes 1.36: they are left out, unless the pod had some before
//! (`podutil.DropDisabledPodFields`). Templates keep them, for members may have the features on.

use serde_json::{Value, json};

use crate::validation::{items, items_mut, visit};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const STATES: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
/// `ClusterTrustBundleProjection` and `PodCertificateRequest`.
const PROJECTIONS: [&str; 2] = ["clusterTrustBundle", "podCertificate"];

/// Leaves them out of a pod; there is no old one of a new pod.
pub(super) fn leave_out(pod: &mut Value, old: Option<&Value>) {
    let none = json!({});
    let old = old.unwrap_or(&none);
    let (spec, before) = (&mut pod["spec"], &old["spec"]);
    for projection in PROJECTIONS {
        let mut known = items(before, "volumes").flat_map(|volume| items(&volume["projected"], "sources"));
        if known.any(|source| source[projection].is_object()) {
            continue;
        }
        for volume in items_mut(spec, "volumes") {
            let Some(projected) = volume.get_mut("projected") else { continue };
            for source in items_mut(projected, "sources").filter_map(Value::as_object_mut) {
                source.remove(projection);
            }
        }
    }
    // `GenericWorkload`
    if before["schedulingGroup"].is_null()
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("schedulingGroup");
    }
    // `ContainerStopSignals`
    if visit::containers(before).all(|container| container["lifecycle"]["stopSignal"].is_null()) {
        for list in LISTS {
            for container in items_mut(spec, list).filter_map(Value::as_object_mut) {
                let lifecycle = container.get_mut("lifecycle").and_then(Value::as_object_mut);
                let Some(lifecycle) = lifecycle else { continue };
                if lifecycle.remove("stopSignal").is_some() && lifecycle.values().all(Value::is_null) {
                    container.remove("lifecycle");
                }
            }
        }
    }
    of_status(pod, old);
}

fn of_status(pod: &mut Value, old: &Value) {
    let (Some(status), before) = (pod.get_mut("status"), &old["status"]) else { return };
    // `ImageVolumeWithDigest`
    let mounts = |state: &Value| items(state, "volumeMounts").any(|mount| !mount["volumeStatus"].is_null());
    if !STATES.into_iter().flat_map(|list| items(before, list)).any(mounts) {
        for list in STATES {
            for state in items_mut(status, list) {
                for mount in items_mut(state, "volumeMounts").filter_map(Value::as_object_mut) {
                    mount.remove("volumeStatus");
                }
            }
        }
    }
    // `DRANodeAllocatableResources`
    const CLAIMS: &str = "nodeAllocatableResourceClaimStatuses";
    if items(before, CLAIMS).next().is_none()
        && let Some(status) = status.as_object_mut()
    {
        status.remove(CLAIMS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(signal: &str) -> Value {
        json!({
            "spec": {
                "schedulingGroup": {"podGroupName": "g"},
                "containers": [
                    {"name": "a", "lifecycle": {"stopSignal": signal}},
                    {"name": "b", "lifecycle": {"stopSignal": signal, "preStop": {"sleep": {"seconds": 1}}}},
                ],
                "volumes": [
                    {"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "p"}}, {"podCertificate": {}}]}},
                    {"name": "w", "emptyDir": {}},
                ],
            },
            "status": {
                "containerStatuses": [{"name": "a", "volumeMounts": [{"name": "v", "volumeStatus": {}}]}],
                "nodeAllocatableResourceClaimStatuses": [{"resourceClaimName": "c"}],
            },
        })
    }

    #[test]
    fn what_is_behind_gates_is_left_out_unless_it_was_there() {
        let mut new = pod("SIGINT");
        leave_out(&mut new, None);
        let plain = json!({
            "spec": {
                "containers": [{"name": "a"}, {"name": "b", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}],
                "volumes": [{"name": "v", "projected": {"sources": [{}, {}]}}, {"name": "w", "emptyDir": {}}],
            },
            "status": {"containerStatuses": [{"name": "a", "volumeMounts": [{"name": "v"}]}]},
        });
        assert_eq!(new, plain);
        let mut again = pod("SIGINT");
        leave_out(&mut again, Some(&plain));
        assert_eq!(again, plain);
        let mut kept = pod("SIGTERM");
        leave_out(&mut kept, Some(&pod("SIGINT")));
        assert_eq!(kept, pod("SIGTERM"));
        let mut untouched = json!({"spec": {"containers": [{"name": "a", "lifecycle": {}}]}});
        leave_out(&mut untouched, None);
        assert_eq!(untouched["spec"]["containers"][0]["lifecycle"], json!({}));
    }
}
