//! JSON Patch (RFC 6902).

use json_patch::{AddOperation, Patch, PatchErrorKind, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// Operations allowed in one patch, as in kube-apiserver: a `copy` may double the document, so this bounds work.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes that a document may grow to while `copy` operations run: the request limit, as nothing larger is stored.
const MAX_RESULT_BYTES: usize = 3 << 20;
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
    let patch: Patch =
        serde_json::from_value(patch.clone()).map_err(|error| PatchError::Failed(error.to_string()))?;
    // Each copy can double the document: without copies the result is bounded by document and patch.
    let relocates =
        |operation: &PatchOperation| matches!(operation, PatchOperation::Copy(_) | PatchOperation::Move(_));
    // The value at a name that an object does not have is null to kube-apiserver's library.
    let asks_null =
        |operation: &PatchOperation| matches!(operation, PatchOperation::Test(test) if test.value.is_null());
    if patch.0.iter().any(|operation| relocates(operation) || asks_null(operation)) {
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

fn apply_stepwise(target: &mut Value, patch: Patch) -> Result<(), PatchError> {
    let mut result = target.clone();
    for operation in patch.0 {
        check_depth(&result, &operation)?;
        let copies = matches!(operation, PatchOperation::Copy(_));
        let operation = match operation {
            PatchOperation::Test(test) if test.value.is_null() && is_missing(&result, test.path.as_str()) => {
                continue;
            }
            PatchOperation::Copy(copy) if is_missing(&result, copy.from.as_str()) => {
                PatchOperation::Add(AddOperation { path: copy.path, value: Value::Null })
            }
            operation => operation,
        };
        json_patch::patch(&mut result, &[operation]).map_err(|error| failed(&error))?;
        if copies && rough_size(&result) > MAX_RESULT_BYTES {
            return Err(PatchError::Failed(format!(
                "the patched object would be larger than {MAX_RESULT_BYTES} bytes"
            )));
        }
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
        PatchOperation::Move(moved) => (moved.path.as_str(), at(moved.from.as_str())),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if path.matches('/').count() + below > MAX_DEPTH {
        return Err(PatchError::Failed(format!(
            "the patched object would be nested deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(())
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
    fn no_patch_nests_a_document_beyond_all_stacks() {
        let wrapping = vec![json!({"op": "copy", "from": "", "path": "/a"}); 200];
        assert!(matches!(apply(&mut json!({"a": {}}), &Value::Array(wrapping)), Err(PatchError::Failed(_))));
        let deeper: Vec<_> =
            (1..200).map(|levels| json!({"op": "add", "path": "/a".repeat(levels), "value": {}})).collect();
        assert!(matches!(apply(&mut json!({}), &Value::Array(deeper)), Err(PatchError::Failed(_))));
    }
}
