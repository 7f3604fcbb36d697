//! batch/v1 Job.

use apimachinery::{FieldError, FieldPath, labels::validate_label_selector};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::batch_policies as policies;
use crate::{
    registry::{Column, Faults, Generation, Kind, human_duration},
    validation::{immutable, non_negative, one_of, pod_warnings, set, text, workload},
};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    orphans: true,
    singular: "job",
    categories: &["all"],
    status: true,
    generation: Generation::Spec,
    columns: &[
        Column::NAME,
        Column::text("Status", "Status of the job.", |object, _| state(object).into()),
        Column::text("Completions", "The number of pods which reached phase Succeeded.", |object, _| {
            completions(object)
        }),
        Column::text("Duration", "Time required to complete the job.", duration),
        Column::AGE,
        workload::CONTAINERS,
        workload::IMAGES,
        workload::SELECTOR,
    ],
    selectable: &[("status.successful", "/status/succeeded")],
    default,
    prepare_create,
    prepare_update: |_, _| {},
    validate: |object, faults| {
        validate_spec(&object["spec"], &"spec".into(), faults);
        validate_selector(object, faults);
        non_negative(&object["status"], &"status".into(), &["active", "succeeded", "failed"], faults);
    },
    validate_update,
    warn: |object, old| {
        let (mut warnings, spec) = (Vec::new(), &object["spec"]);
        if old.is_none() {
            pod_warnings::of_name(object, "Pod names and hostnames", &mut warnings);
        }
        if old.is_none_or(|old| old["spec"] != *spec) {
            warnings.extend(policies::warn(spec, &"spec".into()));
        }
        warnings
    },
    ..Kind::BUILT_IN
}];

fn has(object: &Value, kind: &str) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn state(object: &Value) -> &'static str {
    if has(object, "Complete") {
        return "Complete";
    }
    if has(object, "Failed") {
        return "Failed";
    }
    if crate::validation::deleting(object) {
        return "Terminating";
    }
    let others = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    others.into_iter().find(|kind| has(object, kind)).unwrap_or("Running")
}

fn completions(object: &Value) -> Value {
    let done = object["status"]["succeeded"].as_i64().unwrap_or_default();
    let parallel = object["spec"]["parallelism"].as_i64().unwrap_or_default();
    match object["spec"]["completions"].as_i64() {
        Some(all) => format!("{done}/{all}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    }
    .into()
}

fn duration(object: &Value, now: Timestamp) -> Value {
    let time = |name: &str| object["status"][name].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match time("startTime") {
        None => "".into(),
        Some(start) => {
            let end = time("completionTime").unwrap_or(now);
            human_duration(end.as_second() - start.as_second()).into()
        }
    }
}

/// What every Job spec gets, in a CronJob's template, too.
pub(super) fn default_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    // Neither given means one; a Job with only parallelism is a work queue.
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    if spec["backoffLimit"].is_null() {
        let indexed = !spec["backoffLimitPerIndex"].is_null();
        set(spec, "backoffLimit", if indexed { i32::MAX } else { 6 });
    }
    let by_policy = spec["podFailurePolicy"].is_object();
    set(spec, "podReplacementPolicy", if by_policy { "Failed" } else { "TerminatingOrFailed" });
    workload::default_template(spec);
}

fn default(object: &mut Value) {
    set(object, "spec", json!({}));
    default_spec(&mut object["spec"]);
    // Whoever manages the selector by hand labels the pods, and gets these labels on the Job itself, too.
    if object["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty)
        && let Some(labels) = object["spec"]["template"]["metadata"]["labels"].as_object()
        && !labels.is_empty()
    {
        object["metadata"]["labels"] = Value::Object(labels.clone());
    }
}

/// Labels by which a Job's pods are known, with and without the prefix that came with 1.27.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// The selector is made from the uid, so that no two Jobs ever fight for pods.
fn prepare_create(object: &mut Value) {
    object["status"] = json!({});
    let copied = object["metadata"]["labels"] == object["spec"]["template"]["metadata"]["labels"];
    let unlabelled = object["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty);
    if object["spec"]["manualSelector"] == true || !object["spec"].is_object() {
        return;
    }
    let (uid, name) = (object["metadata"]["uid"].clone(), object["metadata"]["name"].clone());
    let spec = &mut object["spec"];
    set(spec, "template", json!({}));
    set(&mut spec["template"], "metadata", json!({}));
    set(&mut spec["template"]["metadata"], "labels", json!({}));
    let labels = &mut spec["template"]["metadata"]["labels"];
    for label in NAME_LABELS {
        labels[label] = name.clone();
    }
    for label in UID_LABELS {
        set(labels, label, uid.clone());
    }
    set(spec, "selector", json!({}));
    set(&mut spec["selector"], "matchLabels", json!({}));
    set(&mut spec["selector"]["matchLabels"], UID_LABELS[0], uid);
    // Labels that are the template's stay so.
    if copied || unlabelled {
        object["metadata"]["labels"] = object["spec"]["template"]["metadata"]["labels"].clone();
    }
}

/// The rules of Job specs that hold in a CronJob's template, too.
pub(super) fn validate_spec(spec: &Value, path: &FieldPath, faults: &mut Faults) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    non_negative(spec, path, &counts, faults);
    let mode = text(spec, "completionMode");
    one_of(mode, &path.child("completionMode"), &["NonIndexed", "Indexed"], faults);
    let indexed = mode == "Indexed";
    if indexed {
        if spec["completions"].is_null() {
            let message = format!("when completion mode is {mode}");
            faults.push(FieldError::required(&path.child("completions"), &message));
        }
        if spec["parallelism"].as_i64().is_some_and(|count| count > 100_000) {
            let message = format!("must be less than or equal to 100000 when completion mode is {mode}");
            faults.push(FieldError::invalid(
                &path.child("parallelism"),
                spec["parallelism"].clone(),
                &message,
            ));
        }
    }
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        let message = "when maxFailedIndexes is specified";
        faults.push(FieldError::required(&path.child("backoffLimitPerIndex"), message));
    }
    if let (Some(most), Some(all)) = (spec["maxFailedIndexes"].as_i64(), spec["completions"].as_i64())
        && indexed
        && most > all
    {
        let message = "must be less than or equal to completions";
        faults.push(FieldError::invalid(&path.child("maxFailedIndexes"), most, message));
    }
    for (name, message) in [
        ("backoffLimitPerIndex", "requires indexed completion mode"),
        ("maxFailedIndexes", "requires indexed completion mode"),
    ] {
        if !spec[name].is_null() && !indexed {
            faults.push(FieldError::invalid(&path.child(name), spec[name].clone(), message));
        }
    }
    if let Some(manager) = spec["managedBy"].as_str() {
        let path = path.child("managedBy");
        if !manager.contains('/') {
            let message = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            faults.push(FieldError::invalid(&path, manager, message));
        }
    }
    let replacement = text(spec, "podReplacementPolicy");
    let known: &[&str] =
        if spec["podFailurePolicy"].is_object() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(replacement, &path.child("podReplacementPolicy"), known, faults);
    policies::failure(spec, path, faults);
    policies::success(spec, path, faults);
    workload::validate_template(spec, path, "Job", faults);
}

fn validate_selector(object: &Value, faults: &mut Faults) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let Some(selector) = spec.get("selector").filter(|selector| selector.is_object()) else {
        faults.push(FieldError::required(&path.child("selector"), ""));
        // What selects nothing does not select the template either.
        let path = path.child("template").child("metadata").child("labels");
        let labels = spec["template"]["metadata"]["labels"].clone();
        faults.push(FieldError::invalid(&path, labels, "`selector` does not match template `labels`"));
        return;
    };
    faults.extend(validate_label_selector(selector, &path.child("selector")));
    let uid = &object["metadata"]["uid"];
    let generated = UID_LABELS.iter().any(|label| *selector == json!({"matchLabels": {*label: uid}}));
    if spec["manualSelector"] != true && !generated {
        let message = "`selector` not auto-generated";
        faults.push(FieldError::invalid(&path.child("selector"), selector.clone(), message));
    }
    let parsed = apimachinery::labels::Selector::from_label_selector(Some(selector));
    if parsed.is_ok_and(|parsed| !parsed.matches_object(&spec["template"])) {
        let path = path.child("template").child("metadata").child("labels");
        let labels = spec["template"]["metadata"]["labels"].clone();
        faults.push(FieldError::invalid(&path, labels, "`selector` does not match template `labels`"));
    }
}

/// Scheduling directives of the template that may change while the Job is suspended and has not started.
const DIRECTIVES: [&str; 4] = ["affinity", "nodeSelector", "tolerations", "schedulingGates"];

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let path = FieldPath::new("spec");
    let (new, status, old) = (&new["spec"], &old["status"], &old["spec"]);
    if new["completionMode"] != "Indexed" {
        immutable(&new["completions"], &old["completions"], &path.child("completions"), faults);
    } else if new["completions"] != old["completions"]
        && new["completions"] != new["parallelism"]
        && !new["completions"].is_null()
    {
        let message = "can only be modified in tandem with spec.parallelism";
        faults.push(FieldError::invalid(&path.child("completions"), new["completions"].clone(), message));
    }
    immutable(&new["selector"], &old["selector"], &path.child("selector"), faults);
    let waiting = old["suspend"] == true && status["startTime"].is_null();
    let template = |spec: &Value| {
        let mut template = spec["template"].clone();
        if waiting {
            for part in ["labels", "annotations"] {
                if let Some(metadata) = template["metadata"].as_object_mut() {
                    metadata.remove(part);
                }
            }
            for part in DIRECTIVES {
                if let Some(spec) = template["spec"].as_object_mut() {
                    spec.remove(part);
                }
            }
        }
        template
    };
    if template(new) != template(old) {
        let message = crate::validation::IMMUTABLE;
        faults.push(FieldError::invalid(&path.child("template"), new["template"].clone(), message));
    }
    for name in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(&new[name], &old[name], &path.child(name), faults);
    }
}
