//! When a Job has failed and when it is done, beyond the counts: `podFailurePolicy` (KEP-3329) and `successPolicy` (KEP-3998).

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, FieldReason, field::quoted, names};
use serde_json::Value;

use crate::{
    registry::ErrorList,
    validation::{items, items_mut, non_negative, one_of, pod_warnings, set_text, text},
};

const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;
/// Bytes of a text that names indexes.
const MOST_INDEXES: usize = 64 * 1024;

/// Completions of an indexed Job beyond which few of its pods may run or fail at a time: what is told of them has only so much room.
pub(super) const MANY_COMPLETIONS: i64 = 100_000;
pub(super) const MOST_OF_MANY: i64 = 10_000;

/// A condition of a pod that a rule of failures names is one that is true.
pub(super) fn default(spec: &mut Value) {
    let Some(policy) = spec.get_mut("podFailurePolicy") else { return };
    for rule in items_mut(policy, "rules") {
        items_mut(rule, "onPodConditions").for_each(|pattern| set_text(pattern, "status", "True"));
    }
}

/// What the writer of a Job's spec is warned of: `job.WarningsForJobSpec`.
pub(super) fn warn(spec: &Value, path: &FieldPath) -> Vec<String> {
    let count = |name: &str| spec[name].as_i64().unwrap_or_default();
    let mut warnings = Vec::new();
    let many = count("completions") > MANY_COMPLETIONS && count("parallelism") > MOST_OF_MANY;
    if spec["completionMode"] == "Indexed" && many {
        warnings.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            path.as_str()
        ));
    }
    warnings.extend(pod_warnings::of_template(&spec["template"], &path.child("template")));
    warnings
}

/// Pods whose failures rules are for do not start again by themselves.
pub(super) fn restarts(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if spec["podFailurePolicy"].is_object() && policy == "OnFailure" {
        let path = path.child("template").child("spec").child("restartPolicy");
        let message = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(FieldError::invalid(&path, policy.clone(), message));
    }
}

/// `validation.validatePodFailurePolicy`.
pub(super) fn failure(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let policy = &spec["podFailurePolicy"];
    if !policy.is_object() {
        return;
    }
    let path = path.child("podFailurePolicy").child("rules");
    let count = items(policy, "rules").count();
    if count > MOST_RULES {
        errors.push(FieldError::too_many(&path, count, MOST_RULES));
    }
    let pods = &spec["template"]["spec"];
    let containers: HashSet<&str> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| items(pods, list))
        .map(|container| text(container, "name"))
        .collect();
    for (index, rule) in items(policy, "rules").enumerate() {
        let path = path.index(index);
        action(spec, rule, &path.child("action"), errors);
        let (codes, conditions) = (&rule["onExitCodes"], items(rule, "onPodConditions").next().is_some());
        if codes.is_object() {
            exit_codes(codes, &path.child("onExitCodes"), &containers, errors);
        }
        pod_conditions(rule, &path.child("onPodConditions"), errors);
        let message = match (codes.is_object(), conditions) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::new(FieldReason::Invalid, &path, None, message));
    }
}

fn action(spec: &Value, rule: &Value, path: &FieldPath, errors: &mut ErrorList) {
    match text(rule, "action") {
        "" => {
            let message = r#"valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#;
            errors.push(FieldError::required(path, message));
        }
        "FailIndex" => {
            if spec["backoffLimitPerIndex"].is_null() {
                let message = "requires the backoffLimitPerIndex to be set";
                errors.push(FieldError::invalid(path, "FailIndex", message));
            }
        }
        other => one_of(other, path, &["Count", "FailIndex", "FailJob", "Ignore"], errors),
    }
}

fn exit_codes(codes: &Value, path: &FieldPath, containers: &HashSet<&str>, errors: &mut ErrorList) {
    match text(codes, "operator") {
        "" => {
            let message = r#"valid values: ["In" "NotIn"]"#;
            errors.push(FieldError::required(&path.child("operator"), message));
        }
        operator => one_of(operator, &path.child("operator"), &["In", "NotIn"], errors),
    }
    if let Some(name) = codes["containerName"].as_str().filter(|name| !containers.contains(name)) {
        let message = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, message));
    }
    let path = path.child("values");
    let values: Vec<i64> = items(codes, "values").filter_map(Value::as_i64).collect();
    if values.is_empty() {
        errors.push(FieldError::invalid(&path, codes["values"].clone(), "at least one value is required"));
    } else if values.len() > MOST_CODES {
        errors.push(FieldError::too_many(&path, values.len(), MOST_CODES));
    }
    let mut seen = HashSet::new();
    for (index, value) in values.iter().enumerate() {
        if *value == 0 && codes["operator"] == "In" {
            let message = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(&path.index(index), 0, message));
        }
        if !seen.insert(value) {
            errors.push(FieldError::duplicate(&path.index(index), *value));
        }
    }
    if !values.is_sorted() {
        errors.push(FieldError::invalid(&path, codes["values"].clone(), "must be ordered"));
    }
}

fn pod_conditions(rule: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let count = items(rule, "onPodConditions").count();
    if count > MOST_RULES {
        errors.push(FieldError::too_many(path, count, MOST_RULES));
    }
    for (index, pattern) in items(rule, "onPodConditions").enumerate() {
        let path = path.index(index);
        let (place, name) = (path.child("type"), text(pattern, "type"));
        errors
            .extend(names::qualified_name(name).iter().map(|error| FieldError::invalid(&place, name, error)));
        match text(pattern, "status") {
            "" => {
                let message = r#"valid values: ["False" "True" "Unknown"]"#;
                errors.push(FieldError::required(&path.child("status"), message));
            }
            status => one_of(status, &path.child("status"), &["False", "True", "Unknown"], errors),
        }
    }
}

/// `validation.validateSuccessPolicy`.
pub(super) fn success(spec: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let (policy, path) = (&spec["successPolicy"], path.child("successPolicy"));
    if !policy.is_object() {
        return;
    }
    if spec["completionMode"] != "Indexed" {
        errors.push(FieldError::invalid(&path, policy.clone(), "requires indexed completion mode"));
        return;
    }
    let path = path.child("rules");
    let count = items(policy, "rules").count();
    if count == 0 {
        let message = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, message));
    } else if count > MOST_RULES {
        errors.push(FieldError::too_many(&path, count, MOST_RULES));
    }
    let completions = spec["completions"].as_i64().unwrap_or_default();
    for (index, rule) in items(policy, "rules").enumerate() {
        success_rule(rule, completions, &path.index(index), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &FieldPath, errors: &mut ErrorList) {
    let (count, text) = (rule["succeededCount"].as_i64(), rule["succeededIndexes"].as_str());
    if count.is_none() && text.is_none() {
        let message = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, message));
    }
    let mut named = 0;
    if let Some(text) = text {
        let path = path.child("succeededIndexes");
        if text.len() > MOST_INDEXES {
            errors.push(FieldError::too_long(&path, MOST_INDEXES));
        }
        match indexes(text, completions) {
            Ok(count) => named = count,
            Err(why) => {
                let message = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(&path, text, &message));
            }
        }
    }
    let Some(count) = count else { return };
    non_negative(rule, path, &["succeededCount"], errors);
    let path = path.child("succeededCount");
    let mut at_most = |most: i64, what: &str| {
        if count > most {
            let message = format!("must be less than or equal to {most} (the number of {what})");
            errors.push(FieldError::invalid(&path, count, &message));
        }
    };
    at_most(completions, "specified completions");
    if text.is_some() {
        at_most(named, "indexes in the specified succeededIndexes field");
    }
}

/// How many indexes a text such as `0-2,5` names: rising, and each below the completions.
pub(super) fn indexes(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut count, mut last) = (0, None);
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        rises(last, first)?;
        count += end - first + 1;
        last = Some(end);
    }
    Ok(count)
}

/// The ends of a part of such a text.
pub(super) fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |text: &str| -> Result<i64, String> {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {}", quoted(text)))?;
        if number >= completions { Err(format!("too large index: {}", quoted(text))) } else { Ok(number) }
    };
    let mut ends = part.split('-');
    let (first, end, more) = (ends.next().unwrap_or_default(), ends.next(), ends.next());
    if more.is_some() {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quoted(part)
        ));
    }
    let first = number(first)?;
    let Some(end) = end else { return Ok((first, first)) };
    let end = number(end)?;
    rises(Some(first), end)?;
    Ok((first, end))
}

fn rises(last: Option<i64>, next: i64) -> Result<(), String> {
    match last {
        Some(last) if last >= next => Err(format!("non-increasing order, previous: {last}, current: {next}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn told(spec: Value, expect: &[&str]) {
        let mut errors = ErrorList::new();
        failure(&spec, &FieldPath::new("spec"), &mut errors);
        success(&spec, &FieldPath::new("spec"), &mut errors);
        restarts(&spec, &FieldPath::new("spec"), &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    fn fails(rule: Value) -> Value {
        json!({
            "podFailurePolicy": {"rules": [rule]},
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}},
        })
    }

    #[test]
    fn a_condition_that_is_named_is_one_that_is_true() {
        let conditions = json!([{"type": "DisruptionTarget"}, {"type": "Ready", "status": "False"}]);
        let mut spec = fails(json!({"action": "Ignore", "onPodConditions": conditions}));
        default(&mut spec);
        let conditions = &spec["podFailurePolicy"]["rules"][0]["onPodConditions"];
        assert_eq!((&conditions[0]["status"], &conditions[1]["status"]), (&json!("True"), &json!("False")));
        told(spec, &[]);
    }

    #[test]
    fn exit_codes_are_rising_and_of_a_container_that_is_there() {
        told(fails(json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}})), &[]);
        told(
            fails(
                json!({"action": "FailIndex", "onExitCodes": {"containerName": "x", "operator": "In", "values": [2, 0, 2]}}),
            ),
            &[
                r#"spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set"#,
                r#"spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template"#,
                "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
            ],
        );
        told(
            fails(json!({"action": "Count"})),
            &[
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ],
        );
    }

    #[test]
    fn too_many_are_told_with_what_is_wrong_with_each() {
        let mut spec = fails(json!({"action": "Count"}));
        spec["podFailurePolicy"]["rules"] =
            vec![json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [1]}}); 21].into();
        spec["podFailurePolicy"]["rules"][20]["action"] = "x".into();
        spec["template"]["spec"]["restartPolicy"] = "OnFailure".into();
        told(
            spec.clone(),
            &[
                "spec.podFailurePolicy.rules: Too many: 21: must have at most 20 items",
                r#"spec.podFailurePolicy.rules[20].action: Unsupported value: "x": supported values: "Count", "FailIndex", "FailJob", "Ignore""#,
                r#"spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified"#,
            ],
        );
        // That pods of Jobs do not start for ever is told elsewhere.
        spec["template"]["spec"]["restartPolicy"] = "Always".into();
        spec["podFailurePolicy"]["rules"] = json!([]);
        told(spec, &[]);
    }

    #[test]
    fn who_makes_a_large_job_is_warned_of_it_and_of_its_pods() {
        let template = json!({"spec": {"imagePullSecrets": [{"name": ""}]}});
        let spec = json!({"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001, "template": template});
        let told = warn(&spec, &FieldPath::new("spec"));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("spec: In Indexed Jobs with a number of completions higher than 10^5"));
        assert!(told[1].starts_with("spec.template.spec.imagePullSecrets[0].name: "));
    }

    #[test]
    fn conditions_have_a_name_and_a_status() {
        told(
            fails(
                json!({"action": "Ignore", "onPodConditions": [{"type": "a b", "status": "x"}, {"type": "a"}]}),
            ),
            &[
                "spec.podFailurePolicy.rules[0].onPodConditions[0].type: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                r#"spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: "x": supported values: "False", "True", "Unknown""#,
                r#"spec.podFailurePolicy.rules[0].onPodConditions[1].status: Required value: valid values: ["False" "True" "Unknown"]"#,
            ],
        );
    }

    #[test]
    fn a_job_is_done_when_these_indexes_are() {
        let with = |rule: Value| json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": [rule]}});
        told(with(json!({"succeededIndexes": "0-2,4", "succeededCount": 4})), &[]);
        told(
            with(json!({"succeededIndexes": "0-2,4", "succeededCount": 5})),
            &[
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 5: must be less than or equal to 4 (the number of indexes in the specified succeededIndexes field)",
            ],
        );
        told(
            with(json!({"succeededIndexes": "3,1"})),
            &[
                r#"spec.successPolicy.rules[0].succeededIndexes: Invalid value: "3,1": error parsing succeededIndexes: non-increasing order, previous: 3, current: 1"#,
            ],
        );
        told(
            with(json!({})),
            &[
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
            ],
        );
        told(
            json!({"successPolicy": {"rules": []}}),
            &[r#"spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode"#],
        );
    }
}
