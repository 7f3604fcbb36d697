//! What kinds with a selector and a pod template share: columns, defaults, rules.

use apimachinery::{
    FieldError, FieldPath,
    labels::{Selector, validate_label_selector},
};
use serde_json::{Value, json};

use super::pod;
use crate::registry::{Column, ErrorList, joined};

pub(crate) const CONTAINERS: Column =
    Column::text("Containers", "Names of each container in the template.", |object, _| {
        containers(&object["spec"]["template"], "name")
    })
    .wide();
pub(crate) const IMAGES: Column =
    Column::text("Images", "Images referenced by each container in the template.", |object, _| {
        containers(&object["spec"]["template"], "image")
    })
    .wide();
pub(crate) const SELECTOR: Column = Column::text("Selector", "Label selector for pods.", |object, _| {
    selector(object["spec"].get("selector"))
})
.wide();

/// One field of each container of a template, comma-separated.
pub(crate) fn containers(template: &Value, field: &str) -> Value {
    let all = template["spec"]["containers"].as_array().into_iter().flatten();
    all.filter_map(|container| container[field].as_str()).collect::<Vec<_>>().join(",").into()
}

/// `metav1.FormatLabelSelector`.
pub(crate) fn selector(selector: Option<&Value>) -> Value {
    match Selector::from_label_selector(selector) {
        Ok(found) if found.is_everything() => "<none>".into(),
        Ok(found) => found.to_string().into(),
        Err(_) => "<error>".into(),
    }
}

/// `labels.FormatLabels`: `a=b,c=d`, or `<none>`.
pub(crate) fn labels(labels: &Value) -> Value {
    let pairs = labels.as_object().into_iter().flatten();
    joined(pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())))
}

/// Fills in what kube-apiserver fills into a pod template.
pub(crate) fn default_template(spec: &mut Value) {
    // In Go it is there in any case, and what it lacks is told.
    if spec.is_object() {
        if !spec["template"].is_object() {
            spec["template"] = json!({});
        }
        if !spec["template"]["spec"].is_object() {
            spec["template"]["spec"] = json!({});
        }
        pod::default_spec(&mut spec["template"]["spec"]);
    }
}

/// The selector of a workload: there, well-formed, not empty, and fitting the labels of the template.
pub(crate) fn validate_selector(spec: &Value, path: &FieldPath, kind: &str, errors: &mut ErrorList) {
    let selector_path = path.child("selector");
    let labels_path = path.child("template").child("metadata").child("labels");
    let labels = || spec["template"]["metadata"].get("labels").cloned().unwrap_or_else(|| json!({}));
    let mismatch =
        || FieldError::invalid(&labels_path, labels(), "`selector` does not match template `labels`");
    let Some(selector) = spec.get("selector").filter(|selector| !selector.is_null()) else {
        // No selector matches nothing, so both are told.
        errors.push(FieldError::required(&selector_path, ""));
        errors.push(mismatch());
        return;
    };
    let found = validate_label_selector(selector, &selector_path);
    let good = found.is_empty();
    errors.extend(found);
    let parsed = match Selector::from_label_selector(Some(selector)) {
        Ok(parsed) if good || kind != "deployment" => parsed,
        _ if kind == "deployment" => {
            errors.push(FieldError::invalid(&selector_path, selector.clone(), "invalid label selector"));
            return;
        }
        _ => return,
    };
    if parsed.is_everything() {
        let message = format!("empty selector is invalid for {kind}");
        errors.push(FieldError::invalid(&selector_path, selector.clone(), &message));
    } else if good && !parsed.matches_object(&spec["template"]) {
        errors.push(mismatch());
    }
}

/// The pod template of a workload: there, well-formed, and with a restart policy that the kind takes.
pub(crate) fn validate_template(spec: &Value, path: &FieldPath, kind: &str, errors: &mut ErrorList) {
    let policies: &[&str] = if kind == "Job" { &["Never", "OnFailure"] } else { &["Always"] };
    let path = path.child("template");
    if !spec["template"].is_object() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    pod::validate_template(&spec["template"], &path, errors);
    let policy = spec["template"]["spec"]["restartPolicy"].as_str().unwrap_or_default();
    if !policies.contains(&policy) && spec["template"]["spec"].is_object() {
        let path = path.child("spec").child("restartPolicy");
        errors.push(if policies == ["Always"] {
            FieldError::not_supported(&path, policy, policies)
        } else {
            FieldError::required(&path, "valid values: \"OnFailure\", \"Never\"")
        });
    }
    if !spec["template"]["spec"]["activeDeadlineSeconds"].is_null() && policies == ["Always"] {
        let message = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&path.child("spec").child("activeDeadlineSeconds"), &message));
    }
}
