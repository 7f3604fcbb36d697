//! The table of kinds. A kind is one [`Kind`] row in [`crate::kinds`]; docs/how-to/add-a-kind.md lists what else may be needed.

mod catalog;
mod columns;
mod error_list;
mod status;

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use apimachinery::{FieldPath, meta::Scope, names::NameRule, status::GroupResource};
use serde_json::Value;

pub(crate) use catalog::{Catalog, Served};
pub(crate) use columns::{Column, age, count, field, human as human_duration, joined, since};
pub(crate) use error_list::ErrorList;

use crate::{auth::User, crd::Custom, store::ResourceKey};

/// When `metadata.generation` rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The kind has none.
    None,
    /// Never: it is 1 and stays so.
    Fixed,
    /// With everything but metadata and status.
    Spec,
    /// With annotations, too: Deployments, whose annotations their ReplicaSets copy.
    SpecAndAnnotations,
}

/// A kind whose stored form is another version or group of the same objects.
#[derive(Clone, Copy)]
pub(crate) struct Conversion {
    /// Group of the resource that stores the objects.
    pub group: &'static str,
    /// The resource that stores them.
    pub resource: &'static str,
    /// From this kind to the stored one.
    pub to_stored: fn(Value) -> Value,
    /// From the stored kind to this one.
    pub from_stored: fn(Value) -> Value,
}

/// A part of an object with a life of its own, or an action on it, below the object's URL.
#[derive(Clone, Copy)]
pub(crate) struct Subresource {
    /// Its name in the URL.
    pub name: &'static str,
    /// Group of the kind that goes in and out.
    pub group: &'static str,
    /// Version of that kind.
    pub version: &'static str,
    /// That kind.
    pub kind: &'static str,
    /// Its verbs, as discovery lists them.
    pub verbs: &'static [&'static str],
    /// What an update through it changes, as JSON pointers; empty for actions.
    /// `/spec/containers/*/resources` is that of each element of the list, where both have the same names in the same
    /// order; else the whole list.
    pub changes: &'static [&'static str],
    /// Finds the errors of a change through it, instead of the kind's own rules of changes; (new, old).
    pub validate: Option<fn(&Value, &Value, &mut ErrorList)>,
}

impl Subresource {
    /// Verbs of a part that is read and written.
    pub(crate) const PART: &'static [&'static str] = &["get", "patch", "update"];

    /// What goes through to somebody else, with options of a kind.
    pub(crate) const fn proxy(kind: &'static str) -> Self {
        let verbs = &["create", "delete", "get", "patch", "update"];
        Self { name: "proxy", group: "", version: "v1", kind, verbs, changes: &[], validate: None }
    }

    /// `autoscaling/v1` Scale.
    const SCALE: Self = Self {
        name: "scale",
        group: "autoscaling",
        version: "v1",
        kind: "Scale",
        verbs: Self::PART,
        changes: &["/spec/replicas"],
        validate: None,
    };
}

/// Every verb of a collection.
pub(crate) const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// One row of the table.
#[derive(Clone)]
pub(crate) struct Kind {
    /// API group; empty for core.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural resource name.
    pub plural: &'static str,
    /// Singular name.
    pub singular: &'static str,
    /// Short names for kubectl.
    pub short_names: &'static [&'static str],
    /// Categories for kubectl, such as `all`.
    pub categories: &'static [&'static str],
    /// Namespaced or not.
    pub scope: Scope,
    /// Whether there is a status subresource.
    pub status: bool,
    /// Whether there is a scale subresource.
    pub scale: bool,
    /// The other subresources.
    pub subresources: &'static [Subresource],
    /// What can be done to it, in alphabetical order.
    pub verbs: &'static [&'static str],
    /// Columns of its Table, Name first.
    pub columns: &'static [Column],
    /// Fields that selectors may name besides metadata.name and metadata.namespace, with the JSON pointers to them.
    pub selectable: &'static [(&'static str, &'static str)],
    /// What its names look like.
    pub name_rule: NameRule,
    /// Whether its finalizers need no domain: kinds whose metadata only the rules for all kinds are about.
    pub bare_finalizers: bool,
    /// When its generation rises.
    pub generation: Generation,
    /// Whether an update without resourceVersion is taken.
    pub unconditional_update: bool,
    /// Whether PUT makes an object that is not there.
    pub create_on_update: bool,
    /// Whether a delete answers with the object that went rather than with a Status.
    pub returns_deleted: bool,
    /// Whether a delete that says nothing of the dependents leaves them alone: Jobs and ReplicationControllers, ever since.
    pub orphans: bool,
    /// Whether the server allocates cluster IPs and node ports for it: Services.
    pub allocates: bool,
    /// The text of the Warning that each request on it is answered with, if it is deprecated.
    pub deprecation: Option<&'static str>,
    /// Whether it has a protobuf form and merge keys: all built-in kinds.
    pub built_in: bool,
    /// Fills defaults in, first of all, on every write.
    pub default: fn(&mut Value),
    /// Carries over what a new object says in ways of old, and tells what its writer is to be warned of.
    pub carry_over: fn(&mut Value) -> Vec<String>,
    /// Sets what the server decides on create. The metadata is complete, defaults are filled in.
    pub prepare_create: fn(&mut Value),
    /// Sets what the server decides on update; (new, old).
    pub prepare_update: fn(&mut Value, &Value),
    /// Writes into an object who changes it, where the kind keeps that; (new, old, user, time as RFC 3339).
    pub sign: fn(&mut Value, Option<&Value>, &User, &str),
    /// Completes what is written through a subresource, once it is owned; (new, old, name of the subresource, time as RFC 3339).
    pub stamp: fn(&mut Value, &Value, &str, &str),
    /// Lists that Go writes without `omitempty`, by JSON pointers: what is stored of them does not tell none from empty, so both are told
    /// as null.
    pub always: &'static [&'static str],
    /// Addresses that others are led to by an object, and where they stand in it.
    pub places: fn(&Value) -> Vec<(FieldPath, &str)>,
    /// Finds the errors of an object.
    pub validate: fn(&Value, &mut ErrorList),
    /// Finds errors that only a new object is refused for.
    pub validate_create: fn(&Value, &mut ErrorList),
    /// Finds the errors of a change; (new, old).
    pub validate_update: fn(&Value, &Value, &mut ErrorList),
    /// What a writer is warned of; (new, old).
    pub warn: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Where objects are stored, if not under this kind itself.
    pub conversion: Option<Conversion>,
    /// What a CustomResourceDefinition says of the kind, if one brought it.
    pub custom: Option<Arc<Custom>>,
}

/// A kind that is served: a row of the table, or one that a CustomResourceDefinition brought and may take away.
#[derive(Clone)]
pub(crate) enum KindRef {
    /// A row of the table.
    Fixed(&'static Kind),
    /// What a CustomResourceDefinition brought. Requests and watches that are under way keep it.
    Custom(Arc<Kind>),
}

impl Deref for KindRef {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        match self {
            Self::Fixed(kind) => kind,
            Self::Custom(kind) => kind,
        }
    }
}

impl Kind {
    /// A built-in namespaced kind without peculiarities, to be completed with struct update syntax.
    pub(crate) const BUILT_IN: Self = Self {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        status: false,
        scale: false,
        subresources: &[],
        verbs: ALL_VERBS,
        columns: columns::NAME_AND_AGE,
        selectable: &[],
        name_rule: NameRule::Dns1123Subdomain,
        bare_finalizers: false,
        generation: Generation::None,
        unconditional_update: true,
        create_on_update: false,
        returns_deleted: false,
        orphans: false,
        allocates: false,
        deprecation: None,
        built_in: true,
        default: |_| {},
        carry_over: |_| Vec::new(),
        prepare_create: |_| {},
        prepare_update: |_, _| {},
        sign: |_, _, _, _| {},
        stamp: |_, _, _, _| {},
        always: &[],
        places: |_| Vec::new(),
        validate: |_, _| {},
        validate_create: |_, _| {},
        validate_update: |_, _, _| {},
        warn: |_, _| Vec::new(),
        conversion: None,
        custom: None,
    };

    /// Whether it is the kind of a group and a plural name: custom kinds may have any name in groups of their own.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// `apps/v1`, or `v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Group and resource, for messages.
    pub(crate) fn resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.plural)
    }

    /// Where its objects are stored.
    pub(crate) fn storage(&self) -> ResourceKey {
        match &self.conversion {
            Some(conversion) => ResourceKey::new(conversion.group, conversion.resource),
            None => ResourceKey::new(self.group, self.plural),
        }
    }

    /// Whether its objects are stored under a resource.
    pub(crate) fn is_stored_as(&self, resource: &ResourceKey) -> bool {
        let (group, plural) = match &self.conversion {
            Some(conversion) => (conversion.group, conversion.resource),
            None => (self.group, self.plural),
        };
        plural == &*resource.resource && group == &*resource.group
    }

    /// Group and version that its objects are stored in; none if there are no objects.
    pub(crate) fn stored_version(&self) -> Option<(&str, &str)> {
        if !self.verbs.contains(&"create") || !self.verbs.contains(&"get") {
            return None;
        }
        if let Some(custom) = &self.custom {
            return custom.storage_version.split_once('/');
        }
        match &self.conversion {
            Some(_) => Registry::get().stored_as(&self.storage()).map(|kind| (kind.group, kind.version)),
            None => Some((self.group, self.version)),
        }
    }

    /// Whether it lives in namespaces.
    pub(crate) fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// The type that it has in kube-apiserver, which some messages tell.
    pub(crate) fn go_type(&self) -> String {
        let package = match self.group.split('.').next() {
            _ if !self.built_in => "unstructured",
            Some("" | "events") | None => "core",
            Some(package) => package,
        };
        let kind = if self.built_in { self.kind } else { "Unstructured" };
        format!("{package}.{kind}")
    }

    /// Every subresource, scale and status included, in alphabetical order. Custom kinds have the status first.
    pub(crate) fn all_subresources(&self) -> Vec<Subresource> {
        let mut all = self.subresources.to_vec();
        if self.scale {
            all.push(Subresource::SCALE);
        }
        if self.status {
            all.push(self.status_part());
        }
        if self.custom.is_some() {
            all.reverse();
        } else {
            all.sort_by_key(|part| part.name);
        }
        all
    }

    fn status_part(&self) -> Subresource {
        Subresource {
            name: "status",
            group: self.group,
            version: self.version,
            kind: self.kind,
            verbs: Subresource::PART,
            changes: self.changed_with_status(),
            validate: None,
        }
    }

    /// The subresource of a name.
    pub(crate) fn subresource(&self, name: &str) -> Option<Subresource> {
        let own = self.subresources.iter().find(|part| part.name == name).copied();
        own.or_else(|| match name {
            "scale" => self.scale.then_some(Subresource::SCALE),
            "status" => self.status.then(|| self.status_part()),
            _ => None,
        })
    }

    /// The stored form of an object of this kind.
    pub(crate) fn to_stored(&self, object: Value) -> Value {
        match (&self.conversion, &self.custom) {
            (Some(conversion), _) => (conversion.to_stored)(object),
            (None, Some(custom)) => custom.to_stored(object),
            (None, None) => {
                let mut object = object;
                for pointer in self.always {
                    let list = object.pointer_mut(pointer);
                    if let Some(list) = list.filter(|list| list.as_array().is_some_and(Vec::is_empty)) {
                        *list = Value::Null;
                    }
                }
                object
            }
        }
    }

    /// An object of this kind from its stored form.
    pub(crate) fn to_served(&self, object: Value) -> Value {
        match (&self.conversion, &self.custom) {
            (Some(conversion), _) => (conversion.from_stored)(object),
            (None, Some(custom)) => custom.to_served(object),
            (None, None) => object,
        }
    }

    /// The names of all selectable fields.
    pub(crate) fn selectable_names(&self) -> Vec<&'static str> {
        // Kinds that say what they can be selected by name the namespace only if they have one; all others take it from everybody.
        let anybody = self.built_in && self.selectable.is_empty();
        let namespace = (anybody || self.namespaced()).then_some("metadata.namespace");
        ["metadata.name"]
            .into_iter()
            .chain(namespace)
            .chain(self.selectable.iter().map(|(name, _)| *name))
            .collect()
    }

    /// The values of an object's selectable fields, metadata included.
    pub(crate) fn field_values(&self, object: &Value) -> BTreeMap<String, String> {
        [("metadata.name", "/metadata/name"), ("metadata.namespace", "/metadata/namespace")]
            .iter()
            .chain(self.selectable)
            .map(|(name, pointer)| {
                let said = object.pointer(pointer).filter(|value| *value != "");
                let text = match said.or_else(|| object.pointer(second_place(name)?)) {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Bool(flag)) => flag.to_string(),
                    Some(Value::Number(number)) => number.to_string(),
                    _ => zero(name).to_owned(),
                };
                ((*name).to_owned(), text)
            })
            .collect()
    }
}

/// Where an object says what the field itself does not: newer reporters of Events leave the source empty.
fn second_place(field: &str) -> Option<&'static str> {
    (field == "source").then_some("/reportingComponent")
}

/// What a field that is not there is selected by: the zero of its type.
fn zero(field: &str) -> &'static str {
    match field {
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.replicas" | "status.successful" => "0",
        _ => "",
    }
}

/// All kinds.
pub(crate) struct Registry {
    kinds: Vec<&'static Kind>,
}

impl Registry {
    /// The kinds of this server.
    pub(crate) fn get() -> &'static Self {
        static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry { kinds: crate::kinds::all() });
        &REGISTRY
    }

    /// Every kind.
    pub(crate) fn kinds(&self) -> &[&'static Kind] {
        &self.kinds
    }

    /// The kind behind a URL.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        self.kinds
            .iter()
            .copied()
            // What tells most of them apart comes first.
            .find(|kind| kind.plural == plural && kind.group == group && kind.version == version)
    }

    /// The kind whose own form is stored under a resource.
    pub(crate) fn stored_as(&self, resource: &ResourceKey) -> Option<&'static Kind> {
        self.kinds.iter().copied().find(|kind| {
            kind.conversion.is_none() && kind.plural == &*resource.resource && kind.group == &*resource.group
        })
    }

    /// Group versions, core first, in order of the table.
    pub(crate) fn group_versions(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        for kind in &self.kinds {
            let pair = (kind.group, kind.version);
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subresource_is_found_by_its_name() {
        for kind in Registry::get().kinds() {
            for part in kind.all_subresources() {
                let found = kind.subresource(part.name).map(|found| (found.kind, found.verbs, found.changes));
                assert_eq!(
                    found,
                    Some((part.kind, part.verbs, part.changes)),
                    "{} {}",
                    kind.plural,
                    part.name
                );
            }
            assert!(kind.subresource("none").is_none());
            assert_eq!(kind.subresource("status").is_some(), kind.status, "{}", kind.plural);
        }
    }
}
