//! Checks a ValidatingAdmissionPolicy's expressions against the kinds that its rules name: `status.typeChecking`.
//!
//! The results are warnings: the same expression may be meant for other kinds, or for a later version of one.

use std::collections::BTreeSet;

use kube_cel::{Program, Type};
use kube_schema::Schemas;
use serde_json::{Value, json};

use super::definition::{declare, types};
use crate::registry::{Kind, Served};

/// Kinds that are checked for one policy (`maxTypesToCheck`).
const KINDS_MAX: usize = 10;

/// The type of a kind's objects.
fn type_of(schemas: &Schemas, kind: &Kind) -> Option<Type> {
    let Some(custom) = &kind.custom else { return schemas.cel_type(kind.group, kind.version, kind.kind) };
    let mut schema = custom.published.clone();
    if !schema["properties"].is_object() {
        return Some(Type::Dyn);
    }
    for name in ["apiVersion", "kind"] {
        schema["properties"][name] = json!({"type": "string"});
    }
    let metadata = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    schema["properties"]["metadata"] = json!({"$ref": metadata});
    Some(schemas.cel_type_of(&schema))
}

/// The kinds that a policy's rules name, without those that they name by a wildcard.
fn kinds<'a>(spec: &Value, served: &'a Served) -> Vec<&'a Kind> {
    let mut found = BTreeSet::new();
    for rule in spec["matchConstraints"]["resourceRules"].as_array().into_iter().flatten() {
        let list = |name: &str| -> Vec<&str> {
            rule[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let (groups, versions, resources) = (list("apiGroups"), list("apiVersions"), list("resources"));
        if groups.iter().chain(&versions).any(|name| name.contains('*')) {
            continue;
        }
        for (at, kind) in served.kinds().iter().enumerate() {
            if groups.contains(&kind.group)
                && versions.contains(&kind.version)
                && resources.contains(&kind.plural)
            {
                found.insert((kind.group, kind.version, kind.kind, at));
            }
        }
    }
    found
        .into_iter()
        .take(KINDS_MAX)
        .filter_map(|(.., at)| served.kinds().get(at).map(|kind| &**kind))
        .collect()
}

/// What is wrong with the expressions of a policy's validations.
pub(crate) fn warnings(spec: &Value, served: &Served, schemas: &Schemas) -> Vec<Value> {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    // Parameters of a kind that is not known are anything.
    let has_params = spec["paramKind"].is_object();
    let params = has_params.then(|| {
        let (version, name) = (text(&spec["paramKind"], "apiVersion"), text(&spec["paramKind"], "kind"));
        let kind = served.kinds().iter().find(|kind| kind.kind == name && kind.api_version() == version)?;
        type_of(schemas, kind)
    });
    let params = params.flatten();
    let mut checks = Vec::new();
    for kind in kinds(spec, served) {
        let Some(object) = type_of(schemas, kind) else { continue };
        let mut known = types(&[], has_params);
        for (name, kind) in &mut known {
            match (*name, &params) {
                ("object" | "oldObject", _) => kind.clone_from(&object),
                ("params", Some(params)) => kind.clone_from(params),
                _ => {}
            }
        }
        for variable in spec["variables"].as_array().into_iter().flatten() {
            let program = Program::compile(&text(variable, "expression"), &known);
            declare(&mut known, &text(variable, "name"), &program.map_err(|error| error.to_string()));
        }
        let version = if kind.group.is_empty() { format!("/{}", kind.version) } else { kind.api_version() };
        checks.push((format!("{version}, Kind={}", kind.kind), known));
    }
    let mut found = Vec::new();
    for (at, rule) in spec["validations"].as_array().into_iter().flatten().enumerate() {
        for name in ["expression", "messageExpression"] {
            let source = text(rule, name);
            if source.is_empty() {
                continue;
            }
            let told: Vec<String> = checks
                .iter()
                .filter_map(|(kind, known)| {
                    let error = Program::compile(&source, known).err()?;
                    Some(format!("{kind}: {error}\n"))
                })
                .collect();
            if !told.is_empty() {
                let place = format!("spec.validations[{at}].{name}");
                found.push(json!({"fieldRef": place, "warning": told.join("\n")}));
            }
        }
    }
    found
}
