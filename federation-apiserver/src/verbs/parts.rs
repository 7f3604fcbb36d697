//! How many objects a body has within.

use apimachinery::ApiError;
use serde_json::Value;

use super::commit;

/// Objects within one body. One of 1.5 MiB has no more of them, unless they say next to nothing. In memory each takes half a kilobyte as soon as
/// it says anything, a default is enough, and as much again in every copy: three megabytes of `{}` took two gigabytes.
const OBJECTS_MAX: usize = 1 << 17;

/// Refuses a body that has more objects within than an object can have that is stored.
pub(super) fn check(body: &Value) -> Result<(), ApiError> {
    check_all(std::iter::once(body))
}

/// The same of several values of one body together.
pub(super) fn check_all<'v>(values: impl IntoIterator<Item = &'v Value>) -> Result<(), ApiError> {
    let mut left = OBJECTS_MAX;
    values.into_iter().try_for_each(|value| count(value, &mut left)).ok_or_else(commit::too_large)
}

fn count(value: &Value, left: &mut usize) -> Option<()> {
    match value {
        Value::Object(fields) => {
            *left = left.checked_sub(1)?;
            fields.values().try_for_each(|field| count(field, left))
        }
        Value::Array(items) => items.iter().try_for_each(|item| count(item, left)),
        _ => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_counted_wherever_they_are() {
        let lists = |each: usize| json!({"a": vec![json!({}); each], "b": {"c": vec![json!([{}]); each]}});
        let half = OBJECTS_MAX / 2;
        assert!(check(&lists(half - 1)).is_ok());
        assert!(check(&lists(half)).is_err());
        assert!(check(&json!(vec!["a"; OBJECTS_MAX + 1])).is_ok());
        let two = [lists(half / 2 - 1), lists(half / 2 - 1)];
        assert!(check_all(&two).is_ok());
        assert!(check_all(two.iter().chain([&lists(0)])).is_err());
    }
}
