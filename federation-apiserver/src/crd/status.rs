//! Which names a definition gets, and the conditions that show it: apiextensions-apiserver's naming and establishing
//! controllers, as one pure step.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{CLEANUP, Definition};
use crate::validation::holds;

/// The names of a kind: `spec.names`, and `status.acceptedNames`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
}

impl Names {
    /// Reads them.
    pub(crate) fn read(names: &Value) -> Self {
        let text = |key: &str| names[key].as_str().unwrap_or_default().to_owned();
        let list = |key: &str| {
            let items = names[key].as_array().into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Self {
            plural: text("plural"),
            singular: text("singular"),
            kind: text("kind"),
            list_kind: text("listKind"),
            short_names: list("shortNames"),
            categories: list("categories"),
        }
    }

    fn value(&self) -> Value {
        let mut names = json!({"plural": self.plural, "kind": self.kind});
        for (key, text) in [("singular", &self.singular), ("listKind", &self.list_kind)] {
            if !text.is_empty() {
                names[key] = text.as_str().into();
            }
        }
        for (key, list) in [("shortNames", &self.short_names), ("categories", &self.categories)] {
            if !list.is_empty() {
                names[key] = json!(list);
            }
        }
        names
    }
}

/// Names that other definitions of the group have been accepted with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenNames {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl TakenNames {
    /// The names of all definitions of a group but the one of this name.
    pub(crate) fn new<'a>(definitions: impl Iterator<Item = &'a Definition>, group: &str, but: &str) -> Self {
        let mut taken = Self::default();
        for other in definitions.filter(|other| other.group == group && other.name != but) {
            let names = &other.accepted;
            taken.resources.extend([names.plural.clone(), names.singular.clone()]);
            taken.resources.extend(names.short_names.iter().cloned());
            taken.kinds.extend([names.kind.clone(), names.list_kind.clone()]);
        }
        taken.resources.remove("");
        taken.kinds.remove("");
        taken
    }
}

/// The status of a definition that nobody has looked at yet. Only the version that its objects are stored in is known.
pub(crate) fn begin(object: &mut Value) {
    object["status"] = json!({"conditions": null, "acceptedNames": Names::default().value()});
    store_version(object);
}

/// Brings the status of a definition up to date with its spec and the names of others.
pub(crate) fn settle(object: &mut Value, taken: &TakenNames, now: &str) {
    let wanted = Names::read(&object["spec"]["names"]);
    let mut accepted = Names::read(&object["status"]["acceptedNames"]);
    let mut conflict = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    let mut accept = |name: &String, set: &BTreeSet<String>, old: &mut String, reason: &'static str| {
        if *name == *old || !set.contains(name) {
            old.clone_from(name);
        } else {
            conflict = Some((reason, in_use(name)));
        }
    };
    accept(&wanted.plural, &taken.resources, &mut accepted.plural, "PluralConflict");
    accept(&wanted.singular, &taken.resources, &mut accepted.singular, "SingularConflict");
    let lost: Vec<_> = wanted
        .short_names
        .iter()
        .filter(|name| !accepted.short_names.contains(name) && taken.resources.contains(*name))
        .collect();
    if lost.is_empty() {
        accepted.short_names.clone_from(&wanted.short_names);
    } else {
        let texts: Vec<_> = lost.iter().map(|name| in_use(name)).collect();
        conflict = Some(("ShortNamesConflict", texts.join(", ")));
    }
    // Of several conflicts the last one is reported.
    for (name, old, reason) in [
        (&wanted.kind, &mut accepted.kind, "KindConflict"),
        (&wanted.list_kind, &mut accepted.list_kind, "ListKindConflict"),
    ] {
        if *name == *old || !taken.kinds.contains(name) {
            old.clone_from(name);
        } else {
            conflict = Some((reason, in_use(name)));
        }
    }
    accepted.categories.clone_from(&wanted.categories);
    let free = conflict.is_none();
    let (reason, message) = conflict.unwrap_or_else(|| ("NoConflicts", "no conflicts found".to_owned()));
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["acceptedNames"] = accepted.value();
    set_condition(object, "NamesAccepted", free, reason, &message, now);
    if !holds(object, "Established") {
        let (reason, message) = if free {
            ("InitialNamesAccepted", "the initial names have been accepted")
        } else {
            ("NotAccepted", "not all names are accepted")
        };
        set_condition(object, "Established", free, reason, message, now);
    }
    if let Some((approved, reason, message)) = approval(object) {
        set_condition(object, APPROVAL, approved, reason, &message, now);
    }
    store_version(object);
}

const APPROVAL: &str = "KubernetesAPIApprovalPolicyConformant";
const APPROVED: &str = "api-approved.kubernetes.io";

/// Whether a kind of one of Kubernetes' own groups has been approved, and by which link (`apihelpers.GetAPIApprovalState`).
fn approval(object: &Value) -> Option<(bool, &'static str, String)> {
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let group = object["spec"]["group"].as_str().unwrap_or_default();
    let is_own =
        |domain: &str| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if !is_own("k8s.io") && !is_own("kubernetes.io") {
        return None;
    }
    let annotation = object["metadata"]["annotations"][APPROVED].as_str().unwrap_or_default();
    let url = annotation
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'));
    Some(if annotation.is_empty() {
        let message = format!("protected groups must have approval annotation {APPROVED:?}, {SEE}");
        (false, "MissingAnnotation", message)
    } else if annotation.starts_with("unapproved") {
        (false, "UnapprovedAnnotation", format!("not approved: {annotation:?}"))
    } else if url {
        (true, "ApprovedAnnotation", format!("approved in {annotation}"))
    } else {
        let message = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
        );
        (false, "InvalidAnnotation", message)
    })
}

/// Adds the storage version to `status.storedVersions`.
fn store_version(object: &mut Value) {
    let versions = object["spec"]["versions"].as_array().into_iter().flatten();
    let storage = versions.into_iter().find(|version| version["storage"] == true);
    let Some(storage) = storage.map(|version| version["name"].clone()) else { return };
    let stored = &mut object["status"]["storedVersions"];
    match stored.as_array_mut() {
        Some(stored) if stored.contains(&storage) => {}
        Some(stored) => stored.push(storage),
        None => *stored = json!([storage]),
    }
}

/// Sets a condition; its time moves only with its status.
pub(crate) fn set_condition(
    object: &mut Value,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: &str,
) {
    let status = if holds { "True" } else { "False" };
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let found = conditions.iter_mut().find(|condition| condition["type"] == kind);
    let since = found
        .as_ref()
        .filter(|condition| condition["status"] == status && condition["lastTransitionTime"].is_string())
        .map_or_else(|| now.into(), |condition| condition["lastTransitionTime"].clone());
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    match found {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

/// The first step of a delete: the instances are deleted before the definition.
pub(crate) fn begin_deletion(object: &mut Value, now: &str) {
    let mut finalizers = crate::deletion::finalizers(object);
    if object["metadata"]["deletionTimestamp"].is_string() || finalizers.iter().any(|name| name == CLEANUP) {
        return;
    }
    finalizers.push(CLEANUP.to_owned());
    crate::deletion::set_finalizers(object, &finalizers);
    set_condition(
        object,
        "Terminating",
        true,
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        now,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn definition() -> Value {
        json!({"spec": {"group": "e.io", "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList", "shortNames": ["f"]},
            "versions": [{"name": "v1", "storage": true}]}})
    }

    #[test]
    fn free_names_are_accepted_and_the_kind_established() {
        let mut object = definition();
        settle(&mut object, &TakenNames::default(), NOW);
        assert!(holds(&object, "NamesAccepted") && holds(&object, "Established"));
        assert_eq!(object["status"]["acceptedNames"], object["spec"]["names"]);
        assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
        let before = object.clone();
        settle(&mut object, &TakenNames::default(), "2027-01-01T00:00:00Z");
        assert_eq!(object, before, "times move only with a condition's status");
    }

    #[test]
    fn a_name_that_is_taken_keeps_the_kind_from_being_established() {
        let mut object = definition();
        let taken = TakenNames { resources: ["f".to_owned()].into(), ..TakenNames::default() };
        settle(&mut object, &taken, NOW);
        let condition = &object["status"]["conditions"][0];
        assert_eq!(
            (&condition["reason"], &condition["message"]),
            (&json!("ShortNamesConflict"), &json!("\"f\" is already in use"))
        );
        assert!(!holds(&object, "Established"));
        settle(&mut object, &TakenNames::default(), NOW);
        assert!(holds(&object, "Established"));
    }
    #[test]
    fn kinds_of_kubernetes_own_groups_are_approved_or_not() {
        let told = |annotation: &str| {
            let mut object = definition();
            object["spec"]["group"] = json!("foo.k8s.io");
            object["metadata"] = json!({"annotations": {APPROVED: annotation}});
            settle(&mut object, &TakenNames::default(), NOW);
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.into_iter().find(|condition| condition["type"] == APPROVAL).map(|condition| {
                (condition["status"].clone(), condition["reason"].clone(), condition["message"].clone())
            })
        };
        let expect =
            |status: &str, reason: &str, message: &str| Some((json!(status), json!(reason), json!(message)));
        let url = "https://github.com/kubernetes/kubernetes/pull/78458";
        assert_eq!(told(url), expect("True", "ApprovedAnnotation", &format!("approved in {url}")));
        let expected = "not approved: \"unapproved, experimental\"";
        assert_eq!(told("unapproved, experimental"), expect("False", "UnapprovedAnnotation", expected));
        assert!(told("odd").is_some_and(|(_, reason, _)| reason == "InvalidAnnotation"));
        let mut object = definition();
        settle(&mut object, &TakenNames::default(), NOW);
        assert_eq!(object["status"]["conditions"].as_array().map(Vec::len), Some(2));
    }
}
