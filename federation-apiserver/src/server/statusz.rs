//! `/statusz`: the versions of this process, since when it runs and which paths it serves (`apiserver/pkg/server/statusz`).

use apimachinery::ApiError;
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;

use super::zpages::{self, COMPONENT, Form, GROUP, WARNING};
use crate::{
    http::{Body, negotiate::Format, respond},
    version,
};

/// Paths below these are not listed.
const OMITTED: [&str; 5] = ["/api", "/apis", "/openapi", "/openid", "/.well-known"];

/// The page of a server that has run since `started` and serves `paths`, which are sorted.
pub(super) fn answer(
    headers: &HeaderMap,
    started: Timestamp,
    now: Timestamp,
    paths: &[String],
) -> Result<Response<Body>, ApiError> {
    let up = now.as_second() - started.as_second();
    let emulated = format!("{}.{}", version::MAJOR, version::MINOR);
    let binary = version::GIT_VERSION.trim_start_matches('v');
    let mut tops: Vec<_> =
        paths.iter().filter_map(|path| Some(format!("/{}", path.split('/').nth(1)?))).collect();
    tops.retain(|path| path.len() > 1 && !OMITTED.contains(&path.as_str()));
    tops.dedup();
    match zpages::form(headers, "Statusz")? {
        Form::Text => {
            let since = started.strftime("%a %b %e %H:%M:%S UTC %Y");
            let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
            let text = format!(
                "\n{COMPONENT} statusz\n{WARNING}\n\nStarted: {since}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: \nBinary version: {binary}\nEmulation version: {emulated}\nPaths: {}\n",
                tops.join(" ")
            );
            Ok(respond::text(StatusCode::OK, text))
        }
        Form::Json(version) => {
            let page = json!({
                "kind": "Statusz", "apiVersion": format!("{GROUP}/{version}"), "metadata": {"name": COMPONENT},
                "startTime": crate::deletion::seconds(started), "uptimeSeconds": up, "goVersion": "",
                "binaryVersion": binary, "emulationVersion": emulated, "paths": tops,
            });
            Ok(respond::value(StatusCode::OK, Format::JSON, &page))
        }
    }
}
