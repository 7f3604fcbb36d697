//! What both kinds of policies have in common: match rules, parameters, variables and conditions.

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::labels::Selector;
use kube_cel::{Budget, EvalError, Program, Type, Value as Cel};
use serde_json::Value;

use super::{Binding, Parameters, Request, STEPS_MAX};
use crate::{
    admission::matching::{self, Chosen},
    registry::KindRef,
    store::{Key, ResourceKey, Snapshot, Stored},
};

/// A program, or why the expression does not compile: a newer server may have stored it.
pub(super) type Compiled = Result<Program, String>;

/// The part of a policy that is the same for all.
pub(in crate::admission) struct PolicyCommon {
    pub(in crate::admission) name: String,
    constraints: Value,
    param_kind: Option<(String, String)>,
    pub(in crate::admission) ignore_failures: bool,
    variables: Vec<(String, Compiled)>,
    conditions: Vec<(String, Compiled)>,
}

/// Why a policy cannot be evaluated at all.
pub(in crate::admission) enum Misconfigured {
    /// The policy itself.
    Policy(String),
    /// Its binding.
    Binding(String),
}

/// The types of an object with these fields, all of which are known.
fn record(fields: &[(&str, Type)]) -> Type {
    Type::object(fields.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())))
}

/// The variables that expressions know, beside the policy's own.
pub(in crate::admission) fn base_types(has_params: bool) -> Vec<(&'static str, Type)> {
    let texts = |names: &[&str]| record(&names.iter().map(|name| (*name, Type::String)).collect::<Vec<_>>());
    let list = |item: Type| Type::List(Box::new(item));
    let map = |value: Type| Type::Map(Box::new(Type::String), Box::new(value));
    let kind = texts(&["group", "version", "kind"]);
    let resource = texts(&["group", "version", "resource"]);
    let user = record(&[
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", list(Type::String)),
        ("extra", map(list(Type::String))),
    ]);
    let request = record(&[
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("subResource", Type::String),
        ("requestKind", kind),
        ("requestResource", resource),
        ("requestSubResource", Type::String),
        ("name", Type::String),
        ("namespace", Type::String),
        ("operation", Type::String),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ]);
    let metadata = record(&[
        ("name", Type::String),
        ("generateName", Type::String),
        ("namespace", Type::String),
        ("labels", map(Type::String)),
        ("annotations", map(Type::String)),
        ("UID", Type::String),
        ("creationTimestamp", Type::Timestamp),
        ("deletionGracePeriodSeconds", Type::Int),
        ("deletionTimestamp", Type::Timestamp),
        ("generation", Type::Int),
        ("resourceVersion", Type::String),
        ("finalizers", list(Type::String)),
    ]);
    let namespace = record(&[
        ("metadata", metadata),
        ("spec", record(&[("finalizers", list(Type::String))])),
        ("status", record(&[("phase", Type::String)])),
    ]);
    let mut known = vec![
        ("object", Type::Dyn),
        ("oldObject", Type::Dyn),
        ("request", request),
        ("namespaceObject", namespace),
        ("authorizer", Type::AUTHORIZER),
    ];
    if has_params {
        known.push(("params", Type::Dyn));
    }
    known
}

/// The same with the policy's own, if it has any.
pub(super) fn types(own: &[(String, Compiled)], has_params: bool) -> Vec<(&'static str, Type)> {
    let mut known = base_types(has_params);
    for (name, program) in own {
        declare(&mut known, name, program);
    }
    known
}

/// Adds one of the policy's own variables to what expressions know.
pub(super) fn declare(known: &mut Vec<(&'static str, Type)>, name: &str, program: &Compiled) {
    let kind = program.as_ref().map_or(Type::Dyn, |program| program.result().clone());
    let field = (name.to_owned(), kind);
    match known.last_mut() {
        Some(("variables", Type::Object(own))) => {
            Arc::make_mut(own).fields.extend([field]);
        }
        _ => known.push(("variables", Type::object([field]))),
    }
}

pub(super) fn compile(source: &Value, known: &[(&str, Type)], wanted: &Type) -> Compiled {
    let source = source.as_str().unwrap_or_default();
    Program::compile_as(source, known, wanted).map_err(|error| error.to_string())
}

impl PolicyCommon {
    pub(super) fn read(name: &str, spec: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = |name: &str| spec[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let param_kind = spec["paramKind"]
            .is_object()
            .then(|| (text(&spec["paramKind"]["apiVersion"]), text(&spec["paramKind"]["kind"])));
        let has_params = param_kind.is_some();
        let mut variables: Vec<(String, Compiled)> = Vec::new();
        let mut known = base_types(has_params);
        for variable in items("variables") {
            let name = text(&variable["name"]);
            let program = compile(&variable["expression"], &known, &Type::Dyn);
            declare(&mut known, &name, &program);
            variables.push((name, program));
        }
        let known = base_types(has_params);
        let conditions = items("matchConditions").iter().map(|condition| {
            let source = &condition["expression"];
            (text(source), compile(source, &known, &Type::Bool))
        });
        Self {
            name: name.to_owned(),
            constraints: spec["matchConstraints"].clone(),
            param_kind,
            ignore_failures: spec["failurePolicy"] == "Ignore",
            conditions: conditions.collect(),
            variables,
        }
    }

    /// The types of what the policy's own expressions know.
    pub(super) fn types(&self) -> Vec<(&'static str, Type)> {
        types(&self.variables, self.param_kind.is_some())
    }

    /// Whether the policy matches a request, and in which version of its kind.
    pub(in crate::admission) fn chosen<'a>(
        &self,
        request: &Request<'_>,
        others: &'a [KindRef],
    ) -> Option<Chosen<'a>> {
        matching::chosen(&self.constraints, &request.subject, others)
    }

    /// The parameter objects: one absent object for a policy without parameters, and none if the policy does not apply.
    pub(in crate::admission) fn params(
        &self,
        snapshot: &Snapshot,
        parameters: &dyn Parameters,
        binding: &Binding,
        request: &Request<'_>,
    ) -> Result<Vec<Option<Value>>, Misconfigured> {
        let Some((api_version, kind)) = &self.param_kind else { return Ok(vec![None]) };
        let reference = &binding.spec["paramRef"];
        let known = parameters.resource_of(api_version, kind);
        let (resource, namespaced) = known.ok_or_else(|| {
            let version =
                if api_version.contains('/') { api_version.clone() } else { format!("/{api_version}") };
            Misconfigured::Policy(format!(
                "failed to find resource referenced by paramKind: '{version}, Kind={kind}'"
            ))
        })?;
        if reference.is_null() {
            return Ok(vec![None]);
        }
        let own = request.request["namespace"].as_str().unwrap_or_default();
        let asked = reference["namespace"].as_str().filter(|asked| !asked.is_empty());
        let within = match (namespaced, asked) {
            (true, Some(asked)) => Some(asked),
            (true, None) if own.is_empty() => {
                return Err(Misconfigured::Binding(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                        .to_owned(),
                ));
            }
            (true, None) => Some(own),
            (false, Some(_)) => {
                return Err(Misconfigured::Binding(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned(),
                ));
            }
            (false, None) => None,
        };
        let found: Vec<_> = chosen_params(snapshot, resource, within, reference)
            .into_iter()
            .filter_map(|stored| stored.value().ok().map(Some))
            .collect();
        if !found.is_empty() || reference["parameterNotFoundAction"] != "Deny" {
            return Ok(found);
        }
        Err(Misconfigured::Binding(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
        ))
    }

    /// Binds the variables of an evaluation.
    pub(super) fn begin(&self, params: Option<&Value>, request: &Request<'_>) -> Evaluation {
        let cel = |value: Option<&Value>| value.map_or(Cel::Null, Cel::from_json);
        let mut known = vec![
            ("object", cel(request.subject.object)),
            ("oldObject", cel(request.subject.old)),
            ("request", Cel::from_json(&request.request)),
            ("namespaceObject", cel(request.namespace.as_ref())),
            ("authorizer", request.authorizer.clone()),
        ];
        if self.param_kind.is_some() {
            known.push(("params", cel(params)));
        }
        Evaluation { known, budget: Budget::new(STEPS_MAX), failed: BTreeMap::new() }
    }

    /// Whether all conditions hold. One that is false outranks one that fails.
    pub(super) fn meets(&self, evaluation: &mut Evaluation) -> Result<bool, String> {
        let mut failed = Vec::new();
        for (source, program) in &self.conditions {
            match evaluation.run(source, program) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(why) => failed.push(why),
            }
        }
        match failed.as_slice() {
            [] => Ok(true),
            _ if self.ignore_failures => Ok(false),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    /// Evaluates the policy's variables. If one fails, so do the expressions that use it, and no others.
    pub(super) fn bind(&self, evaluation: &mut Evaluation) {
        let mut variables: Vec<(String, Cel)> = Vec::new();
        for (name, program) in &self.variables {
            let mut known = evaluation.known.clone();
            known.push(("variables", Cel::map(variables.iter().cloned())));
            let outcome = match program {
                Ok(program) => {
                    let found = program.evaluate(&known, &mut evaluation.budget);
                    found.map_err(|error| evaluation.explain(&error))
                }
                Err(error) => Err(format!("compilation error: {error}")),
            };
            match outcome {
                Ok(value) => variables.push((name.clone(), value)),
                Err(why) => {
                    evaluation.failed.insert(name.clone(), why);
                }
            }
        }
        if !self.variables.is_empty() {
            evaluation.known.push(("variables", Cel::map(variables)));
        }
    }
}

/// The objects that a `paramRef` is for: the one of a name, or those with labels.
fn chosen_params(
    snapshot: &Snapshot,
    resource: ResourceKey,
    namespace: Option<&str>,
    reference: &Value,
) -> Vec<Arc<Stored>> {
    if let Some(name) = reference["name"].as_str().filter(|name| !name.is_empty()) {
        let key = Key::new(resource, namespace.unwrap_or_default(), name);
        return snapshot.get(&key).into_iter().collect();
    }
    match Selector::from_label_selector(Some(&reference["selector"])) {
        Ok(selector) => {
            let all = snapshot.range(&resource, namespace, None);
            all.filter(|stored| selector.matches(&stored.meta.labels)).collect()
        }
        Err(_) => Vec::new(),
    }
}

/// One evaluation of a policy.
pub(super) struct Evaluation {
    known: Vec<(&'static str, Cel)>,
    budget: Budget,
    /// Variables that could not be evaluated, and why.
    failed: BTreeMap<String, String>,
}

impl Evaluation {
    /// Evaluates an expression.
    ///
    /// # Errors
    /// In Kubernetes' words.
    pub(super) fn run(&mut self, source: &str, program: &Compiled) -> Result<Cel, String> {
        let program = program.as_ref().map_err(|error| format!("compilation error: {error}"))?;
        program.evaluate(&self.known, &mut self.budget).map_err(|error| match error {
            EvalError::Budget => {
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned()
            }
            error => format!("expression '{source}' resulted in error: {}", self.explain(&error)),
        })
    }

    fn explain(&self, error: &EvalError) -> String {
        if let EvalError::NoSuchKey(name) = error
            && let Some(why) = self.failed.get(name)
        {
            return format!("composited variable {name:?} fails to evaluate: {why}");
        }
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        cache::{Bounds, Cache},
        store::{Change, Meta},
    };

    fn change(resource: &ResourceKey, namespace: &str, name: &str, revision: u64) -> Change {
        let key = Key::new(resource.clone(), namespace, name);
        let labels = [("name".to_owned(), name.to_owned())].into();
        let meta = Meta { labels, ..Meta::default() };
        Change { object: Arc::new(Stored { key, revision, bytes: "{}".into(), meta }), deleted: false }
    }

    #[test]
    fn params_are_chosen_by_name_or_by_labels() {
        let (maps, limits) = (ResourceKey::new("", "configmaps"), ResourceKey::new("example.com", "limits"));
        let cache = Cache::new(0, Bounds::default());
        cache.publish([
            change(&maps, "a", "one", 1),
            change(&maps, "a", "two", 2),
            change(&maps, "b", "one", 3),
            change(&limits, "", "one", 4),
        ]);
        let snapshot = cache.snapshot();
        let check = |resource: &ResourceKey, namespace: Option<&str>, reference: Value, expect: &[u64]| {
            let found = chosen_params(&snapshot, resource.clone(), namespace, &reference);
            assert_eq!(found.iter().map(|stored| stored.revision).collect::<Vec<_>>(), expect, "{reference}");
        };
        check(&maps, Some("a"), json!({"name": "one"}), &[1]);
        check(&maps, Some("b"), json!({"name": "one"}), &[3]);
        check(&maps, Some("b"), json!({"name": "two"}), &[]);
        check(&limits, None, json!({"name": "one"}), &[4]);
        check(&limits, None, json!({"name": "none"}), &[]);
        check(&maps, Some("a"), json!({"selector": {}}), &[1, 2]);
        check(&maps, Some("a"), json!({"selector": {"matchLabels": {"name": "two"}}}), &[2]);
        check(
            &maps,
            Some("a"),
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}}),
            &[],
        );
    }
}
