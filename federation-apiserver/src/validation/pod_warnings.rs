//! What the writer of a pod, or of a template for pods, is warned of: what is taken, and will not do what he may think
//! (`pod.GetWarningsForPod`).

use std::collections::{HashMap, HashSet};

use apimachinery::{FieldPath, field::quoted, names};
use serde_json::Value;

use super::{
    items,
    legacy_annotations::{APP_ARMOR, SECCOMP, SECCOMP_OF_POD},
    overlapping_paths, quantities, text, visit,
};

/// Of a new Pod.
pub(crate) fn of_pod(pod: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    of_name(pod, "the Pod's hostname", &mut warnings);
    all(pod, None, &mut warnings);
    warnings
}

/// Of a template.
pub(crate) fn of_template(template: &Value, path: &FieldPath) -> Vec<String> {
    let mut warnings = Vec::new();
    all(template, Some(path), &mut warnings);
    warnings
}

/// Of a workload that makes pods by `spec.template`; of a change only if the spec is another one.
pub(crate) fn of_workload(object: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some_and(|old| old["spec"] == object["spec"]) {
        return Vec::new();
    }
    of_template(&object["spec"]["template"], &"spec.template".into())
}

/// The same of a workload whose pods have its name in their own.
pub(crate) fn of_named_workload(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        of_name(object, "Pod names and hostnames", &mut warnings);
    }
    warnings.extend(of_workload(object, old));
    warnings
}

pub(crate) fn of_name(object: &Value, used: &str, warnings: &mut Vec<String>) {
    let name = text(&object["metadata"], "name");
    let errors = names::dns1123_label(name);
    if !errors.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            errors.join(" ")
        ));
    }
}

/// Labels of nodes that have other names by now.
const LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// Since when a label of nodes is called otherwise.
pub(crate) fn former(label: &str) -> Option<String> {
    let (_, since, now) = LABELS.iter().find(|(name, ..)| *name == label)?;
    Some(format!("deprecated since {since}; use \"{now}\" instead"))
}

/// What a label of nodes is called by now.
pub(crate) fn newer(label: &str) -> Option<&'static str> {
    LABELS.iter().find(|(name, ..)| *name == label).map(|(_, _, now)| *now)
}

/// What is warned of in requirements of nodes' labels.
pub(crate) fn of_requirements(term: &Value, list: &str, path: &FieldPath) -> Vec<String> {
    let all = items(term, list).enumerate();
    let told = all.filter_map(|(index, requirement)| {
        let key = text(requirement, "key");
        let path = path.child(list).index(index).child("key");
        former(key).map(|why| format!("{}: {key} is {why}", path.as_str()))
    });
    told.collect()
}

/// What is warned of labels of nodes that are selected by.
pub(crate) fn of_labels(labels: &Value, path: &FieldPath) -> Vec<String> {
    let all = labels.as_object().into_iter().flatten();
    all.filter_map(|(label, _)| Some(format!("{}: {}", path.child(label).as_str(), former(label)?))).collect()
}

/// Since when a source of volumes went.
pub(crate) fn former_source(name: &str) -> Option<&'static str> {
    VOLUMES.iter().find(|(source, _)| *source == name).map(|(_, why)| *why)
}

/// Annotations that nobody reads any more.
const ANNOTATIONS: [(&str, &str, &str); 3] = [
    ("scheduler.alpha.kubernetes.io/critical-pod", "v1.16", "priorityClassName"),
    ("security.alpha.kubernetes.io/sysctls", "v1.11", "sysctls"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "v1.11", "sysctls"),
];

/// Sources of volumes that went.
const VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// `warningsForPodSpecAndMeta`; `at` is where a template stands.
fn all(pod: &Value, at: Option<&FieldPath>, warnings: &mut Vec<String>) {
    let child = |name: &str| at.map_or_else(|| FieldPath::new(name), |at| at.child(name));
    let (spec, path) = (&pod["spec"], child("spec"));
    let annotations = child("metadata").child("annotations");
    let annotated = |key: &str| pod["metadata"]["annotations"].get(key).is_some();
    nodes(spec, &path, warnings);
    for (key, since, field) in ANNOTATIONS.iter().filter(|(key, ..)| annotated(key)) {
        warnings.push(format!(
            "{}: non-functional in {since}+; use the \"{field}\" field instead",
            annotations.key(key).as_str()
        ));
    }
    volumes(spec, &path, warnings);
    overlapping_paths::warn(spec, &path, warnings);
    lists(spec, &path, warnings);
    for name in ["memory", "ephemeral-storage"] {
        whole(&spec["overhead"], name, &path.child("overhead"), warnings);
    }
    let seccomp = |context: &Value, key: &str, warnings: &mut Vec<String>| {
        if context["seccompProfile"].is_null() && annotated(key) {
            warnings.push(format!(
                "{}: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                annotations.key(key).as_str()
            ));
        }
    };
    seccomp(&spec["securityContext"], SECCOMP_OF_POD, warnings);
    let confined = !spec["securityContext"]["appArmorProfile"].is_null();
    for (container, path) in visit::placed(spec, &path) {
        let context = &container["securityContext"];
        seccomp(context, &format!("{SECCOMP}{}", text(container, "name")), warnings);
        let key = format!("{APP_ARMOR}{}", text(container, "name"));
        // Those of a pod are carried over to the fields, and told of then.
        if at.is_some() && !confined && context["appArmorProfile"].is_null() && annotated(&key) {
            warnings.push(format!(
                "{}: deprecated since v1.30; use the \"appArmorProfile\" field instead",
                annotations.key(&key).as_str()
            ));
        }
        for name in ["memory", "ephemeral-storage"] {
            for part in ["limits", "requests"] {
                let path = path.child("resources").child(part);
                whole(&container["resources"][part], name, &path, warnings);
            }
        }
        environment(container, &path, warnings);
    }
    ports(spec, &path, warnings);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            path.child("terminationGracePeriodSeconds").as_str()
        ));
    }
    let unselected = |term: &Value, path: FieldPath, warnings: &mut Vec<String>| {
        if term["labelSelector"].is_null() {
            warnings.push(format!("{}: {MATCHES_NONE}", path.child("labelSelector").as_str()));
        }
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (affinity, path) = (&spec["affinity"][kind], path.child("affinity").child(kind));
        for (index, term) in items(affinity, REQUIRED).enumerate() {
            unselected(term, path.child(REQUIRED).index(index), warnings);
        }
        for (index, term) in items(affinity, PREFERRED).enumerate() {
            let path = path.child(PREFERRED).index(index).child("podAffinityTerm");
            unselected(&term["podAffinityTerm"], path, warnings);
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const MATCHES_NONE: &str = "a null labelSelector results in matching no pod";

/// Labels that nodes are chosen by.
fn nodes(spec: &Value, path: &FieldPath, warnings: &mut Vec<String>) {
    for (key, _) in spec["nodeSelector"].as_object().into_iter().flatten() {
        if let Some(why) = former(key) {
            warnings.push(format!("{}: {why}", path.child("nodeSelector").key(key).as_str()));
        }
    }
    let mut term = |term: &Value, path: FieldPath| {
        for (index, expression) in items(term, "matchExpressions").enumerate() {
            let key = text(expression, "key");
            if let Some(why) = former(key) {
                let path = path.child("matchExpressions").index(index).child("key");
                warnings.push(format!("{}: {key} is {why}", path.as_str()));
            }
        }
    };
    let (affinity, place) = (&spec["affinity"]["nodeAffinity"], path.child("affinity").child("nodeAffinity"));
    for (index, found) in items(&affinity[REQUIRED], "nodeSelectorTerms").enumerate() {
        term(found, place.child(REQUIRED).child("nodeSelectorTerms").index(index));
    }
    for (index, found) in items(affinity, PREFERRED).enumerate() {
        term(&found["preference"], place.child(PREFERRED).index(index).child("preference"));
    }
    for (index, spread) in items(spec, "topologySpreadConstraints").enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let key = text(spread, "topologyKey");
        if let Some(why) = former(key) {
            warnings.push(format!("{}: {key} is {why}", path.child("topologyKey").as_str()));
        }
        if spread["labelSelector"].is_null() {
            warnings.push(format!("{}: {MATCHES_NONE}", path.child("labelSelector").as_str()));
        }
    }
}

fn volumes(spec: &Value, path: &FieldPath, warnings: &mut Vec<String>) {
    for (index, volume) in items(spec, "volumes").enumerate() {
        for (source, why) in VOLUMES.iter().filter(|(source, _)| volume[*source].is_object()) {
            let source = if *source == "storageos" { "storageOS" } else { source };
            let path = path.child("volumes").index(index).child(source);
            warnings.push(format!("{}: {why}", path.as_str()));
        }
        let claim = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
        let place = path.child("volumes").index(index).child("ephemeral").child("volumeClaimTemplate");
        let place = place.child("spec").child("resources").child("requests");
        whole(&claim["resources"]["requests"], "storage", &place, warnings);
    }
}

/// Entries of lists that are there twice, or say nothing.
fn lists(spec: &Value, path: &FieldPath, warnings: &mut Vec<String>) {
    for (list, field, called) in [("hostAliases", "ip", "ip"), ("imagePullSecrets", "name", "name")] {
        let mut seen = HashSet::new();
        for (index, item) in items(spec, list).enumerate() {
            let value = text(item, field);
            if !seen.insert(value) {
                let path = path.child(list).index(index).child(field);
                warnings.push(format!("{}: duplicate {called} {}", path.as_str(), quoted(value)));
            }
        }
    }
    for (index, secret) in items(spec, "imagePullSecrets").enumerate() {
        if text(secret, "name").is_empty() {
            let path = path.child("imagePullSecrets").index(index).child("name");
            warnings.push(format!("{}: invalid empty name \"\"", path.as_str()));
        }
    }
}

/// Bytes come whole.
fn whole(amounts: &Value, name: &str, path: &FieldPath, warnings: &mut Vec<String>) {
    let Some(amount) = quantities::parse(&amounts[name]) else { return };
    if amount.millis() % 1000 != 0 {
        let shown = quoted(&amount.to_string());
        warnings.push(format!(
            "{}: fractional byte value {shown} is invalid, must be an integer",
            path.key(name).as_str()
        ));
    }
}

/// A variable that hides an earlier one without being made from it.
fn environment(container: &Value, path: &FieldPath, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, variable) in items(container, "env").enumerate() {
        let name = text(variable, "name");
        if seen.insert(name) {
            continue;
        }
        let (reference, value) = (format!("$({name})"), text(variable, "value"));
        if variable["valueFrom"].is_object() || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.child("env").index(index).as_str(),
                quoted(name)
            ));
        }
    }
}

/// A port of a container: its place, and the address and the port of the host.
type Claimed<'a> = (FieldPath, &'a str, i64);

/// Ports that are the same, or may be.
fn ports(spec: &Value, path: &FieldPath, warnings: &mut Vec<String>) {
    let mut known: HashMap<(i64, &str), Vec<Claimed<'_>>> = HashMap::new();
    for (container, path) in visit::placed(spec, path) {
        for (index, port) in items(container, "ports").enumerate() {
            let place = path.child("ports").index(index);
            let number = |name: &str| port[name].as_i64().unwrap_or_default();
            let (ip, host) = (text(port, "hostIP"), number("hostPort"));
            let (own, protocol) = (number("containerPort"), text(port, "protocol"));
            if !ip.is_empty() && host == 0 {
                warnings.push(format!(
                    "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{own} Protocol:{protocol} HostIP:{ip}}}",
                    place.as_str(),
                    text(port, "name")
                ));
            }
            let others = known.entry((own, protocol)).or_default();
            // What many share is told of the first few: the answer has only so much room.
            for (other, other_ip, other_host) in others.iter().take(SHARED) {
                let how = if ip == *other_ip && host == *other_host {
                    "duplicate"
                } else if host == 0 || *other_host == 0 {
                    "overlapping"
                } else if host == *other_host && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{}: {how} port definition with {}", place.as_str(), other.as_str()));
            }
            others.push((place, ip, host));
        }
    }
}

/// Ports of the same number that each one is compared with. kube-apiserver compares all pairs, which takes quadratic time.
const SHARED: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_taken_and_not_meant_is_told() {
        let pod = json!({
            "metadata": {"name": "a.b", "annotations": {"scheduler.alpha.kubernetes.io/critical-pod": ""}},
            "spec": {
                "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                "containers": [{
                    "name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                    "resources": {"requests": {"memory": "100m"}},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}],
                }],
                "volumes": [{"name": "v", "glusterfs": {}}],
                "imagePullSecrets": [{"name": ""}],
                "terminationGracePeriodSeconds": -1,
                "topologySpreadConstraints": [{"topologyKey": "zone"}],
            },
        });
        assert_eq!(
            of_pod(&pod),
            [
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead",
                "spec.volumes[0].glusterfs: deprecated in v1.25, non-functional in v1.26+",
                "spec.imagePullSecrets[0].name: invalid empty name \"\"",
                "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ]
        );
    }

    #[test]
    fn a_variable_that_is_made_from_an_earlier_one_hides_nothing() {
        let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]);
        assert_eq!(
            of_pod(&json!({"metadata": {"name": "a"}, "spec": {"containers": [{"env": env}]}})),
            [""; 0]
        );
    }

    #[test]
    fn templates_are_told_where_they_stand_and_again_only_if_they_change() {
        let object = |image: &str| {
            json!({
                "metadata": {"name": "web"},
                "spec": {"template": {"spec": {"hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}], "containers": [{"image": image}]}}},
            })
        };
        let expect = ["spec.template.spec.hostAliases[1].ip: duplicate ip \"1.2.3.4\""];
        assert_eq!(of_named_workload(&object("a"), None), expect);
        assert_eq!(of_named_workload(&object("b"), Some(&object("a"))), expect);
        assert_eq!(of_named_workload(&object("a"), Some(&object("a"))), [""; 0]);
    }
}
