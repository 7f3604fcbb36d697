//! MutatingAdmissionPolicy: expressions that make patches.

use kube_cel::{Type, Value as Cel};
use serde_json::{Map, Value};

use super::{
    Request,
    definition::{Compiled, PolicyCommon, compile},
};

/// A compiled policy.
pub(in crate::admission) struct MutatingPolicy {
    pub(in crate::admission) common: PolicyCommon,
    /// `reinvocationPolicy: IfNeeded`.
    pub(in crate::admission) reinvoke: bool,
    pub(in crate::admission) mutations: Vec<Mutation>,
}

/// One of its expressions.
pub(in crate::admission) struct Mutation {
    json: bool,
    source: String,
    program: Compiled,
}

/// The result of a mutation.
#[derive(Debug, PartialEq)]
pub(in crate::admission) enum Change {
    /// A configuration to be merged as in server-side apply.
    Apply(Value),
    /// The operations of a JSON patch.
    Json(Value),
}

/// The variables that mutations know: they can make objects.
pub(super) fn types(mut known: Vec<(&'static str, Type)>) -> Vec<(&'static str, Type)> {
    known.extend([("Object", Type::Type), ("JSONPatch", Type::Type)]);
    known
}

/// The type that a mutation must evaluate to, by its patch type.
pub(super) fn wanted(json: bool) -> Type {
    if json { Type::List(Box::new(Type::Made("JSONPatch".into()))) } else { Type::Made("Object".into()) }
}

impl MutatingPolicy {
    pub(super) fn read(name: &str, spec: &Value) -> Self {
        let common = PolicyCommon::read(name, spec);
        let known = types(common.types());
        let mutations = spec["mutations"].as_array().into_iter().flatten().map(|mutation| {
            let json = mutation["patchType"] == "JSONPatch";
            let source = &mutation[if json { "jsonPatch" } else { "applyConfiguration" }]["expression"];
            Mutation {
                json,
                source: source.as_str().unwrap_or_default().trim().to_owned(),
                program: compile(source, &known, &wanted(json)),
            }
        });
        Self { mutations: mutations.collect(), reinvoke: spec["reinvocationPolicy"] == "IfNeeded", common }
    }

    /// Whether the policy's conditions hold of a request.
    pub(in crate::admission) fn meets(
        &self,
        params: Option<&Value>,
        request: &Request<'_>,
    ) -> Result<bool, String> {
        self.common.meets(&mut self.common.begin(params, request))
    }

    /// Evaluates a mutation for the object in the request.
    pub(in crate::admission) fn change(
        &self,
        mutation: &Mutation,
        params: Option<&Value>,
        request: &Request<'_>,
    ) -> Result<Change, String> {
        let mut evaluation = self.common.begin(params, request);
        self.common.bind(&mut evaluation);
        let found = evaluation.run(&mutation.source, &mutation.program)?;
        if mutation.json {
            operations(&found).map(Change::Json)
        } else {
            configuration(&found).map(Change::Apply)
        }
    }
}

fn configuration(found: &Cel) -> Result<Value, String> {
    match found {
        Cel::Made(made) if made.name == "Object" => {
            made.check_names().map_err(|why| format!("type mismatch: {why}"))?;
            found.to_json().map_err(|error| error.to_string())
        }
        other => {
            Err(format!("unsupported return type from ApplyConfiguration expression: {}", other.type_name()))
        }
    }
}

fn operations(found: &Cel) -> Result<Value, String> {
    let Cel::List(items) = found else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let operation = |item: &Cel| {
        let Cel::Made(made) = item else {
            return Err(format!(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {}",
                item.type_name()
            ));
        };
        let mut operation = Map::new();
        for (name, value) in &made.fields {
            if let Cel::Made(value) = value {
                value.check_names().map_err(|why| format!("type mismatch: {why}"))?;
            }
            let value = value.to_json().map_err(|error| {
                format!(
                    "JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}"
                )
            })?;
            operation.insert(name.clone(), value);
        }
        Ok(Value::Object(operation))
    };
    items.iter().map(operation).collect::<Result<Vec<_>, _>>().map(Value::Array)
}
