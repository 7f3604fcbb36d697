//! JSON Patch (RFC 6902).

use json_patch::{AddOperation, Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// Operations allowed in one patch, as in kube-apiserver.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes that all `copy` operations of a patch may copy together, as in kube-apiserver (`JSONPatchMaxCopyBytes`). The
/// size of the result bounds no work: copies may go to the same place again and again.
const MAX_COPIED_BYTES: usize = 3 << 20;
/// Values that all `move` operations of a patch may take deeper into the document, together: each is looked at, for how
/// deep it is then.
const MAX_SUNK_VALUES: usize = 10_000_000;
/// Levels that an operation may nest a value. Each operation can put the document one level, a `copy` all of its levels
/// deeper, and whoever walks the result recursively would run out of stack. Parsers of JSON stop at about as many.
const MAX_DEPTH: usize = 100;

/// Applies a JSON Patch. On an error the target is unchanged.
pub fn apply(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch
        .as_array()
        .ok_or_else(|| PatchError::Malformed("json patch must be an array of operations".to_owned()))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations { got: operations.len(), max: MAX_OPERATIONS });
    }
    operations.iter().try_for_each(check_types)?;
    // What no operation is, or lacks what its operation needs, is found when it is applied: so kube-apiserver tells it.
    let whole = Value::Array(operations.iter().cloned().map(with_value).collect());
    let patch: Patch =
        serde_json::from_value(whole).map_err(|error| PatchError::Failed(error.to_string()))?;
    // Copies and moves depend on what the operations before them have left.
    let relocates =
        |operation: &PatchOperation| matches!(operation, PatchOperation::Copy(_) | PatchOperation::Move(_));
    // The value at a name that an object does not have is null to kube-apiserver's library.
    let asks_null =
        |operation: &PatchOperation| matches!(operation, PatchOperation::Test(test) if test.value.is_null());
    // So it is for who replaces it, whether it never was there or is gone by then.
    let replaces = |operation: &PatchOperation| matches!(operation, PatchOperation::Replace(_));
    let replaces_nothing = |operation: &PatchOperation| matches!(operation, PatchOperation::Replace(replace) if is_missing(target, replace.path.as_str()));
    let mixed = patch.0.len() > 1 && patch.0.iter().any(replaces);
    let special = |operation: &PatchOperation| {
        relocates(operation) || asks_null(operation) || replaces_nothing(operation)
    };
    if mixed || patch.0.iter().any(special) {
        return apply_stepwise(target, patch);
    }
    for operation in &patch.0 {
        check_depth(target, operation)?;
    }
    json_patch::patch(target, &patch).map_err(|error| failed(&error))
}

/// Refuses what cannot be read as an operation at all.
fn check_types(operation: &Value) -> Result<(), PatchError> {
    let texts = ["op", "path", "from"].map(|name| operation.get(name).unwrap_or(&Value::Null));
    if operation.is_object() && texts.iter().all(|text| text.is_string() || text.is_null()) {
        return Ok(());
    }
    if !operation.is_object() {
        let found = match operation {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) | Value::Object(_) => "array",
        };
        let wanted = "handlers.jsonPatchOp";
        return Err(PatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}"
        )));
    }
    Err(PatchError::Malformed(format!(
        "an operation must be an object with op, path and from as texts: {operation}"
    )))
}

/// An operation that sets no value sets null.
fn with_value(mut operation: Value) -> Value {
    if matches!(operation["op"].as_str(), Some("add" | "replace"))
        && let Some(members) = operation.as_object_mut()
    {
        members.entry("value").or_insert(Value::Null);
    }
    operation
}

fn apply_stepwise(target: &mut Value, patch: Patch) -> Result<(), PatchError> {
    let mut result = target.clone();
    let (mut copied, mut sunk) = (0, 0);
    for operation in patch.0 {
        match &operation {
            PatchOperation::Copy(copy) => {
                copied += result.pointer(copy.from.as_str()).map_or(0, rough_size);
            }
            PatchOperation::Move(moved) if levels(moved.path.as_str()) > levels(moved.from.as_str()) => {
                sunk += result.pointer(moved.from.as_str()).map_or(0, values);
            }
            _ => {}
        }
        if copied > MAX_COPIED_BYTES {
            return Err(PatchError::Failed(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
            )));
        }
        if sunk > MAX_SUNK_VALUES {
            return Err(PatchError::Failed(format!(
                "the patch would move {sunk} values deeper into the object, more than {MAX_SUNK_VALUES}"
            )));
        }
        check_depth(&result, &operation)?;
        let operation = match operation {
            PatchOperation::Test(test) if test.value.is_null() && is_missing(&result, test.path.as_str()) => {
                continue;
            }
            PatchOperation::Copy(copy) if is_missing(&result, copy.from.as_str()) => {
                PatchOperation::Add(AddOperation { path: copy.path, value: Value::Null })
            }
            PatchOperation::Replace(replace) if is_missing(&result, replace.path.as_str()) => {
                PatchOperation::Add(AddOperation { path: replace.path, value: replace.value })
            }
            operation => operation,
        };
        json_patch::patch(&mut result, &[operation]).map_err(|error| failed(&error))?;
    }
    *target = result;
    Ok(())
}

/// Whether a path names a member that its object, which is there, does not have.
fn is_missing(document: &Value, path: &str) -> bool {
    let parent = path.rsplit_once('/').and_then(|(parent, _)| document.pointer(parent));
    parent.is_some_and(Value::is_object) && document.pointer(path).is_none()
}

/// Refuses an operation whose value would end deeper than [`MAX_DEPTH`].
fn check_depth(document: &Value, operation: &PatchOperation) -> Result<(), PatchError> {
    let at = |from: &str| document.pointer(from).map_or(0, depth);
    let (path, below) = match operation {
        PatchOperation::Add(add) => (add.path.as_str(), depth(&add.value)),
        PatchOperation::Replace(replace) => (replace.path.as_str(), depth(&replace.value)),
        PatchOperation::Copy(copy) => (copy.path.as_str(), at(copy.from.as_str())),
        // What goes no deeper than it was nests nothing deeper.
        PatchOperation::Move(moved) if levels(moved.path.as_str()) <= levels(moved.from.as_str()) => {
            return Ok(());
        }
        PatchOperation::Move(moved) => (moved.path.as_str(), at(moved.from.as_str())),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if levels(path) + below > MAX_DEPTH {
        return Err(PatchError::Failed(format!(
            "the patched object would be nested deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(())
}

/// How deep a path leads.
fn levels(path: &str) -> usize {
    path.matches('/').count()
}

/// How many values there are, this one and all below it.
fn values(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(values).sum::<usize>(),
        Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
        _ => 1,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn rough_size(value: &Value) -> usize {
    match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| key.len() + 4 + rough_size(value)).sum::<usize>() + 2
        }
        Value::Array(items) => items.iter().map(|item| rough_size(item) + 1).sum::<usize>() + 2,
        Value::String(text) => text.len() + 2,
        _ => 4,
    }
}

fn failed(error: &json_patch::PatchError) -> PatchError {
    let path = error.path.to_string();
    PatchError::Failed(match error.kind {
        PatchErrorKind::TestFailed => format!("testing value {path} failed: test failed"),
        _ => format!("jsonpatch operation does not apply: {error}"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_run_in_order() {
        let mut object = json!({"a": [1, 2], "b": {"c": 1}});
        apply(
            &mut object,
            &json!([
                {"op": "test", "path": "/b/c", "value": 1},
                {"op": "add", "path": "/a/-", "value": 3},
                {"op": "remove", "path": "/a/0"},
                {"op": "move", "from": "/b/c", "path": "/d"},
                {"op": "copy", "from": "/a", "path": "/e"},
                {"op": "replace", "path": "/b", "value": "x"},
            ]),
        )
        .unwrap();
        assert_eq!(object, json!({"a": [2, 3], "b": "x", "d": 1, "e": [2, 3]}));
    }

    #[test]
    fn a_failed_test_changes_nothing() {
        let mut object = json!({"a": 1});
        let error = apply(
            &mut object,
            &json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "test", "path": "/a", "value": 3}]),
        )
        .unwrap_err();
        assert!(matches!(error, PatchError::Failed(_)), "{error:?}");
        assert_eq!(object, json!({"a": 1}));
    }

    #[test]
    fn a_missing_path_fails_and_nonsense_is_malformed() {
        let mut object = json!({});
        let missing = apply(&mut object, &json!([{"op": "remove", "path": "/a"}])).unwrap_err();
        assert!(matches!(missing, PatchError::Failed(_)));
        for unknown in [json!([{"op": "jump", "path": "/a"}]), json!([{"path": "/a"}])] {
            assert!(matches!(apply(&mut object, &unknown), Err(PatchError::Failed(_))), "{unknown}");
        }
        for nonsense in [json!({}), json!([7]), json!([{"op": 1, "path": "/a"}])] {
            assert!(matches!(apply(&mut object, &nonsense), Err(PatchError::Malformed(_))), "{nonsense}");
        }
    }

    #[test]
    fn a_member_that_is_not_there_is_null() {
        let mut object = json!({"a": {}});
        apply(&mut object, &json!([{"op": "test", "path": "/a/b", "value": null}])).unwrap();
        apply(&mut object, &json!([{"op": "copy", "from": "/c", "path": "/a/d"}])).unwrap();
        assert_eq!(object, json!({"a": {"d": null}}));
        let nowhere = json!([{"op": "test", "path": "/c/d", "value": null}]);
        assert!(matches!(apply(&mut object, &nowhere), Err(PatchError::Failed(_))));
    }

    #[test]
    fn a_member_that_is_not_there_is_replaced_all_the_same() {
        let mut object = json!({"a": {}, "b": 1, "c": [1]});
        apply(
            &mut object,
            &json!([
                {"op": "replace", "path": "/a/x", "value": 1},
                {"op": "remove", "path": "/b"},
                {"op": "replace", "path": "/b", "value": 2},
                {"op": "replace", "path": "/c/0"},
                {"op": "add", "path": "/d"},
            ]),
        )
        .unwrap();
        assert_eq!(object, json!({"a": {"x": 1}, "b": 2, "c": [null], "d": null}));
        for nowhere in ["/x/y", "/c/1", "/b/z"] {
            let patch = json!([{"op": "replace", "path": nowhere, "value": 1}]);
            assert!(matches!(apply(&mut object, &patch), Err(PatchError::Failed(_))), "{nowhere}");
        }
    }

    #[test]
    fn the_number_of_operations_is_bounded() {
        let many = Value::Array(vec![json!({"op": "add", "path": "/a", "value": 1}); MAX_OPERATIONS + 1]);
        assert!(matches!(apply(&mut json!({}), &many), Err(PatchError::TooManyOperations { .. })));
    }

    #[test]
    fn copies_cannot_blow_the_document_up() {
        let copies =
            (0..40).map(|step| json!({"op": "copy", "from": "", "path": format!("/{step}")})).collect();
        let copies = Value::Array(copies);
        let mut object = json!({"text": "x".repeat(1000)});
        assert!(matches!(apply(&mut object, &copies), Err(PatchError::Failed(_))));
    }

    #[test]
    fn copies_over_the_same_place_are_bounded_together() {
        let copies = |count: usize| vec![json!({"op": "copy", "from": "/data", "path": "/copy"}); count];
        let before = json!({"data": "x".repeat(10_000)});
        let mut object = before.clone();
        let error = apply(&mut object, &Value::Array(copies(MAX_OPERATIONS))).unwrap_err();
        assert!(error.to_string().contains("accumulated size increase"), "{error}");
        assert_eq!(object, before);
        apply(&mut object, &Value::Array(copies(300))).unwrap();
        assert_eq!(object["copy"], before["data"]);
    }

    #[test]
    fn moves_to_and_fro_are_bounded() {
        let moves = |there: &str| {
            let both = [
                json!({"op": "move", "from": "/a", "path": there}),
                json!({"op": "move", "from": there, "path": "/a"}),
            ];
            Value::Array(both.iter().cycle().take(MAX_OPERATIONS).cloned().collect())
        };
        let before = json!({"a": vec![0; 20_000], "b": {}});
        let mut object = before.clone();
        assert!(matches!(apply(&mut object, &moves("/b/c")), Err(PatchError::Failed(_))));
        assert_eq!(object, before);
        // Nobody has to look at what only goes aside.
        apply(&mut object, &moves("/c")).unwrap();
        assert_eq!(object, before);
    }

    #[test]
    fn no_patch_nests_a_document_beyond_all_stacks() {
        let wrapping = vec![json!({"op": "copy", "from": "", "path": "/a"}); 200];
        assert!(matches!(apply(&mut json!({"a": {}}), &Value::Array(wrapping)), Err(PatchError::Failed(_))));
        let sinking: Vec<_> = (0..200)
            .flat_map(|_| {
                [
                    json!({"op": "add", "path": "/b", "value": {}}),
                    json!({"op": "move", "from": "/a", "path": "/b/a"}),
                    json!({"op": "move", "from": "/b", "path": "/a"}),
                ]
            })
            .collect();
        assert!(matches!(apply(&mut json!({"a": {}}), &Value::Array(sinking)), Err(PatchError::Failed(_))));
        let deeper: Vec<_> =
            (1..200).map(|levels| json!({"op": "add", "path": "/a".repeat(levels), "value": {}})).collect();
        assert!(matches!(apply(&mut json!({}), &Value::Array(deeper)), Err(PatchError::Failed(_))));
    }
}
