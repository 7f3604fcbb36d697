//! `meta.k8s.io/v1` Table: what `kubectl get` prints.

use apimachinery::jsonpath::Looks;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ListMeta, metadata};
use crate::{
    crd::custom::PrinterColumn,
    http::negotiate::Include,
    registry::{Column, Kind},
};

/// A Table of objects. Within a watch only the first one tells its columns.
pub(super) fn table(
    kind: &Kind,
    include: Include,
    meta: &ListMeta,
    objects: Vec<Value>,
    now: Timestamp,
    columns: bool,
) -> Value {
    let (fixed, own) = shown(kind);
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
    let rows: Vec<_> = objects.into_iter().map(|object| row(kind, include, object, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta.value(),
        "columnDefinitions": if columns { Value::Array(definitions) } else { Value::Null },
        "rows": rows,
    })
}

/// The row of an object.
pub(super) fn row(kind: &Kind, include: Include, object: Value, now: Timestamp) -> Value {
    let (fixed, own) = shown(kind);
    let mut looks = Looks::default();
    let cells: Vec<_> = fixed
        .iter()
        .map(|column| (column.cell)(&object, now))
        .chain(own.iter().map(|column| column.cell(&object, &mut looks, now)))
        .collect();
    let object = match include {
        Include::Nothing => Value::Null,
        Include::Metadata => metadata(&object),
        Include::Object => object,
    };
    json!({"cells": cells, "object": object})
}

/// A kind's columns. A custom kind has its own ones after the name.
fn shown(kind: &Kind) -> (&[Column], &[PrinterColumn]) {
    match &kind.custom {
        Some(custom) => (kind.columns.get(..1).unwrap_or_default(), &custom.columns),
        None => (kind.columns, &[]),
    }
}
