//! Compiling the rules of a schema: what they may name, and what is wrong with them.

use std::sync::Arc;

use apimachinery::FieldReason;
use kube_cel::{CompileError, Program, Type as CelType, escape};
use serde_json::Value;

use super::{
    ListKind, Structural, Type,
    rules::{Rule, RuleFault},
};

/// Compiles the rules of a node and below; `uncorrelated` is where a part begins whose values are not told apart from one state to the next.
pub(super) fn compile(
    schema: &mut Structural,
    path: &str,
    root: bool,
    uncorrelated: Option<&str>,
    faults: &mut Vec<RuleFault>,
) {
    let mut compiled = Vec::new();
    if !schema.rules.is_empty() {
        let own = cel_type(schema, root);
        for (at, rule) in schema.rules.iter().enumerate() {
            let path = format!("{path}.x-kubernetes-validations[{at}]");
            compiled.extend(compile_one(schema, rule, &own, uncorrelated, &path, faults).map(Arc::new));
        }
    }
    schema.compiled = compiled;
    let of_fields = if schema.atomic_map { Some(path) } else { uncorrelated };
    for (name, property) in &mut schema.properties {
        compile(property, &format!("{path}.properties[{name}]"), false, of_fields, faults);
    }
    if let Some(more) = &mut schema.additional {
        compile(more, &format!("{path}.additionalProperties"), false, uncorrelated, faults);
    }
    let of_items = if matches!(schema.list, ListKind::Map(_)) { uncorrelated } else { Some(path) };
    if let Some(items) = &mut schema.items {
        compile(items, &format!("{path}.items"), false, of_items, faults);
    }
    let below = schema.children().any(|child| child.ruled);
    schema.ruled = below || !schema.compiled.is_empty();
}

/// A rule as it is written, and what is told of it.
struct Written<'a> {
    rule: &'a Value,
    path: &'a str,
    faults: &'a mut Vec<RuleFault>,
    /// It cannot do its work.
    stopped: bool,
}

impl<'a> Written<'a> {
    fn text(&self, key: &str) -> &'a str {
        self.rule[key].as_str().unwrap_or_default()
    }

    /// Tells a fault that stops the rule.
    fn tell(&mut self, key: &str, reason: FieldReason, value: Value, detail: String) {
        self.stopped = true;
        let path = format!("{}.{key}", self.path);
        self.faults.push(RuleFault { path, reason, value, detail, within: None, stops: true });
    }

    /// Tells a fault for which only new rules are refused.
    fn tell_new(&mut self, key: &str, value: Value, detail: String, within: Option<&str>) {
        let path = format!("{}.{key}", self.path);
        let (reason, within) = (FieldReason::Invalid, within.map(str::to_owned));
        self.faults.push(RuleFault { path, reason, value, detail, within, stops: false });
    }

    fn check_messages(&mut self) {
        for key in ["message", "messageExpression"] {
            let text = self.text(key);
            if !text.is_empty() && text.trim().is_empty() {
                let detail = format!("{key} must be non-empty if specified");
                self.tell(key, FieldReason::Invalid, text.into(), detail);
            }
        }
        let message = self.text("message");
        if message.trim().contains('\n') {
            let detail = "message must not contain line breaks".to_owned();
            self.tell("message", FieldReason::Invalid, message.into(), detail);
        }
        if self.text("rule").trim().contains('\n') && message.trim().is_empty() {
            let detail = "message must be specified if rule contains line breaks".to_owned();
            self.tell("message", FieldReason::Required, Value::Null, detail);
        }
    }

    fn program(&mut self, variables: &[(&str, CelType)]) -> Option<Program> {
        let compiled = Program::compile_as(self.text("rule"), variables, &CelType::Bool);
        let tell = |error: CompileError| {
            let detail = match error.to_string() {
                text if text.starts_with("must evaluate") => {
                    "cel expression must evaluate to a bool".to_owned()
                }
                text => format!("compilation failed: {text}"),
            };
            self.tell("rule", FieldReason::Invalid, self.rule.clone(), detail);
        };
        compiled.map_err(tell).ok()
    }

    fn message_program(&mut self, variables: &[(&str, CelType)]) -> Option<Program> {
        let source = Some(self.text("messageExpression")).filter(|source| !source.is_empty())?;
        let tell = |error: CompileError| {
            let detail = match error.to_string() {
                text if text.starts_with("must evaluate") => text,
                text => format!("messageExpression compilation failed: {text}"),
            };
            self.tell("messageExpression", FieldReason::Invalid, self.rule.clone(), detail);
        };
        Program::compile_as(source, variables, &CelType::String).map_err(tell).ok()
    }

    fn reason(&mut self) -> FieldReason {
        match self.text("reason") {
            "" | "FieldValueInvalid" => FieldReason::Invalid,
            "FieldValueRequired" => FieldReason::Required,
            "FieldValueForbidden" => FieldReason::Forbidden,
            "FieldValueDuplicate" => FieldReason::Duplicate,
            other => {
                let known = r#"supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#;
                self.tell("reason", FieldReason::NotSupported, other.into(), known.to_owned());
                FieldReason::Invalid
            }
        }
    }

    fn field_path(&mut self, schema: &Structural) -> Option<String> {
        let path = Some(self.text("fieldPath")).filter(|path| !path.is_empty())?;
        if !refers(schema, path) {
            let detail = "fieldPath must be a valid path: does not refer to a valid field".to_owned();
            self.tell("fieldPath", FieldReason::Invalid, path.into(), detail);
        }
        Some(path.to_owned())
    }

    /// Tells what expressions may have that were stored earlier, and no new ones.
    fn check_new(&mut self, program: &Program, message: Option<&Program>) {
        for (key, head, program) in [
            ("rule", "compilation failed", Some(program)),
            ("messageExpression", "messageExpression compilation failed", message),
        ] {
            if let Some(error) = program.and_then(|program| program.refused(self.text(key))) {
                self.tell_new(key, self.rule.clone(), format!("{head}: {error}"), None);
            }
        }
    }

    /// A rule that compares with the state before does so where values are told apart from one state to the next.
    fn check_transition(&mut self, transition: bool, uncorrelated: Option<&str>) {
        if transition && uncorrelated.is_some() {
            let detail = "oldSelf cannot be used on the uncorrelatable portion of the schema within ";
            self.tell_new("rule", self.rule["rule"].clone(), detail.to_owned(), uncorrelated);
        }
        let optional = &self.rule["optionalOldSelf"];
        if !transition && !optional.is_null() {
            let detail = "may not be set if oldSelf is not used in rule".to_owned();
            self.tell_new("optionalOldSelf", optional.clone(), detail, None);
        }
    }
}

fn compile_one(
    schema: &Structural,
    rule: &Value,
    own: &CelType,
    uncorrelated: Option<&str>,
    path: &str,
    faults: &mut Vec<RuleFault>,
) -> Option<Rule> {
    let mut written = Written { rule, path, faults, stopped: false };
    let source = written.text("rule").trim();
    if source.is_empty() {
        written.tell("rule", FieldReason::Required, Value::Null, "rule is not specified".to_owned());
        return None;
    }
    written.check_messages();
    let optional_old = rule["optionalOldSelf"] == true;
    let old = if optional_old { CelType::Optional(Box::new(own.clone())) } else { own.clone() };
    let variables = [("self", own.clone()), ("oldSelf", old)];
    let program = written.program(&variables);
    let message_program = written.message_program(&variables);
    let reason = written.reason();
    let field_path = written.field_path(schema);
    let program = program?;
    written.check_new(&program, message_program.as_ref());
    let transition = program.mentions("oldSelf");
    written.check_transition(transition, uncorrelated);
    let message = Some(written.text("message")).filter(|text| !text.is_empty()).map(str::to_owned);
    (!written.stopped).then(|| Rule {
        program,
        message,
        message_program,
        reason,
        field_path,
        transition,
        optional_old,
        source: source.to_owned(),
    })
}

/// Whether a path such as `.spec.ports['a']` leads to a field of the schema.
fn refers(schema: &Structural, path: &str) -> bool {
    let mut rest = path;
    let mut at = schema;
    while !rest.is_empty() {
        let (name, next) = if let Some(inner) = rest.strip_prefix("['") {
            let Some((name, next)) = inner.split_once("']") else { return false };
            (name, next)
        } else {
            let Some(inner) = rest.strip_prefix('.') else { return false };
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            inner.split_at(end)
        };
        match at.field(name) {
            Some(field) => at = field,
            None => return false,
        }
        rest = next;
    }
    true
}

fn cel_type(schema: &Structural, root: bool) -> CelType {
    if schema.int_or_string || schema.nullable {
        return CelType::Dyn;
    }
    match schema.kind {
        None => CelType::Dyn,
        Some(Type::Boolean) => CelType::Bool,
        Some(Type::Integer) => CelType::Int,
        Some(Type::Number) => CelType::Double,
        Some(Type::String) => match schema.checks.format.as_deref() {
            Some("byte") => CelType::Bytes,
            Some("date" | "date-time") => CelType::Timestamp,
            Some("duration") => CelType::Duration,
            _ => CelType::String,
        },
        Some(Type::Array) => CelType::List(Box::new(
            schema.items.as_deref().map_or(CelType::Dyn, |items| cel_type(items, false)),
        )),
        Some(Type::Object) => match &schema.additional {
            Some(more) => CelType::Map(Box::new(CelType::String), Box::new(cel_type(more, false))),
            None if schema.preserve_unknown && schema.properties.is_empty() && !root => CelType::Dyn,
            None => {
                let own =
                    schema.properties.iter().map(|(name, field)| (escape(name), cel_type(field, false)));
                let mut fields: Vec<_> = own.collect();
                if root || schema.embedded {
                    let text = |name: &str| (name.to_owned(), CelType::String);
                    fields.retain(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
                    fields.extend([text("apiVersion"), text("kind")]);
                    let metadata = CelType::object([text("name"), text("generateName")]);
                    fields.push(("metadata".to_owned(), metadata));
                }
                CelType::object(fields)
            }
        },
    }
}
