//! Reads a stored CustomResourceDefinition as the kinds that it adds.

use std::{
    cmp::{Ordering, Reverse},
    sync::{Arc, OnceLock},
};

use apimachinery::{jsonpath::JsonPath, meta::Scope};
use kube_schema::structural::{ParseError, Structural};
use serde_json::{Value, json};

use super::{
    conversion::Converter,
    custom::{Custom, PrinterColumn, ScalePaths},
    finalizers, intern,
    status::Names,
};
use crate::{
    registry::{Generation, Kind},
    store::Stored,
    validation::holds,
};

/// Why a stored definition cannot be served: another version of this server has written it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It is no JSON.
    #[error("the stored object cannot be parsed")]
    Parse(#[from] serde_json::Error),
    /// Its schema cannot be used.
    #[error("the schema of version {version} cannot be used")]
    Schema {
        version: String,
        #[source]
        source: ParseError,
    },
    /// One of its rules does not compile.
    #[error("the rule at {path} of version {version} does not compile: {why}")]
    Rule { version: String, path: String, why: String },
}

/// A definition as it is served.
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) revision: u64,
    pub(crate) group: String,
    pub(crate) plural: String,
    /// Its accepted names.
    pub(crate) accepted: Names,
    /// One for each served version, in order of precedence; none unless it is established.
    pub(crate) kinds: Vec<Arc<Kind>>,
}

impl Definition {
    /// Reads a stored definition.
    pub(crate) fn read(stored: &Stored) -> Result<Self, ReadError> {
        let object = stored.value()?;
        let spec = &object["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let accepted = Names::read(&object["status"]["acceptedNames"]);
        let mut definition = Self {
            name: stored.key.name.clone(),
            revision: stored.revision,
            group: text(&spec["group"]),
            plural: text(&spec["names"]["plural"]),
            accepted,
            kinds: Vec::new(),
        };
        if !holds(&object, "Established") {
            return Ok(definition);
        }
        let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let storage = versions.iter().find(|version| version["storage"] == true);
        let storage = storage.map(|version| text(&version["name"])).unwrap_or_default();
        let storage_version = format!("{}/{storage}", definition.group);
        let selectable = selectable_fields(versions);
        let all = versions.iter().map(|version| format!("{}/{}", definition.group, text(&version["name"])));
        let all: Arc<[String]> = all.collect();
        let converter = Converter::read(&spec["conversion"]).map(Arc::new);
        let stored_schema = match versions.iter().find(|version| version["storage"] == true) {
            // Nobody else reads it then.
            Some(version) if converter.is_none() && versions.len() > 1 => {
                Some(Arc::new(structural(version)?))
            }
            _ => None,
        };
        for version in versions.iter().filter(|version| version["served"] == true) {
            let custom = Custom {
                terminating: stored.meta.deleting,
                api_version: format!("{}/{}", definition.group, text(&version["name"])),
                storage_version: storage_version.clone(),
                selectable: selectable.clone(),
                versions: Arc::clone(&all),
                converter: converter.clone(),
                stored_schema: stored_schema.clone().filter(|_| version["storage"] != true),
                ..read_version(&object, version, versions)?
            };
            definition.kinds.push(Arc::new(kind(&definition, spec, version, custom)));
        }
        definition.kinds.sort_by(|one, other| version_precedence(one.version, other.version));
        Ok(definition)
    }
}

/// The schema of a version, as it was written.
fn published(version: &Value) -> Value {
    match &version["schema"]["openAPIV3Schema"] {
        schema @ Value::Object(_) => schema.clone(),
        _ => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    }
}

fn structural(version: &Value) -> Result<Structural, ReadError> {
    Structural::parse(&published(version)).map_err(|source| {
        let version = version["name"].as_str().unwrap_or_default().to_owned();
        ReadError::Schema { version, source }
    })
}

fn read_version(object: &Value, version: &Value, versions: &[Value]) -> Result<Custom, ReadError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&version["name"]);
    let published = published(version);
    let mut schema = structural(version)?;
    if let Some(error) = schema.compile_rules().into_iter().find(|error| error.stops) {
        return Err(ReadError::Rule { version: name, path: error.path, why: error.detail });
    }
    let columns = version["additionalPrinterColumns"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A path that is none ends the list, as in kube-apiserver.
    let mut read: Vec<_> = columns
        .iter()
        .map_while(|column| {
            Some(PrinterColumn {
                name: text(&column["name"]),
                kind: text(&column["type"]),
                format: text(&column["format"]),
                description: match text(&column["description"]) {
                    empty if empty.is_empty() => {
                        format!(
                            "Custom resource definition column (in JSONPath format): {}",
                            text(&column["jsonPath"])
                        )
                    }
                    description => description,
                },
                priority: column["priority"].as_i64().unwrap_or_default(),
                path: JsonPath::parse(column["jsonPath"].as_str()?).ok()?,
            })
        })
        .collect();
    if columns.is_empty() {
        read.extend(PrinterColumn::age());
    }
    let scale = &version["subresources"]["scale"];
    let scale = scale.is_object().then(|| ScalePaths {
        spec_replicas: pointer(scale["specReplicasPath"].as_str().unwrap_or_default()),
        status_replicas: pointer(scale["statusReplicasPath"].as_str().unwrap_or_default()),
        selector: scale["labelSelectorPath"].as_str().filter(|path| !path.is_empty()).map(pointer),
    });
    Ok(Custom {
        terminating: false,
        api_version: String::new(),
        storage_version: String::new(),
        converter: None,
        schema,
        stored_schema: None,
        published,
        columns: read,
        scale,
        deprecation: (version["deprecated"] == true).then(|| deprecation(object, version, versions)),
        selectable: Vec::new(),
        versions: Arc::default(),
        ownership: OnceLock::new(),
    })
}

/// The warning of a deprecated version: its own text, or one that names a better version.
fn deprecation(object: &Value, version: &Value, versions: &[Value]) -> String {
    if let Some(text) = version["deprecationWarning"].as_str() {
        return text.to_owned();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind) = (text(&object["spec"]["group"]), text(&object["spec"]["names"]["kind"]));
    let own = text(&version["name"]);
    let mut better: Vec<_> = versions
        .iter()
        .filter(|other| other["served"] == true && other["deprecated"] != true)
        .map(|other| text(&other["name"]))
        .filter(|name| version_precedence(name, &own) == Ordering::Less)
        .collect();
    better.sort_by(|one, other| version_precedence(one, other));
    let mut warning = format!("{group}/{own} {kind} is deprecated");
    if let Some(better) = better.first() {
        warning.push_str(&format!("; use {group}/{better} {kind}"));
    }
    warning
}

fn selectable_fields(versions: &[Value]) -> Vec<(String, String)> {
    let paths = versions
        .iter()
        .flat_map(|version| version["selectableFields"].as_array().into_iter().flatten())
        .filter_map(|field| field["jsonPath"].as_str());
    let mut fields: Vec<_> =
        paths.map(|path| (path.trim_start_matches('.').to_owned(), pointer(path))).collect();
    fields.sort();
    fields.dedup();
    fields
}

/// The JSON pointer of a simple path such as `.spec.replicas`.
fn pointer(path: &str) -> String {
    path.split('.').filter(|step| !step.is_empty()).fold(String::new(), |pointer, step| {
        format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"))
    })
}

/// What a custom kind can be asked to do, as `DiscoveryController` lists it.
const VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

fn kind(definition: &Definition, spec: &Value, version: &Value, custom: Custom) -> Kind {
    let names = &definition.accepted;
    let own: Vec<_> = selectable_fields(std::slice::from_ref(version));
    Kind {
        group: intern::text(&definition.group),
        version: intern::text(version["name"].as_str().unwrap_or_default()),
        kind: intern::text(&names.kind),
        plural: intern::text(&names.plural),
        singular: intern::text(&names.singular),
        short_names: intern::list(names.short_names.iter().map(String::as_str)),
        categories: intern::list(names.categories.iter().map(String::as_str)),
        scope: if spec["scope"] == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
        // In the order in which discovery has those of custom kinds.
        verbs: VERBS,
        status: version["subresources"]["status"].is_object(),
        scale: custom.scale.is_some(),
        selectable: intern::pairs(&own),
        generation: Generation::Spec,
        unconditional_update: false,
        built_in: false,
        warn: finalizers::warn,
        custom: Some(Arc::new(custom)),
        ..Kind::BUILT_IN
    }
}

/// The order in which versions are preferred (`apimachinery/pkg/version.CompareKubeAwareVersionStrings`): GA before beta before
/// alpha, newer before older, and all other names after those, by alphabet.
pub(crate) fn version_precedence(one: &str, other: &str) -> Ordering {
    match (parse_version(one), parse_version(other)) {
        (Some(one), Some(other)) => Reverse(one).cmp(&Reverse(other)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.cmp(other),
    }
}

/// Stability (2 is GA), major number, and number of the alpha or beta.
fn parse_version(name: &str) -> Option<(u8, u64, u64)> {
    let rest = name.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let (stability, minor) = match rest {
        "" => return Some((2, major.parse().ok()?, 0)),
        _ => rest
            .strip_prefix("beta")
            .map(|minor| (1, minor))
            .or_else(|| rest.strip_prefix("alpha").map(|minor| (0, minor)))?,
    };
    Some((stability, major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_and_newer_versions_come_first() {
        let mut versions =
            ["foo1", "v1alpha1", "v2", "v10", "v1beta2", "v1beta10", "foo10", "v1", "v2alpha1"];
        versions.sort_by(|one, other| version_precedence(one, other));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v1beta10", "v1beta2", "v2alpha1", "v1alpha1", "foo1", "foo10"]
        );
    }
}
