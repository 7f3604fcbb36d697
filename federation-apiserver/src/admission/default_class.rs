//! Default classes: for claims and Ingresses that name none (`DefaultStorageClass`, `DefaultIngressClass`), and for pods, where only one
//! class can be the default (`Priority`).

use std::cmp::Reverse;

use apimachinery::ApiError;
use serde_json::Value;

use crate::{
    store::{ResourceKey, Snapshot},
    validation::text,
    verbs::Call,
};

/// A kind whose objects get a class when they are made.
struct Classed {
    group: &'static str,
    plural: &'static str,
    /// The field of the spec that names the class.
    field: &'static str,
    /// The older annotation for the same.
    annotation: &'static str,
    /// Group and resource of the classes.
    classes: (&'static str, &'static str),
    /// Annotations by which one of them is the default.
    marks: &'static [&'static str],
}

static CLASSED: [Classed; 2] = [
    Classed {
        group: "",
        plural: "persistentvolumeclaims",
        field: "storageClassName",
        annotation: "volume.beta.kubernetes.io/storage-class",
        classes: ("storage.k8s.io", "storageclasses"),
        marks: &[
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ],
    },
    Classed {
        group: "networking.k8s.io",
        plural: "ingresses",
        field: "ingressClassName",
        annotation: "kubernetes.io/ingress.class",
        classes: ("networking.k8s.io", "ingressclasses"),
        marks: &["ingressclass.kubernetes.io/is-default-class"],
    },
];

/// Names the default class in a new object that names none.
pub(super) fn complete(call: &Call, object: &mut Value) {
    let Some(classed) = CLASSED.iter().find(|classed| call.kind.is(classed.group, classed.plural)) else {
        return;
    };
    let (spec, annotations) = (&object["spec"], &object["metadata"]["annotations"]);
    if !spec.is_object() || !spec[classed.field].is_null() || annotations.get(classed.annotation).is_some() {
        return;
    }
    let (group, plural) = classed.classes;
    let snapshot = call.shared.storage.snapshot();
    let all = snapshot.range(&ResourceKey::new(group, plural), None, None);
    if let Some(name) = newest(all.filter_map(|stored| stored.value().ok()), classed.marks) {
        object["spec"][classed.field] = name.into();
    }
}

/// The default class. Of several defaults the newest counts, and of those the first by name.
fn newest(classes: impl Iterator<Item = Value>, marks: &[&str]) -> Option<String> {
    let is_default = |class: &Value| {
        let annotations = &class["metadata"]["annotations"];
        marks.iter().any(|mark| annotations[*mark] == "true")
    };
    let age = |class: &Value| {
        let of = |name: &str| text(&class["metadata"], name).to_owned();
        (Reverse(of("creationTimestamp")), of("name"))
    };
    let (_, name) = classes.filter(is_default).map(|class| age(&class)).min()?;
    Some(name)
}

/// The default priority class. Of two with the same creation time the lower counts.
pub(super) fn of_pods(snapshot: &Snapshot) -> Option<Value> {
    let all = snapshot.range(&ResourceKey::new("scheduling.k8s.io", "priorityclasses"), None, None);
    let defaults =
        all.filter_map(|stored| stored.value().ok()).filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64())
}

/// Refuses a second default priority class. Other kinds pass.
pub(super) fn check(call: &Call, name: &str, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    if !call.kind.is("scheduling.k8s.io", "priorityclasses") || new["globalDefault"] != true {
        return Ok(());
    }
    let Some(default) = of_pods(&call.shared.storage.snapshot()) else { return Ok(()) };
    let default = text(&default["metadata"], "name");
    if old.is_some() && default == name {
        return Ok(());
    }
    let why = format!("PriorityClass {default} is already marked as default. Only one default can exist");
    Err(ApiError::forbidden(&call.resource(), name, &why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(classes: &[(&str, &str, Value)], expect: Option<&str>) {
        let class = |(name, created, annotations): &(&str, &str, Value)| json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": annotations}});
        assert_eq!(newest(classes.iter().map(class), CLASSED[0].marks).as_deref(), expect);
    }

    #[test]
    fn the_newest_default_counts_and_the_first_by_name_of_those() {
        let (old, new) = ("2026-11-29T23:59:59Z", "2026-11-30T00:00:00Z");
        let yes = || json!({"storageclass.kubernetes.io/is-default-class": "true"});
        let beta = || json!({"storageclass.beta.kubernetes.io/is-default-class": "true"});
        let no = || json!({"storageclass.kubernetes.io/is-default-class": "false"});
        check(&[], None);
        check(&[("a", old, no()), ("b", old, json!({})), ("c", old, Value::Null)], None);
        check(&[("a", old, yes()), ("b", new, no())], Some("a"));
        check(&[("a", old, yes()), ("b", new, beta())], Some("b"));
        check(&[("b", new, yes()), ("a", old, yes()), ("c", new, yes())], Some("b"));
    }
}
