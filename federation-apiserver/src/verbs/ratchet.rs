//! Rules come with versions: what an older server had stored must not stand in the way of other changes (KEP-4008, ratcheting).

use std::collections::HashMap;

use apimachinery::{FieldError, FieldReason};

use crate::registry::Faults;

/// Leaves out the faults that another state of the object has as well, wherever in its lists: each as often as it is there.
pub(super) fn leave_out(faults: &mut Faults, before: &Faults) {
    let mut known: HashMap<_, usize> = HashMap::new();
    for fault in before {
        *known.entry(anywhere(fault)).or_default() += 1;
    }
    let mut news = Vec::with_capacity(faults.len());
    for fault in &*faults {
        let left = known.get_mut(&anywhere(fault)).filter(|left| **left > 0);
        news.push(left.is_none());
        if let Some(left) = left {
            *left -= 1;
        }
    }
    let mut news = news.into_iter();
    faults.retain(|_| news.next().unwrap_or(true));
}

/// What a fault is, but for places in lists, which move as soon as another element goes.
fn anywhere(fault: &FieldError) -> (FieldReason, &str, String) {
    let mut field = String::with_capacity(fault.field.len());
    let mut rest = &*fault.field;
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
    (fault.reason, &fault.message, field)
}

#[cfg(test)]
mod tests {
    use apimachinery::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        registry::Registry,
        verbs::object::{Leading, validate},
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
        let check = |new: &Value, old: Option<&Value>| validate(kind, new, old, Leading::Anywhere);
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
        let check = |new: &Value, old: Option<&Value>| validate(kind, new, old, Leading::Anywhere).is_ok();
        let stored = object(&["a/b/c"], &["odd"]);
        assert!(!check(&stored, None));
        assert!(check(&object(&["a/b/c"], &[]), Some(&stored)), "the last finalizer can go");
        assert!(!check(&object(&["a/b/c", "a/b/c"], &["odd"]), Some(&stored)), "no other one comes");
        assert!(!check(&object(&["a/b/c"], &["odd", "other"]), Some(&stored)));
    }

    #[test]
    fn an_older_fault_may_move_and_not_multiply() {
        let path = FieldPath::new("spec.containers");
        let fault = |at: usize| FieldError::required(&path.index(at).child("image"), "");
        let mut faults = Faults::from(vec![fault(0)]);
        leave_out(&mut faults, &vec![fault(2)].into());
        assert_eq!(*faults, []);
        let mut faults = Faults::from(vec![fault(0), fault(1), fault(2)]);
        leave_out(&mut faults, &vec![fault(5), fault(7)].into());
        assert_eq!(*faults, [fault(2)]);
        let named = |key: &str| FieldError::invalid(&path.key(key), "x", "");
        let mut faults = Faults::from(vec![named("a"), named("b[1")]);
        leave_out(&mut faults, &vec![named("b[1"), named("c")].into());
        assert_eq!(*faults, [named("a")]);
    }

    #[test]
    fn many_older_faults_take_little_to_leave_out() {
        let fault = |at: usize| {
            FieldError::invalid(&FieldPath::new("spec.list").index(at), format!("{at}"), "is wrong")
        };
        let before: Faults = (0..4_000).map(fault).collect();
        let mut faults: Faults = (1..4_001).map(fault).collect();
        leave_out(&mut faults, &before);
        assert_eq!(*faults, [fault(4_000)]);
    }
}
