//! `authorizer.group('apps').resource('deployments').check('create').allowed()`.

use std::sync::Arc;

use super::Outcome;
use crate::{Value, access::Stage, error::EvalError};

pub(super) fn call(name: &str, method: bool, values: &[Value]) -> Option<Outcome> {
    use Value::{Access, Bool, Decision, String};
    if !method {
        return None;
    }
    Some(match (name, values) {
        ("path", [Access(own), String(text)]) if !text.starts_with('/') || text.is_empty() => {
            let _ = own;
            Err(EvalError::failed("path must not be empty and must begin with '/'"))
        }
        ("path", [Access(own), String(text)]) => {
            own.step(Stage::Path, |check| check.path = Some(text.to_string()))
        }
        ("group", [Access(own), String(text)]) => {
            own.step(Stage::Group, |check| check.group = text.to_string())
        }
        ("serviceAccount", [Access(own), String(namespace), String(account)]) => {
            own.step(Stage::Authorizer, |check| {
                check.service_account = Some((namespace.to_string(), account.to_string()));
            })
        }
        (step, [Access(own), String(text)]) => {
            let text = text.to_string();
            match step {
                "resource" => own.step(Stage::Resource, |check| {
                    "*".clone_into(&mut check.version);
                    check.resource = text;
                }),
                "subresource" => own.step(Stage::Resource, |check| check.subresource = text),
                "namespace" => own.step(Stage::Resource, |check| check.namespace = text),
                "name" => own.step(Stage::Resource, |check| check.name = text),
                "fieldSelector" => own.step(Stage::Resource, |check| check.field_selector = text),
                "labelSelector" => own.step(Stage::Resource, |check| check.label_selector = text),
                "check" => own.ask(&text).map(|decision| Decision(Arc::new(decision))),
                _ => return None,
            }
        }
        ("allowed", [Decision(own)]) => Ok(Bool(own.allowed)),
        ("reason", [Decision(own)]) => Ok(own.reason.as_str().into()),
        ("errored", [Decision(own)]) => Ok(Bool(own.error.is_some())),
        ("error", [Decision(own)]) => Ok(own.error.clone().unwrap_or_default().into()),
        _ => return None,
    })
}
