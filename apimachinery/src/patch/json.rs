//! JSON Patch (RFC 6902), as kube-apiserver's library reads it (evanphx/json-patch, version 4): wider than the standard here, narrower there.
//!
//! - Indices may be negative, and count from the end then: `add` at -1 appends.
//! - A member that is not there is null to who tests, copies or replaces it.
//! - What stands before the first slash of a path counts for nothing. Only `test` and `replace` know the empty path, the whole document.
//! - A tilde that begins no escape stands for itself.

use serde_json::{Map, Value};

use super::PatchError;
use crate::json::type_name;

/// Operations allowed in one patch, as in kube-apiserver.
pub const MAX_OPERATIONS: usize = 10_000;
/// Bytes that all `copy` operations of a patch may copy together, as in kube-apiserver (`JSONPatchMaxCopyBytes`). The
/// size of the result bounds no work: copies may go to the same place again and again.
const MAX_COPIED_BYTES: usize = 3 << 20;
/// Values that all `move` operations of a patch may take deeper into the document, together: each is looked at, for how
/// deep it is then.
const MAX_SUNK_VALUES: usize = 10_000_000;
/// Elements of lists that all operations of a patch may push to their next places, together: as many as the most
/// operations there may be push at the beginning of lists of 20,000 elements.
const MAX_PUSHED_ELEMENTS: usize = MAX_OPERATIONS * 20_000;
/// Levels that an operation may nest a value. Each operation can put the document one level, a `copy` all of its levels
/// deeper, and whoever walks the result recursively would run out of stack. Parsers of JSON stop at about as many.
const MAX_DEPTH: usize = 100;

/// Applies a JSON Patch; null has no operations. On an error the target is unchanged.
pub fn apply(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = match patch {
        Value::Null => return Ok(()),
        Value::Array(operations) => operations,
        other => return Err(unreadable(other, "jsonpatch.Patch")),
    };
    if let Some(wrong) = operations.iter().find(|operation| !operation.is_object() && !operation.is_null()) {
        return Err(unreadable(wrong, "jsonpatch.Operation"));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations { got: operations.len(), max: MAX_OPERATIONS });
    }
    let mut document = Document { root: target.clone(), copied: 0, sunk: 0, pushed: 0 };
    operations.iter().try_for_each(|operation| document.perform(operation))?;
    *target = document.root;
    Ok(())
}

/// Go's words for what is of another type than it reads.
fn unreadable(found: &Value, wanted: &str) -> PatchError {
    PatchError::Malformed(format!(
        "json: cannot unmarshal {} into Go value of type {wanted}",
        type_name(found)
    ))
}

/// What is patched, and what that has taken so far.
struct Document {
    root: Value,
    copied: usize,
    sunk: usize,
    pushed: usize,
}

impl Document {
    fn perform(&mut self, operation: &Value) -> Result<(), PatchError> {
        let text = |member: &str| match &operation[member] {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(failed(format!("operation failed to decode {member}: missing value"))),
        };
        let kind = operation["op"].as_str().unwrap_or("unknown");
        match kind {
            "add" => {
                check_depth(text("path")?, &operation["value"])?;
                self.add(text("path")?, operation["value"].clone())
            }
            "remove" => self.remove(text("path")?).map(drop),
            "replace" => {
                check_depth(text("path")?, &operation["value"])?;
                self.replace(text("path")?, operation["value"].clone())
            }
            "move" => {
                let from = text("from")?;
                let value = self.remove(from)?;
                let path = text("path")?;
                // What goes no deeper than it was nests nothing deeper.
                if levels(path) > levels(from) {
                    self.sunk += values(&value);
                    check_depth(path, &value)?;
                }
                if self.sunk > MAX_SUNK_VALUES {
                    return Err(failed(format!(
                        "the patch would move {} values deeper into the object, more than {MAX_SUNK_VALUES}",
                        self.sunk
                    )));
                }
                self.add(path, value)
            }
            "test" => self.test(text("path")?, &operation["value"]),
            "copy" => self.copy(text("from")?, text("path")?),
            other => Err(failed(format!("Unexpected kind: {other}"))),
        }
    }

    fn add(&mut self, path: &str, value: Value) -> Result<(), PatchError> {
        match self.place(path, "add")? {
            Place::Member(map, name) => {
                map.insert(name, value);
                Ok(())
            }
            Place::Element(list, key) if key == "-" => {
                list.push(value);
                Ok(())
            }
            Place::Element(list, key) => {
                let at = index(&key, list.len() + 1).ok_or_else(|| no_index(&key))?;
                list.insert(at, value);
                let pushed = list.len() - at - 1;
                self.push(pushed)
            }
        }
    }

    fn remove(&mut self, path: &str) -> Result<Value, PatchError> {
        match self.place(path, "remove")? {
            Place::Member(map, name) => {
                map.remove(&name).ok_or_else(|| failed(format!("Unable to remove nonexistent key: {name}")))
            }
            Place::Element(list, key) => {
                let at = index(&key, list.len()).ok_or_else(|| no_index(&key))?;
                let removed = list.remove(at);
                let pushed = list.len() - at;
                self.push(pushed).map(|()| removed)
            }
        }
    }

    /// Counts elements that an operation has pushed aside in their list.
    fn push(&mut self, elements: usize) -> Result<(), PatchError> {
        self.pushed += elements;
        if self.pushed > MAX_PUSHED_ELEMENTS {
            return Err(failed(format!(
                "Unable to complete the patch, its operations would move {} elements within lists, exceeding the limit {MAX_PUSHED_ELEMENTS}",
                self.pushed
            )));
        }
        Ok(())
    }

    fn replace(&mut self, path: &str, value: Value) -> Result<(), PatchError> {
        if path.is_empty() {
            if !value.is_object() && !value.is_array() {
                return Err(failed("replace operation value must be object or array".to_owned()));
            }
            self.root = value;
            return Ok(());
        }
        match self.place(path, "replace")? {
            Place::Member(map, name) => {
                map.insert(name, value);
            }
            Place::Element(list, key) => {
                let at = index(&key, list.len());
                *at.and_then(|at| list.get_mut(at)).ok_or_else(|| no_index(&key))? = value;
            }
        }
        Ok(())
    }

    fn test(&mut self, path: &str, expect: &Value) -> Result<(), PatchError> {
        let equal = if path.is_empty() { self.root == *expect } else { *self.get(path, "test")? == *expect };
        if equal { Ok(()) } else { Err(failed(format!("testing value {path} failed: test failed"))) }
    }

    fn copy(&mut self, from: &str, path: &str) -> Result<(), PatchError> {
        let value = self.get(from, "copy")?.clone();
        self.copied += rough_size(&value);
        if self.copied > MAX_COPIED_BYTES {
            return Err(failed(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPIED_BYTES}",
                self.copied
            )));
        }
        check_depth(path, &value)?;
        self.add(path, value)
    }

    /// The value at a path: null where an object does not have the member.
    fn get(&mut self, path: &str, operation: &str) -> Result<&Value, PatchError> {
        match self.place(path, operation)? {
            Place::Member(map, name) => Ok(map.get(&name).unwrap_or(&Value::Null)),
            Place::Element(list, key) => {
                let at = index(&key, list.len());
                at.and_then(|at| list.get(at)).ok_or_else(|| no_index(&key))
            }
        }
    }

    /// Where a path leads: the last step of it may lead to nothing yet.
    fn place(&mut self, path: &str, operation: &str) -> Result<Place<'_>, PatchError> {
        let missing =
            || failed(format!("{operation} operation does not apply: doc is missing path: {path:?}"));
        let mut steps = path.split('/').skip(1).map(unescaped).peekable();
        let mut at = &mut self.root;
        while let Some(step) = steps.next() {
            if steps.peek().is_none() {
                return match at {
                    Value::Object(map) => Ok(Place::Member(map, step)),
                    Value::Array(list) => Ok(Place::Element(list, step)),
                    _ => Err(missing()),
                };
            }
            let next = match at {
                Value::Object(map) => map.get_mut(&step),
                Value::Array(list) => index(&step, list.len()).and_then(|at| list.get_mut(at)),
                _ => None,
            };
            at = next.ok_or_else(missing)?;
        }
        Err(missing())
    }
}

/// A place in a document.
enum Place<'a> {
    /// A member of an object.
    Member(&'a mut Map<String, Value>, String),
    /// An element of a list, or the place after the last one.
    Element(&'a mut Vec<Value>, String),
}

fn unescaped(step: &str) -> String {
    if !step.contains('~') {
        return step.to_owned();
    }
    let mut text = String::with_capacity(step.len());
    let mut rest = step;
    while let Some(at) = rest.find('~') {
        let (before, escape) = rest.split_at(at);
        text.push_str(before);
        let (stands_for, length) = match escape.as_bytes().get(1) {
            Some(b'0') => ('~', 2),
            Some(b'1') => ('/', 2),
            _ => ('~', 1),
        };
        text.push(stands_for);
        rest = escape.get(length..).unwrap_or_default();
    }
    text + rest
}

/// Which of `length` elements a text means, as Go reads numbers: with a sign or without, and with zeros before.
fn index(text: &str, length: usize) -> Option<usize> {
    let number: i64 = text.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    let at = if number < 0 { number + length } else { number };
    if (0..length).contains(&at) { usize::try_from(at).ok() } else { None }
}

fn no_index(key: &str) -> PatchError {
    failed(format!("Unable to access invalid index: {key}"))
}

fn failed(why: String) -> PatchError {
    PatchError::Failed(why)
}

/// Refuses a value that would end deeper than [`MAX_DEPTH`].
fn check_depth(path: &str, value: &Value) -> Result<(), PatchError> {
    if levels(path) + depth(value) > MAX_DEPTH {
        return Err(failed(format!("the patched object would be nested deeper than {MAX_DEPTH} levels")));
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
        for odd in [json!([null]), json!([{"op": 1, "path": "/a"}]), json!([{"op": "add", "path": 1}])] {
            assert!(matches!(apply(&mut object, &odd), Err(PatchError::Failed(_))), "{odd}");
        }
        for nonsense in [json!({}), json!([7]), json!("a")] {
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
        let copies = (0..40)
            .map(|step| json!({"op": "copy", "from": "/all", "path": format!("/all/{step}")}))
            .collect();
        let copies = Value::Array(copies);
        let mut object = json!({"all": {"text": "x".repeat(1000)}});
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
    fn elements_that_give_way_in_long_lists_are_bounded() {
        let patch = |operation: Value| Value::Array(vec![operation; MAX_OPERATIONS]);
        let list = |length: usize| json!({"l": vec![0; length]});
        for operation in [
            json!({"op": "add", "path": "/l/0", "value": 1}),
            json!({"op": "remove", "path": "/l/0"}),
            json!({"op": "move", "from": "/l/0", "path": "/l/-"}),
            json!({"op": "copy", "from": "/l/0", "path": "/l/0"}),
        ] {
            let mut object = list(300_000);
            let error = apply(&mut object, &patch(operation.clone())).unwrap_err();
            assert!(matches!(error, PatchError::Failed(_)), "{operation}: {error:?}");
            assert!(error.to_string().contains("exceeding the limit"), "{operation}: {error}");
            assert!(object == list(300_000), "{operation}");
            apply(&mut list(MAX_OPERATIONS), &patch(operation)).unwrap();
        }
        // Nothing gives way at the end.
        apply(&mut list(300_000), &patch(json!({"op": "add", "path": "/l/-", "value": 1}))).unwrap();
        apply(&mut list(300_000), &patch(json!({"op": "remove", "path": "/l/-1"}))).unwrap();
    }

    #[test]
    fn no_patch_nests_a_document_beyond_all_stacks() {
        let wrapping = vec![json!({"op": "copy", "from": "/a", "path": "/a/a"}); 200];
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

    /// What a patch makes of a document; none if it does not fit.
    #[track_caller]
    fn check(document: &Value, operation: &Value, expect: Option<Value>) {
        let mut found = document.clone();
        let fits = apply(&mut found, &Value::Array(vec![operation.clone()])).is_ok();
        assert_eq!(fits.then_some(found), expect, "{operation}");
    }

    #[test]
    fn indices_count_from_either_end() {
        let list = json!({"l": ["a", "b"]});
        let made = |list: Value| Some(json!({"l": list}));
        for (index, added, removed) in [
            ("0", made(json!(["x", "a", "b"])), made(json!(["b"]))),
            ("01", made(json!(["a", "x", "b"])), made(json!(["a"]))),
            ("+1", made(json!(["a", "x", "b"])), made(json!(["a"]))),
            ("-0", made(json!(["x", "a", "b"])), made(json!(["b"]))),
            ("2", made(json!(["a", "b", "x"])), None),
            ("3", None, None),
            ("-", made(json!(["a", "b", "x"])), None),
            ("-1", made(json!(["a", "b", "x"])), made(json!(["a"]))),
            ("-2", made(json!(["a", "x", "b"])), made(json!(["b"]))),
            ("-3", made(json!(["x", "a", "b"])), None),
            ("-4", None, None),
            ("", None, None),
            (" 1", None, None),
            ("1e0", None, None),
            ("99999999999999999999", None, None),
        ] {
            let path = format!("/l/{index}");
            check(&list, &json!({"op": "add", "path": path, "value": "x"}), added);
            check(&list, &json!({"op": "remove", "path": path}), removed);
        }
        for (index, replaced) in [("-1", Some(json!(["a", "x"]))), ("-3", None), ("-", None), ("2", None)] {
            let replaced = replaced.map(|list| json!({"l": list}));
            check(&list, &json!({"op": "replace", "path": format!("/l/{index}"), "value": "x"}), replaced);
        }
        check(&list, &json!({"op": "test", "path": "/l/-1", "value": "b"}), Some(list.clone()));
        check(&list, &json!({"op": "test", "path": "/l/2", "value": null}), None);
        check(
            &list,
            &json!({"op": "copy", "from": "/l/-2", "path": "/c"}),
            Some(json!({"l": ["a", "b"], "c": "a"})),
        );
    }

    #[test]
    fn the_whole_document_can_be_tested_and_replaced() {
        let whole = json!({"a": 1});
        check(&whole, &json!({"op": "test", "path": "", "value": {"a": 1}}), Some(whole.clone()));
        check(&whole, &json!({"op": "test", "path": "", "value": {}}), None);
        check(&whole, &json!({"op": "replace", "path": "", "value": {"b": 2}}), Some(json!({"b": 2})));
        check(&whole, &json!({"op": "replace", "path": "", "value": null}), None);
        for operation in [
            json!({"op": "add", "path": "", "value": {}}),
            json!({"op": "remove", "path": ""}),
            json!({"op": "copy", "from": "", "path": "/b"}),
            json!({"op": "copy", "from": "/a", "path": ""}),
            json!({"op": "move", "from": "", "path": "/b"}),
            json!({"op": "add", "path": "a", "value": 1}),
        ] {
            check(&whole, &operation, None);
        }
    }

    #[test]
    fn paths_are_read_as_kube_apiserver_reads_them() {
        let document = json!({"a/b": 1, "c~d": 2, "e": {}, "f": null});
        check(&document, &json!({"op": "test", "path": "/a~1b", "value": 1}), Some(document.clone()));
        check(&document, &json!({"op": "test", "path": "/c~0d", "value": 2}), Some(document.clone()));
        check(&document, &json!({"op": "test", "path": "/c~d", "value": 2}), Some(document.clone()));
        check(&document, &json!({"op": "test", "path": "what/ever", "value": null}), Some(document.clone()));
        check(&document, &json!({"op": "test", "path": "what/f"}), Some(document.clone()));
        check(&json!({}), &json!({"op": "add", "path": "what/a", "value": 1}), Some(json!({"a": 1})));
        check(
            &json!({"a": {}}),
            &json!({"op": "add", "path": "/a/", "value": 1}),
            Some(json!({"a": {"": 1}})),
        );
        check(
            &json!({"~01": 1}),
            &json!({"op": "test", "path": "/~001", "value": 1}),
            Some(json!({"~01": 1})),
        );
        check(&document, &json!({"op": "add", "path": "/f/x", "value": 1}), None);
        check(&document, &json!({"op": "add", "path": "/a~1b/x", "value": 1}), None);
    }

    #[test]
    fn nothing_moves_into_itself() {
        let document = json!({"a": {"b": 1}});
        check(&document, &json!({"op": "move", "from": "/a", "path": "/a/b"}), None);
        check(&document, &json!({"op": "move", "from": "/a", "path": "/a"}), Some(document.clone()));
        check(&document, &json!({"op": "move", "from": "/a/c", "path": "/d"}), None);
        check(
            &document,
            &json!({"op": "copy", "from": "/a", "path": "/a/b"}),
            Some(json!({"a": {"b": {"b": 1}}})),
        );
    }

    #[test]
    fn numbers_are_equal_as_they_are_written() {
        for (value, expect) in [("1", true), ("1.0", false), ("1e0", false), ("\"1\"", false)] {
            let value: Value = serde_json::from_str(value).unwrap();
            let test = json!([{"op": "test", "path": "/a", "value": value}]);
            assert_eq!(apply(&mut json!({"a": 1}), &test).is_ok(), expect, "{value}");
        }
    }
}
