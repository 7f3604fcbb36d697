//! AdmissionReview: its request, and the checks of its response (`webhook/request.VerifyAdmissionResponse`).

use apimachinery::{
    ApiError,
    status::{Details, Reason},
};
use bytes::Bytes;
use serde_json::{Value, json};

const GROUP: &str = "admission.k8s.io";

/// The kind of webhook that is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Mutating,
    Validating,
}

/// The response of a webhook.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// The Status that it answers with; null if none.
    pub(super) status: Value,
    /// Operations of a JSON patch.
    pub(super) patch: Option<Value>,
    pub(super) audit_annotations: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// The review that is sent, without its objects. Empty texts are omitted, as Go does.
pub(super) fn request(version: &str, mut request: Value) -> Value {
    if let Some(fields) = request.as_object_mut() {
        fields.retain(|name, value| {
            !(matches!(name.as_str(), "subResource" | "requestSubResource" | "name" | "namespace")
                && value == "")
        });
        if let Some(user) = fields.get_mut("userInfo").and_then(Value::as_object_mut) {
            user.retain(|_, value| *value != "" && *value != json!([]) && *value != json!({}));
        }
    }
    json!({"kind": "AdmissionReview", "apiVersion": format!("{GROUP}/{version}"), "request": request})
}

/// The text of a review with its objects, which are separate pieces, shared by many reviews.
pub(super) fn pieces(review: &Value, object: Option<Bytes>, old: Option<Bytes>) -> Vec<Bytes> {
    let text = review.to_string();
    // A request is never empty, and it is what a review ends with.
    let head = text.strip_suffix("}}").unwrap_or(&text);
    let or_null = |text: Option<Bytes>| text.unwrap_or(Bytes::from_static(b"null"));
    let between = Bytes::from_static(b",\"oldObject\":");
    let head = Bytes::from(format!("{head},\"object\":"));
    vec![head, or_null(object), between, or_null(old), Bytes::from_static(b"}}")]
}

/// Reads a response.
pub(super) fn read(phase: Phase, version: &str, uid: &str, body: &[u8]) -> Result<Verdict, String> {
    let invalid = |why: String| format!("received invalid webhook response: {why}");
    let review: Value = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("couldn't get version/kind; json parse error: {error}")))?;
    let response = &review["response"];
    if !response.is_object() {
        return Err(invalid("webhook response was absent".to_owned()));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let strict = version == "v1";
    if strict {
        let wanted = format!("{GROUP}/{version}, Kind=AdmissionReview");
        let found = format!("{}, Kind={}", text(&review["apiVersion"]), text(&review["kind"]));
        if found != wanted {
            return Err(invalid(format!("expected webhook response of {wanted}, got {found}")));
        }
        if response["uid"] != uid {
            return Err(invalid(format!("expected response.uid={uid:?}, got {:?}", text(&response["uid"]))));
        }
    }
    Ok(Verdict {
        allowed: response["allowed"] == true,
        status: response["status"].clone(),
        patch: read_patch(phase, strict, response).map_err(invalid)?,
        audit_annotations: response["auditAnnotations"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), text(value)))
            .collect(),
        warnings: response["warnings"].as_array().into_iter().flatten().map(text).collect(),
    })
}

fn read_patch(phase: Phase, strict: bool, response: &Value) -> Result<Option<Value>, String> {
    let encoded = response["patch"].as_str().unwrap_or_default();
    let kind = response["patchType"].as_str();
    if phase == Phase::Validating {
        return match (strict, encoded, kind) {
            (true, patch, _) if !patch.is_empty() => {
                Err("validating webhook may not return response.patch".to_owned())
            }
            (true, _, Some(_)) => Err("validating webhook may not return response.patchType".to_owned()),
            _ => Ok(None),
        };
    }
    match kind {
        None if encoded.is_empty() => return Ok(None),
        None if strict => return Err("webhook returned response.patch but not response.patchType".to_owned()),
        Some(_) if encoded.is_empty() => {
            return Err("webhook returned response.patchType but not response.patch".to_owned());
        }
        Some(other) if other != "JSONPatch" => {
            return Err(format!("webhook returned invalid response.patchType of {other:?}"));
        }
        _ => {}
    }
    let bytes = kube_schema::decode_base64(encoded)
        .map_err(|error| format!("response.patch is no base64: {error}"))?;
    let operations: Value = serde_json::from_slice(&bytes)
        .map_err(|error| format!("response.patch is no JSON patch: {error}"))?;
    match operations.as_array() {
        Some(list) if list.is_empty() => Ok(None),
        Some(_) => Ok(Some(operations)),
        None => Err("response.patch is no JSON patch: it must be a list of operations".to_owned()),
    }
}

/// The refusal that the client gets (`webhook/errors.ToStatusErr`).
pub(super) fn denied(name: &str, status: &Value) -> ApiError {
    let by = format!("admission webhook {name:?} denied the request");
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    // A refusal is never less than an error, and no HTTP status is more than 599.
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    let mut error = ApiError::new(code, reason(text("reason")), message);
    let details = &status["details"];
    if details.is_object() {
        let text = |field: &str| details[field].as_str().unwrap_or_default().to_owned();
        error = error.with_details(Details {
            name: text("name"),
            group: text("group"),
            kind: text("kind"),
            uid: text("uid"),
            ..Details::default()
        });
        for cause in details["causes"].as_array().into_iter().flatten() {
            let text = |field: &str| cause[field].as_str().unwrap_or_default();
            error = error.with_cause(text("reason"), text("message"), text("field"));
        }
    }
    error
}

/// The reason of that name. An unknown reason is left out; the message contains it.
fn reason(name: &str) -> Reason {
    use Reason::{
        AlreadyExists, BadRequest, Conflict, Expired, Forbidden, Gone, InternalError, Invalid,
        MethodNotAllowed, NotAcceptable, NotFound, RequestEntityTooLarge, ServerTimeout, ServiceUnavailable,
        Timeout, TooManyRequests, Unauthorized, Unknown, UnsupportedMediaType,
    };
    let known = [
        AlreadyExists,
        BadRequest,
        Conflict,
        Expired,
        Forbidden,
        Gone,
        InternalError,
        Invalid,
        MethodNotAllowed,
        NotAcceptable,
        NotFound,
        RequestEntityTooLarge,
        ServerTimeout,
        ServiceUnavailable,
        Timeout,
        TooManyRequests,
        Unauthorized,
        UnsupportedMediaType,
    ];
    known.into_iter().find(|reason| reason.as_str() == name).unwrap_or(Unknown)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
            .to_string()
            .into()
    }

    #[track_caller]
    fn refused(phase: Phase, response: Value) -> String {
        read(phase, "v1", "1", &answer(response)).expect_err("it is wrong")
    }

    #[test]
    fn what_is_empty_is_not_sent() {
        let user = json!({"username": "u", "uid": "", "groups": [], "extra": {}});
        let review = request("v1", json!({"name": "", "operation": "DELETE", "userInfo": user}));
        assert_eq!(review["request"], json!({"operation": "DELETE", "userInfo": {"username": "u"}}));
    }

    #[test]
    fn objects_are_sent_without_being_copied() {
        let review = request("v1", json!({"uid": "1"}));
        let object = Bytes::from(r#"{"a":"}}"}"#);
        let pieces = pieces(&review, Some(object.clone()), None);
        assert!(pieces.iter().any(|piece| piece.as_ptr() == object.as_ptr()));
        let sent: Value = serde_json::from_slice(&pieces.concat()).expect("it is JSON");
        assert_eq!(sent["request"], json!({"uid": "1", "object": {"a": "}}"}, "oldObject": null}));
        assert_eq!((&sent["kind"], &sent["apiVersion"]), (&review["kind"], &review["apiVersion"]));
    }

    #[test]
    fn an_answer_to_another_question_is_no_answer() {
        assert_eq!(
            refused(Phase::Validating, json!({"uid": "2", "allowed": true})),
            r#"received invalid webhook response: expected response.uid="1", got "2""#
        );
        let old = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "response": {"uid": "1"}});
        assert_eq!(
            read(Phase::Validating, "v1", "1", old.to_string().as_bytes()).expect_err("it is wrong"),
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview"
        );
        assert_eq!(
            read(Phase::Validating, "v1", "1", b"{}").expect_err("it is wrong"),
            "received invalid webhook response: webhook response was absent"
        );
    }

    #[test]
    fn a_patch_needs_its_type_and_a_mutating_webhook() {
        let patch = BASE64_STANDARD.encode(r#"[{"op":"remove","path":"/data"}]"#);
        assert!(
            refused(Phase::Mutating, json!({"uid": "1", "patch": patch}))
                .contains("but not response.patchType")
        );
        let with_type = json!({"uid": "1", "allowed": true, "patch": patch, "patchType": "JSONPatch"});
        assert!(refused(Phase::Validating, with_type.clone()).contains("may not return response.patch"));
        let verdict = read(Phase::Mutating, "v1", "1", &answer(with_type)).expect("it is right");
        assert_eq!(verdict.patch, Some(json!([{"op": "remove", "path": "/data"}])));
    }

    #[test]
    fn a_refusal_says_by_whom_and_why() {
        let message = |status: Value| denied("a.b.c", &status).message;
        assert_eq!(
            message(Value::Null),
            r#"admission webhook "a.b.c" denied the request without explanation"#
        );
        assert_eq!(
            message(json!({"reason": "Forbidden"})),
            r#"admission webhook "a.b.c" denied the request: Forbidden"#
        );
        let error = denied("a.b.c", &json!({"message": "no", "code": 200}));
        assert_eq!(
            (error.code, error.message.as_str()),
            (400, r#"admission webhook "a.b.c" denied the request: no"#)
        );
        assert_eq!(denied("a.b.c", &json!({"code": 403, "reason": "Forbidden"})).reason, Reason::Forbidden);
    }
}
