//! Errors as the API tells them: `metav1.Status`, with the message texts that clients match on.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::field::{FieldError, aggregate, quoted, told};

/// A group and a plural resource name; prints as `deployments.apps`, or `pods` in the core group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource {
    /// The API group; empty is the core group.
    pub group: String,
    /// The plural, lower-case resource name.
    pub resource: String,
}

impl GroupResource {
    /// Names a resource of a group.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.resource)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

/// The machine-readable reason of a Status (`metav1.StatusReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the wire word itself")]
pub enum Reason {
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
}

impl Reason {
    /// The wire form; empty for `Unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::InternalError => "InternalError",
            Self::Expired => "Expired",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

/// One cause in the details of a Status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldManagerConflict`, `NamespaceTerminating`...
    pub reason: String,
    /// The text for people.
    pub message: String,
    /// The field, or empty.
    pub field: String,
}

impl From<&FieldError> for Cause {
    fn from(error: &FieldError) -> Self {
        Self {
            reason: error.reason.as_str().to_owned(),
            message: error.message.clone(),
            field: error.field.clone(),
        }
    }
}

/// The details of a Status (`metav1.StatusDetails`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The plural resource name; the Kind for `Invalid`.
    pub kind: String,
    /// The object's UID.
    pub uid: String,
    /// All causes at once.
    pub causes: Vec<Cause>,
    /// Seconds until the client should try again; 0 is left out.
    pub retry_after_seconds: u32,
}

/// An error answer of the API. `code` is the HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: Reason,
    /// The text for people; scripts match on it.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: how the rest of a list can be had all the same.
    pub continuation: Option<Box<str>>,
}

fn about(resource: &GroupResource, name: &str) -> Details {
    Details {
        name: name.to_owned(),
        group: resource.group.clone(),
        kind: resource.resource.clone(),
        ..Details::default()
    }
}

impl ApiError {
    /// An error without details.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continuation: None }
    }

    /// The same error with these details.
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The same error with one more cause.
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        self.details.get_or_insert_default().causes.push(Cause {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.to_owned(),
        });
        self
    }

    /// 404: `deployments.apps "x" not found`.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(404, Reason::NotFound, format!("{resource} {} not found", quoted(name)))
            .with_details(about(resource, name))
    }

    /// 404 for a path that serves nothing.
    pub fn no_such_path() -> Self {
        Self::new(404, Reason::NotFound, "the server could not find the requested resource")
            .with_details(Details::default())
    }

    /// 409: `configmaps "x" already exists`.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(409, Reason::AlreadyExists, format!("{resource} {} already exists", quoted(name)))
            .with_details(about(resource, name))
    }

    /// 409 on a create while the old object of that name is still terminating.
    pub fn being_deleted(resource: &GroupResource, name: &str) -> Self {
        Self::new(
            409,
            Reason::AlreadyExists,
            format!("object is being deleted: {resource} {} already exists", quoted(name)),
        )
        .with_details(about(resource, name))
    }

    /// 409: `Operation cannot be fulfilled on configmaps "x": DETAIL`.
    pub fn conflict(resource: &GroupResource, name: &str, detail: &str) -> Self {
        Self::new(
            409,
            Reason::Conflict,
            format!("Operation cannot be fulfilled on {resource} {}: {detail}", quoted(name)),
        )
        .with_details(about(resource, name))
    }

    /// 409 for a resourceVersion that is no longer the newest.
    pub fn stale(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 for a UID precondition that does not hold; names both UIDs.
    pub fn uid_conflict(resource: &GroupResource, name: &str, precondition: &str, actual: &str) -> Self {
        Self::conflict(
            resource,
            name,
            &format!(
                "Precondition failed: UID in precondition: {precondition}, UID in object meta: {actual}"
            ),
        )
    }

    /// 409 for a resourceVersion precondition of a delete that does not hold.
    pub fn resource_version_conflict(
        resource: &GroupResource,
        name: &str,
        precondition: &str,
        actual: &str,
    ) -> Self {
        Self::conflict(
            resource,
            name,
            &format!(
                "Precondition failed: ResourceVersion in precondition: {precondition}, ResourceVersion in object meta: {actual}"
            ),
        )
    }

    /// 409 of a server-side apply: every conflict is a cause `FieldManagerConflict`.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<Cause>) -> Self {
        Self::new(409, Reason::Conflict, message).with_details(Details { causes, ..Details::default() })
    }

    /// 422: `Deployment.apps "x" is invalid: ...`, with each fault that is [`told`] as a cause.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut message = format!("{qualified} {} is invalid", quoted(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&aggregate(errors));
        }
        Self::new(422, Reason::Invalid, message).with_details(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes: told(errors).iter().map(Cause::from).collect(),
            ..Details::default()
        })
    }

    /// 400 with this message.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, message)
    }

    /// 405: the verb is not served on this resource.
    pub fn method_not_allowed(resource: &GroupResource, verb: &str) -> Self {
        Self::new(
            405,
            Reason::MethodNotAllowed,
            format!("{verb} is not supported on resources of kind \"{resource}\""),
        )
        .with_details(about(resource, ""))
    }

    /// 405 for an HTTP method that a path does not take.
    pub fn no_such_method() -> Self {
        Self::new(
            405,
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
        .with_details(Details::default())
    }

    /// 415 that lists the media types that are taken.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            415,
            Reason::UnsupportedMediaType,
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 406 that lists the media types that are served.
    pub fn not_acceptable(served: &[&str]) -> Self {
        Self::new(
            406,
            Reason::NotAcceptable,
            format!("only the following media types are accepted: {}", served.join(", ")),
        )
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn request_entity_too_large(limit: usize) -> Self {
        Self::new(413, Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {limit}"))
    }

    /// 410 Expired: a resourceVersion or continue token is older than the history kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, message)
    }

    /// 410 Expired of a watch: `too old resource version: ASKED (OLDEST)`.
    pub fn too_old_resource_version(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 410 Gone.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Gone, message)
    }

    /// 403: `deployments.apps "x" is forbidden: WHY`; without a name `deployments.apps is forbidden: WHY`.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {} is forbidden: {why}", quoted(name)),
        };
        Self::new(403, Reason::Forbidden, message).with_details(about(resource, name))
    }

    /// 403 on a create in a namespace that is going away.
    pub fn namespace_terminating(resource: &GroupResource, name: &str, namespace: &str) -> Self {
        Self::forbidden(
            resource,
            name,
            &format!("unable to create new content in namespace {namespace} because it is being terminated"),
        )
        .with_cause(
            "NamespaceTerminating",
            format!("namespace {namespace} is being terminated"),
            "metadata.namespace",
        )
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 500: `Internal error occurred: WHY`.
    pub fn internal(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Self::new(500, Reason::InternalError, format!("Internal error occurred: {why}")).with_details(
            Details { causes: vec![Cause { message: why, ..Cause::default() }], ..Details::default() },
        )
    }

    /// 500 on a create that carries a resourceVersion (kube-apiserver answers 500 here, not 400).
    pub fn resource_version_on_create() -> Self {
        Self::new(500, Reason::Unknown, "resourceVersion should not be set on objects to be created")
    }

    /// 504 Timeout.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        Self::new(504, Reason::Timeout, format!("Timeout: {message}"))
            .with_details(Details { retry_after_seconds, ..Details::default() })
    }

    /// 504 for a resourceVersion of the future; clients recognise the cause and retry.
    pub fn too_large_resource_version(asked: u64, current: u64, retry_after_seconds: u32) -> Self {
        Self::timeout(format!("Too large resource version: {asked}, current: {current}"), retry_after_seconds)
            .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, Reason::TooManyRequests, message)
            .with_details(Details { retry_after_seconds, ..Details::default() })
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, message)
    }

    /// The error as a `v1` Status object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if let Some(token) = &self.continuation {
            status["metadata"]["continue"] = (**token).into();
        }
        if let Some(object) = status.as_object_mut() {
            if self.reason != Reason::Unknown {
                object.insert("reason".into(), self.reason.as_str().into());
            }
            if let Some(details) = &self.details {
                object.insert("details".into(), details_value(details));
            }
        }
        status
    }
}

fn details_value(details: &Details) -> Value {
    let mut object = Map::new();
    for (key, text) in
        [("name", &details.name), ("group", &details.group), ("kind", &details.kind), ("uid", &details.uid)]
    {
        if !text.is_empty() {
            object.insert(key.to_owned(), text.as_str().into());
        }
    }
    if !details.causes.is_empty() {
        let causes = details.causes.iter().map(cause_value).collect();
        object.insert("causes".into(), Value::Array(causes));
    }
    if details.retry_after_seconds > 0 {
        object.insert("retryAfterSeconds".into(), details.retry_after_seconds.into());
    }
    Value::Object(object)
}

fn cause_value(cause: &Cause) -> Value {
    let mut object = Map::new();
    for (key, text) in [("reason", &cause.reason), ("message", &cause.message), ("field", &cause.field)] {
        if !text.is_empty() {
            object.insert(key.to_owned(), text.as_str().into());
        }
    }
    Value::Object(object)
}

/// The Status of a request that went well and has no object to answer with, such as a delete.
pub fn success(details: Option<&Details>) -> Value {
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    if let (Some(object), Some(details)) = (status.as_object_mut(), details) {
        object.insert("details".into(), details_value(details));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldPath;

    fn deployments() -> GroupResource {
        GroupResource::new("apps", "deployments")
    }

    #[test]
    fn a_missing_object_is_told_as_kubernetes_tells_it() {
        assert_eq!(
            ApiError::not_found(&deployments(), "x").to_value(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404,
                "message": "deployments.apps \"x\" not found", "reason": "NotFound",
                "details": {"name": "x", "group": "apps", "kind": "deployments"},
            })
        );
    }

    #[test]
    fn an_invalid_object_lists_all_causes_at_once() {
        let errors = [
            FieldError::required(&FieldPath::new("spec.selector"), ""),
            FieldError::invalid(&FieldPath::new("spec.replicas"), -1, "must be greater than or equal to 0"),
        ];
        let error = ApiError::invalid("apps", "Deployment", "x", &errors);
        assert_eq!(
            error.message,
            "Deployment.apps \"x\" is invalid: [spec.selector: Required value, spec.replicas: Invalid value: -1: must be greater than or equal to 0]"
        );
        assert_eq!(error.code, 422);
        let value = error.to_value();
        assert_eq!(value["details"]["kind"], "Deployment");
        assert_eq!(value["details"]["causes"][0]["reason"], "FieldValueRequired");
        assert_eq!(value["details"]["causes"][1]["field"], "spec.replicas");
    }

    #[test]
    fn a_future_resource_version_carries_the_cause_that_clients_retry_on() {
        let error = ApiError::too_large_resource_version(9, 5, 1);
        assert_eq!((error.code, error.reason), (504, Reason::Timeout));
        assert!(error.message.contains("Too large resource version"));
        assert_eq!(error.to_value()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(error.to_value()["details"]["retryAfterSeconds"], 1);
    }

    #[test]
    fn a_stale_resource_version_conflicts() {
        assert_eq!(
            ApiError::stale(&GroupResource::new("", "configmaps"), "x").message,
            "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your changes to the latest version and try again"
        );
    }

    #[test]
    fn a_success_has_no_code() {
        let details =
            Details { name: "x".into(), kind: "pods".into(), uid: "u".into(), ..Details::default() };
        assert_eq!(
            success(Some(&details)),
            json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"x","kind":"pods","uid":"u"}})
        );
    }
}
