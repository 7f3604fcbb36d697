//! What goes through to a pod, a Service or a node: policies and webhooks are asked about it as CONNECT, before anybody looks at what it goes to
//! (`endpoints/handlers.ConnectResource`).

use apimachinery::ApiError;
use http::Response;
use serde_json::{Value, json};

use super::{Call, kubelet, proxy};
use crate::{
    admission::subresource::{self, SubresourceRequest},
    http::Body,
    registry::Kind,
};

/// Any request through.
pub(super) async fn connect(call: &Call, verb: &str) -> Result<Response<Body>, ApiError> {
    if call.query.all("dryRun").next().is_some() {
        return Err(ApiError::bad_request("dryRun is not supported"));
    }
    let part = call.path.subresource.as_deref().and_then(|name| call.kind.subresource(name));
    let part = part.ok_or_else(ApiError::no_such_path)?;
    let form = subresource::connection(part.kind).ok_or_else(ApiError::no_such_path)?;
    let asked = SubresourceRequest { call, form: Some(form), old: None, dry_run: false };
    let options = asked.mutate(options(call, form)?).await?;
    asked.validate(&options).await?;
    match part.name {
        "proxy" => proxy::connect(call),
        _ => kubelet::connect(call, verb, &options).await,
    }
}

/// What the request says, as an object of its kind.
fn options(call: &Call, form: &Kind) -> Result<Value, ApiError> {
    let mut options = json!({"apiVersion": "v1", "kind": form.kind});
    // Without any parameter not even the list of words is begun.
    let words: Vec<&str> = call.query.all("command").collect();
    match form.kind {
        "PodExecOptions" | "PodAttachOptions" => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                let value = call.query.all(flag).next();
                if value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false")) {
                    options[flag] = true.into();
                }
            }
            if let Some(container) = call.query.get("container").filter(|name| !name.is_empty()) {
                options["container"] = container.into();
            }
            if form.kind == "PodExecOptions" {
                options["command"] = if words.is_empty() { Value::Null } else { words.into() };
            }
        }
        "PodPortForwardOptions" => {
            let numbers = call.query.all("ports").flat_map(|list| list.split(','));
            let ports: Vec<u16> = numbers.map(port).collect::<Result<_, _>>()?;
            if !ports.is_empty() {
                options["ports"] = ports.into();
            }
        }
        // All others have the path behind them.
        _ => {
            if !call.path.rest.is_empty() {
                options["path"] = call.path.rest.as_str().into();
            }
        }
    }
    Ok(options)
}

fn port(text: &str) -> Result<u16, ApiError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        let why = if digits { "value out of range" } else { "invalid syntax" };
        ApiError::bad_request(format!(
            "cannot convert to []int32: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}
