//! What ends at the node of a pod: its log, commands in it, its ports. There are no nodes to go to here, so that of each no more is left than
//! what kube-apiserver looks at before it goes there (`registry/core/pod.LogLocation`, `ExecLocation`).

use apimachinery::{
    ApiError, FieldError, FieldPath,
    status::{GroupResource, Reason},
};
use http::{Response, StatusCode};
use serde_json::Value;

use super::{Call, create, proxy};
use crate::{
    http::{Body, body},
    store::{Key, ResourceKey},
    validation::{items, text},
};

/// GET of a log: a pod without a node has none yet.
pub(super) async fn log(call: &Call) -> Result<Response<Body>, ApiError> {
    check_log_options(call)?;
    let pod = call.value(&call.current()?).await?;
    check_container(call, &pod, call.query.get("container").unwrap_or_default())?;
    if !text(&pod["spec"], "nodeName").is_empty() {
        return Err(unreachable(call, text(&pod["spec"], "nodeName")));
    }
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// How much of a log is asked for, and since when (`ValidatePodLogOptions`). Streams cannot be chosen: their feature gate is off.
fn check_log_options(call: &Call) -> Result<(), ApiError> {
    let given = |name: &'static str| call.query.all(name).next();
    let since_seconds = call.query.number("sinceSeconds")?;
    if let Some(text) = given("sinceTime").filter(|text| !matches!(*text, "" | "null"))
        && let Some(why) = kube_schema::describe_time_fault(text)
    {
        return Err(ApiError::bad_request(why));
    }
    let (tail_lines, limit_bytes) = (call.query.number("tailLines")?, call.query.number("limitBytes")?);
    let mut errors = Vec::new();
    let mut least = |name: &str, given: Option<i64>, least: i64, message: &str| {
        if let Some(number) = given.filter(|given| *given < least) {
            errors.push(FieldError::invalid(&FieldPath::new(name), number, message));
        }
    };
    least("tailLines", tail_lines, 0, "must be greater than or equal to 0");
    least("limitBytes", limit_bytes, 1, "must be greater than 0");
    if given("sinceTime").is_some() && since_seconds.is_some() {
        let message = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&FieldPath::new(""), message));
    } else {
        least("sinceSeconds", since_seconds, 1, "must be greater than 0");
    }
    if given("stream").is_some() {
        errors.push(FieldError::forbidden(&FieldPath::new("stream"), "may not be specified"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("", "PodLogOptions", call.name(), &errors))
}

/// Commands, terminals and ports, as the options say: nothing without a node.
pub(super) async fn connect(call: &Call, verb: &str, options: &Value) -> Result<Response<Body>, ApiError> {
    // A WebSocket is a GET: nobody does by it what he may not do by a POST.
    if verb != "create" {
        create::authorize(call).await?;
    }
    let pod = call.value(&call.current()?).await?;
    if call.path.subresource.as_deref() != Some("portforward") {
        check_container(call, &pod, text(options, "container"))?;
    }
    if text(&pod["spec"], "nodeName").is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", call.name())));
    }
    Err(unreachable(call, text(&pod["spec"], "nodeName")))
}

/// The container that is asked for must be there; of several, one must be named.
fn check_container(call: &Call, pod: &Value, asked: &str) -> Result<(), ApiError> {
    let names = |list: &str| -> Vec<String> {
        items(&pod["spec"], list).map(|container| text(container, "name").to_owned()).collect()
    };
    let own = names("containers");
    let all = [names("initContainers"), own.clone(), names("ephemeralContainers")].concat();
    let why = match own.len() {
        _ if all.iter().any(|name| name == asked) => return Ok(()),
        _ if !asked.is_empty() => format!("container {asked} is not valid for pod {}", call.name()),
        1 => return Ok(()),
        0 => format!("a container name must be specified for pod {}", call.name()),
        _ => format!(
            "a container name must be specified for pod {}, choose one of: [{}]",
            call.name(),
            all.join(" ")
        ),
    };
    Err(ApiError::bad_request(why))
}

/// What becomes of a request that would go to a node.
pub(super) fn unreachable(call: &Call, node: &str) -> ApiError {
    let nodes = GroupResource::new("", "nodes");
    let Some(stored) = call.shared.storage.get(&Key::new(ResourceKey::new("", "nodes"), "", node)) else {
        return ApiError::not_found(&nodes, node);
    };
    let known = stored.value().unwrap_or_default();
    if items(&known["status"], "addresses").next().is_some() {
        return proxy::unreachable();
    }
    ApiError::new(500, Reason::Unknown, "no preferred addresses found; known addresses: []")
}
