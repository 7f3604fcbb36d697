//! Rules come with versions: what an older server had stored must not stand in the way of other changes (KEP-4008, ratcheting).

use std::collections::HashMap;

use apimachinery::{FieldError, FieldReason};

use crate::registry::ErrorList;

/// Leaves out the errors that another state of the object has as well, wherever in its lists: each as often as it is there.
pub(super) fn leave_out(errors: &mut ErrorList, before: &ErrorList) {
    let mut known: HashMap<_, usize> = HashMap::new();
    for error in before {
        *known.entry(anywhere(error)).or_default() += 1;
    }
    let mut news = Vec::with_capacity(errors.len());
    for error in &*errors {
        let left = known.get_mut(&anywhere(error)).filter(|left| **left > 0);
        news.push(left.is_none());
        if let Some(left) = left {
            *left -= 1;
        }
    }
    let mut news = news.into_iter();
    errors.retain(|_| news.next().unwrap_or(true));
}

/// What an error is, but for places in lists, which move as soon as another element goes.
fn anywhere(error: &FieldError) -> (FieldReason, &str, String) {
    let mut field = String::with_capacity(error.field.len());
    let mut rest = &*error.field;
    while let Some((head, tail)) = rest.split_once('[') {
        field.push_str(head);
        field.push('[');
        rest = match tail.split_once(']') {
            Some((at, after)) if at.bytes().all(|byte| byte.is_ascii_digit()) => {
                field.push(']');
                after
            }
            _ => tail,
        };
    }
    field.push_str(rest);
    (error.reason, &error.message, field)
}

#[cfg(test)]
mod tests {
    use apimachinery::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        registry::Registry,
        verbs::object::{EndpointScope, validate},
    };

    #[test]
    fn what_an_older_server_had_stored_does_not_stand_in_the_way() {
        let kind = Registry::get().find("storage.k8s.io", "v1", "volumeattachments").expect("it is built in");
        let object = |label: &str, node: &str| {
            json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
                "metadata": {"name": "a", "labels": {"l": label}},
                "spec": {"attacher": "a b", "nodeName": node, "source": {"persistentVolumeName": "p"}},
            })
        };
        let check = |new: &Value, old: Option<&Value>| validate(kind, new, old, EndpointScope::Any);
        assert!(check(&object("x", "n"), None).is_err());
        let stored = object("x", "n");
        assert_eq!(check(&object("y", "n"), Some(&stored)).err().map(|error| error.message), None);
        let error = check(&object("y", "c d"), Some(&stored)).expect_err("the node has no such name");
        assert!(!error.message.contains("spec.attacher"), "{}", error.message);
    }

    #[test]
    fn metadata_that_an_older_server_took_does_not_stand_in_the_way() {
        let kind = Registry::get().find("", "v1", "configmaps").expect("it is built in");
        let object = |versions: &[&str], finalizers: &[&str]| {
            let owner =
                |version: &&str| json!({"apiVersion": version, "kind": "Pod", "name": "p", "uid": "u"});
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": "a", "namespace": "demo", "finalizers": finalizers,
                    "ownerReferences": versions.iter().map(owner).collect::<Vec<_>>(),
                },
            })
        };
        let check = |new: &Value, old: Option<&Value>| validate(kind, new, old, EndpointScope::Any).is_ok();
        let stored = object(&["a/b/c"], &["odd"]);
        assert!(!check(&stored, None));
        assert!(check(&object(&["a/b/c"], &[]), Some(&stored)), "the last finalizer can go");
        assert!(!check(&object(&["a/b/c", "a/b/c"], &["odd"]), Some(&stored)), "no other one comes");
        assert!(!check(&object(&["a/b/c"], &["odd", "other"]), Some(&stored)));
    }

    #[test]
    fn an_older_error_may_move_and_not_multiply() {
        let path = FieldPath::new("spec.containers");
        let error = |at: usize| FieldError::required(&path.index(at).child("image"), "");
        let mut errors = ErrorList::from(vec![error(0)]);
        leave_out(&mut errors, &vec![error(2)].into());
        assert_eq!(*errors, []);
        let mut errors = ErrorList::from(vec![error(0), error(1), error(2)]);
        leave_out(&mut errors, &vec![error(5), error(7)].into());
        assert_eq!(*errors, [error(2)]);
        let named = |key: &str| FieldError::invalid(&path.key(key), "x", "");
        let mut errors = ErrorList::from(vec![named("a"), named("b[1")]);
        leave_out(&mut errors, &vec![named("b[1"), named("c")].into());
        assert_eq!(*errors, [named("a")]);
    }

    #[test]
    fn many_older_errors_take_little_to_leave_out() {
        let error = |at: usize| {
            FieldError::invalid(&FieldPath::new("spec.list").index(at), format!("{at}"), "is wrong")
        };
        let before: ErrorList = (0..4_000).map(error).collect();
        let mut errors: ErrorList = (1..4_001).map(error).collect();
        leave_out(&mut errors, &before);
        assert_eq!(*errors, [error(4_000)]);
    }
}
