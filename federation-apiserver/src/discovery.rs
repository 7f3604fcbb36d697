//! Discovery: `/api`, `/apis` and what is below, in the old and the aggregated form (KEP-3352), made from the table of kinds.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    aggregate,
    http::negotiate::accept,
    registry::{Kind, KindRef, Served},
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
pub(crate) fn find(path: &str, headers: &HeaderMap, served: &Served) -> Option<Document> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let plain = |value| Some(Document { content_type: "application/json", value, etag: None });
    match parts.as_slice() {
        ["api"] => aggregated(true, headers, served).or_else(|| plain(legacy_versions(served))),
        ["apis"] => aggregated(false, headers, served).or_else(|| plain(groups(served))),
        ["api", version] => plain(resources("", version, served)?),
        ["apis", group] => plain(one_group(group, served)?),
        ["apis", group, version] => plain(resources(group, version, served)?),
        _ => None,
    }
}

/// The aggregated documents of one state of the registry, each with its ETag: of all groups but core, and of core; in both
/// versions.
pub(crate) struct Aggregated([[(Value, String); 2]; 2]);

impl Aggregated {
    /// Makes them.
    pub(crate) fn new(served: &Served) -> Self {
        Self([false, true].map(|core| {
            ["v2beta1", "v2"].map(|version| {
                let value = group_discovery(core, version, served);
                let digest = Sha256::digest(value.to_string());
                let etag = hex::encode_upper(digest);
                (value, format!("{etag:?}"))
            })
        }))
    }
}

fn aggregated(core: bool, headers: &HeaderMap, served: &Served) -> Option<Document> {
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
    let (value, etag) = served.discovery().0.get(usize::from(core))?.get(version)?;
    let content_type = if version == 1 { AGGREGATED_V2 } else { AGGREGATED_V2BETA1 };
    Some(Document { content_type, value: value.clone(), etag: Some(etag.clone()) })
}

fn group_discovery(core: bool, version: &str, served: &Served) -> Value {
    let items: Vec<_> = group_names(served)
        .into_iter()
        .filter(|group| group.is_empty() == core)
        .map(|group| {
            let versions: Vec<_> = versions(group, served)
                .into_iter()
                .map(|version| {
                    if let Some(external) = served.external(group, version) {
                        return aggregate::discovered(external);
                    }
                    let resources: Vec<_> =
                        kinds(group, version, served).into_iter().map(|kind| discovered(kind)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": group}, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn discovered(kind: &Kind) -> Value {
    // Those of the group version itself go unsaid: clients fill them in.
    let reply = |group: &str, version: &str, name: &str| {
        let own = (group, version) == (kind.group, kind.version);
        let (group, version) = if own { ("", "") } else { (group, version) };
        json!({"group": group, "version": version, "kind": name})
    };
    let own = reply(kind.group, kind.version, kind.kind);
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": own,
        "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": verbs(kind),
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

/// What a kind can be asked to do. A custom one whose definition is being deleted takes nothing new.
fn verbs(kind: &Kind) -> Vec<&'static str> {
    let ends = kind.custom.as_ref().is_some_and(|custom| custom.terminating);
    kind.verbs
        .iter()
        .copied()
        .filter(|verb| !ends || !matches!(*verb, "patch" | "create" | "update"))
        .collect()
}

fn group_names(served: &Served) -> Vec<&str> {
    let mut names = Vec::new();
    for (group, _) in served.group_versions() {
        if !names.contains(&group) {
            names.push(group);
        }
    }
    names
}

fn versions<'a>(group: &str, served: &'a Served) -> Vec<&'a str> {
    served.group_versions().into_iter().filter(|(own, _)| *own == group).map(|(_, version)| version).collect()
}

/// The kinds of a group version, by name.
fn kinds<'a>(group: &str, version: &str, served: &'a Served) -> Vec<&'a KindRef> {
    let all = served.kinds().iter();
    let mut found: Vec<_> = all.filter(|kind| kind.group == group && kind.version == version).collect();
    found.sort_by_key(|kind| kind.plural);
    found
}

fn legacy_versions(served: &Served) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": versions("", served),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    })
}

fn group(name: &str, served: &Served) -> Value {
    let versions: Vec<_> = versions(name, served)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn groups(served: &Served) -> Value {
    let groups: Vec<_> = group_names(served)
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(|name| group(name, served))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn one_group(name: &str, served: &Served) -> Option<Value> {
    if versions(name, served).is_empty() {
        return None;
    }
    let mut group = group(name, served);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

/// `discovery.StorageVersionHash`: clients compare it to know when objects are stored in another form.
fn storage_version_hash(group: &str, version: &str, kind: &str) -> String {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    STANDARD.encode(&digest[..8])
}

fn resources(group: &str, version: &str, served: &Served) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds(group, version, served) {
        let mut resource = json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced(),
            "kind": kind.kind,
            "verbs": verbs(kind),
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        if let Some((group, version)) = kind.stored_version() {
            resource["storageVersionHash"] = storage_version_hash(group, version, kind.kind).into();
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
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
    // The core group's document has none, ever since.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}
