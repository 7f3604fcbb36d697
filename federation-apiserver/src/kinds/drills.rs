//! The kind FailoverDrill.

use apimachinery::{FieldError, FieldPath, meta::Scope, names::NameRule};
use federation_core::{api, drill};
use serde_json::Value;

use super::federation::{BASE, parses, strings};
use crate::registry::{Column, ErrorList, Kind, field, joined};

pub(super) const KINDS: &[&Kind] = &[&Kind {
    kind: "FailoverDrill",
    plural: "failoverdrills",
    singular: "failoverdrill",
    short_names: &["fdrill"],
    scope: Scope::Cluster,
    name_rule: NameRule::Dns1123Subdomain,
    columns: &[
        Column::NAME,
        Column::text("Lose", "Clusters that are lost.", |object, _| joined(strings(&object["spec"]["lose"]))),
        Column::text("App", "Whose users and replicas are looked at.", |object, _| app(object)),
        Column::text("Scope", "How far the loss goes.", |object, _| {
            object["spec"]["scope"].as_str().unwrap_or("Traffic").into()
        }),
        Column::text("Phase", "Where it is in its course.", |object, _| phase(object)),
        Column::text("Recovered", "Milliseconds until users had recovered.", |object, _| {
            recovered(object).map_or_else(|| "".into(), |ms| format!("{ms}ms").into())
        }),
        Column::AGE,
        Column::text("Hypothesis", "What is expected.", |object, _| field(object, "/spec/hypothesis")).wide(),
        Column::text("Reason", "Why the phase is what it is.", |object, _| field(object, "/status/message"))
            .wide(),
    ],
    validate: |object, errors| {
        if parses::<api::FailoverDrill>(object, errors) {
            check(&object["spec"], errors);
        }
    },
    ..BASE
}];

fn app(object: &Value) -> Value {
    let app = &object["spec"]["app"];
    let namespace = app["namespace"].as_str().filter(|namespace| !namespace.is_empty());
    format!("{}/{}", namespace.unwrap_or("default"), app["name"].as_str().unwrap_or_default()).into()
}

/// A schedule has no course of its own.
fn phase(object: &Value) -> Value {
    match object["spec"]["schedule"].as_str().filter(|schedule| !schedule.is_empty()) {
        Some(_) if object["spec"]["suspend"] == true => "Suspended".into(),
        Some(schedule) => schedule.into(),
        None => object["status"]["phase"].as_str().unwrap_or("Pending").into(),
    }
}

fn recovered(object: &Value) -> Option<i64> {
    let stages = object["status"]["stages"].as_array()?;
    stages.iter().find(|stage| stage["name"] == drill::stage::RECOVERED)?["afterMs"].as_i64()
}

fn check(spec: &Value, errors: &mut ErrorList) {
    let Ok(parsed) = serde_json::from_value::<api::FailoverDrillSpec>(spec.clone()) else { return };
    for (place, message) in drill::problems(&parsed) {
        let pointer = format!("/{}", place.replace(['.', '['], "/").replace(']', ""));
        let value = spec.pointer(&pointer).cloned().unwrap_or_default();
        let path = place.split('.').fold(FieldPath::new("spec"), |path, part| match part.split_once('[') {
            Some((name, index)) => {
                path.child(name).index(index.trim_end_matches(']').parse().unwrap_or_default())
            }
            None => path.child(part),
        });
        if value.is_null() || value == "" {
            errors.push(FieldError::required(&path, &message));
        } else {
            errors.push(FieldError::invalid(&path, value, &message));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(spec: &Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        check(spec, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_whole_drill_is_taken() {
        let spec = json!({
            "lose": ["taiwan"], "app": {"namespace": "shop", "name": "web"}, "scope": "Isolate",
            "hypothesis": "rto<10s,errors<0.1%,ready>=80%", "durationSeconds": 60, "schedule": "0 4 * * mon",
        });
        assert_eq!(told(&spec), Vec::<String>::new());
    }

    #[test]
    fn every_error_names_its_field() {
        let spec = json!({
            "lose": ["taiwan", "Tokyo"], "app": {"namespace": "Shop"}, "hypothesis": "rto<10", "durationSeconds": 0,
        });
        let told = told(&spec);
        let fields: Vec<&str> = told.iter().filter_map(|error| error.split(": ").next()).collect();
        assert_eq!(
            fields,
            [
                "spec.lose[1]",
                "spec.app.name",
                "spec.app.namespace",
                "spec.hypothesis",
                "spec.durationSeconds"
            ]
        );
        assert!(told[3].contains("\"10\" is no time"), "{}", told[3]);
    }
}
