//! The errors in the expressions of a policy and in the conditions of a webhook.

use std::collections::HashSet;

use apimachinery::{FieldError, FieldPath, names};
use kube_cel::{Program, Type};
use serde_json::Value;

use super::{
    definition::{Compiled, base_types, declare},
    mutating,
};
use crate::{
    registry::ErrorList,
    validation::{items, one_of, text},
};

/// Conditions of one policy or webhook.
const CONDITIONS_MAX: usize = 64;
/// Audit annotations of one policy.
const ANNOTATIONS_MAX: usize = 20;
/// Bytes of the expression of an annotation.
const ANNOTATION_EXPRESSION_MAX: usize = 5 << 10;

/// Compiles an expression and adds its errors.
fn expression(
    source: &str,
    known: &[(&str, Type)],
    wanted: &Type,
    path: &FieldPath,
    errors: &mut ErrorList,
) -> Compiled {
    let program = Program::compile_as(source, known, wanted).map_err(|error| error.to_string());
    let undeclared = |program: &Program| program.refused(source).map(|error| error.to_string());
    if let Some(error) = program.as_ref().map_or_else(|error| Some(error.clone()), undeclared) {
        let detail =
            if error.starts_with("must evaluate") { error } else { format!("compilation failed: {error}") };
        errors.push(FieldError::invalid(path, source, &detail));
    }
    program
}

/// The errors of match conditions.
pub(crate) fn check_conditions(owner: &Value, has_params: bool, path: &FieldPath, errors: &mut ErrorList) {
    let path = path.child("matchConditions");
    let conditions: Vec<&Value> = items(owner, "matchConditions").collect();
    if conditions.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(&path, conditions.len(), CONDITIONS_MAX));
    }
    let mut seen = HashSet::new();
    let known = base_types(has_params);
    for (at, condition) in conditions.into_iter().enumerate() {
        let path = path.index(at);
        match text(condition, "expression").trim() {
            "" => errors.push(FieldError::required(&path.child("expression"), "")),
            source => {
                let _compiled = expression(source, &known, &Type::Bool, &path.child("expression"), errors);
            }
        }
        let (name, path) = (text(condition, "name"), path.child("name"));
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        qualified(name, &path, errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

fn qualified(name: &str, path: &FieldPath, errors: &mut ErrorList) {
    errors.extend(names::qualified_name(name).iter().map(|why| FieldError::invalid(path, name, why)));
}

/// The errors of a policy's conditions and expressions.
pub(crate) fn check_policy(object: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&object["spec"], FieldPath::new("spec"));
    let has_params = spec["paramKind"].is_object();
    check_conditions(spec, has_params, &path, errors);
    let mut known = base_types(has_params);
    for (at, variable) in items(spec, "variables").enumerate() {
        let path = path.child("variables").index(at);
        let name = text(variable, "name");
        if name.trim().is_empty() {
            errors.push(FieldError::required(&path.child("name"), "name is not specified"));
        } else if !kube_cel::is_identifier(name) {
            let why = "name is not a valid CEL identifier";
            errors.push(FieldError::invalid(&path.child("name"), name, why));
        }
        let path = path.child("expression");
        let program = match text(variable, "expression") {
            source if source.trim().is_empty() => {
                errors.push(FieldError::required(&path, "expression is not specified"));
                Err(String::new())
            }
            source => expression(source, &known, &Type::Dyn, &path, errors),
        };
        declare(&mut known, name, &program);
    }
    if object["kind"] == "MutatingAdmissionPolicy" {
        check_mutations(spec, &path, &mutating::types(known), errors);
    } else {
        check_validations(spec, &path, &known, errors);
        check_annotations(object, &path, &known, errors);
    }
}

fn check_validations(spec: &Value, path: &FieldPath, known: &[(&'static str, Type)], errors: &mut ErrorList) {
    // Messages are made without asking anybody.
    let plain: Vec<_> = known.iter().filter(|(name, _)| *name != "authorizer").cloned().collect();
    for (at, rule) in items(spec, "validations").enumerate() {
        let path = path.child("validations").index(at);
        match text(rule, "expression") {
            source if source.trim().is_empty() => {
                errors.push(FieldError::required(&path.child("expression"), "expression is not specified"));
            }
            source => {
                let _compiled = expression(source, known, &Type::Bool, &path.child("expression"), errors);
            }
        }
        let (source, at) = (text(rule, "messageExpression"), path.child("messageExpression"));
        if !source.is_empty() && source.trim().is_empty() {
            errors.push(FieldError::invalid(&at, source, "must be non-empty if specified"));
        } else if !source.is_empty() {
            let _compiled = expression(source, &plain, &Type::String, &at, errors);
        }
        let (message, at) = (text(rule, "message"), path.child("message"));
        if !message.is_empty() && message.trim().is_empty() {
            errors.push(FieldError::invalid(&at, message, "message must be non-empty if specified"));
        } else if message.trim().contains(['\n', '\r']) {
            errors.push(FieldError::invalid(&at, message, "message must not contain line breaks"));
        }
        if let Some(reason) = rule["reason"].as_str() {
            let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
            one_of(reason, &path.child("reason"), &reasons, errors);
        }
    }
}

fn check_annotations(
    object: &Value,
    path: &FieldPath,
    known: &[(&'static str, Type)],
    errors: &mut ErrorList,
) {
    let path = path.child("auditAnnotations");
    let annotations: Vec<&Value> = items(&object["spec"], "auditAnnotations").collect();
    if annotations.len() > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.push(FieldError::invalid(&path, object["spec"]["auditAnnotations"].clone(), &why));
    }
    let policy = text(&object["metadata"], "name");
    let mut keys = HashSet::new();
    for (at, annotation) in annotations.into_iter().enumerate() {
        let path = path.index(at);
        let key = text(annotation, "key");
        qualified(&format!("{policy}/{key}"), &path.child("key"), errors);
        let (source, at) = (text(annotation, "valueExpression").trim(), path.child("valueExpression"));
        if source.is_empty() {
            errors.push(FieldError::required(&at, "valueExpression is not specified"));
        } else if source.len() > ANNOTATION_EXPRESSION_MAX {
            let why = format!("must not exceed {ANNOTATION_EXPRESSION_MAX} bytes in length");
            errors.push(FieldError::required(&at, &why));
        } else {
            let program = expression(source, known, &Type::Dyn, &at, errors);
            let kind = program.map_or(Type::Dyn, |program| program.result().clone());
            if !matches!(kind, Type::String | Type::Null | Type::Dyn) {
                errors.push(FieldError::invalid(&at, source, "must evaluate to one of [string null_type]"));
            }
        }
        if !keys.insert(key) {
            errors.push(FieldError::duplicate(&path.child("key"), key));
        }
    }
}

fn check_mutations(spec: &Value, path: &FieldPath, known: &[(&'static str, Type)], errors: &mut ErrorList) {
    let path = path.child("mutations");
    if items(spec, "mutations").next().is_none() {
        errors.push(FieldError::required(&path, "mutations must contain at least one item"));
    }
    for (at, mutation) in items(spec, "mutations").enumerate() {
        let path = path.index(at);
        let json = match text(mutation, "patchType") {
            "ApplyConfiguration" => false,
            "JSONPatch" => true,
            "" => {
                errors.push(FieldError::required(&path.child("patchType"), ""));
                continue;
            }
            other => {
                one_of(other, &path.child("patchType"), &["ApplyConfiguration", "JSONPatch"], errors);
                continue;
            }
        };
        let (own, other) =
            if json { ("jsonPatch", "applyConfiguration") } else { ("applyConfiguration", "jsonPatch") };
        if mutation[other].is_object() {
            let why = format!("must not be specified when patchType is {}", text(mutation, "patchType"));
            errors.push(FieldError::forbidden(&path.child(other), &why));
        }
        let path = path.child(own);
        if !mutation[own].is_object() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        match text(&mutation[own], "expression") {
            source if source.trim().is_empty() => {
                errors.push(FieldError::required(&path.child("expression"), "expression is not specified"));
            }
            source => {
                let wanted = mutating::wanted(json);
                let _compiled = expression(source, known, &wanted, &path.child("expression"), errors);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn conditions_are_told_apart_however_many_there_are() {
        let condition = |number: usize| json!({"name": format!("a{number}"), "expression": "true"});
        let mut listed: Vec<Value> = (0..20_000).map(condition).collect();
        listed.push(condition(7));
        let mut errors = ErrorList::new();
        check_conditions(&json!({"matchConditions": listed}), false, &FieldPath::new("spec"), &mut errors);
        assert_eq!(
            told(&errors),
            [
                "spec.matchConditions: Too many: 20001: must have at most 64 items",
                r#"spec.matchConditions[20000].name: Duplicate value: "a7""#,
            ]
        );
    }

    #[test]
    fn annotations_are_told_apart() {
        let annotation = |key: &str| json!({"key": key, "valueExpression": "'x'"});
        let object = json!({
            "metadata": {"name": "p"},
            "spec": {"auditAnnotations": [annotation("a"), annotation("b"), annotation("a")]},
        });
        let mut errors = ErrorList::new();
        check_policy(&object, &mut errors);
        assert_eq!(told(&errors), [r#"spec.auditAnnotations[2].key: Duplicate value: "a""#]);
    }

    #[test]
    fn a_variable_knows_those_before_it() {
        let variable = |name: &str, expression: &str| json!({"name": name, "expression": expression});
        let check = |variables: Vec<Value>, wrong: &[usize]| {
            let mut errors = ErrorList::new();
            check_policy(&json!({"spec": {"variables": variables}}), &mut errors);
            let told = told(&errors);
            assert_eq!(told.len(), wrong.len(), "{told:?}");
            for (told, at) in told.iter().zip(wrong) {
                let place = format!("spec.variables[{at}].expression: Invalid value: ");
                assert!(told.starts_with(&place) && told.contains("compilation failed"), "{told}");
            }
        };
        check(
            vec![variable("a", "1"), variable("b", "variables.a + 1"), variable("c", "variables.b > 1")],
            &[],
        );
        check(vec![variable("a", "variables.b"), variable("b", "1"), variable("c", "variables.d")], &[0, 2]);
        check(vec![variable("a", "1"), variable("b", "variables.a + 'x'")], &[1]);
        // The previous ones must not be formatted again for each.
        let many = (0..20_000).map(|number| variable(&format!("v{number}"), "1"));
        check(many.chain([variable("last", "variables.v7 + variables.v19999")]).collect(), &[]);
    }
}
