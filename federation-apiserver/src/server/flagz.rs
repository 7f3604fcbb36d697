//! `/flagz`: the flags that this process has been started with (`apiserver/pkg/server/flagz`).

use std::{collections::BTreeMap, fmt::Write as _};

use apimachinery::ApiError;
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;

use super::zpages::{self, COMPONENT, Form, GROUP, WARNING};
use crate::http::{Body, negotiate::Format, respond};

/// What stands between a flag and its value. Each process chooses another, as kube-apiserver does, so that nobody relies on one.
const SEPARATORS: [&str; 4] = [":", ": ", "=", " "];

/// The page of a server that has run since `started`.
pub(super) fn answer(
    headers: &HeaderMap,
    started: Timestamp,
    flags: &BTreeMap<String, String>,
) -> Result<Response<Body>, ApiError> {
    match zpages::form(headers, "Flagz")? {
        Form::Text => {
            let chosen = usize::try_from(started.subsec_nanosecond()).unwrap_or_default() % SEPARATORS.len();
            let separator = SEPARATORS[chosen];
            let mut text = format!("\n{COMPONENT} flagz\n{WARNING}\n");
            for (name, value) in flags {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{name}{separator}{value}");
            }
            Ok(respond::text(StatusCode::OK, text))
        }
        Form::Json(version) => {
            let page = json!({
                "kind": "Flagz", "apiVersion": format!("{GROUP}/{version}"), "metadata": {"name": COMPONENT},
                "flags": flags,
            });
            Ok(respond::value(StatusCode::OK, Format::JSON, &page))
        }
    }
}
