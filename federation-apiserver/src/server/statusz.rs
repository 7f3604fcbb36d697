//! `/statusz`: what this process is, for people; as JSON for those who ask for its kind by name (`component-base/zpages/statusz`).

use apimachinery::ApiError;
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    http::{
        Body,
        negotiate::{self, Format},
        respond,
    },
    version,
};

const COMPONENT: &str = "kube-apiserver";
const GROUP: &str = "config.k8s.io";
/// Paths below these are not listed.
const OMITTED: [&str; 5] = ["/api", "/apis", "/openapi", "/openid", "/.well-known"];

/// How the page is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    Text,
    /// In a version of its group.
    Json(String),
}

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
    match form(headers)? {
        Form::Text => {
            let since = started.strftime("%a %b %e %H:%M:%S UTC %Y");
            let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
            let text = format!(
                "\n{COMPONENT} statusz\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n\nStarted: {since}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: \nBinary version: {binary}\nEmulation version: {emulated}\nPaths: {}\n",
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

/// Text for whoever asks for nothing in particular; JSON takes group, version and kind.
fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let ranges = negotiate::accept(headers);
    let fits = |range: &negotiate::MediaRange| match range.kind.as_str() {
        "*/*" | "text/*" | "text/plain" => Some(Form::Text),
        "application/json" => {
            let version = range.parameter("v").filter(|version| ["v1alpha1", "v1beta1"].contains(version))?;
            let named = range.parameter("g") == Some(GROUP) && range.parameter("as") == Some("Statusz");
            named.then(|| Form::Json(version.to_owned()))
        }
        _ => None,
    };
    if ranges.is_empty() {
        return Ok(Form::Text);
    }
    ranges.iter().find_map(fits).ok_or_else(|| {
        let json = format!("application/json;as=Statusz;g={GROUP};v=v1beta1");
        ApiError::not_acceptable(&["text/plain", &json])
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    fn asked(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).ok()?);
        form(&headers).ok()
    }

    #[test]
    fn json_is_for_those_who_name_its_kind() {
        assert_eq!(form(&HeaderMap::new()).ok(), Some(Form::Text));
        assert_eq!(asked("text/html,*/*;q=0.8"), Some(Form::Text));
        let whole = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
        assert_eq!(asked(whole), Some(Form::Json("v1beta1".to_owned())));
        assert_eq!(asked("application/json"), None);
        assert_eq!(asked("application/json;v=v1;g=config.k8s.io;as=Statusz"), None);
    }
}
