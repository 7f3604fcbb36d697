//! `meta.k8s.io/v1` Table: what `kubectl get` prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ListMeta, metadata};
use crate::{http::negotiate::Include, registry::Kind};

/// A Table of objects. Within a watch only the first one tells its columns.
pub(super) fn table(
    kind: &Kind,
    include: Include,
    meta: &ListMeta,
    objects: Vec<Value>,
    now: Timestamp,
    columns: bool,
) -> Value {
    let definitions: Vec<_> = kind
        .columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect();
    let rows: Vec<_> = objects
        .into_iter()
        .map(|object| {
            let cells: Vec<_> = kind.columns.iter().map(|column| (column.cell)(&object, now)).collect();
            let mut row = json!({"cells": cells});
            match include {
                Include::Nothing => {}
                Include::Metadata => row["object"] = metadata(&object),
                Include::Object => row["object"] = object,
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta.value(),
        "columnDefinitions": if columns { Value::Array(definitions) } else { Value::Array(Vec::new()) },
        "rows": rows,
    })
}
