//! Events: core/v1, and events.k8s.io/v1 over the same stored objects.

use apimachinery::{FieldError, FieldPath, names, names::NameRule};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::{Column, Conversion, ErrorList, Kind, age, field};

const BASE: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    create_on_update: true,
    ..Kind::BUILT_IN
};

pub(super) const CORE: &[&Kind] = &[&Kind {
    columns: &[
        Column::text("Last Seen", "Time of the last occurrence.", last_seen),
        Column::text("Type", "Normal or Warning.", |object, _| field(object, "/type")),
        Column::text("Reason", "Why, in one word.", |object, _| field(object, "/reason")),
        Column::text("Object", "What it is about.", |object, _| about(&object["involvedObject"])),
        Column::text("Subobject", "Which part of it.", |object, _| {
            field(object, "/involvedObject/fieldPath")
        })
        .wide(),
        Column::text("Source", "Who reported it.", |object, _| source(object)).wide(),
        Column::text("Message", "For people.", |object, _| trimmed(&object["message"])),
        Column::text("First Seen", "Time of the first occurrence.", first_seen).wide(),
        Column::text("Count", "How often.", |object, _| occurrences(object)).wide(),
        Column { priority: 1, ..Column::NAME },
    ],
    selectable: &[
        ("involvedObject.kind", "/involvedObject/kind"),
        ("involvedObject.namespace", "/involvedObject/namespace"),
        ("involvedObject.name", "/involvedObject/name"),
        ("involvedObject.uid", "/involvedObject/uid"),
        ("involvedObject.apiVersion", "/involvedObject/apiVersion"),
        ("involvedObject.resourceVersion", "/involvedObject/resourceVersion"),
        ("involvedObject.fieldPath", "/involvedObject/fieldPath"),
        ("reason", "/reason"),
        ("reportingComponent", "/reportingComponent"),
        ("source", "/source/component"),
        ("type", "/type"),
    ],
    // Nothing is asked of the names and finalizers of core/v1's.
    name_rule: NameRule::PathSegment,
    bare_finalizers: true,
    default: default_core,
    validate: validate_core,
    ..BASE
}];

pub(super) const EVENTS: &[&Kind] = &[&Kind {
    group: "events.k8s.io",
    columns: &[
        Column::text("Last Seen", "Time of the last occurrence.", |object, now| {
            last_seen(&to_core(object.clone()), now)
        }),
        Column::text("Type", "Normal or Warning.", |object, _| field(object, "/type")),
        Column::text("Reason", "Why, in one word.", |object, _| field(object, "/reason")),
        Column::text("Object", "What it is about.", |object, _| about(&object["regarding"])),
        Column::text("Subobject", "Which part of it.", |object, _| field(object, "/regarding/fieldPath"))
            .wide(),
        Column::text("Source", "Who reported it.", |object, _| source(&to_core(object.clone()))).wide(),
        Column::text("Message", "For people.", |object, _| trimmed(&object["note"])),
        Column::text("First Seen", "Time of the first occurrence.", |object, now| {
            first_seen(&to_core(object.clone()), now)
        })
        .wide(),
        Column::text("Count", "How often.", |object, _| occurrences(&to_core(object.clone()))).wide(),
        Column { priority: 1, ..Column::NAME },
    ],
    selectable: &[
        ("regarding.kind", "/regarding/kind"),
        ("regarding.namespace", "/regarding/namespace"),
        ("regarding.name", "/regarding/name"),
        ("regarding.uid", "/regarding/uid"),
        ("regarding.apiVersion", "/regarding/apiVersion"),
        ("regarding.resourceVersion", "/regarding/resourceVersion"),
        ("regarding.fieldPath", "/regarding/fieldPath"),
        ("reason", "/reason"),
        ("reportingController", "/reportingController"),
        ("type", "/type"),
    ],
    // Go writes a struct even if nothing is in it.
    default: |object| crate::validation::set(object, "deprecatedSource", json!({})),
    validate: |object, errors| validate_any(&to_core(object.clone()), "reportingController", errors),
    validate_create: validate_new,
    validate_update: |new, old, errors| {
        if new["series"] != old["series"] {
            validate_series(&new["series"], errors);
        }
    },
    conversion: Some(Conversion {
        group: "",
        resource: "events",
        to_stored: to_core,
        from_stored: from_core,
    }),
    ..BASE
}];

/// (core, events.k8s.io): the fields that the two forms name differently.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn to_core(object: Value) -> Value {
    rename(object, "v1", |(core, new)| (new, core))
}

fn from_core(object: Value) -> Value {
    rename(object, "events.k8s.io/v1", |pair| pair)
}

fn rename(
    mut object: Value,
    api_version: &str,
    order: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), api_version.into());
        for (from, to) in NAMES.iter().copied().map(order) {
            if let Some(value) = map.remove(from) {
                map.insert(to.to_owned(), value);
            }
        }
    }
    object
}

fn default_core(object: &mut Value) {
    crate::validation::set(object, "source", json!({}));
    // The reporter is never taken from `source`: where it is not named it is shown empty.
    crate::validation::set(object, "reportingComponent", json!(""));
    crate::validation::set(object, "reportingInstance", json!(""));
}

/// Bytes of what reporters say of themselves and of their acts, and of what they tell.
const WORD_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

fn validate_core(object: &Value, errors: &mut ErrorList) {
    validate_any(object, "reportingComponent", errors);
}

/// What holds of every Event, in its core form (`validation.legacyValidateEvent`).
fn validate_any(object: &Value, reporter: &str, errors: &mut ErrorList) {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let path = FieldPath::new("involvedObject.namespace");
    let about = object["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let own = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let old = object["eventTime"].is_null();
    // Events about cluster-scoped objects live in `default`.
    let fits = match (about.is_empty(), old) {
        (true, true) => own == "default",
        (true, false) => own == "default" || own == "kube-system",
        (false, true) => about == own,
        (false, false) => true,
    };
    if !fits {
        errors.push(FieldError::invalid(&path, about, "does not match event.namespace"));
    }
    if old {
        return;
    }
    let (name, at) = (text("reportingComponent"), FieldPath::new(reporter));
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    }
    errors.extend(names::qualified_name(name).iter().map(|error| FieldError::invalid(&at, name, error)));
    for name in ["reportingInstance", "action", "reason"] {
        if text(name).is_empty() {
            errors.push(FieldError::required(&FieldPath::new(name), ""));
        } else if text(name).len() > WORD_MAX {
            errors.push(FieldError::invalid(&FieldPath::new(name), "", "can have at most 128 characters"));
        }
    }
    if text("message").len() > NOTE_MAX {
        errors.push(FieldError::invalid(&FieldPath::new("message"), "", "can have at most 1024 characters"));
    }
}

/// Something that happens again and again (`validation.validateV1EventSeries`).
fn validate_series(series: &Value, errors: &mut ErrorList) {
    if !series.is_object() {
        return;
    }
    if series["count"].as_i64().unwrap_or_default() < 2 {
        errors.push(FieldError::invalid(&FieldPath::new("series.count"), "", "should be at least 2"));
    }
    if series["lastObservedTime"].is_null() {
        let message = "needs to be specified";
        errors.push(FieldError::invalid(&FieldPath::new("series.lastObservedTime"), "", message));
    }
}

/// The stricter rules of new Events (`validation.ValidateEventCreate`): what belongs to the old API is unset.
fn validate_new(object: &Value, errors: &mut ErrorList) {
    let core = to_core(object.clone());
    validate_series(&core["series"], errors);
    if core["eventTime"].is_null() {
        errors.push(FieldError::required(&FieldPath::new("eventTime"), ""));
    }
    let kind = core["type"].as_str().unwrap_or_default();
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(FieldError::invalid(&FieldPath::new("type"), "", &format!("has invalid value: {kind}")));
    }
    let said = |name: &str| !core["source"][name].as_str().unwrap_or_default().is_empty();
    for (name, set) in [
        ("firstTimestamp", core["firstTimestamp"].is_string()),
        ("lastTimestamp", core["lastTimestamp"].is_string()),
        ("count", core["count"].as_i64().unwrap_or_default() != 0),
        ("source", said("component") || said("host")),
    ] {
        if set {
            errors.push(FieldError::invalid(&FieldPath::new(name), "", "needs to be unset"));
        }
    }
}

fn last_seen(object: &Value, now: Timestamp) -> Value {
    let pointer = ["/series/lastObservedTime", "/lastTimestamp", "/firstTimestamp", "/eventTime"]
        .into_iter()
        .find(|pointer| object.pointer(pointer).is_some_and(Value::is_string));
    age(object, pointer.unwrap_or_default(), now)
}

fn first_seen(object: &Value, now: Timestamp) -> Value {
    age(object, if object["firstTimestamp"].is_string() { "/firstTimestamp" } else { "/eventTime" }, now)
}

fn about(reference: &Value) -> Value {
    let text = |name: &str| reference[name].as_str().unwrap_or_default();
    format!("{}/{}", text("kind").to_lowercase(), text("name")).into()
}

fn source(object: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let component = text(&object["source"]["component"]);
    let component = if component.is_empty() { text(&object["reportingComponent"]) } else { component };
    let host = text(&object["source"]["host"]);
    joined_source(component, &host)
}

fn joined_source(component: String, host: &str) -> Value {
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

fn occurrences(object: &Value) -> Value {
    let count = object["series"]["count"].as_i64().or_else(|| object["count"].as_i64());
    json!(count.filter(|count| *count > 0).unwrap_or(1))
}

fn trimmed(message: &Value) -> Value {
    message.as_str().unwrap_or_default().trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_both_conversions() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "count": 2});
        let new = from_core(core.clone());
        assert_eq!(new["note"], "m");
        assert_eq!(new["apiVersion"], "events.k8s.io/v1");
        assert_eq!(to_core(new), core);
    }

    #[test]
    fn new_events_have_nothing_of_the_old_api() {
        let told = |object: &Value| {
            let mut errors = ErrorList::new();
            validate_new(object, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let time = "2020-01-01T00:00:00.000000Z";
        let good =
            json!({"eventTime": time, "type": "Normal", "series": {"count": 2, "lastObservedTime": time}});
        assert_eq!(told(&good), Vec::<String>::new());
        let mut old = good;
        old["series"]["count"] = 1.into();
        old["deprecatedCount"] = 5.into();
        assert_eq!(
            told(&old),
            [
                r#"series.count: Invalid value: "": should be at least 2"#,
                r#"count: Invalid value: "": needs to be unset"#,
            ]
        );
    }
}
