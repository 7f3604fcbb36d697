//! The authorizer of expressions: what they ask, and who answers.

use std::sync::Arc;

use crate::{Value, error::EvalError};

pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(crate) const PATH: &str = "kubernetes.authorization.PathCheck";
pub(crate) const GROUP: &str = "kubernetes.authorization.GroupCheck";
pub(crate) const RESOURCE: &str = "kubernetes.authorization.ResourceCheck";
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

/// Answers the checks of an expression.
pub trait Authority: Send + Sync + std::fmt::Debug {
    /// What is known; none ends the evaluation, to be repeated once it is.
    fn decide(&self, check: &Check) -> Option<Decision>;
}

/// What an expression asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Check {
    /// A path; a resource if none.
    pub path: Option<String>,
    /// What is to be done.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// Its version.
    pub version: String,
    /// The resource.
    pub resource: String,
    /// A part of it, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, or empty.
    pub name: String,
    /// A selector of fields, as text.
    pub field_selector: String,
    /// A selector of labels, as text.
    pub label_selector: String,
    /// Namespace and name of a service account that is asked for; the request's own user if none.
    pub service_account: Option<(String, String)>,
}

/// What an authorizer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why, or empty.
    pub reason: String,
    /// Why it could not be decided.
    pub error: Option<String>,
}

/// How much of a check is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

/// `authorizer`, and what its methods make of it.
#[derive(Debug, Clone)]
pub struct Access {
    authority: Arc<dyn Authority>,
    /// What `authorizer.requestResource` is.
    request: Arc<Check>,
    check: Check,
    stage: Stage,
}

impl Access {
    /// The variable `authorizer` of a request for something.
    pub fn variable(authority: Arc<dyn Authority>, request: Check) -> Value {
        let (request, check) = (Arc::new(request), Check::default());
        Value::Access(Arc::new(Self { authority, request, check, stage: Stage::Authorizer }))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => AUTHORIZER,
            Stage::Path => PATH,
            Stage::Group => GROUP,
            Stage::Resource => RESOURCE,
        }
    }

    /// `requestResource`.
    pub(crate) fn of_request(&self) -> Option<Arc<Self>> {
        let check =
            Check { service_account: self.check.service_account.clone(), ..Check::clone(&self.request) };
        let stage = Stage::Resource;
        (self.stage == Stage::Authorizer).then(|| Arc::new(Self { check, stage, ..self.clone() }))
    }

    pub(crate) fn step(&self, stage: Stage, change: impl FnOnce(&mut Check)) -> Result<Value, EvalError> {
        let from = match stage {
            Stage::Authorizer | Stage::Path | Stage::Group => self.stage == Stage::Authorizer,
            Stage::Resource => matches!(self.stage, Stage::Group | Stage::Resource),
        };
        if !from {
            return Err(EvalError::NoSuchOverload);
        }
        let mut next = Self { stage, ..self.clone() };
        change(&mut next.check);
        Ok(Value::Access(Arc::new(next)))
    }

    pub(crate) fn ask(&self, verb: &str) -> Result<Decision, EvalError> {
        if !matches!(self.stage, Stage::Path | Stage::Resource) {
            return Err(EvalError::NoSuchOverload);
        }
        let check = Check { verb: verb.to_owned(), ..self.check.clone() };
        self.authority.decide(&check).ok_or_else(|| EvalError::failed("the authorizer is being asked"))
    }
}
