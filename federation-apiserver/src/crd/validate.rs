//! Validation of CustomResourceDefinitions (`apis/apiextensions/validation`), but for their schemas.

use std::collections::BTreeSet;

use apimachinery::{FieldError, FieldPath, names};
use serde_json::Value;

use super::structural_schema;
use crate::{registry::ErrorList, validation::holds};

/// The annotation that a definition in one of Kubernetes' own groups must have.
const APPROVED: &str = "api-approved.kubernetes.io";
/// `MaxSelectableFields`.
const SELECTABLE_MAX: usize = 8;

/// The error of the name of a new definition, which must be that of its resource: told with what else is wrong with it, before all other
/// errors.
pub(super) fn name(object: &Value, errors: &mut ErrorList) {
    let (spec, text) = (&object["spec"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let name = text(&object["metadata"]["name"]);
    if name != format!("{plural}.{group}") && !name.is_empty() {
        let path = FieldPath::new("metadata.name");
        let others = std::mem::take(errors);
        let mut others = others.into_iter().peekable();
        errors.extend(std::iter::from_fn(|| others.next_if(|error| error.field == "metadata.name")));
        errors.push(FieldError::invalid(&path, name, "must be spec.names.plural+\".\"+spec.group"));
        errors.extend(others);
    }
}

/// All other errors of a definition.
pub(super) fn definition(object: &Value, errors: &mut ErrorList) {
    let spec = &object["spec"];
    let path = FieldPath::new("spec");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let group = text(&spec["group"]);
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    if protected && text(&object["metadata"]["annotations"][APPROVED]).is_empty() {
        let path = FieldPath::new("metadata.annotations").key(APPROVED);
        errors.push(FieldError::required(
            &path,
            &format!(
                "protected groups must have approval annotation {APPROVED:?}, see https://github.com/kubernetes/enhancements/pull/1111"
            ),
        ));
    }
    if group.is_empty() {
        errors.push(FieldError::required(&path.child("group"), ""));
    } else {
        for error in names::dns1123_subdomain(&group) {
            errors.push(FieldError::invalid(&path.child("group"), group.as_str(), &error));
        }
        if !group.contains('.') {
            let detail = "should be a domain with at least one dot";
            errors.push(FieldError::invalid(&path.child("group"), group.as_str(), detail));
        }
    }
    one_of(&spec["scope"], &["Cluster", "Namespaced"], &path.child("scope"), errors);
    if spec["preserveUnknownFields"] == true {
        errors.push(FieldError::invalid(
            &path.child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
    kind_names(&spec["names"], &path.child("names"), errors);
    conversion(&spec["conversion"], &path.child("conversion"), errors);
    versions(&spec["versions"], &path.child("versions"), errors);
    let stored = &object["status"]["storedVersions"];
    if stored.as_array().is_none_or(Vec::is_empty) {
        let path = FieldPath::new("status.storedVersions");
        errors.push(FieldError::invalid(&path, stored.clone(), "must have at least one stored version"));
    }
}

fn one_of(value: &Value, known: &[&str], path: &FieldPath, errors: &mut ErrorList) {
    match value.as_str().unwrap_or_default() {
        "" => errors.push(FieldError::required(path, "")),
        text if known.contains(&text) => {}
        text => errors.push(FieldError::not_supported(path, text, known)),
    }
}

fn kind_names(names: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let text = |key: &str| names[key].as_str().unwrap_or_default().to_owned();
    let mut label = |path: &FieldPath, text: &str| {
        for error in names::dns1035_label(text) {
            errors.push(FieldError::invalid(path, text, &error));
        }
    };
    for key in ["plural", "singular"] {
        if !text(key).is_empty() {
            label(&path.child(key), &text(key));
        }
    }
    for key in ["shortNames", "categories"] {
        for (at, name) in names[key].as_array().into_iter().flatten().enumerate() {
            label(&path.child(key).index(at), name.as_str().unwrap_or_default());
        }
    }
    for key in ["kind", "listKind"] {
        for error in names::dns1035_label(&text(key).to_lowercase()) {
            if !text(key).is_empty() {
                let detail = format!("may have mixed case, but should otherwise match: {error}");
                errors.push(FieldError::invalid(&path.child(key), text(key), &detail));
            }
        }
    }
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(key).is_empty() {
            errors.push(FieldError::required(&path.child(key), ""));
        }
    }
    if text("kind") == text("listKind") && !text("kind").is_empty() {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), text("listKind"), detail));
    }
}

fn conversion(conversion: &Value, path: &FieldPath, errors: &mut ErrorList) {
    one_of(&conversion["strategy"], &["None", "Webhook"], &path.child("strategy"), errors);
    let webhook = &conversion["webhook"];
    if conversion["strategy"] != "Webhook" {
        if webhook.is_object() {
            let detail = "should not be set when strategy is not set to Webhook";
            // Places are those of Go's internal type.
            for (name, place) in [
                ("clientConfig", "webhookClientConfig"),
                ("conversionReviewVersions", "conversionReviewVersions"),
            ] {
                if !webhook[name].is_null() {
                    errors.push(FieldError::forbidden(&path.child(place), detail));
                }
            }
        }
        return;
    }
    let client_path = path.child("webhookClientConfig");
    let client = &webhook["clientConfig"];
    if !client.is_object() {
        let detail = "required when strategy is set to Webhook";
        errors.push(FieldError::required(&client_path, detail));
    } else if client["url"].is_string() == client["service"].is_object() {
        let detail = "exactly one of url or service is required";
        errors.push(FieldError::required(&client_path, detail));
    } else if let Some(url) = client["url"].as_str()
        && let Some((scheme, _)) = url.split_once("://")
        && scheme != "https"
    {
        let detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
        errors.push(FieldError::invalid(&client_path.child("url"), scheme, detail));
    }
    let (known, path) = (&webhook["conversionReviewVersions"], path.child("conversionReviewVersions"));
    match known.as_array().map(Vec::as_slice) {
        None | Some([]) => errors.push(FieldError::required(&path, "")),
        Some(all) if !all.iter().any(|version| version == "v1" || version == "v1beta1") => {
            let detail = "must include at least one of v1, v1beta1";
            errors.push(FieldError::invalid(&path, known.clone(), detail));
        }
        Some(_) => {}
    }
}

fn versions(versions: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let list = versions.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names_seen = BTreeSet::new();
    let mut unique = true;
    let is_shared = |own: &str| list.windows(2).all(|pair| pair[0][own] == pair[1][own]);
    let shared = ["schema", "additionalPrinterColumns", "subresources", "selectableFields"].map(is_shared);
    let [same_schema, same_columns, same_subresources, same_selectable] = shared;
    for (at, version) in list.iter().enumerate() {
        if errors.is_full() {
            return;
        }
        let path = path.index(at);
        let name = version["name"].as_str().unwrap_or_default();
        unique &= names_seen.insert(name);
        for error in names::dns1035_label(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, &error));
        }
        if version["deprecationWarning"].is_string() && version["deprecated"] != true {
            let detail = "can only be set for deprecated versions";
            let warning = version["deprecationWarning"].clone();
            errors.push(FieldError::invalid(&path.child("deprecationWarning"), warning, detail));
        }
        // An error that all versions share is reported once, at the field that the first edition of the API had for it.
        let place = |same: bool, own: &str, field: &str| {
            if same { FieldPath::new("spec").child(field) } else { path.child(own) }
        };
        let schema_path = place(same_schema, "schema", "validation").child("openAPIV3Schema");
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_object() {
            if at == 0 || !same_schema {
                structural_schema::check(schema, &schema_path, errors);
            }
        } else {
            let path = path.child("schema").child("openAPIV3Schema");
            errors.push(FieldError::required(&path, "schemas are required"));
        }
        let columns_path = place(same_columns, "additionalPrinterColumns", "additionalPrinterColumns");
        columns(&version["additionalPrinterColumns"], &columns_path, errors);
        let scale_path = place(same_subresources, "subresources", "subresources").child("scale");
        scale(&version["subresources"]["scale"], &scale_path, errors);
        let selectable_path = place(same_selectable, "selectableFields", "selectableFields");
        selectable(&version["selectableFields"], schema, &selectable_path, errors);
    }
    if !unique {
        errors.push(FieldError::invalid(path, versions.clone(), "must contain unique version names"));
    }
    if list.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(path, versions.clone(), detail));
    }
}

fn columns(columns: &Value, path: &FieldPath, errors: &mut ErrorList) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    for (at, column) in columns.as_array().into_iter().flatten().enumerate() {
        let path = path.index(at);
        if column["name"].as_str().unwrap_or_default().is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        match column["type"].as_str().unwrap_or_default() {
            "" => errors.push(FieldError::required(
                &path.child("type"),
                &format!("must be one of {}", TYPES.join(",")),
            )),
            kind if TYPES.contains(&kind) => {}
            kind => errors.push(FieldError::invalid(
                &path.child("type"),
                kind,
                &format!("must be one of {}", TYPES.join(",")),
            )),
        }
        let format = column["format"].as_str().unwrap_or_default();
        if !format.is_empty() && !FORMATS.contains(&format) {
            let detail = format!("must be one of {}", FORMATS.join(","));
            errors.push(FieldError::invalid(&path.child("format"), format, &detail));
        }
        match column["jsonPath"].as_str().unwrap_or_default() {
            "" => errors.push(FieldError::required(&path.child("JSONPath"), "")),
            // Nobody looks further until a Table is made.
            text if !text.starts_with('.') => {
                errors.push(FieldError::invalid(&path.child("JSONPath"), text, SIMPLE));
            }
            _ => {}
        }
    }
}

/// Formats of columns, in the order of the alphabet.
const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

const SIMPLE: &str = "must be a simple json path starting with .";

fn scale(scale: &Value, path: &FieldPath, errors: &mut ErrorList) {
    if !scale.is_object() {
        return;
    }
    for (key, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        match scale[key].as_str().unwrap_or_default() {
            "" => errors.push(FieldError::required(&path.child(key), "")),
            text if text.starts_with(below) && is_simple(text) => {}
            text if !text.starts_with('.') || !is_simple(text) => {
                errors.push(FieldError::invalid(&path.child(key), text, SIMPLE));
            }
            text => {
                let detail = format!("should be a json path under {}", below.trim_end_matches('.'));
                errors.push(FieldError::invalid(&path.child(key), text, &detail));
            }
        }
    }
    if let Some(text) = scale["labelSelectorPath"].as_str().filter(|text| !text.is_empty())
        && !(is_simple(text) && (text.starts_with(".status.") || text.starts_with(".spec.")))
    {
        let detail = "should be a json path under either .spec or .status";
        errors.push(FieldError::invalid(&path.child("labelSelectorPath"), text, detail));
    }
}

/// A path of names only.
fn is_simple(path: &str) -> bool {
    !path.contains(['[', ']', '*', '?', '\\'])
}

fn selectable(fields: &Value, schema: &Value, path: &FieldPath, errors: &mut ErrorList) {
    let fields = fields.as_array().map(Vec::as_slice).unwrap_or_default();
    if fields.len() > SELECTABLE_MAX {
        errors.push(FieldError::too_many(path, fields.len(), SELECTABLE_MAX));
    }
    let mut seen = BTreeSet::new();
    for (at, field) in fields.iter().enumerate() {
        let path = path.index(at).child("jsonPath");
        let text = field["jsonPath"].as_str().unwrap_or_default();
        if text.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let steps: Vec<_> = text.split('.').skip(1).collect();
        let end = steps.iter().fold(schema, |schema, step| &schema["properties"][*step]);
        let kind = end["type"].as_str().unwrap_or_default();
        if !text.starts_with('.') || !is_simple(text) || end.is_null() {
            errors.push(FieldError::invalid(
                &path,
                text,
                "is an invalid path: does not refer to a valid field",
            ));
        } else if steps.first() == Some(&"metadata") {
            errors.push(FieldError::invalid(&path, text, "must not point to fields in metadata"));
        } else if !matches!(kind, "string" | "boolean" | "integer") {
            errors.push(FieldError::invalid(
                &path,
                text,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            ));
        } else if !seen.insert(text) {
            errors.push(FieldError::duplicate(&path, text));
        }
    }
}

/// The errors of a change.
pub(super) fn update(new: &Value, old: &Value, errors: &mut ErrorList) {
    if holds(old, "Established") {
        for (pointer, path) in [("/spec/scope", "spec.scope"), ("/spec/names/kind", "spec.names.kind")] {
            let (new, old) = (new.pointer(pointer), old.pointer(pointer));
            if new != old {
                let value = new.cloned().unwrap_or_default();
                errors.push(FieldError::invalid(&FieldPath::new(path), value, "field is immutable"));
            }
        }
    }
    for (pointer, path) in [("/spec/group", "spec.group"), ("/spec/names/plural", "spec.names.plural")] {
        let (new, old) = (new.pointer(pointer), old.pointer(pointer));
        if new != old {
            let value = new.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&FieldPath::new(path), value, "field is immutable"));
        }
    }
    // A status may drop versions that no longer exist: that is how they are reported as gone.
    if new["spec"]["versions"] == old["spec"]["versions"] {
        return;
    }
    let known: Vec<_> = new["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|version| version["name"].clone())
        .collect();
    for (at, stored) in new["status"]["storedVersions"].as_array().into_iter().flatten().enumerate() {
        if !known.contains(stored) {
            let path = FieldPath::new("status.storedVersions").index(at);
            let detail = "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions";
            let name = stored.as_str().unwrap_or_default();
            errors.push(FieldError::invalid(&path, name, &detail.replace("v1", name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn many_versions_take_little_to_check() {
        let version = |number: usize| json!({"name": format!("v{number}"), "schema": {"openAPIV3Schema": {"type": "object"}}});
        let all: Vec<_> = (0..40_000).map(version).collect();
        let mut errors = ErrorList::new();
        versions(&all.into(), &FieldPath::new("spec.versions"), &mut errors);
        let told: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(told, ["spec.versions"], "none is stored");
    }
}
