//! The rules of annotations of pods and templates that mean something to Kubernetes: `validation.ValidatePodSpecificAnnotations`, and its
//! siblings of what older manifests say of how containers are confined.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, field::quoted};
use serde_json::{Map, Value};

use super::{
    legacy_annotations::{APP_ARMOR, SECCOMP, SECCOMP_OF_POD},
    mirror_pod, pod_spec, security_context, text,
    visit::{self, containers},
};
use crate::registry::ErrorList;

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";

fn of(pod: &Value) -> impl Iterator<Item = (&String, &str)> {
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    annotations.map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

fn one<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"].get(key).map(|value| value.as_str().unwrap_or_default())
}

/// Finds the errors of the annotations of a pod, or of a template.
pub(crate) fn validate(pod: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if !pod["metadata"]["annotations"].is_object() {
        return;
    }
    if let Some(value) = one(pod, mirror_pod::MARK)
        && text(&pod["spec"], "nodeName").is_empty()
    {
        let message = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&path.key(mirror_pod::MARK), value, message));
    }
    if let Some(tolerations) = one(pod, TOLERATIONS).filter(|value| !value.is_empty()) {
        match serde_json::from_str::<Vec<Map<String, Value>>>(tolerations) {
            Ok(tolerations) => {
                let path = path.child(TOLERATIONS);
                for (index, entry) in tolerations.into_iter().enumerate() {
                    pod_spec::toleration(&Value::Object(entry), &path.index(index), errors);
                }
            }
            Err(error) => errors.push(FieldError::invalid(path, TOLERATIONS, &error.to_string())),
        }
    }
    if let Some(cost) = one(pod, COST).filter(|cost| !is_cost(cost)) {
        errors.push(FieldError::invalid(&path.key(COST), cost, "must be a 32bit integer"));
    }
    // kube-apiserver names these places as fields.
    if let Some(profile) = one(pod, SECCOMP_OF_POD) {
        seccomp(profile, &path.child(SECCOMP_OF_POD), errors);
    }
    for (key, profile) in of(pod).filter(|(key, _)| key.starts_with(SECCOMP)) {
        seccomp(profile, &path.child(key), errors);
    }
    app_armor(pod, path, errors);
}

/// How gladly a pod goes before others (KEP-2255).
fn is_cost(text: &str) -> bool {
    let plain = text == "0" || text.starts_with(|first: char| first == '-' || matches!(first, '1'..='9'));
    plain && text.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, path: &FieldPath, errors: &mut ErrorList) {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(local) => security_context::descending(local, path, errors),
        None => errors.push(FieldError::invalid(path, profile, "must be a valid seccomp profile")),
    }
}

/// `validation.ValidateAppArmorPodAnnotations`.
fn app_armor(pod: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let mut known: Option<HashSet<&str>> = None;
    for (key, profile) in of(pod) {
        let Some(container) = key.strip_prefix(APP_ARMOR) else { continue };
        let path = path.key(key);
        let known = known.get_or_insert_with(|| {
            containers(&pod["spec"]).map(|container| text(container, "name")).collect()
        });
        if !known.contains(container) {
            errors.push(FieldError::invalid(&path, container, "container not found"));
        }
        if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
            let message = format!("invalid AppArmor profile name: {}", quoted(profile));
            errors.push(FieldError::invalid(&path, profile, &message));
        }
    }
}

/// What stays as a pod was made with it: `validation.ValidatePodSpecificAnnotationUpdates`.
pub(crate) fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("metadata.annotations");
    let what = |key: &str| match key {
        mirror_pod::MARK => Some("mirror pod annotation"),
        _ => key.starts_with(APP_ARMOR).then_some("AppArmor annotations"),
    };
    for (key, _) in of(old).filter(|(key, value)| one(new, key) != Some(*value)) {
        if let Some(what) = what(key) {
            errors.push(FieldError::forbidden(&path.key(key), &format!("may not remove or update {what}")));
        }
    }
    for (key, _) in of(new).filter(|(key, _)| one(old, key).is_none()) {
        if let Some(what) = what(key) {
            errors.push(FieldError::forbidden(&path.key(key), &format!("may not add {what}")));
        }
    }
}

/// How profiles are called in annotations.
struct Words {
    kind: &'static str,
    profile: &'static str,
    defaults: &'static [&'static str],
}

const OF_SECCOMP: Words = Words {
    kind: "seccomp type in annotation and field must match",
    profile: "seccomp profile in annotation and field must match",
    defaults: &["runtime/default", "docker/default"],
};
const OF_APP_ARMOR: Words = Words {
    kind: "apparmor type in annotation and field must match",
    profile: "apparmor profile in annotation and field must match",
    defaults: &["runtime/default"],
};

impl Words {
    /// Whether an annotation and a field say the same.
    fn check(&self, said: &str, profile: &Value, path: &FieldPath, errors: &mut ErrorList) {
        let fits = match text(profile, "type") {
            "Unconfined" => said == "unconfined",
            "RuntimeDefault" => self.defaults.contains(&said),
            "Localhost" => match said.strip_prefix("localhost/") {
                Some(local) => {
                    if profile["localhostProfile"].as_str() != Some(local) {
                        errors.push(FieldError::forbidden(&path.child("localhostProfile"), self.profile));
                    }
                    true
                }
                None => false,
            },
            _ => true,
        };
        if !fits {
            errors.push(FieldError::forbidden(&path.child("type"), self.kind));
        }
    }
}

/// What annotations say is what fields say: `validation.validateSeccompAnnotationsAndFields` and
/// `validateAppArmorAnnotationsAndFieldsMatchOnCreate`.
pub(crate) fn match_fields(pod: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if !pod["metadata"]["annotations"].is_object() {
        return;
    }
    let (spec, whole) = (&pod["spec"], &pod["spec"]["securityContext"]);
    if let Some(said) = one(pod, SECCOMP_OF_POD) {
        let path = path.child("securityContext").child("seccompProfile");
        OF_SECCOMP.check(said, &whole["seccompProfile"], &path, errors);
    }
    for (container, path) in visit::placed(spec, path) {
        if let Some(said) = one(pod, &format!("{SECCOMP}{}", text(container, "name"))) {
            let path = path.child("securityContext").child("seccompProfile");
            OF_SECCOMP.check(said, &container["securityContext"]["seccompProfile"], &path, errors);
        }
    }
    if spec["os"]["name"] == "windows" {
        return;
    }
    for (container, path) in visit::placed(spec, path) {
        if let Some(said) = one(pod, &format!("{APP_ARMOR}{}", text(container, "name"))) {
            let own = &container["securityContext"]["appArmorProfile"];
            let profile = if own.is_null() { &whole["appArmorProfile"] } else { own };
            let path = path.child("securityContext").child("appArmorProfile");
            OF_APP_ARMOR.check(said, profile, &path, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(rule: impl FnOnce(&mut ErrorList), expect: &[&str]) {
        let mut errors = ErrorList::new();
        rule(&mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    fn with(annotations: Value) -> Value {
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "c"}]}})
    }

    #[track_caller]
    fn check(annotations: Value, expect: &[&str]) {
        told(|errors| validate(&with(annotations), &"a".into(), errors), expect);
    }

    #[test]
    fn annotations_confine_only_containers_that_are_there() {
        check(
            json!({
                "container.apparmor.security.beta.kubernetes.io/c": "odd",
                "container.apparmor.security.beta.kubernetes.io/none": "runtime/default",
            }),
            &[
                r#"a[container.apparmor.security.beta.kubernetes.io/c]: Invalid value: "odd": invalid AppArmor profile name: "odd""#,
                r#"a[container.apparmor.security.beta.kubernetes.io/none]: Invalid value: "none": container not found"#,
            ],
        );
        let of_pod = "seccomp.security.alpha.kubernetes.io/pod";
        for good in ["runtime/default", "docker/default", "unconfined", "localhost/a/b"] {
            check(json!({of_pod: good}), &[]);
        }
        check(
            json!({of_pod: "localhost/../a", "container.seccomp.security.alpha.kubernetes.io/c": "odd"}),
            &[
                r#"a.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "../a": must not contain '..'"#,
                r#"a.container.seccomp.security.alpha.kubernetes.io/c: Invalid value: "odd": must be a valid seccomp profile"#,
            ],
        );
    }

    #[test]
    fn what_it_costs_to_delete_a_pod_is_a_number() {
        for good in ["0", "-1", "10", "2147483647"] {
            check(json!({COST: good}), &[]);
        }
        for bad in ["", "+10", "008", "1.5", "2147483648", "-"] {
            let error = format!("a[{COST}]: Invalid value: {bad:?}: must be a 32bit integer");
            check(json!({COST: bad}), &[&error]);
        }
    }

    #[test]
    fn what_annotations_tolerate_is_what_fields_could() {
        check(json!({TOLERATIONS: r#"[{"key": "a", "operator": "Exists"}]"#}), &[]);
        check(json!({TOLERATIONS: ""}), &[]);
        check(
            json!({TOLERATIONS: r#"[{"key": "a", "operator": "Odd"}]"#}),
            &[&format!(
                r#"a.{TOLERATIONS}[0].operator: Unsupported value: "Odd": supported values: "Equal", "Exists""#
            )],
        );
        let mut errors = ErrorList::new();
        validate(&with(json!({TOLERATIONS: "x"})), &"a".into(), &mut errors);
        assert!(
            errors[0].to_string().starts_with(&format!("a: Invalid value: {TOLERATIONS:?}: ")),
            "{}",
            errors[0]
        );
    }

    #[test]
    fn a_pod_is_a_mirror_and_confined_from_the_start() {
        let check = |old: Value, new: Value, expect: &[&str]| {
            told(|errors| validate_update(&with(new), &with(old), errors), expect);
        };
        check(json!({"a": "b"}), json!({"a": "c"}), &[]);
        for (key, what) in [
            (mirror_pod::MARK, "mirror pod annotation"),
            ("container.apparmor.security.beta.kubernetes.io/c", "AppArmor annotations"),
        ] {
            let error = |verb: &str| format!("metadata.annotations[{key}]: Forbidden: may not {verb} {what}");
            check(json!({key: "x"}), json!({key: "x"}), &[]);
            check(json!({}), json!({key: "x"}), &[&error("add")]);
            for now in [json!({}), json!({key: "y"})] {
                check(json!({key: "x"}), now, &[&error("remove or update")]);
            }
        }
        let mut mirror = with(json!({mirror_pod::MARK: "x"}));
        told(
            |errors| validate(&mirror, &"a".into(), errors),
            &[
                "a[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
            ],
        );
        mirror["spec"]["nodeName"] = "n".into();
        told(|errors| validate(&mirror, &"a".into(), errors), &[]);
    }

    #[test]
    fn annotations_and_fields_say_the_same() {
        let check = |annotations: Value, of_pod: Value, of_container: Value, expect: &[&str]| {
            let spec = json!({"securityContext": of_pod, "containers": [{"name": "c", "securityContext": of_container}]});
            let pod = json!({"metadata": {"annotations": annotations}, "spec": spec});
            told(|errors| match_fields(&pod, &"spec".into(), errors), expect);
        };
        let seccomp = |kind: &str| json!({"seccompProfile": {"type": kind}});
        let none = || json!({});
        check(json!({SECCOMP_OF_POD: "docker/default"}), seccomp("RuntimeDefault"), none(), &[]);
        check(json!({SECCOMP_OF_POD: "unconfined"}), none(), none(), &[]);
        check(
            json!({SECCOMP_OF_POD: "unconfined"}),
            seccomp("RuntimeDefault"),
            none(),
            &[
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            ],
        );
        let key = format!("{SECCOMP}c");
        check(
            json!({key: "localhost/a"}),
            none(),
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "b"}}),
            &[
                "spec.containers[0].securityContext.seccompProfile.localhostProfile: Forbidden: seccomp profile in annotation and field must match",
            ],
        );
        let key = format!("{APP_ARMOR}c");
        let app_armor = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        let error = "spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match";
        check(json!({key.as_str(): "unconfined"}), app_armor("RuntimeDefault"), none(), &[error]);
        check(json!({key.as_str(): "unconfined"}), app_armor("RuntimeDefault"), app_armor("Unconfined"), &[]);
        check(json!({key.as_str(): "runtime/default"}), none(), app_armor("Localhost"), &[error]);
    }
}
