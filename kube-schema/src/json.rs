//! JSON texts by path.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// The text of what stands at a path such as `spec.containers[0].ports` in a JSON text; none if it is not found. Of what stands there twice
/// it is the last.
pub(crate) fn raw_at<'a>(json: &'a [u8], path: &str) -> Option<&'a str> {
    let mut at: &RawValue = serde_json::from_slice(json).ok()?;
    for step in path.split('.') {
        let mut parts = step.split('[');
        let name = parts.next()?;
        let members: HashMap<String, &RawValue> = serde_json::from_str(at.get()).ok()?;
        at = members.get(name).copied()?;
        for index in parts {
            let items: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
            at = items.get(index.strip_suffix(']')?.parse::<usize>().ok()?).copied()?;
        }
    }
    Some(at.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_its_path() {
        let json = br#"{"spec": {"l": [{"n": 1}, {"n": 1e2, "n": 99999999999999999999}]}}"#;
        assert_eq!(raw_at(json, "spec.l[1].n"), Some("99999999999999999999"));
        for path in ["spec.l[2].n", "spec.l.n", "spec.x", "", "spec.l[x]"] {
            assert_eq!(raw_at(json, path), None, "{path}");
        }
    }
}
