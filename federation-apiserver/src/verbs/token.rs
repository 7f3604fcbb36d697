//! POST to `serviceaccounts/token`: a TokenRequest.

use apimachinery::{ApiError, FieldError, FieldPath, status::GroupResource};
use http::{Response, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::Call;
use crate::{
    admission::subresource::{self, SubresourceRequest},
    auth::service_account_tokens::{Bound, Request},
    deletion,
    http::{Body, query::WriteOptions},
    store::{Key, ResourceKey},
    validation::text,
};

/// Seconds that a token lasts if the request does not say.
const DEFAULT_SECONDS: i64 = 3600;
/// `MinTokenAgeSec`.
const MIN_SECONDS: i64 = 600;
/// Longer ones overflow in clients.
const MAX_SECONDS: i64 = 1 << 32;

/// Makes a token for the account that the URL names.
pub(super) async fn create(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let request = call.decode_as("authentication.k8s.io/v1", "TokenRequest", options.field_validation)?;
    let shown = SubresourceRequest {
        call,
        form: Some(&subresource::TOKEN_REQUEST),
        old: None,
        dry_run: options.dry_run,
    };
    let mut request = shown.mutate(request).await?;
    let accounts = call.shared.authenticator().accounts().ok_or_else(ApiError::no_such_path)?;
    let account = call.current()?;
    let (namespace, name) = (call.namespace(), call.name());
    let asked = text(&request["metadata"], "namespace");
    if !asked.is_empty() && asked != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let asked = text(&request["metadata"], "name");
    if !asked.is_empty() && asked != name {
        let message = "must match the service account name if specified";
        let error = FieldError::invalid(&FieldPath::new("metadata.name"), asked, message);
        return Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", name, &[error]));
    }
    let (asked, uid) = (text(&request["metadata"], "uid"), &account.meta.uid);
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the token request ({asked}) does not match the UID of the service account ({uid})"
        );
        let resource = GroupResource::new("authentication.k8s.io", "TokenRequest");
        return Err(ApiError::conflict(&resource, name, &why));
    }
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    check_seconds(seconds)?;
    let mut audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    if audiences.is_empty() {
        audiences = accounts.audiences().to_vec();
    }
    request["metadata"]["name"] = name.into();
    request["metadata"]["namespace"] = namespace.into();
    request["metadata"]["uid"] = account.meta.uid.as_str().into();
    request["metadata"]["creationTimestamp"] = deletion::seconds(call.now).into();
    request["spec"]["audiences"] = audiences.as_slice().into();
    request["spec"]["expirationSeconds"] = seconds.into();
    shown.validate(&request).await?;
    let spec = &request["spec"];
    let bound = bound(call, &spec["boundObjectRef"])?;
    let expires = call.now + SignedDuration::from_secs(seconds);
    let wanted =
        Request { namespace, name, uid: &account.meta.uid, audiences: &audiences, expires, bound: &bound };
    let token =
        accounts.issue(&wanted, call.now).ok_or_else(|| ApiError::internal("the token cannot be signed"))?;
    let answer = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": name, "namespace": namespace, "uid": account.meta.uid,
            "creationTimestamp": deletion::seconds(call.now),
        },
        "spec": {
            "audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec["boundObjectRef"],
        },
        "status": {"token": token, "expirationTimestamp": deletion::seconds(expires)},
    });
    Ok(call.answer_value(StatusCode::CREATED, &answer))
}

fn check_seconds(seconds: i64) -> Result<(), ApiError> {
    let why = if seconds < MIN_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if seconds > MAX_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid(&FieldPath::new("spec.expirationSeconds"), seconds, why);
    Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &[error]))
}

/// The object that the token shall be bound to, and for a pod the node that it runs on.
fn bound(call: &Call, reference: &Value) -> Result<Vec<Bound>, ApiError> {
    if !reference.is_object() {
        return Ok(Vec::new());
    }
    // Only the group counts of the version, and the core group has none.
    let version = text(reference, "apiVersion");
    let (kind, resource) = match (version.contains('/'), text(reference, "kind")) {
        (false, "Pod") => ("pod", "pods"),
        (false, "Secret") => ("secret", "secrets"),
        (false, "Node") => ("node", "nodes"),
        (_, kind) => {
            let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
            return Err(ApiError::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let find = |resource: &str, name: &str| {
        let namespace = if resource == "nodes" { "" } else { call.namespace() };
        call.shared.storage.get(&Key::new(ResourceKey::new("", resource), namespace, name))
    };
    let name = text(reference, "name");
    let found =
        find(resource, name).ok_or_else(|| ApiError::not_found(&GroupResource::new("", resource), name))?;
    let uid = text(reference, "uid");
    if !uid.is_empty() && uid != found.meta.uid {
        return Err(ApiError::conflict(
            &GroupResource::new("", text(reference, "kind")),
            name,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    let mut all = vec![Bound { kind, name: name.to_owned(), uid: found.meta.uid.clone() }];
    if kind == "pod" {
        let pod = found.value().map_err(ApiError::internal)?;
        if text(&pod["spec"], "serviceAccountName") != call.name() {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                call.name()
            )));
        }
        if let Some(node) = find("nodes", text(&pod["spec"], "nodeName")) {
            let node = Bound { kind: "node", name: node.key.name.clone(), uid: node.meta.uid.clone() };
            all.push(node);
        }
    }
    Ok(all)
}
