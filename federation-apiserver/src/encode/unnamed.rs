//! Elements of lists: stored objects without the `apiVersion` and `kind` that the list says for all of them, as in kube-apiserver's lists of
//! built-in kinds.
//!
//! The bytes are copied, not parsed: both stand in front of all others in what the store writes.

use memchr::memchr2;

/// Appends a stored object without the members `apiVersion` and `kind` of its own. Text that is not as the store writes it is
/// appended whole.
pub(super) fn append(out: &mut Vec<u8>, object: &[u8]) {
    let start = out.len();
    if members(out, object).is_none() {
        out.truncate(start);
        out.extend_from_slice(object);
    }
}

/// Copies members until both have passed, and then all that is left.
fn members(out: &mut Vec<u8>, object: &[u8]) -> Option<()> {
    let (mut at, mut kept, mut found) = (1, 1, 0);
    out.extend_from_slice(object.get(..1).filter(|first| *first == b"{")?);
    while found < 2 {
        let name_ends = string(object, at)?;
        let name = &object[at..name_ends];
        let next = skip(object, name_ends + 1)? + 1;
        // `metadata` comes after both, so that there is always a next member.
        if object.get(name_ends) != Some(&b':') || object.get(next - 1) != Some(&b',') {
            return None;
        }
        if name == b"\"apiVersion\"" || name == b"\"kind\"" {
            out.extend_from_slice(&object[kept..at]);
            (kept, found) = (next, found + 1);
        }
        at = next;
    }
    out.extend_from_slice(&object[kept..]);
    Some(())
}

/// Where the string that begins at `at` has ended.
fn string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Where the value that begins at `at` has ended.
fn skip(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match text.get(at)? {
            b'"' => at = string(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            b',' | b'}' | b']' if depth == 0 => return Some(at),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn appended(object: &[u8]) -> String {
        let mut out = b"[".to_vec();
        append(&mut out, object);
        String::from_utf8(out).unwrap()[1..].to_owned()
    }

    #[track_caller]
    fn check(object: Value) {
        let mut wanted = object.clone();
        let members = wanted.as_object_mut().unwrap();
        members.remove("apiVersion");
        members.remove("kind");
        assert_eq!(appended(object.to_string().as_bytes()), wanted.to_string());
    }

    #[test]
    fn own_names_go_and_all_else_stays() {
        check(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "n"}}));
        assert_eq!(appended(br#"{"kind":"A","apiVersion":"v1","metadata":{}}"#), r#"{"metadata":{}}"#);
        check(json!({"apiVersion": "v1", "data": {"kind": "x\"},\\"}, "kind": "A", "metadata": {}}));
        check(
            json!({"action": "a", "apiVersion": "v1", "count": 3, "involvedObject": {"kind": "B", "apiVersion": "c"}, "kind": "A", "metadata": {}, "z": 1}),
        );
        check(
            json!({"a": [[], {}, [{"kind": 1}], null, true, -1.5e3, "]"], "apiVersion": "v1", "b": {}, "kind": "A", "metadata": {}}),
        );
    }

    #[test]
    fn what_the_store_does_not_write_is_appended_whole() {
        for text in [
            "",
            "{",
            "{}",
            "[]",
            r#"{"metadata":{}}"#,
            r#"{"apiVersion":"v1"}"#,
            r#"{"a":"\"#,
            "{ \"kind\": 1 }",
            r#"{"kind":"A"}"#,
        ] {
            assert_eq!(appended(text.as_bytes()), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text: Vec<u8>) {
            append(&mut Vec::new(), &text);
        }
    }
}
