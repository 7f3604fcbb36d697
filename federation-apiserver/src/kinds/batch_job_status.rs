//! What the status of a Job may become (`validation.ValidateJobStatusUpdate`, as `getStatusValidationOptions` asks for it).
//!
//! A Job that has copies in members tells what all of them have come to: counts fall when a member leaves, and a new one has not begun. Its
//! status is no single Job's, and these rules are not for it.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, FieldReason};
use federation_core::api::marks;
use jiff::Timestamp;
use serde_json::Value;

use super::batch_job_policies::{indexes, interval};
use crate::{
    deletion,
    registry::ErrorList,
    validation::{holds, items, text},
};

fn is_finished(job: &Value) -> bool {
    holds(job, "Complete") || holds(job, "Failed")
}

/// One Job, before and after.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
    path: FieldPath,
}

impl Change<'_> {
    fn status(&self) -> &Value {
        &self.new["status"]
    }

    /// Whether any of these fields of the status is another one.
    fn changed(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.new["status"][*name] != self.old["status"][*name])
    }

    /// Whether any of these conditions has come or gone.
    fn turned(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| holds(self.new, kind) != holds(self.old, kind))
    }

    fn has_ended(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn count(&self, name: &str) -> i64 {
        self.status()[name].as_i64().unwrap_or_default()
    }

    fn invalid(&self, name: &str, why: &str) -> FieldError {
        FieldError::invalid(&self.path.child(name), self.status()[name].clone(), why)
    }

    /// Conditions are told without what they are.
    fn conditions(&self, why: &str) -> FieldError {
        FieldError::new(FieldReason::Invalid, &self.path.child("conditions"), None, why)
    }
}

/// Finds the errors of a change of a Job's status.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut ErrorList) {
    let of_members = deletion::finalizers(old).iter().any(|name| name == marks::FINALIZER);
    if new["status"] == old["status"] || of_members {
        return;
    }
    let change = Change { new, old, path: FieldPath::new("status") };
    uncounted(&change, errors);
    ends(&change, errors);
    pods(&change, errors);
    of_indexes(&change, errors);
    criteria(&change, errors);
    stays(&change, errors);
}

/// Each pod that is still to be counted is told once.
fn uncounted(change: &Change<'_>, errors: &mut ErrorList) {
    let (pods, path) =
        (&change.status()["uncountedTerminatedPods"], change.path.child("uncountedTerminatedPods"));
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for (index, uid) in items(pods, list).enumerate() {
            let (uid, path) = (uid.as_str().unwrap_or_default(), path.child(list).index(index));
            if uid.is_empty() {
                errors.push(FieldError::invalid(&path, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(&path, uid));
            }
        }
    }
}

/// How a Job ends, and when. Kubernetes also asks for the conditions FailureTarget and SuccessCriteriaMet before these ends; job controllers from
/// before 1.31 do not write them, and must be able to end their Jobs here.
fn ends(change: &Change<'_>, errors: &mut ErrorList) {
    let (new, status) = (change.new, change.status());
    let complete = holds(new, "Complete");
    if change.turned(&["Complete", "Failed"]) && complete && holds(new, "Failed") {
        errors.push(change.conditions("cannot set Complete=True and Failed=true conditions"));
    }
    if change.turned(&["Complete", "FailureTarget"]) && complete && holds(new, "FailureTarget") {
        errors.push(change.conditions("cannot set Complete=True and FailureTarget=true conditions"));
    }
    let completed = !status["completionTime"].is_null();
    if change.turned(&["Complete"]) || change.changed(&["completionTime"]) {
        let name = "completionTime";
        if completed && !complete {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(change.invalid(name, why));
        }
        if !completed && complete {
            let why = "completionTime is required for Complete jobs";
            errors.push(FieldError::required(&change.path.child(name), why));
        }
    }
    let time = |name: &str| status[name].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    if change.changed(&["startTime", "completionTime"])
        && let (Some(start), Some(end)) = (time("startTime"), time("completionTime"))
        && end < start
    {
        errors.push(change.invalid("completionTime", "completionTime cannot be set before startTime"));
    }
}

/// A Job that has ended has no pods at work, and has begun.
fn pods(change: &Change<'_>, errors: &mut ErrorList) {
    let (status, finished, ended) = (change.status(), is_finished(change.new), change.has_ended());
    let spec = &change.new["spec"];
    if (ended || change.changed(&["active"])) && finished && change.count("active") > 0 {
        errors.push(change.invalid("active", "active>0 is invalid for finished job"));
    }
    // One of no pods that waits never begins.
    let begins = spec["suspend"] != true || spec["completions"] != 0;
    if (ended || change.changed(&["startTime"])) && finished && begins && status["startTime"].is_null() {
        let path = change.path.child("startTime");
        errors.push(FieldError::required(&path, "startTime is required for finished job"));
    }
    let uncounted = &status["uncountedTerminatedPods"];
    let some = ["failed", "succeeded"].into_iter().any(|list| items(uncounted, list).next().is_some());
    if (ended || change.changed(&["uncountedTerminatedPods"])) && finished && some {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        errors.push(change.invalid("uncountedTerminatedPods", why));
    }
}

/// Indexes are those of an indexed Job, and none has both failed and succeeded.
fn of_indexes(change: &Change<'_>, errors: &mut ErrorList) {
    let (spec, status) = (&change.new["spec"], change.status());
    let (completed, failed) = (text(status, "completedIndexes"), status["failedIndexes"].as_str());
    let (completed_changed, failed_changed) =
        (change.changed(&["completedIndexes"]), change.changed(&["failedIndexes"]));
    let completions = spec["completions"].as_i64();
    let by_index = !spec["backoffLimitPerIndex"].is_null();
    let mut parse = |name: &str, said: &str, completions: i64| {
        if let Err(why) = indexes(said, completions) {
            errors.push(change.invalid(name, &format!("error parsing {name}: {why}")));
        }
    };
    if let (true, Some(completions)) = (completed_changed, completions) {
        parse("completedIndexes", completed, completions);
    }
    if let (true, Some(completions), Some(failed), true) = (failed_changed, completions, failed, by_index) {
        parse("failedIndexes", failed, completions);
    }
    if completed_changed && !completed.is_empty() && spec["completionMode"] != "Indexed" {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(change.invalid("completedIndexes", why));
    }
    if failed_changed && failed.is_some() && !by_index {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(change.invalid("failedIndexes", why));
    }
    if (completed_changed || failed_changed)
        && let (Some(failed), Some(completions)) = (failed, completions)
        && let Some(at) = overlap(completed, failed, completions)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {at}");
        errors.push(change.invalid("failedIndexes", &why));
    }
    let finished = is_finished(change.new);
    if (change.has_ended() || change.changed(&["terminating"])) && finished && change.count("terminating") > 0
    {
        errors.push(change.invalid("terminating", "terminating>0 is invalid for finished job"));
    }
    let ready = status["ready"].as_i64().is_some_and(|ready| ready > change.count("active"));
    if change.changed(&["ready", "active"]) && ready {
        errors.push(change.invalid("ready", "cannot set more ready pods than active"));
    }
}

/// The first index that two rising lists have in common. What cannot be read is told elsewhere.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut one, mut other) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some(done), Some(lost)) = (one.peek(), other.peek()) {
        if done.0 <= lost.1 && lost.0 <= done.1 {
            return Some(done.0.max(lost.0));
        }
        if done.0 <= lost.0 {
            one.next();
        } else {
            other.next();
        }
    }
    None
}

/// Criteria of success are met by what succeeds.
fn criteria(change: &Change<'_>, errors: &mut ErrorList) {
    let (new, met) = (change.new, holds(change.new, "SuccessCriteriaMet"));
    if met && holds(new, "Failed") {
        errors.push(change.conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions"));
    }
    if met && holds(new, "FailureTarget") {
        errors
            .push(change.conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"));
    }
    if new["spec"]["successPolicy"].is_object() && !met && holds(new, "Complete") {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(change.conditions(why));
    }
}

/// What has been told is not taken back.
fn stays(change: &Change<'_>, errors: &mut ErrorList) {
    let (new, old) = (change.new, change.old);
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if holds(old, kind) && !holds(new, kind) {
            errors.push(change.conditions(&format!("cannot disable the terminal {kind}=True condition")));
        }
    }
    let fell = |name: &str| change.count(name) < old["status"][name].as_i64().unwrap_or_default();
    if fell("failed") {
        let failed = change.count("failed");
        let why = "cannot decrease the failed counter";
        errors.push(FieldError::invalid(&change.path.child("failed"), failed, why));
    }
    // Indexed Jobs of as many pods as indexes may become smaller.
    let spec = &new["spec"];
    let elastic = spec["completionMode"] == "Indexed" && spec["completions"] == spec["parallelism"];
    if fell("succeeded") && !elastic {
        let succeeded = change.count("succeeded");
        let why = "cannot decrease the succeeded counter";
        errors.push(FieldError::invalid(&change.path.child("succeeded"), succeeded, why));
    }
    let (before, after) = (&old["status"]["completionTime"], &new["status"]["completionTime"]);
    if !before.is_null() && !after.is_null() && before != after {
        errors.push(change.invalid("completionTime", "completionTime cannot be mutated"));
    }
    let started = !old["status"]["startTime"].is_null();
    // One that goes on after it was suspended begins anew.
    let resumes = holds(old, "Suspended") && !holds(new, "Suspended");
    if started && change.changed(&["startTime"]) && spec["suspend"] != true && !resumes {
        errors.push(change.invalid("startTime", "field is immutable for unsuspended job once set"));
    }
    let met = |job| holds(job, "SuccessCriteriaMet");
    if met(old) && !met(new) {
        errors.push(change.conditions("cannot disable the SuccessCriteriaMet=True condition"));
    }
    if holds(old, "Complete") && !met(old) && met(new) {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(change.conditions(why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const START: &str = "2024-01-01T00:00:00Z";
    const END: &str = "2024-01-01T00:00:09Z";

    fn conditions(kinds: &[&str]) -> Value {
        kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect()
    }

    #[track_caller]
    fn check_of(spec: Value, old: Value, new: Value, expect: &[&str]) {
        let job = |status| json!({"spec": spec, "status": status});
        let mut errors = ErrorList::new();
        validate(&job(new), &job(old), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[track_caller]
    fn check(old: Value, new: Value, expect: &[&str]) {
        check_of(json!({"completions": 3, "parallelism": 1}), old, new, expect);
    }

    #[test]
    fn a_job_is_complete_by_its_criteria_and_at_a_time() {
        check(
            json!({}),
            json!({"conditions": conditions(&["Complete"])}),
            &[
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.startTime: Required value: startTime is required for finished job",
            ],
        );
        let done = json!({
            "conditions": conditions(&["SuccessCriteriaMet", "Complete"]), "startTime": START, "completionTime": END, "succeeded": 3,
        });
        check(json!({"startTime": START, "active": 1}), done.clone(), &[]);
        let mut busy = done.clone();
        busy["active"] = 1.into();
        busy["completionTime"] = "2023-01-01T00:00:00Z".into();
        check(
            json!({"startTime": START}),
            busy,
            &[
                r#"status.completionTime: Invalid value: "2023-01-01T00:00:00Z": completionTime cannot be set before startTime"#,
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
            ],
        );
        check(
            done,
            json!({"startTime": START, "succeeded": 1}),
            &[
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter",
                "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
            ],
        );
    }

    #[test]
    fn controllers_of_any_age_tell_of_failure() {
        let failed = |kinds: &[&str]| json!({"startTime": START, "conditions": conditions(kinds)});
        check(json!({}), failed(&["FailureTarget", "Failed"]), &[]);
        check(json!({}), failed(&["Failed"]), &[]);
        check(
            json!({"startTime": START}),
            json!({"startTime": END}),
            &[
                r#"status.startTime: Invalid value: "2024-01-01T00:00:09Z": field is immutable for unsuspended job once set"#,
            ],
        );
        check(
            json!({"startTime": START, "conditions": conditions(&["Suspended"])}),
            json!({"startTime": END}),
            &[],
        );
    }

    #[test]
    fn indexes_are_those_of_an_indexed_job() {
        let indexed = json!({"completions": 9, "completionMode": "Indexed", "backoffLimitPerIndex": 1});
        let status =
            |completed: &str, failed: &str| json!({"completedIndexes": completed, "failedIndexes": failed});
        check_of(indexed.clone(), json!({}), status("0,2-4", "1,5-6"), &[]);
        check_of(
            indexed.clone(),
            json!({}),
            status("0,2-4", "1,4-6"),
            &[
                r#"status.failedIndexes: Invalid value: "1,4-6": failedIndexes and completedIndexes overlap at index: 4"#,
            ],
        );
        check_of(
            indexed,
            json!({}),
            json!({"completedIndexes": "3-9"}),
            &[
                r#"status.completedIndexes: Invalid value: "3-9": error parsing completedIndexes: too large index: "9""#,
            ],
        );
        check(
            json!({}),
            json!({"completedIndexes": "1", "ready": 2, "active": 1}),
            &[
                r#"status.completedIndexes: Invalid value: "1": cannot set non-empty completedIndexes when non-indexed completion mode"#,
                "status.ready: Invalid value: 2: cannot set more ready pods than active",
            ],
        );
    }

    #[test]
    fn a_template_tells_of_all_its_copies() {
        let job =
            |status| json!({"metadata": {"finalizers": [marks::FINALIZER]}, "spec": {}, "status": status});
        let mut errors = ErrorList::new();
        validate(
            &job(json!({"conditions": conditions(&["Complete"])})),
            &job(json!({"failed": 2})),
            &mut errors,
        );
        assert_eq!(*errors, []);
    }
}
