//! The operations of each resource, before they take the form of either OpenAPI version.

use super::{Resource, Subresource};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Delete,
    Patch,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Post => "post",
            Self::Delete => "delete",
            Self::Patch => "patch",
        }
    }
}

/// A query parameter.
pub(super) struct Query {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

const fn query(name: &'static str, kind: &'static str, text: &'static str) -> Query {
    Query { name, kind, text }
}

const DRY_RUN: Query = query(
    "dryRun",
    "string",
    "When present, indicates that modifications should not be persisted. Valid values are: All.",
);
const FIELD_MANAGER: Query = query(
    "fieldManager",
    "string",
    "fieldManager is a name associated with the actor or entity that is making these changes.",
);
const FIELD_VALIDATION: Query = query(
    "fieldValidation",
    "string",
    "fieldValidation instructs the server on how to handle unknown or duplicate fields: Ignore, Warn or Strict.",
);
pub(super) const PRETTY: Query = query("pretty", "string", "If 'true', then the output is pretty printed.");

const WRITE: &[Query] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH: &[Query] = &[
    DRY_RUN,
    FIELD_MANAGER,
    FIELD_VALIDATION,
    query(
        "force",
        "boolean",
        "Force is going to \"force\" Apply requests: it means that user will re-acquire conflicting fields owned by other people.",
    ),
];
const DELETE: &[Query] = &[
    DRY_RUN,
    query("gracePeriodSeconds", "integer", "The duration in seconds before the object should be deleted."),
    query("orphanDependents", "boolean", "Deprecated: please use the PropagationPolicy."),
    query(
        "propagationPolicy",
        "string",
        "Whether and how garbage collection will be performed: Orphan, Background or Foreground.",
    ),
];
const LIST: &[Query] = &[
    query(
        "allowWatchBookmarks",
        "boolean",
        "allowWatchBookmarks requests watch events with type \"BOOKMARK\".",
    ),
    query(
        "continue",
        "string",
        "The continue option should be set when retrieving more results from the server.",
    ),
    query("fieldSelector", "string", "A selector to restrict the list of returned objects by their fields."),
    query("labelSelector", "string", "A selector to restrict the list of returned objects by their labels."),
    query("limit", "integer", "limit is a maximum number of responses to return for a list call."),
    query(
        "resourceVersion",
        "string",
        "resourceVersion sets a constraint on what resource versions a request may be served from.",
    ),
    query(
        "resourceVersionMatch",
        "string",
        "resourceVersionMatch determines how resourceVersion is applied to list calls.",
    ),
    query("sendInitialEvents", "boolean", "`sendInitialEvents=true` may be set together with `watch=true`."),
    query("timeoutSeconds", "integer", "Timeout for the list/watch call."),
    query(
        "watch",
        "boolean",
        "Watch for changes to the described resources and return them as a stream of add, update, and remove notifications.",
    ),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// The object itself.
    Object,
    DeleteOptions,
    Patch,
}

/// One operation on one path.
pub(super) struct Operation {
    pub(super) path: String,
    pub(super) method: Method,
    /// `x-kubernetes-action`
    pub(super) action: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) description: String,
    pub(super) query: &'static [Query],
    pub(super) body: Body,
    /// Kind that goes in and out, with its group and version.
    pub(super) gvk: (String, String, String),
    /// Kind of the response, when it is not that of `gvk`.
    pub(super) response: Response,
    pub(super) built_in: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    Object,
    List,
    Status,
}

impl Operation {
    /// Names in braces in the path.
    pub(super) fn path_parameters(&self) -> Vec<&'static str> {
        ["name", "namespace"].into_iter().filter(|name| self.path.contains(&format!("{{{name}}}"))).collect()
    }

    pub(super) fn patch_types(&self) -> &'static [&'static str] {
        if self.built_in {
            &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
            ]
        } else {
            &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
        }
    }
}

/// `/api/v1` or `/apis/GROUP/VERSION`.
pub(super) fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// `rbacAuthorization_v1`, `core_v1`: how operations are grouped.
pub(super) fn tag(group: &str, version: &str) -> String {
    format!("{}_{version}", group_tag(group))
}

/// `rbacAuthorization`, `core`: the same for what concerns a whole group.
pub(super) fn group_tag(group: &str) -> String {
    let mut group = group_part(group);
    if let Some(first) = group.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    group
}

/// `RbacAuthorization`, `PubExampleCom`, `Core`: a group in names of operations.
pub(super) fn group_part(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let words = group.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words.map(capital).collect()
}

/// `AppsV1`, `CoreV1`: the part of operation ids that names the group and version.
pub(super) fn id_part(group: &str, version: &str) -> String {
    group_part(group) + &capital(version)
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What a verb of a resource is as an operation.
struct Form {
    /// As discovery names it.
    verb: &'static str,
    method: Method,
    action: &'static str,
    /// How its id begins.
    id: &'static str,
    /// How its description begins.
    text: &'static str,
    query: &'static [Query],
    body: Body,
    response: Response,
}

impl Form {
    const GET: Self = Self {
        verb: "get",
        method: Method::Get,
        action: "get",
        id: "read",
        text: "read the specified",
        query: &[],
        body: Body::None,
        response: Response::Object,
    };
}

/// Those on the path of the collection, in the order in which they are told.
const OF_COLLECTION: [Form; 3] = [
    Form {
        verb: "list",
        action: "list",
        id: "list",
        text: "list or watch objects of kind",
        query: LIST,
        response: Response::List,
        ..Form::GET
    },
    Form {
        verb: "create",
        method: Method::Post,
        action: "post",
        id: "create",
        text: "create a",
        query: WRITE,
        body: Body::Object,
        ..Form::GET
    },
    Form {
        verb: "deletecollection",
        method: Method::Delete,
        action: "deletecollection",
        id: "delete",
        text: "delete collection of",
        query: DELETE,
        body: Body::DeleteOptions,
        response: Response::Status,
    },
];

/// Those on the path of one object.
const OF_ITEM: [Form; 4] = [
    Form::GET,
    Form {
        verb: "update",
        method: Method::Put,
        action: "put",
        id: "replace",
        text: "replace the specified",
        query: WRITE,
        body: Body::Object,
        ..Form::GET
    },
    Form {
        verb: "patch",
        method: Method::Patch,
        action: "patch",
        id: "patch",
        text: "partially update the specified",
        query: PATCH,
        body: Body::Patch,
        ..Form::GET
    },
    Form {
        verb: "delete",
        method: Method::Delete,
        action: "delete",
        id: "delete",
        text: "delete a",
        query: DELETE,
        body: Body::DeleteOptions,
        response: Response::Status,
    },
];

/// All operations of a resource and its subresources.
pub(super) fn operations(resource: &Resource, built_in: bool) -> Vec<Operation> {
    let base = prefix(&resource.group, &resource.version);
    let everywhere = format!("{base}/{}", resource.plural);
    let (collection, scope) = if resource.namespaced {
        (format!("{base}/namespaces/{{namespace}}/{}", resource.plural), "Namespaced")
    } else {
        (everywhere.clone(), "")
    };
    let item = format!("{collection}/{{name}}");
    let group_version = id_part(&resource.group, &resource.version);
    let kind = &resource.kind;
    let operation = |form: &Form, path: &str, id: String| Operation {
        path: path.to_owned(),
        method: form.method,
        action: form.action,
        id,
        tag: tag(&resource.group, &resource.version),
        description: format!("{} {kind}", form.text),
        query: form.query,
        body: form.body,
        gvk: (resource.group.clone(), resource.version.clone(), kind.clone()),
        response: form.response,
        built_in,
    };
    let has = |form: &&Form| resource.verbs.iter().any(|known| known == form.verb);
    let mut all = Vec::new();
    for form in OF_COLLECTION.iter().filter(has) {
        let what = if form.action == "deletecollection" { "Collection" } else { "" };
        all.push(operation(form, &collection, format!("{}{group_version}{what}{scope}{kind}", form.id)));
        if form.action == "list" && resource.namespaced {
            let id = format!("{}{group_version}{kind}ForAllNamespaces", form.id);
            all.push(operation(form, &everywhere, id));
        }
    }
    for form in OF_ITEM.iter().filter(has) {
        all.push(operation(form, &item, format!("{}{group_version}{scope}{kind}", form.id)));
    }
    for subresource in &resource.subresources {
        all.extend(subresource_operations(resource, subresource, &item, &group_version, scope, built_in));
    }
    all
}

fn subresource_operations(
    resource: &Resource,
    subresource: &Subresource,
    item: &str,
    group_version: &str,
    scope: &str,
    built_in: bool,
) -> Vec<Operation> {
    let path = format!("{item}/{}", subresource.name);
    let suffix = capital(&subresource.name);
    let gvk = (subresource.group.clone(), subresource.version.clone(), subresource.kind.clone());
    let kind = &resource.kind;
    subresource
        .verbs
        .iter()
        .filter_map(|verb| {
            let (method, action, id, text, query, body): (_, _, _, _, &'static [Query], _) =
                match verb.as_str() {
                    "get" => (Method::Get, "get", "read", "read", &[], Body::None),
                    "update" => (Method::Put, "put", "replace", "replace", WRITE, Body::Object),
                    "patch" => (Method::Patch, "patch", "patch", "partially update", PATCH, Body::Patch),
                    "create" => (Method::Post, "post", "create", "create", WRITE, Body::Object),
                    _ => return None,
                };
            Some(Operation {
                path: path.clone(),
                method,
                action,
                id: format!("{id}{group_version}{scope}{kind}{suffix}"),
                tag: tag(&resource.group, &resource.version),
                description: format!("{text} {} of the specified {kind}", subresource.name),
                query,
                body,
                gvk: gvk.clone(),
                response: Response::Object,
                built_in,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_as_kube_apiserver_names_them() {
        let check = |group: &str, kind: &str, namespaced, expected: &[&str]| {
            let verbs = ["list", "deletecollection", "get"].map(str::to_owned).to_vec();
            let resource = Resource {
                group: group.into(),
                version: "v1".into(),
                kind: kind.into(),
                plural: "things".into(),
                namespaced,
                verbs,
                subresources: Vec::new(),
            };
            let all = operations(&resource, true);
            let named: Vec<_> = all.iter().map(|operation| operation.id.as_str()).collect();
            assert_eq!(named, expected[1..]);
            assert!(all.iter().all(|operation| operation.tag == expected[0]), "{}", all[0].tag);
        };
        check(
            "",
            "Pod",
            true,
            &[
                "core_v1",
                "listCoreV1NamespacedPod",
                "listCoreV1PodForAllNamespaces",
                "deleteCoreV1CollectionNamespacedPod",
                "readCoreV1NamespacedPod",
            ],
        );
        check(
            "rbac.authorization.k8s.io",
            "ClusterRole",
            false,
            &[
                "rbacAuthorization_v1",
                "listRbacAuthorizationV1ClusterRole",
                "deleteRbacAuthorizationV1CollectionClusterRole",
                "readRbacAuthorizationV1ClusterRole",
            ],
        );
        check(
            "my-pub.example.com",
            "Meta",
            false,
            &[
                "myPubExampleCom_v1",
                "listMyPubExampleComV1Meta",
                "deleteMyPubExampleComV1CollectionMeta",
                "readMyPubExampleComV1Meta",
            ],
        );
    }
}
