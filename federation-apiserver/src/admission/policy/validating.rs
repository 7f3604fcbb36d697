//! ValidatingAdmissionPolicy: rules that admit or refuse.

use apimachinery::status::Reason;
use kube_cel::{Program, Type, Value as Cel};
use serde_json::Value;

use super::{
    Request,
    definition::{Compiled, Evaluation, PolicyCommon, compile},
};

/// Bytes of a value of an audit annotation (`maxAuditAnnotationValueLength`).
const ANNOTATION_MAX: usize = 10 << 10;

/// A compiled policy.
pub(in crate::admission) struct ValidatingPolicy {
    pub(in crate::admission) common: PolicyCommon,
    validations: Vec<Validation>,
    annotations: Vec<(String, String, Compiled)>,
}

struct Validation {
    expression: String,
    program: Compiled,
    message: Option<String>,
    message_program: Option<(String, Program)>,
    reason: Option<Reason>,
}

/// The result of a policy for a request.
#[derive(Default)]
pub(in crate::admission) struct Verdict {
    pub(in crate::admission) failures: Vec<Failure>,
    /// Audit annotations by their keys.
    pub(in crate::admission) annotations: Vec<(String, String)>,
    /// Annotations that failed, under the failure policy `Fail`.
    pub(in crate::admission) unannotated: Vec<String>,
}

/// A rule that refuses.
pub(in crate::admission) struct Failure {
    /// The index of the rule; 0 if no rule was evaluated.
    pub(in crate::admission) index: usize,
    pub(in crate::admission) reason: Option<Reason>,
    pub(in crate::admission) text: String,
}

impl ValidatingPolicy {
    pub(super) fn read(name: &str, spec: &Value) -> Self {
        let common = PolicyCommon::read(name, spec);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = |name: &str| spec[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let known = common.types();
        let validations = items("validations").iter().map(|rule| Validation {
            expression: text(&rule["expression"]).trim().to_owned(),
            program: compile(&rule["expression"], &known, &Type::Bool),
            message: rule["message"].as_str().map(|text| text.trim().to_owned()),
            message_program: compile(&rule["messageExpression"], &known, &Type::String)
                .ok()
                .map(|program| (text(&rule["messageExpression"]), program)),
            reason: match rule["reason"].as_str() {
                Some("Unauthorized") => Some(Reason::Unauthorized),
                Some("Forbidden") => Some(Reason::Forbidden),
                Some("RequestEntityTooLarge") => Some(Reason::RequestEntityTooLarge),
                _ => None,
            },
        });
        let annotations = items("auditAnnotations").iter().map(|annotation| {
            let source = &annotation["valueExpression"];
            (text(&annotation["key"]), text(source), compile(source, &known, &Type::Dyn))
        });
        Self { validations: validations.collect(), annotations: annotations.collect(), common }
    }

    /// The result of the policy for a request with one of its parameter objects.
    pub(in crate::admission) fn ask(&self, params: Option<&Value>, request: &Request<'_>) -> Verdict {
        let mut evaluation = self.common.begin(params, request);
        let mut verdict = Verdict::default();
        match self.common.meets(&mut evaluation) {
            Ok(true) => {}
            Ok(false) => return verdict,
            Err(text) => {
                verdict.failures.push(Failure { index: 0, reason: None, text });
                return verdict;
            }
        }
        self.common.bind(&mut evaluation);
        for (index, rule) in self.validations.iter().enumerate() {
            match evaluation.run(&rule.expression, &rule.program) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let text = rule.told(&mut evaluation);
                    verdict.failures.push(Failure { index, reason: rule.reason, text });
                }
                Err(_) if self.common.ignore_failures => {}
                Err(text) => verdict.failures.push(Failure { index, reason: None, text }),
            }
        }
        for (key, source, program) in &self.annotations {
            match annotation(source, evaluation.run(source, program)) {
                Ok(Some(value)) => verdict.annotations.push((key.clone(), value)),
                Ok(None) => {}
                Err(_) if self.common.ignore_failures => {}
                Err(why) => verdict.unannotated.push(why),
            }
        }
        verdict
    }
}

impl Validation {
    /// The message for a request that the rule refuses.
    fn told(&self, evaluation: &mut Evaluation) -> String {
        let made = self.message_program.as_ref().and_then(|(source, program)| {
            match evaluation.run(source, &Ok(program.clone())) {
                Ok(Cel::String(text)) if !text.trim().is_empty() && !text.contains(['\n', '\r']) => {
                    Some(text.trim().to_owned())
                }
                _ => None,
            }
        });
        made.or_else(|| self.message.clone().filter(|text| !text.is_empty()))
            .unwrap_or_else(|| format!("failed expression: {}", self.expression))
    }
}

/// The value of an annotation; none if there is to be none.
fn annotation(source: &str, outcome: Result<Cel, String>) -> Result<Option<String>, String> {
    match outcome? {
        Cel::String(text) if text.trim().is_empty() => Ok(None),
        Cel::String(text) => {
            let mut value = text.trim().to_owned();
            let end = (0..=ANNOTATION_MAX.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
            value.truncate(end.unwrap_or_default());
            Ok(Some(value))
        }
        Cel::Null => Ok(None),
        other => Err(format!(
            "valueExpression '{source}' resulted in unsupported return type: {}. Return type must be either string or null.",
            other.type_name()
        )),
    }
}
