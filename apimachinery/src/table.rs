//! `meta.k8s.io/v1` Table and PartialObjectMetadata: what `kubectl get` and metadata informers ask for.

use serde_json::{Value, json};

use crate::jsonpath::JsonPath;

/// What the field `metadata.name` is, as the API describes it: kube-apiserver tells it with each table's column of names.
pub const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
/// The same of `metadata.creationTimestamp`, for columns of ages and times of creation.
pub const CREATION_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// An OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub column_type: String,
    /// An OpenAPI format; `name` marks the column that holds the object's name.
    pub format: String,
    /// What the column tells.
    pub description: String,
    /// 0 is always shown; above 0 only in `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A column that is always shown.
    pub fn new(name: &str, column_type: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            column_type: column_type.to_owned(),
            format: String::new(),
            description: description.to_owned(),
            priority: 0,
        }
    }

    /// The column of the object's name.
    pub fn object_name() -> Self {
        Self { format: "name".to_owned(), ..Self::new("Name", "string", NAME_DESCRIPTION) }
    }

    /// The same column, shown only in `-o wide`.
    pub fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }

    fn to_value(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.column_type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}

/// What stands in the `object` of each row (`?includeObject=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Only the metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// A row: the cells in the order of the columns, and the object they tell about.
pub fn row(cells: Vec<Value>, object: &Value, include: IncludeObject) -> Value {
    let mut row = json!({ "cells": cells });
    let included = match include {
        IncludeObject::None => return row,
        IncludeObject::Metadata => partial_object_metadata(object),
        IncludeObject::Object => object.clone(),
    };
    if let Value::Object(row) = &mut row {
        row.insert("object".to_owned(), included);
    }
    row
}

/// A Table. `metadata` is the list's (resourceVersion, continue) or an object's; later frames of a watch have no columns.
pub fn table(columns: &[Column], rows: Vec<Value>, metadata: Value) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns.iter().map(Column::to_value).collect::<Vec<_>>(),
        "rows": rows,
    })
}

/// The metadata of an object as an object of its own.
pub fn partial_object_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// A list of the metadata of objects.
pub fn partial_object_metadata_list<'v>(
    items: impl IntoIterator<Item = &'v Value>,
    metadata: Value,
) -> Value {
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "items": items.into_iter().map(partial_object_metadata).collect::<Vec<_>>(),
    })
}

/// The cell of a printer column; null when the path finds nothing. Several values are joined by commas.
pub fn cell(path: &JsonPath, object: &Value) -> Value {
    match path.find(object).as_slice() {
        [] => Value::Null,
        [one] => (*one).clone(),
        many => {
            let text = |value: &&Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            many.iter().map(text).collect::<Vec<_>>().join(",").into()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns_and_rows_with_metadata() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {"x": 1}});
        let replicas = cell(&JsonPath::parse(".spec.x").unwrap(), &object);
        let rows = vec![row(vec![json!("a"), replicas], &object, IncludeObject::default())];
        let columns = [Column::object_name(), Column::new("X", "integer", "").wide()];
        let table = table(&columns, rows, json!({"resourceVersion": "5"}));
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(table["columnDefinitions"][1]["priority"], 1);
        assert_eq!(
            table["rows"][0],
            json!({"cells": ["a", 1], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}}})
        );
        assert_eq!(row(vec![], &object, IncludeObject::None), json!({"cells": []}));
    }
}
