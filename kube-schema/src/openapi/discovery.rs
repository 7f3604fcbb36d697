//! Operations on what is no resource: the lists of discovery, the version, and what others need to check tokens.

use std::collections::BTreeMap;

use super::{Resource, operation};
use crate::Schemas;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const OBJECT_TYPES: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const JSON: &[&str] = &["application/json"];

/// One path that answers to GET.
pub(super) struct Endpoint {
    pub(super) path: String,
    pub(super) description: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    /// The definition of the answer; a string if there is none.
    pub(super) response: Option<String>,
    pub(super) types: &'static [&'static str],
}

/// The endpoints of a server with these resources, by the key of their document of version 3. As in kube-apiserver, custom groups have none.
pub(super) fn endpoints(schemas: &Schemas, resources: &[Resource]) -> BTreeMap<String, Vec<Endpoint>> {
    let mut all: BTreeMap<String, Vec<Endpoint>> =
        fixed().map(|(key, endpoint)| (key, vec![endpoint])).into();
    for Resource { group, version, kind, .. } in resources {
        if !schemas.name_of(group, version, kind).is_some_and(Schemas::is_builtin) {
            continue;
        }
        let resources = Endpoint {
            path: format!("{}/", operation::prefix(group, version)),
            description: "get available resources",
            id: format!("get{}APIResources", operation::id_part(group, version)),
            tag: operation::tag(group, version),
            response: Some(format!("{META}.APIResourceList")),
            types: OBJECT_TYPES,
        };
        all.entry(operation::prefix(group, version).trim_start_matches('/').to_owned())
            .or_insert_with(|| vec![resources]);
        if group.is_empty() {
            continue;
        }
        let versions = Endpoint {
            path: format!("/apis/{group}/"),
            description: "get information of a group",
            id: format!("get{}APIGroup", operation::group_part(group)),
            tag: operation::group_tag(group),
            response: Some(format!("{META}.APIGroup")),
            types: OBJECT_TYPES,
        };
        all.entry(format!("apis/{group}")).or_insert_with(|| vec![versions]);
    }
    all
}

/// Those that every server has.
fn fixed() -> [(String, Endpoint); 5] {
    let endpoint = |key: &str, description, id: &str, tag: &str, response: Option<&str>, types| {
        let (path, id, tag) = (format!("/{key}/"), id.to_owned(), tag.to_owned());
        (
            key.to_owned(),
            Endpoint { path, description, id, tag, response: response.map(str::to_owned), types },
        )
    };
    let (versions, groups) = (format!("{META}.APIVersions"), format!("{META}.APIGroupList"));
    [
        endpoint(
            "api",
            "get available API versions",
            "getCoreAPIVersions",
            "core",
            Some(&versions),
            OBJECT_TYPES,
        ),
        endpoint("apis", "get available API versions", "getAPIVersions", "apis", Some(&groups), OBJECT_TYPES),
        endpoint(
            "version",
            "get the version information for this server",
            "getCodeVersion",
            "version",
            Some("io.k8s.apimachinery.pkg.version.Info"),
            JSON,
        ),
        endpoint(
            ".well-known/openid-configuration",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            None,
            JSON,
        ),
        endpoint(
            "openid/v1/jwks",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            None,
            &["application/jwk-set+json"],
        ),
    ]
}
