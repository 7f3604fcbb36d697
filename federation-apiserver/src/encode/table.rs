//! `meta.k8s.io/v1` Table: what `kubectl get` prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ListMeta, metadata};
use crate::{crd::custom::PrinterColumn, http::negotiate::Include, registry::Kind};

/// A Table of objects. Within a watch only the first one tells its columns.
pub(super) fn table(
    kind: &Kind,
    include: Include,
    meta: &ListMeta,
    objects: Vec<Value>,
    now: Timestamp,
    columns: bool,
) -> Value {
    // A custom kind has its own columns after the name.
    let own = kind.custom.as_ref().map(|custom| custom.columns.as_slice()).unwrap_or_default();
    let fixed = if kind.custom.is_some() { kind.columns.get(..1).unwrap_or_default() } else { kind.columns };
    let definitions: Vec<_> = fixed
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
        .chain(own.iter().map(PrinterColumn::definition))
        .collect();
    let rows: Vec<_> = objects
        .into_iter()
        .map(|object| {
            let cells: Vec<_> = fixed
                .iter()
                .map(|column| (column.cell)(&object, now))
                .chain(own.iter().map(|column| column.cell(&object, now)))
                .collect();
            let mut row = json!({"cells": cells});
            match include {
                Include::Nothing => row["object"] = Value::Null,
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
        "columnDefinitions": if columns { Value::Array(definitions) } else { Value::Null },
        "rows": rows,
    })
}
