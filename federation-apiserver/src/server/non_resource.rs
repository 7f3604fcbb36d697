//! Everything that is not a resource: health, version, metrics, discovery, schemas.

use std::sync::Arc;

use apimachinery::ApiError;
use http::{HeaderValue, Method, Response, StatusCode, header, request};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Shared, exposition, flagz, health, statusz};
use crate::{
    discovery,
    http::{
        Body, body,
        negotiate::{self, Encoding, Format, Offered},
        query::Query,
        respond,
    },
    openapi,
    registry::Registry,
    version,
};

/// Discovery has no Tables.
const DOCUMENTS: Offered = Offered { table: false, ..Offered::ALL };
const KEY_PATH: &str = "/openid/v1/jwks";
const ISSUER_PATH: &str = "/.well-known/openid-configuration";

/// Answers a request on a path.
pub(super) fn answer(
    shared: &Arc<Shared>,
    head: &request::Parts,
    query: &Query,
    path: &str,
) -> Result<Response<Body>, ApiError> {
    let trimmed = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    if let Some(response) = health::find(shared, path, query) {
        return Ok(response);
    }
    if head.method != Method::GET && is_for_get(trimmed) {
        return Err(ApiError::no_such_method());
    }
    if trimmed == "/version" {
        negotiate::choose(&head.headers, None, DOCUMENTS)?;
    }
    match path {
        // kube-apiserver forgets what it has counted; this server counts on.
        "/metrics" if head.method == Method::DELETE => return Err(ApiError::no_such_method()),
        "/metrics" => {
            let (content_type, text) = exposition::encode(&head.headers, shared.registry.encode());
            return Ok(respond::bytes(StatusCode::OK, content_type, text));
        }
        "/metrics/slis" => {
            let (content_type, text) = exposition::encode(&head.headers, health::indicators(shared));
            return Ok(respond::bytes(StatusCode::OK, content_type, text));
        }
        "/flagz" => return flagz::answer(&head.headers, shared.started, &shared.flags),
        "/statusz" => {
            return statusz::answer(&head.headers, shared.started, Timestamp::now(), &paths(shared));
        }
        _ => {}
    }
    match trimmed {
        ISSUER_PATH | KEY_PATH => return identity(shared, head, trimmed),
        "/version" => return Ok(respond::raw(StatusCode::OK, &version::info())),
        "/" => return Ok(respond::raw(StatusCode::OK, &json!({"paths": paths(shared)}))),
        _ => {}
    }
    match discovery::find(trimmed, &head.headers, &shared.served()) {
        Some(mut document) => {
            let mut format = Format::JSON;
            // Aggregated documents are chosen by what is accepted.
            if document.content_type == negotiate::JSON {
                format = negotiate::choose(&head.headers, query.get("pretty"), DOCUMENTS)?;
            }
            // Where the client has found this server, which is where it should come again.
            if let Some(place) = document.value.pointer_mut("/serverAddressByClientCIDRs/0/serverAddress") {
                *place = Value::from(host(head));
            }
            match format.encoding {
                Encoding::Json => Ok(discovered(head, query, document)),
                Encoding::Yaml => Ok(respond::value(StatusCode::OK, format, &document.value)),
                Encoding::Protobuf => Ok(respond::value(StatusCode::OK, format, &named(document.value))),
            }
        }
        None => match trimmed.split('/').collect::<Vec<_>>().as_slice() {
            ["", "api", ..] => Err(ApiError::no_such_path()),
            ["", "apis", group, ..] => nothing(group),
            ["", "version", ..] => Err(ApiError::no_such_path()),
            _ => Ok(unknown_path(shared)),
        },
    }
}

/// Answers with an OpenAPI document. To make all of them takes about a second after each change of the kinds, and to inflate one takes
/// milliseconds: that is done on a thread for such work, where it holds up no other request, and for one request after the other.
pub(super) async fn described(
    shared: &Arc<Shared>,
    head: &request::Parts,
    query: &Query,
    path: String,
) -> Result<Response<Body>, ApiError> {
    let turn = Arc::clone(&shared.describing).lock_owned().await;
    let (asked, query, headers) = (Arc::clone(shared), query.clone(), head.headers.clone());
    let work = tokio::task::spawn_blocking(move || {
        // Whoever leaves meanwhile does not make room for a second one.
        let _turn = turn;
        openapi::find(&path, &query, &headers, asked.served().documents(asked.schemas()))
    });
    let found = work.await.map_err(ApiError::internal)?;
    Ok(found.unwrap_or_else(|| unknown_path(shared)))
}

/// Whether a path takes no method but GET. Those are kube-apiserver's web services, whose routes have a method each; its other handlers do
/// not look at it.
fn is_for_get(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", "api" | "version"] => true,
        ["", "api", version] => is_of_the_table("", version),
        ["", "apis", group, version] => is_of_the_table(group, version),
        _ => matches!(path, ISSUER_PATH | KEY_PATH),
    }
}

fn is_of_the_table(group: &str, version: &str) -> bool {
    Registry::get().group_versions().contains(&(group, version))
}

/// What is answered where a group has no such resource: a Status. A group that is not built in has no web service, whether it is served or
/// not, and says so in plain text.
pub(super) fn nothing(group: &str) -> Result<Response<Body>, ApiError> {
    if Registry::get().group_versions().iter().any(|(known, _)| *known == group) {
        return Err(ApiError::no_such_path());
    }
    Ok(no_page())
}

/// Go's `http.NotFound`.
pub(super) fn no_page() -> Response<Body> {
    let mut response = respond::text(StatusCode::NOT_FOUND, "404 page not found\n");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// 404 with the paths that there are.
fn unknown_path(shared: &Shared) -> Response<Body> {
    respond::raw(StatusCode::NOT_FOUND, &json!({"paths": paths(shared)}))
}

/// Every path that is served, sorted.
fn paths(shared: &Shared) -> Vec<String> {
    let others = [
        "/api",
        "/apis",
        "/apis/",
        "/flagz",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/statusz",
        "/version",
    ];
    let mut paths: Vec<_> = others.iter().map(|path| (*path).to_owned()).collect();
    if shared.authenticator.accounts().is_some() {
        paths.extend([ISSUER_PATH.to_owned(), KEY_PATH.to_owned()]);
    }
    for (group, version) in shared.served().group_versions() {
        if group.is_empty() {
            paths.push(format!("/api/{version}"));
        } else {
            paths.push(format!("/apis/{group}"));
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    paths.extend(health::paths(shared));
    paths.sort();
    paths.dedup();
    paths
}

/// What others need to check this server's tokens.
fn identity(shared: &Shared, head: &request::Parts, path: &str) -> Result<Response<Body>, ApiError> {
    let accounts = shared.authenticator.accounts().ok_or_else(ApiError::no_such_path)?;
    let (content_type, value) = if path == KEY_PATH {
        ("application/jwk-set+json", accounts.public_keys())
    } else {
        ("application/json", accounts.discovery(&format!("https://{}", host(head))))
    };
    let mut response = respond::bytes(StatusCode::OK, content_type, value.to_string());
    let cache = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    Ok(response)
}

/// The host that was asked for; empty if the request does not say.
fn host(head: &request::Parts) -> String {
    let authority = head.uri.authority().map(|host| host.as_str().to_owned());
    let header = || Some(head.headers.get(header::HOST)?.to_str().ok()?.to_owned());
    authority.or_else(header).unwrap_or_default()
}

/// A document of discovery as an object: ever since, some do not say their version.
fn named(mut document: Value) -> Value {
    if document["apiVersion"].is_null() {
        document["apiVersion"] = "v1".into();
    }
    document
}

fn discovered(head: &request::Parts, query: &Query, document: discovery::Document) -> Response<Body> {
    let known = document.etag.as_deref().is_some_and(|etag| {
        head.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(etag)
    });
    let mut response = if known {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let pretty = query.get("pretty").is_some_and(|value| value != "0" && value != "false");
        let mut response = respond::value(StatusCode::OK, Format { pretty, ..Format::JSON }, &document.value);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(document.content_type));
        response
    };
    let headers = response.headers_mut();
    if let Some(value) = document.etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::ETAG, value);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    }
    response
}
