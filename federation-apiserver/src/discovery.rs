//! Discovery: `/api`, `/apis` and what is below, in the old and the aggregated form (KEP-3352), made from the table of kinds.

use std::sync::LazyLock;

use http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    http::negotiate::accept,
    registry::{Kind, Registry},
};

const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// One finished document.
pub(crate) struct Document {
    pub(crate) content_type: &'static str,
    pub(crate) value: Value,
    /// In quotes, as the header has it.
    pub(crate) etag: Option<String>,
}

/// The document at a path, if it is one of discovery's.
pub(crate) fn find(path: &str, headers: &HeaderMap) -> Option<Document> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let plain = |value| Some(Document { content_type: "application/json", value, etag: None });
    match parts.as_slice() {
        ["api"] => aggregated(true, headers).or_else(|| plain(legacy_versions())),
        ["apis"] => aggregated(false, headers).or_else(|| plain(groups())),
        ["api", version] => plain(resources("", version)?),
        ["apis", group] => plain(one_group(group)?),
        ["apis", group, version] => plain(resources(group, version)?),
        _ => None,
    }
}

fn aggregated(core: bool, headers: &HeaderMap) -> Option<Document> {
    static DOCUMENTS: LazyLock<[[(Value, String); 2]; 2]> = LazyLock::new(|| {
        [false, true].map(|core| {
            ["v2beta1", "v2"].map(|version| {
                let value = group_discovery(core, version);
                let digest = Sha256::digest(value.to_string());
                let etag = hex::encode_upper(digest);
                (value, format!("{etag:?}"))
            })
        })
    });
    let version = accept(headers).into_iter().find_map(|range| {
        if range.kind != "application/json" {
            return None;
        }
        match (range.parameter("as"), range.parameter("g"), range.parameter("v")) {
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => Some(Some(1)),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => Some(Some(0)),
            // Plain JSON stands first.
            (None, ..) => Some(None),
            _ => None,
        }
    })??;
    let (value, etag) = DOCUMENTS.get(usize::from(core))?.get(version)?;
    let content_type = if version == 1 { AGGREGATED_V2 } else { AGGREGATED_V2BETA1 };
    Some(Document { content_type, value: value.clone(), etag: Some(etag.clone()) })
}

fn group_discovery(core: bool, version: &str) -> Value {
    let items: Vec<_> = group_names()
        .into_iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<_> = versions(group)
                .into_iter()
                .map(|version| {
                    let resources: Vec<_> = kinds(group, version).into_iter().map(discovered).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn discovered(kind: &'static Kind) -> Value {
    let reply =
        |group: &str, version: &str, name: &str| json!({"group": group, "version": version, "kind": name});
    let own = reply(kind.group, kind.version, kind.kind);
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": own,
        "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    let subresources: Vec<_> = kind
        .all_subresources()
        .iter()
        .map(|part| {
            json!({
                "subresource": part.name,
                "responseKind": reply(part.group, part.version, part.kind),
                "verbs": part.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = Value::Array(subresources);
    }
    resource
}

fn group_names() -> Vec<&'static str> {
    let mut names = Vec::new();
    for (group, _) in Registry::get().group_versions() {
        if !names.contains(&group) {
            names.push(group);
        }
    }
    names
}

fn versions(group: &str) -> Vec<&'static str> {
    Registry::get()
        .group_versions()
        .into_iter()
        .filter(|(own, _)| *own == group)
        .map(|(_, version)| version)
        .collect()
}

/// The kinds of a group version, by name.
fn kinds(group: &str, version: &str) -> Vec<&'static Kind> {
    let all = Registry::get().kinds().iter().copied();
    let mut found: Vec<_> = all.filter(|kind| kind.group == group && kind.version == version).collect();
    found.sort_by_key(|kind| kind.plural);
    found
}

fn legacy_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": versions(""),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    })
}

fn group(name: &str) -> Value {
    let versions: Vec<_> = versions(name)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn groups() -> Value {
    let groups: Vec<_> = group_names().into_iter().filter(|name| !name.is_empty()).map(group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn one_group(name: &str) -> Option<Value> {
    if versions(name).is_empty() {
        return None;
    }
    let mut group = group(name);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds(group, version) {
        let mut resource = json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced(),
            "kind": kind.kind,
            "verbs": kind.verbs,
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        resources.push(resource);
        for part in kind.all_subresources() {
            let mut resource = json!({
                "name": format!("{}/{}", kind.plural, part.name),
                "singularName": "",
                "namespaced": kind.namespaced(),
                "kind": part.kind,
                "verbs": part.verbs,
            });
            if (part.group, part.version) != (kind.group, kind.version) {
                resource["group"] = part.group.into();
                resource["version"] = part.version.into();
            }
            resources.push(resource);
        }
    }
    if resources.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }))
}
