//! batch/v1 CronJob.

use apimachinery::{FieldError, FieldPath};
use serde_json::{Value, json};

use super::{batch_job, batch_job_policies as policies};
use crate::{
    registry::{Column, ErrorList, Generation, Kind, age, field},
    validation::{cron, non_negative, one_of, pod_warnings, required, set, set_text, text, workload},
};

/// A CronJob's name and eleven characters name its Jobs, whose names become label values.
const NAME_MAX: usize = 52;

pub(super) const KINDS: &[&Kind] = &[&Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    status: true,
    generation: Generation::Spec,
    unconditional_update: false,
    columns: &[
        Column::NAME,
        Column::text("Schedule", "The schedule in Cron format.", |object, _| field(object, "/spec/schedule")),
        Column::text("Timezone", "The time zone of the schedule.", |object, _| {
            object["spec"]["timeZone"].as_str().unwrap_or("<none>").into()
        }),
        // A boolean by its type, and words in its cells.
        Column::boolean("Suspend", "Whether it waits.", |object, _| {
            match object["spec"]["suspend"].as_bool() {
                Some(true) => "True".into(),
                Some(false) => "False".into(),
                None => "<unset>".into(),
            }
        }),
        Column::integer("Active", "Jobs at work.", |object, _| {
            object["status"]["active"].as_array().map_or(0, Vec::len).into()
        }),
        Column::text("Last Schedule", "When a Job was made last.", |object, now| {
            if object["status"]["lastScheduleTime"].is_string() {
                age(object, "/status/lastScheduleTime", now)
            } else {
                "<none>".into()
            }
        }),
        Column::AGE,
        Column::text("Containers", "Names of each container in the template.", |object, _| {
            workload::containers(&object["spec"]["jobTemplate"]["spec"]["template"], "name")
        })
        .wide(),
        Column::text("Images", "Images referenced by each container in the template.", |object, _| {
            workload::containers(&object["spec"]["jobTemplate"]["spec"]["template"], "image")
        })
        .wide(),
        Column::text("Selector", "Label selector for pods.", |object, _| {
            workload::selector(object["spec"]["jobTemplate"]["spec"].get("selector"))
        })
        .wide(),
    ],
    default,
    prepare_create: |object| object["status"] = json!({}),
    validate,
    warn: |object, old| {
        let (mut warnings, spec) = (Vec::new(), &object["spec"]);
        if old.is_none() {
            pod_warnings::of_name(object, "Pod names and hostnames", &mut warnings);
        }
        if old.is_none_or(|old| old["spec"] != *spec) {
            warnings.extend(policies::warn(&spec["jobTemplate"]["spec"], &"spec.jobTemplate.spec".into()));
        }
        if text(spec, "schedule").contains("TZ") {
            let warning = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead";
            warnings.push(warning.to_owned());
        }
        warnings
    },
    ..Kind::BUILT_IN
}];

fn default(object: &mut Value) {
    set(object, "spec", json!({}));
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    set_text(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    if spec["jobTemplate"].is_object() {
        // A template keeps its counts open: the Job made from it gets the rest.
        let template = &mut spec["jobTemplate"]["spec"];
        policies::default(template);
        workload::default_template(template);
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if name.len() > NAME_MAX {
        let path = FieldPath::new("metadata.name");
        errors.push(FieldError::invalid(&path, name, "must be no more than 52 characters"));
    }
    if let Some(schedule) = required(spec, &path, "schedule", errors) {
        let path = path.child("schedule");
        if let Err(error) = cron::check(schedule) {
            errors.push(FieldError::invalid(&path, schedule, &error));
        }
        if schedule.contains("TZ") {
            let message = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.push(FieldError::invalid(&path, schedule, message));
        }
    }
    if let Some(zone) = spec["timeZone"].as_str() {
        let path = path.child("timeZone");
        if zone.is_empty() {
            errors.push(FieldError::invalid(&path, zone, "timeZone must be nil or non-empty string"));
        } else if zone.eq_ignore_ascii_case("local") {
            errors.push(FieldError::invalid(
                &path,
                zone,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ));
        } else if jiff::tz::TimeZone::get(zone).is_err() {
            let message = format!("unknown time zone {zone}");
            errors.push(FieldError::invalid(&path, zone, &message));
        }
    }
    non_negative(spec, &path, &["startingDeadlineSeconds"], errors);
    let known = ["Allow", "Forbid", "Replace"];
    one_of(text(spec, "concurrencyPolicy"), &path.child("concurrencyPolicy"), &known, errors);
    non_negative(spec, &path, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], errors);
    let template = path.child("jobTemplate").child("spec");
    let mut job = spec["jobTemplate"]["spec"].clone();
    if !job.is_object() {
        job = json!({});
    }
    if !job["selector"].is_null() {
        let message = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&template.child("selector"), job["selector"].clone(), message));
    }
    if job["manualSelector"] == true {
        errors.push(FieldError::not_listed(&template.child("manualSelector"), true, &["nil", "false"]));
    }
    // The rules see the spec as the Job will have it.
    batch_job::default_spec(&mut job);
    batch_job::validate_spec(&job, &template, errors);
}
