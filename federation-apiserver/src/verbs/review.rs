//! POST of a review: a question about users and permissions, answered in its status.

use apimachinery::{ApiError, FieldError, FieldPath, rbac::Attributes};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Call, object, review_selectors};
use crate::{
    admission::subresource::SubresourceRequest,
    auth::{User, authz::Decision},
    deletion,
    http::{Body, query::WriteOptions},
    validation::text,
};

/// Whether a kind is such a question.
pub(super) fn is_review(group: &str) -> bool {
    matches!(group, "authentication.k8s.io" | "authorization.k8s.io")
}

/// Answers the question in the body.
pub(super) async fn create(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let mut review = call.decode_object(options.field_validation)?;
    call.canonicalise(&mut review);
    review = call.own(None, review, options.field_manager.as_deref()).await;
    let shown = SubresourceRequest { call, form: None, old: None, dry_run: options.dry_run };
    review = shown.mutate(review).await?;
    let kind = call.kind.kind;
    let status = match kind {
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = deletion::seconds(call.now).into();
            shown.validate(&review).await?;
            json!({"userInfo": call.user.to_value()})
        }
        "TokenReview" => token(&shown, &review).await?,
        "SelfSubjectRulesReview" => rules(&shown, &review).await?,
        _ => access(&shown, &mut review).await?,
    };
    if kind == "SelfSubjectRulesReview" {
        // The answer is a new object, which says nothing of the question.
        review = json!({"apiVersion": review["apiVersion"], "kind": kind, "metadata": {}, "spec": {}});
    }
    review["status"] = status;
    object::metadata(&mut review)?;
    Ok(call.answer_value(StatusCode::CREATED, &review))
}

async fn token(shown: &SubresourceRequest<'_>, review: &Value) -> Result<Value, ApiError> {
    let call = shown.call;
    let token = text(&review["spec"], "token");
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    shown.validate(review).await?;
    let audiences = review["spec"]["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> =
        audiences.filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
    Ok(match call.shared.authenticator().token(token, &audiences, call.now).await {
        Ok(identity) => {
            let mut status = json!({"authenticated": true, "user": identity.user.to_value()});
            if !identity.audiences.is_empty() {
                status["audiences"] = identity.audiences.into();
            }
            status
        }
        Err(why) => json!({"user": {}, "error": why}),
    })
}

async fn rules(shown: &SubresourceRequest<'_>, review: &Value) -> Result<Value, ApiError> {
    let call = shown.call;
    let namespace = text(&review["spec"], "namespace");
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    shown.validate(review).await?;
    let (rules, errors) = call.shared.authorizer().rules(&call.user, namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        if !rule.resources.is_empty() {
            let mut value =
                json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if !rule.names.is_empty() {
                value["resourceNames"] = rule.names.clone().into();
            }
            resources.push(value);
        }
        if !rule.urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    if !errors.is_empty() {
        let texts: Vec<&str> = errors.iter().map(|error| &**error).collect();
        status["evaluationError"] = texts.join(", ").into();
    }
    Ok(status)
}

async fn access(shown: &SubresourceRequest<'_>, review: &mut Value) -> Result<Value, ApiError> {
    let call = shown.call;
    let kind = call.kind.kind;
    let own = kind == "SelfSubjectAccessReview";
    let local = kind == "LocalSubjectAccessReview";
    let spec = &review["spec"];
    let mut errors = errors(spec, own, local);
    metadata_must_be_empty(&review["metadata"], local, &mut errors);
    let asked = &spec["resourceAttributes"];
    if local && asked.is_object() && text(asked, "namespace") != call.namespace() {
        let path = FieldPath::new("spec.resourceAttributes.namespace");
        errors.push(FieldError::invalid(&path, text(asked, "namespace"), "must match metadata.namespace"));
    }
    if !errors.is_empty() {
        // kube-apiserver names no kind here.
        return Err(ApiError::invalid(call.kind.group, "", "", &errors));
    }
    shown.validate(review).await?;
    let attributes = if asked.is_object() {
        Attributes {
            namespace: text(asked, "namespace"),
            group: text(asked, "group"),
            version: text(asked, "version"),
            resource: text(asked, "resource"),
            subresource: text(asked, "subresource"),
            name: text(asked, "name"),
            ..Attributes::resource(text(asked, "verb"))
        }
    } else {
        let asked = &spec["nonResourceAttributes"];
        Attributes::path(text(asked, "verb"), text(asked, "path"))
    };
    let authorizer = call.shared.authorizer();
    let decision = if own {
        authorizer.decide(&call.user, &attributes).await
    } else {
        authorizer.decide(&User::from_review(spec), &attributes).await
    };
    let mut status = json!({"allowed": matches!(decision, Decision::Allow(_))});
    let reason = match &decision {
        Decision::Allow(reason) => &**reason,
        Decision::NoOpinion(reason) => reason,
        Decision::Deny(reason) => {
            status["denied"] = true.into();
            reason
        }
        Decision::Failed(why) => {
            status["evaluationError"] = why.as_str().into();
            ""
        }
    };
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    if local {
        review["metadata"]["namespace"] = call.namespace().into();
    }
    Ok(status)
}

/// Questions have no names: metadata says nothing but where they are asked, and who owns which field.
fn metadata_must_be_empty(metadata: &Value, local: bool, errors: &mut Vec<FieldError>) {
    let mut said = metadata.as_object().cloned().unwrap_or_default();
    said.retain(|name, value| {
        let empty = value.is_null()
            || value == ""
            || value == 0
            || value.as_object().is_some_and(serde_json::Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        !empty && !matches!(name.as_str(), "managedFields" | "namespace")
    });
    if !said.is_empty() {
        let message = if local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(FieldError::invalid(&FieldPath::new("metadata"), Value::Object(said), message));
    }
}

/// `validation.ValidateSubjectAccessReviewSpec` and its siblings.
fn errors(spec: &Value, own: bool, local: bool) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let (resource, other) =
        (spec["resourceAttributes"].is_object(), spec["nonResourceAttributes"].is_object());
    let mut errors = Vec::new();
    if resource && other {
        errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            "cannot be specified in combination with resourceAttributes",
        ));
    }
    if !resource && !other {
        errors.push(FieldError::invalid(
            &path.child("resourceAttributes"),
            "null",
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    errors.extend(review_selectors::errors(&spec["resourceAttributes"], &path.child("resourceAttributes")));
    if !own && text(spec, "user").is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty) {
        errors.push(FieldError::invalid(
            &path.child("user"),
            text(spec, "user"),
            "at least one of user or group must be specified",
        ));
    }
    if local && other {
        errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            "disallowed on this kind of request",
        ));
    }
    errors
}
