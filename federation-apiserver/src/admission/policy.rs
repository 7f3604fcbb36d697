//! ValidatingAdmissionPolicy: rules in the Common Expression Language over what is written (KEP-3488).
//!
//! Policies are compiled when they, or their bindings, have changed since the last write; a write asks only whether they have,
//! which compares pointers. Evaluations spend one budget for each policy, so that no policy makes the server slow.

use std::sync::{Arc, LazyLock};

use apimachinery::{ApiError, FieldError, FieldPath, status::Reason};
use arc_swap::ArcSwap;
use kube_cel::{Budget, EvalError, Program, Type, Value as Cel};
use serde_json::{Value, json};

use super::matching::{self, Subject};
use crate::{
    cache::Collection,
    registry::Faults,
    store::{ResourceKey, Snapshot, Stored},
};

/// `RuntimeCELCostBudget`, in our steps: about a second for a policy that needs all of it.
const STEPS_MAX: u64 = 5_000_000;

const GROUP: &str = "admissionregistration.k8s.io";
static POLICIES: LazyLock<ResourceKey> =
    LazyLock::new(|| ResourceKey::new(GROUP, "validatingadmissionpolicies"));
static BINDINGS: LazyLock<ResourceKey> =
    LazyLock::new(|| ResourceKey::new(GROUP, "validatingadmissionpolicybindings"));

/// The policies of a server, compiled.
#[derive(Default)]
pub(crate) struct Policies(ArcSwap<State>);

#[derive(Default)]
struct State {
    policies: Collection,
    bindings: Collection,
    bound: Vec<(Arc<Policy>, Binding)>,
}

struct Policy {
    name: String,
    constraints: Value,
    param_kind: Option<(String, String)>,
    ignore_failures: bool,
    variables: Vec<(String, Compiled)>,
    conditions: Vec<(String, Compiled)>,
    validations: Vec<Validation>,
}

struct Validation {
    expression: String,
    program: Compiled,
    message: Option<String>,
    message_program: Option<Program>,
    reason: Reason,
}

/// A program, or why there is none: stored by a server that knew more.
type Compiled = Result<Program, String>;

struct Binding {
    name: String,
    policy: String,
    spec: Value,
}

/// What a request looks like to policies.
pub(crate) struct Request<'a> {
    pub(crate) subject: Subject<'a>,
    /// `AdmissionRequest`, without its objects.
    pub(crate) request: Value,
    /// The Namespace object, if there is one.
    pub(crate) namespace: Option<Value>,
}

/// Finds the objects that a policy takes its parameters from.
pub(crate) trait Parameters {
    /// The resource of a kind, and whether it is namespaced.
    fn resource_of(&self, api_version: &str, kind: &str) -> Option<(ResourceKey, bool)>;
}

impl Policies {
    /// Whether the bound policies let a request pass: warnings for its user, or why not.
    pub(crate) fn admit(
        &self,
        snapshot: &Snapshot,
        parameters: &dyn Parameters,
        request: &Request<'_>,
        refused: impl Fn(&str) -> ApiError,
    ) -> Result<Vec<String>, ApiError> {
        let state = self.state(snapshot);
        let mut warnings = Vec::new();
        for (policy, binding) in &state.bound {
            if !matching::matches(&policy.constraints, &request.subject)
                || !matching::matches(&binding.spec["matchResources"], &request.subject)
            {
                continue;
            }
            for (reason, text) in policy.ask(snapshot, parameters, binding, request) {
                let about =
                    format!("ValidatingAdmissionPolicy '{}' with binding '{}'", policy.name, binding.name);
                let actions =
                    binding.spec["validationActions"].as_array().map(Vec::as_slice).unwrap_or_default();
                if actions.iter().any(|action| action == "Deny") {
                    let message = format!("{about} denied request: {text}");
                    let mut error = refused(&message).with_cause("", message, "");
                    error.reason = reason;
                    error.code = code(reason);
                    return Err(error);
                }
                if actions.iter().any(|action| action == "Warn") {
                    warnings.push(format!("Validation failed for {about}: {text}"));
                }
                if actions.iter().any(|action| action == "Audit") {
                    tracing::info!(policy = %policy.name, binding = %binding.name, %text, "a write failed a policy");
                }
            }
        }
        Ok(warnings)
    }

    /// Whether nothing is bound, as most often.
    pub(crate) fn is_idle(&self, snapshot: &Snapshot) -> bool {
        self.state(snapshot).bound.is_empty()
    }

    fn state(&self, snapshot: &Snapshot) -> Arc<State> {
        let state = self.0.load_full();
        let (policies, bindings) = (snapshot.collection(&POLICIES), snapshot.collection(&BINDINGS));
        if policies.same(&state.policies) && bindings.same(&state.bindings) {
            return state;
        }
        let compiled: Vec<_> =
            policies.iter().filter_map(|stored| Policy::read(stored).map(Arc::new)).collect();
        let bound = bindings
            .iter()
            .filter_map(|stored| Binding::read(stored))
            .filter_map(|binding| {
                let policy = compiled.iter().find(|policy| policy.name == binding.policy)?;
                Some((Arc::clone(policy), binding))
            })
            .collect();
        let next = Arc::new(State { policies, bindings, bound });
        self.0.store(Arc::clone(&next));
        next
    }
}

fn code(reason: Reason) -> u16 {
    match reason {
        Reason::Unauthorized => 401,
        Reason::Forbidden => 403,
        Reason::RequestEntityTooLarge => 413,
        _ => 422,
    }
}

impl Binding {
    fn read(stored: &Stored) -> Option<Self> {
        let object = stored.value().ok()?;
        let policy = object["spec"]["policyName"].as_str()?.to_owned();
        Some(Self { name: stored.key.name.clone(), policy, spec: object["spec"].clone() })
    }
}

/// The variables that expressions know, with the names of the policy's own.
fn types(own: &[(String, Compiled)], has_params: bool) -> Vec<(&'static str, Type)> {
    let fields = own.iter().map(|(name, program)| {
        (name.clone(), program.as_ref().map_or(Type::Dyn, |program| program.result().clone()))
    });
    let mut known = vec![
        ("object", Type::Dyn),
        ("oldObject", Type::Dyn),
        ("request", Type::Dyn),
        ("namespaceObject", Type::Dyn),
        ("variables", Type::object(fields)),
    ];
    if has_params {
        known.push(("params", Type::Dyn));
    }
    known
}

impl Policy {
    fn read(stored: &Stored) -> Option<Self> {
        let object = stored.value().ok()?;
        let spec = &object["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = |name: &str| spec[name].as_array().cloned().unwrap_or_default();
        let param_kind = spec["paramKind"]
            .is_object()
            .then(|| (text(&spec["paramKind"]["apiVersion"]), text(&spec["paramKind"]["kind"])));
        let has_params = param_kind.is_some();
        let compile = |source: &str, known: &[(&str, Type)], wanted: &Type| -> Compiled {
            Program::compile_as(source, known, wanted).map_err(|error| error.to_string())
        };
        let mut variables: Vec<(String, Compiled)> = Vec::new();
        for variable in items("variables") {
            let known = types(&variables, has_params);
            let program = compile(&text(&variable["expression"]), &known, &Type::Dyn);
            variables.push((text(&variable["name"]), program));
        }
        let known = types(&variables, has_params);
        let conditions = items("matchConditions")
            .iter()
            .map(|condition| {
                let program = compile(&text(&condition["expression"]), &known, &Type::Bool);
                (text(&condition["name"]), program)
            })
            .collect();
        let validations = items("validations")
            .iter()
            .map(|rule| Validation {
                expression: text(&rule["expression"]).trim().to_owned(),
                program: compile(&text(&rule["expression"]), &known, &Type::Bool),
                message: rule["message"].as_str().map(|text| text.trim().to_owned()),
                message_program: rule["messageExpression"]
                    .as_str()
                    .filter(|source| !source.trim().is_empty())
                    .and_then(|source| compile(source, &known, &Type::String).ok()),
                reason: match rule["reason"].as_str() {
                    Some("Unauthorized") => Reason::Unauthorized,
                    Some("Forbidden") => Reason::Forbidden,
                    Some("RequestEntityTooLarge") => Reason::RequestEntityTooLarge,
                    _ => Reason::Invalid,
                },
            })
            .collect();
        Some(Self {
            name: stored.key.name.clone(),
            constraints: spec["matchConstraints"].clone(),
            param_kind,
            ignore_failures: spec["failurePolicy"] == "Ignore",
            variables,
            conditions,
            validations,
        })
    }

    /// What fails: the reason and the text.
    fn ask(
        &self,
        snapshot: &Snapshot,
        parameters: &dyn Parameters,
        binding: &Binding,
        request: &Request<'_>,
    ) -> Vec<(Reason, String)> {
        let params = match self.params(snapshot, parameters, binding, request) {
            Ok(params) => params,
            Err(_) if self.ignore_failures => return Vec::new(),
            Err(text) => return vec![(Reason::Invalid, text)],
        };
        params.iter().flat_map(|params| self.evaluate(params.as_ref(), request)).collect()
    }

    /// The parameter objects; one absent one for policies without parameters, and none if the policy is not to be asked.
    fn params(
        &self,
        snapshot: &Snapshot,
        parameters: &dyn Parameters,
        binding: &Binding,
        request: &Request<'_>,
    ) -> Result<Vec<Option<Value>>, String> {
        let Some((api_version, kind)) = &self.param_kind else { return Ok(vec![None]) };
        let reference = &binding.spec["paramRef"];
        if reference.is_null() {
            return Ok(vec![None]);
        }
        let (resource, namespaced) = parameters.resource_of(api_version, kind).ok_or_else(|| {
            format!("failed to configure policy: paramKind kind `{api_version}, Kind={kind}` not known")
        })?;
        let own = request.request["namespace"].as_str().unwrap_or_default();
        let namespace = reference["namespace"].as_str().unwrap_or(own);
        let within = namespaced.then_some(namespace);
        let name = reference["name"].as_str();
        let selector = &reference["selector"];
        let found: Vec<_> = snapshot
            .range(&resource, within, None)
            .filter(|stored| match name {
                Some(name) => stored.key.name == name,
                None => apimachinery::labels::Selector::from_label_selector(Some(selector))
                    .is_ok_and(|selector| selector.matches(&stored.meta.labels)),
            })
            .filter_map(|stored| stored.value().ok().map(Some))
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        if reference["parameterNotFoundAction"] == "Allow" {
            return Ok(Vec::new());
        }
        Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned())
    }

    fn evaluate(&self, params: Option<&Value>, request: &Request<'_>) -> Vec<(Reason, String)> {
        let mut budget = Budget::new(STEPS_MAX);
        let cel = |value: Option<&Value>| value.map_or(Cel::Null, Cel::from_json);
        let mut known = vec![
            ("object", cel(request.subject.object)),
            ("oldObject", cel(request.subject.old)),
            ("request", Cel::from_json(&request.request)),
            ("namespaceObject", cel(request.namespace.as_ref())),
        ];
        if self.param_kind.is_some() {
            known.push(("params", cel(params)));
        }
        // A variable that fails fails those who name it, by its absence, and nobody else.
        let mut variables: Vec<(String, Cel)> = Vec::new();
        for (name, program) in &self.variables {
            let mut known = known.clone();
            known.push(("variables", Cel::map(variables.iter().cloned())));
            if let Ok(Ok(value)) = program.as_ref().map(|program| program.evaluate(&known, &mut budget)) {
                variables.push((name.clone(), value));
            }
        }
        known.push(("variables", Cel::map(variables)));
        let mut run = |program: &Compiled| -> Result<Cel, String> {
            let program = program.as_ref().map_err(|error| format!("compilation error: {error}"))?;
            program.evaluate(&known, &mut budget).map_err(|error| match error {
                EvalError::Budget => {
                    "validation failed due to running out of cost budget, no further validation rules will be run"
                        .to_owned()
                }
                error => error.to_string(),
            })
        };
        for (name, program) in &self.conditions {
            match run(program) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Vec::new(),
                Err(_) if self.ignore_failures => return Vec::new(),
                Err(error) => {
                    return vec![(
                        Reason::Invalid,
                        format!("failed to evaluate match condition '{name}': {error}"),
                    )];
                }
            }
        }
        let mut failed = Vec::new();
        for rule in &self.validations {
            match run(&rule.program) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let program = rule.message_program.clone().map(Compiled::Ok);
                    let made = program.and_then(|program| match run(&program) {
                        Ok(Cel::String(text)) if !text.trim().is_empty() && !text.contains('\n') => {
                            Some(text.trim().to_owned())
                        }
                        _ => None,
                    });
                    let text = made
                        .or_else(|| rule.message.clone().filter(|text| !text.is_empty()))
                        .unwrap_or_else(|| format!("failed expression: {}", rule.expression));
                    failed.push((rule.reason, text));
                }
                Err(_) if self.ignore_failures => {}
                Err(error) => {
                    let text = format!("expression '{}' resulted in error: {error}", rule.expression);
                    failed.push((Reason::Invalid, text));
                }
            }
        }
        failed
    }
}

/// The faults of a policy's expressions.
pub(crate) fn check_expressions(object: &Value, faults: &mut Faults) {
    let spec = &object["spec"];
    let path = FieldPath::new("spec");
    let has_params = spec["paramKind"].is_object();
    let mut variables: Vec<(String, Compiled)> = Vec::new();
    let mut check = |source: &Value, known: &[(&str, Type)], wanted: &Type, path: FieldPath| -> Compiled {
        let text = source.as_str().unwrap_or_default();
        if text.trim().is_empty() {
            // Whether it must be there is checked where it must.
            return Err(String::new());
        }
        let program = Program::compile_as(text, known, wanted).map_err(|error| error.to_string());
        if let Err(error) = &program {
            let detail = if error.starts_with("must evaluate") {
                error.clone()
            } else {
                format!("compilation failed: {error}")
            };
            faults.push(FieldError::invalid(&path, text, &detail));
        }
        program
    };
    let list = |name: &str| spec[name].as_array().cloned().unwrap_or_default();
    for (at, variable) in list("variables").iter().enumerate() {
        let path = path.child("variables").index(at).child("expression");
        let program = check(&variable["expression"], &types(&variables, has_params), &Type::Dyn, path);
        variables.push((variable["name"].as_str().unwrap_or_default().to_owned(), program));
    }
    let known = types(&variables, has_params);
    for (at, condition) in list("matchConditions").iter().enumerate() {
        let path = path.child("matchConditions").index(at).child("expression");
        let _compiled = check(&condition["expression"], &known, &Type::Bool, path);
    }
    for (at, rule) in list("validations").iter().enumerate() {
        let path = path.child("validations").index(at);
        let _compiled = check(&rule["expression"], &known, &Type::Bool, path.child("expression"));
        let path = path.child("messageExpression");
        let _compiled = check(&rule["messageExpression"], &known, &Type::String, path);
    }
    for (at, annotation) in list("auditAnnotations").iter().enumerate() {
        let path = path.child("auditAnnotations").index(at).child("valueExpression");
        let _compiled = check(&annotation["valueExpression"], &known, &Type::Dyn, path);
    }
}

/// `admission.k8s.io` AdmissionRequest, as far as expressions may ask for it.
pub(crate) fn request_value(
    subject: &Subject<'_>,
    kind: &str,
    namespace: &str,
    user: &crate::auth::User,
    dry_run: bool,
) -> Value {
    let kind = json!({"group": subject.group, "version": subject.version, "kind": kind});
    let resource = json!({"group": subject.group, "version": subject.version, "resource": subject.resource});
    json!({
        "kind": kind,
        "resource": resource,
        "subResource": subject.subresource,
        "requestKind": kind,
        "requestResource": resource,
        "requestSubResource": subject.subresource,
        "name": subject.name,
        "namespace": namespace,
        "operation": subject.operation.as_str(),
        "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
        "dryRun": dry_run,
    })
}
