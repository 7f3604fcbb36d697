//! batch/v1 Job.

use apimachinery::{FieldError, FieldPath, labels::validate_label_selector, names};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{batch_job_policies as policies, batch_job_status};
use crate::{
    registry::{Column, ErrorList, Generation, Kind, human_duration},
    validation::{
        domain_path, holds, immutable, items_mut, listed, non_negative, one_of, pod_warnings, set, text,
        workload,
    },
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
    unconditional_update: false,
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
    validate: |object, errors| {
        validate_spec(&object["spec"], &"spec".into(), errors);
        validate_selector(object, errors);
        non_negative(&object["status"], &"status".into(), &COUNTS, errors);
    },
    validate_update: |new, old, errors| {
        validate_update(new, old, errors);
        batch_job_status::validate(new, old, errors);
    },
    validate_create: validate_name,
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

/// Pods that its status counts.
const COUNTS: [&str; 5] = ["active", "succeeded", "failed", "ready", "terminating"];

fn state(object: &Value) -> &'static str {
    if holds(object, "Complete") {
        return "Complete";
    }
    if holds(object, "Failed") {
        return "Failed";
    }
    if crate::validation::deleting(object) {
        return "Terminating";
    }
    let others = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    others.into_iter().find(|kind| holds(object, kind)).unwrap_or("Running")
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
    policies::default(spec);
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
pub(super) fn validate_spec(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    non_negative(spec, path, &counts, errors);
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        let message = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), message));
    }
    if let Some(manager) = spec["managedBy"].as_str() {
        let path = path.child("managedBy");
        domain_path(manager, &path, errors);
        if manager.len() > MOST_OF_MANAGER {
            errors.push(FieldError::too_long(&path, MOST_OF_MANAGER));
        }
    }
    let mode = text(spec, "completionMode");
    listed(mode, &path.child("completionMode"), &["NonIndexed", "Indexed"], errors);
    if mode == "Indexed" {
        validate_indexed(spec, path, errors);
    } else {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if !spec[name].is_null() {
                let message = "requires indexed completion mode";
                errors.push(FieldError::invalid(&path.child(name), spec[name].clone(), message));
            }
        }
    }
    policies::failure(spec, path, errors);
    policies::success(spec, path, errors);
    let replacement = text(spec, "podReplacementPolicy");
    let known: &[&str] =
        if spec["podFailurePolicy"].is_object() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(replacement, &path.child("podReplacementPolicy"), known, errors);
    workload::validate_template(spec, path, "Job", errors);
    policies::restarts(spec, path, errors);
}

/// Bytes of the name of who else looks after a Job.
const MOST_OF_MANAGER: usize = 63;
/// Of an indexed Job.
const MOST_PARALLEL: i64 = 100_000;
const MOST_FAILED: i64 = 100_000;

/// What is asked of a Job whose pods have a number each.
fn validate_indexed(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let number = |name: &str| spec[name].as_i64();
    let (all, failed, parallel) = (number("completions"), number("maxFailedIndexes"), number("parallelism"));
    let beyond = |name: &str, count: i64, what: String| {
        FieldError::invalid(&path.child(name), count, &format!("must be less than or equal to {what}"))
    };
    let of = |name: &str, count: Option<i64>, most: i64, what: String| {
        count.filter(|count| *count > most).map(|count| beyond(name, count, what))
    };
    if all.is_none() {
        errors.push(FieldError::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    let what = format!("{MOST_PARALLEL} when completion mode is Indexed");
    errors.extend(of("parallelism", parallel, MOST_PARALLEL, what));
    errors.extend(of("maxFailedIndexes", failed, all.unwrap_or(i64::MAX), "completions".to_owned()));
    errors.extend(of("maxFailedIndexes", failed, MOST_FAILED, MOST_FAILED.to_string()));
    let (many, most) = (policies::MANY_COMPLETIONS, policies::MOST_OF_MANY);
    if all.is_some_and(|all| all > many) && !spec["backoffLimitPerIndex"].is_null() {
        if failed.is_none() {
            let message = format!("must be specified when completions is above {many}");
            errors.push(FieldError::required(&path.child("maxFailedIndexes"), &message));
        }
        for (name, count) in [("parallelism", parallel), ("maxFailedIndexes", failed)] {
            let what =
                format!("{most} when completions are above {many} and used with backoff limit per index");
            errors.extend(of(name, count, most, what));
        }
    }
}

/// The pods of an indexed Job are called by its name and their number.
fn validate_name(object: &Value, errors: &mut ErrorList) {
    let spec = &object["spec"];
    let last = spec["completions"].as_i64().filter(|count| *count > 0 && spec["completionMode"] == "Indexed");
    let Some(last) = last.map(|count| count - 1) else { return };
    let name = text(&object["metadata"], "name");
    let host = format!("{name}-{last}");
    if !names::dns1123_label(&host).is_empty() {
        let message = format!("will not able to create pod with invalid DNS label: {host}");
        errors.push(FieldError::invalid(&"metadata.name".into(), name, &message));
    }
}

fn validate_selector(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let Some(selector) = spec.get("selector").filter(|selector| selector.is_object()) else {
        errors.push(FieldError::required(&path.child("selector"), ""));
        // What selects nothing does not select the template either.
        let path = path.child("template").child("metadata").child("labels");
        let labels = spec["template"]["metadata"]["labels"].clone();
        errors.push(FieldError::invalid(&path, labels, "`selector` does not match template `labels`"));
        return;
    };
    errors.extend(validate_label_selector(selector, &path.child("selector")));
    let uid = &object["metadata"]["uid"];
    let generated = UID_LABELS.iter().any(|label| *selector == json!({"matchLabels": {*label: uid}}));
    if spec["manualSelector"] != true && !generated {
        let message = "`selector` not auto-generated";
        errors.push(FieldError::invalid(&path.child("selector"), selector.clone(), message));
    }
    let parsed = apimachinery::labels::Selector::from_label_selector(Some(selector));
    if parsed.is_ok_and(|parsed| !parsed.matches_object(&spec["template"])) {
        let path = path.child("template").child("metadata").child("labels");
        let labels = spec["template"]["metadata"]["labels"].clone();
        errors.push(FieldError::invalid(&path, labels, "`selector` does not match template `labels`"));
    }
}

/// Scheduling directives of the template that may change while the Job waits, besides affinity to nodes.
const DIRECTIVES: [&str; 3] = ["nodeSelector", "tolerations", "schedulingGates"];

/// Whether a Job is suspended and has not begun, or has stopped, and none of its pods is left (KEP-5440).
fn is_at_rest(job: &Value) -> bool {
    let (spec, status) = (&job["spec"], &job["status"]);
    spec["suspend"] == true
        && (status["startTime"].is_null() || holds(job, "Suspended"))
        && status["active"].as_i64().unwrap_or_default() == 0
}

/// The pod of a template without what may change while its Job is at rest.
fn fixed(template: &Value) -> Value {
    let mut pod = template["spec"].clone();
    for list in ["containers", "initContainers"] {
        for container in items_mut(&mut pod, list).filter_map(Value::as_object_mut) {
            container.remove("resources");
        }
    }
    let Some(spec) = pod.as_object_mut() else { return pod };
    for part in DIRECTIVES {
        spec.remove(part);
    }
    if let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) {
        affinity.remove("nodeAffinity");
    }
    let nothing = |affinity: &Value| affinity.as_object().is_none_or(serde_json::Map::is_empty);
    if spec.get("affinity").is_some_and(nothing) {
        spec.remove("affinity");
    }
    pod
}

/// `validatePodTemplateUpdate`. Of a Job at rest the metadata of its pods may change, too.
fn validate_template_update(new: &Value, old: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (template, before) = (&new["spec"]["template"], &old["spec"]["template"]);
    if !is_at_rest(old) {
        immutable(template, before, path, errors);
    } else if fixed(template) != fixed(before) {
        let path = path.child("spec");
        errors.push(FieldError::invalid(&path, template["spec"].clone(), crate::validation::IMMUTABLE));
    }
}

fn validate_update(new_job: &Value, old_job: &Value, errors: &mut ErrorList) {
    let path = FieldPath::new("spec");
    let (new, old) = (&new_job["spec"], &old_job["spec"]);
    if new["completionMode"] != "Indexed" {
        immutable(&new["completions"], &old["completions"], &path.child("completions"), errors);
    } else if new["completions"] != old["completions"]
        && new["completions"] != new["parallelism"]
        && !new["completions"].is_null()
    {
        let message = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(&path.child("completions"), new["completions"].clone(), message));
    }
    immutable(&new["selector"], &old["selector"], &path.child("selector"), errors);
    validate_template_update(new_job, old_job, &path.child("template"), errors);
    for name in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(&new[name], &old[name], &path.child(name), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn told(rules: fn(&Value, &mut ErrorList), value: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        rules(value, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    fn indexed(spec: &Value, errors: &mut ErrorList) {
        validate_indexed(spec, &"spec".into(), errors);
    }

    #[test]
    fn of_very_many_pods_few_run_and_fail_at_a_time() {
        let job = |parallel: i64, failed: Value| json!({"completions": 100_001, "backoffLimitPerIndex": 1, "parallelism": parallel, "maxFailedIndexes": failed});
        told(indexed, &job(10_000, json!(10_000)), &[]);
        told(
            indexed,
            &job(10_001, Value::Null),
            &[
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
            ],
        );
        told(
            indexed,
            &json!({"completions": 5, "parallelism": 100_001, "maxFailedIndexes": 100_001}),
            &[
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
                "spec.maxFailedIndexes: Invalid value: 100001: must be less than or equal to completions",
                "spec.maxFailedIndexes: Invalid value: 100001: must be less than or equal to 100000",
            ],
        );
    }

    #[test]
    fn the_names_of_all_pods_of_an_indexed_job_are_labels() {
        let job = |name: &str| json!({"metadata": {"name": name}, "spec": {"completionMode": "Indexed", "completions": 11}});
        told(validate_name, &job("a"), &[]);
        told(
            validate_name,
            &job("a.b"),
            &[
                r#"metadata.name: Invalid value: "a.b": will not able to create pod with invalid DNS label: a.b-10"#,
            ],
        );
    }

    #[track_caller]
    fn changed(new: &Value, old: &Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        validate_update(new, old, &mut errors);
        assert_eq!(errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn before_a_job_starts_its_pods_may_be_sent_to_other_nodes_and_not_beside_other_pods() {
        let job = |affinity: Value| json!({"spec": {"suspend": true, "template": {"spec": {"affinity": affinity}}}, "status": {}});
        changed(&job(json!({"nodeAffinity": {"a": 1}})), &job(Value::Null), &[]);
        let beside = job(json!({"podAffinity": {"a": 1}}));
        changed(&beside, &job(json!({"podAffinity": {}})), &["spec.template.spec"]);
    }

    #[test]
    fn while_a_job_is_suspended_and_without_pods_its_containers_may_ask_for_something_else() {
        let job = |suspend: bool, status: Value, cpu: &str, image: &str| {
            let container = json!({"name": "c", "image": image, "resources": {"requests": {"cpu": cpu}}});
            let pod = json!({"initContainers": [container], "containers": [container]});
            json!({"spec": {"suspend": suspend, "template": {"metadata": {"labels": {"cpu": cpu}}, "spec": pod}}, "status": status})
        };
        let suspended = json!([{"type": "Suspended", "status": "True"}]);
        let began = "2026-01-01T00:00:00Z";
        for at_rest in [
            json!({}),
            json!({"conditions": suspended}),
            json!({"startTime": began, "conditions": suspended, "active": 0}),
        ] {
            let old = job(true, at_rest.clone(), "1", "a");
            changed(&job(false, at_rest.clone(), "2", "a"), &old, &[]);
            changed(&job(true, at_rest, "2", "b"), &old, &["spec.template.spec"]);
        }
        for busy in [
            json!({"active": 1}),
            json!({"startTime": began}),
            json!({"startTime": began, "conditions": suspended, "active": 1}),
        ] {
            let old = job(true, busy.clone(), "1", "a");
            changed(&job(true, busy, "2", "a"), &old, &["spec.template"]);
        }
        let runs = json!({"conditions": suspended});
        changed(&job(true, runs.clone(), "2", "a"), &job(false, runs, "1", "a"), &["spec.template"]);
    }
}
