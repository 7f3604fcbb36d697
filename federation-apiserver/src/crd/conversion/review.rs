//! ConversionReview: its request, and the checks of its response. Pure.

use apimachinery::{
    json::go_type,
    meta::{Scope, validate_object_meta},
    names::NameRule,
};
use serde_json::{Map, Value, json};

const GROUP: &str = "apiextensions.k8s.io";

/// `stable.example.com/v1, Kind=CronTab`, as Go prints it.
pub(super) fn group_version_kind(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    format!("{}, Kind={}", text("apiVersion"), text("kind"))
}

/// The review that is sent.
pub(super) fn request(version: &str, uid: &str, objects: &[Value], wanted: &str) -> Value {
    json!({
        "kind": "ConversionReview",
        "apiVersion": format!("{GROUP}/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
    })
}

/// The converted objects of an answer.
pub(super) fn read(version: &str, uid: &str, body: &[u8]) -> Result<Vec<Value>, String> {
    let mut review: Value = serde_json::from_slice(body)
        .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
    if version == "v1" {
        let (wanted, found) =
            (format!("{GROUP}/{version}, Kind=ConversionReview"), group_version_kind(&review));
        if found != wanted {
            return Err(format!("expected webhook response of {wanted}, got {found}"));
        }
    }
    let Some(response) = review.get_mut("response").filter(|response| response.is_object()) else {
        return Err("no response provided".to_owned());
    };
    if version == "v1" && response["uid"] != uid {
        let found = response["uid"].as_str().unwrap_or_default();
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let status = response["result"]["status"].as_str().unwrap_or_default();
    if status != "Success" {
        return Err(match response["result"]["message"].as_str().filter(|message| !message.is_empty()) {
            Some(message) => message.to_owned(),
            None => format!("response.result.status was '{status}', not 'Success'"),
        });
    }
    Ok(match response["convertedObjects"].take() {
        Value::Array(objects) => objects,
        _ => Vec::new(),
    })
}

/// The accepted part of a converted object: everything outside of metadata, and labels and annotations. The error continues `returned`;
/// `index` is its place among several.
pub(super) fn accept(
    original: &Value,
    mut converted: Value,
    wanted: &str,
    index: Option<usize>,
) -> Result<Value, String> {
    let text = |object: &Value, name: &str| object[name].as_str().unwrap_or_default().to_owned();
    // kube-apiserver words the errors of a single object differently from those of one among many.
    let (invalid, of_type, metadata) = match index {
        Some(index) => {
            let at = format!("invalid converted object at index {index}");
            (at.clone(), at, format!("invalid metadata in object at index {index}"))
        }
        None => (
            "invalid object".to_owned(),
            "invalid object at index 0".to_owned(),
            "invalid metadata".to_owned(),
        ),
    };
    let found = text(&converted, "apiVersion");
    if found != wanted {
        return Err(format!("{of_type}: invalid groupVersion (expected {wanted}, received {found})"));
    }
    let (expected, found) = (text(original, "kind"), text(&converted, "kind"));
    if expected != found {
        return Err(format!("{of_type}: invalid kind (expected {expected}, received {found})"));
    }
    for (label, name) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (expected, found) = (text(&original["metadata"], name), text(&converted["metadata"], name));
        if expected != found {
            return Err(format!("{invalid}: must have the same {label}: {expected} != {found}"));
        }
    }
    let restored = restore(original, &converted).map_err(|why| format!("{metadata}: {why}"))?;
    converted["metadata"] = restored;
    Ok(converted)
}

/// The metadata of the original with the labels and annotations of the converted object (`restoreObjectMeta`).
fn restore(original: &Value, converted: &Value) -> Result<Value, String> {
    let response = match &converted["metadata"] {
        Value::Object(metadata) => metadata,
        Value::Null => return Err("missing metadata in converted object".to_owned()),
        other => return Err(format!("invalid metadata of type {} in converted object", go_type(other))),
    };
    let mut metadata = original["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let given = match response.get(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
                continue;
            }
            Some(Value::Object(given)) => given,
            Some(other) => {
                return Err(format!(
                    "invalid metadata.{field} of type {} in converted object",
                    go_type(other)
                ));
            }
        };
        if let Some((key, other)) = given.iter().find(|(_, value)| !value.is_string()) {
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {} in converted object",
                go_type(other)
            ));
        }
        if metadata.get(field).and_then(Value::as_object) != Some(given) {
            check(field, given)?;
        }
        metadata.insert(field.to_owned(), Value::Object(given.clone()));
    }
    Ok(Value::Object(metadata))
}

/// Labels and annotations that have changed must be valid.
fn check(field: &str, given: &Map<String, Value>) -> Result<(), String> {
    let object = json!({"metadata": {"name": "x", field: given}});
    let errors = validate_object_meta(&object, NameRule::Dns1123Subdomain, Scope::Cluster);
    let errors: Vec<String> =
        errors.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str) -> Value {
        json!({"apiVersion": format!("e.io/{version}"), "kind": "Foo",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"a": "b"}, "finalizers": ["e.io/x"]}, "spec": version})
    }

    #[track_caller]
    fn refused(change: impl Fn(&mut Value), index: Option<usize>) -> String {
        let mut converted = object("v2");
        change(&mut converted);
        accept(&object("v1"), converted, "e.io/v2", index).expect_err("it is wrong")
    }

    #[test]
    fn what_is_no_review_is_no_answer() {
        for body in ["1", "[]", "\"text\"", "null", "{}", r#"{"response": []}"#] {
            let why = read("v1beta1", "1", body.as_bytes()).expect_err("it is wrong");
            assert_eq!(why, "no response provided", "{body}");
        }
    }

    #[test]
    fn of_metadata_only_labels_and_annotations_are_taken() {
        let mut converted = object("v2");
        converted["metadata"]["labels"] = json!({"c": "d"});
        converted["metadata"]["finalizers"] = Value::Null;
        converted["metadata"]["annotations"] = json!({"e": "f"});
        let taken = accept(&object("v1"), converted, "e.io/v2", None).expect("it is right");
        assert_eq!(
            taken,
            json!({"apiVersion": "e.io/v2", "kind": "Foo", "spec": "v2", "metadata": {"name": "a", "namespace": "n", "uid": "u",
                "labels": {"c": "d"}, "annotations": {"e": "f"}, "finalizers": ["e.io/x"]}})
        );
        let bare = accept(
            &object("v1"),
            json!({"apiVersion": "e.io/v2", "kind": "Foo", "metadata": {"name": "a", "namespace": "n", "uid": "u"}}),
            "e.io/v2",
            None,
        );
        assert!(bare.expect("it is right")["metadata"]["labels"].is_null());
    }

    #[test]
    fn another_object_than_was_sent_is_refused_in_kubernetes_words() {
        assert_eq!(
            refused(|object| object["metadata"]["name"] = "b".into(), None),
            "invalid object: must have the same name: a != b"
        );
        assert_eq!(
            refused(|object| object["metadata"]["uid"] = "v".into(), Some(3)),
            "invalid converted object at index 3: must have the same UID: u != v"
        );
        assert_eq!(
            refused(|object| object["apiVersion"] = "e.io/v3".into(), None),
            "invalid object at index 0: invalid groupVersion (expected e.io/v2, received e.io/v3)"
        );
        assert_eq!(
            refused(|object| object["metadata"]["labels"] = json!({"a": 1}), None),
            "invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object"
        );
        assert_eq!(
            refused(|object| object["metadata"]["labels"] = json!([]), Some(0)),
            "invalid metadata in object at index 0: invalid metadata.labels of type []interface {} in converted object"
        );
    }

    #[test]
    fn an_answer_without_success_says_why() {
        let answer = |response: Value| {
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response})
                .to_string()
        };
        let read = |response: Value| read("v1", "1", answer(response).as_bytes()).expect_err("it is wrong");
        assert_eq!(read(json!({"uid": "2"})), r#"expected response.uid="1", got "2""#);
        assert_eq!(read(json!({"uid": "1"})), "response.result.status was '', not 'Success'");
        assert_eq!(read(json!({"uid": "1", "result": {"status": "Failed", "message": "no"}})), "no");
        assert_eq!(read(Value::Null), "no response provided");
    }
}
