//! Columns of a Table, and the small functions that cells are made with.

use apimachinery::table::{CREATION_DESCRIPTION, NAME_DESCRIPTION};
use jiff::Timestamp;
use serde_json::Value;

/// One column.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    /// Heading.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`.
    pub kind: &'static str,
    /// OpenAPI format: `name` for the object's name, else empty.
    pub format: &'static str,
    /// For people.
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: u8,
    /// Makes the cell of an object at a time.
    pub cell: fn(&Value, Timestamp) -> Value,
}

impl Column {
    /// The object's name.
    pub(crate) const NAME: Self = Self {
        name: "Name",
        kind: "string",
        format: "name",
        description: NAME_DESCRIPTION,
        priority: 0,
        cell: |object, _| field(object, "/metadata/name"),
    };
    /// Time since creation.
    pub(crate) const AGE: Self = Self {
        name: "Age",
        kind: "string",
        format: "",
        description: CREATION_DESCRIPTION,
        priority: 0,
        cell: |object, now| age(object, "/metadata/creationTimestamp", now),
    };

    /// The time of creation itself.
    pub(crate) const CREATED_AT: Self = Self {
        name: "Created At",
        kind: "date",
        format: "",
        description: CREATION_DESCRIPTION,
        priority: 0,
        cell: |object, _| field(object, "/metadata/creationTimestamp"),
    };

    /// A column of text.
    pub(crate) const fn text(
        name: &'static str,
        description: &'static str,
        cell: fn(&Value, Timestamp) -> Value,
    ) -> Self {
        Self { name, kind: "string", format: "", description, priority: 0, cell }
    }

    /// A column of whole numbers.
    pub(crate) const fn integer(
        name: &'static str,
        description: &'static str,
        cell: fn(&Value, Timestamp) -> Value,
    ) -> Self {
        Self { name, kind: "integer", format: "", description, priority: 0, cell }
    }

    /// A column of yes or no.
    pub(crate) const fn boolean(
        name: &'static str,
        description: &'static str,
        cell: fn(&Value, Timestamp) -> Value,
    ) -> Self {
        Self { name, kind: "boolean", format: "", description, priority: 0, cell }
    }

    /// The same column, shown only with `-o wide`.
    pub(crate) const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// The columns of kinds that say nothing else.
pub(super) const NAME_AND_AGE: &[Column] = &[Column::NAME, Column::AGE];

/// The value at a JSON pointer; empty text if there is none.
pub(crate) fn field(object: &Value, pointer: &str) -> Value {
    match object.pointer(pointer) {
        Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => value.clone(),
        _ => Value::String(String::new()),
    }
}

/// The number at a JSON pointer; 0 if there is none.
pub(crate) fn count(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default().into()
}

/// Comma-separated texts; `<none>` if there is none.
pub(crate) fn joined(texts: impl IntoIterator<Item = String>) -> Value {
    let texts: Vec<_> = texts.into_iter().collect();
    if texts.is_empty() { "<none>".into() } else { texts.join(",").into() }
}

/// Time since the RFC 3339 time at a JSON pointer, as kubectl prints it.
pub(crate) fn age(object: &Value, pointer: &str, now: Timestamp) -> Value {
    let time = object.pointer(pointer).and_then(Value::as_str).and_then(|text| since(text, now));
    time.unwrap_or_else(|| "<unknown>".to_owned()).into()
}

/// Time since an RFC 3339 time, as kubectl prints it; none if the text is no time.
pub(crate) fn since(text: &str, now: Timestamp) -> Option<String> {
    let time = text.parse::<Timestamp>().ok()?;
    Some(human(now.as_second() - time.as_second()))
}

/// `apimachinery/pkg/util/duration.HumanDuration`.
pub(crate) fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let pair = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10800 => format!("{minutes}m"),
        10800..28800 => pair(hours, "h", minutes % 60, "m"),
        28800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn ages_are_printed_as_kubectl_prints_them() {
        let found = [0, 119, 125, 600, 10800, 11000, 90000, 172_800, 700_000].map(human);
        assert_eq!(found, ["0s", "119s", "2m5s", "10m", "3h", "3h3m", "25h", "2d", "8d"]);
    }
}
