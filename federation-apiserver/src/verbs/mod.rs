//! What can be done to resources: one file for each verb, over the same few steps.
//!
//! A create goes `decode → metadata and defaults → own → complete → mutate → prepare → allocate → validate → permit → judge → reserve →
//! store`: up to the rules in [`create`], from there on in [`commit`], and a kind's part of it in its row of the table. What
//! [`admission`](crate::admission) adds to that are the policies, the webhooks and what kube-apiserver's own plugins ask.

mod binding;
pub(crate) mod call;
mod commit;
mod component_status;
mod connect;
mod create;
mod decode;
mod definition;
mod delete;
mod delete_options;
mod evict;
mod fairness;
mod kubelet;
mod list;
mod metadata;
mod object;
mod ownership;
pub(crate) mod parse_errors;
mod parts;
mod patch;
mod preconditions;
mod proxy;
mod ratchet;
mod read;
mod restore;
mod review;
mod review_selectors;
mod scale;
mod scale_ownership;
mod sent_owners;
mod token;
mod update;
mod watch;
mod watch_socket;
mod yaml;
mod yaml_errors;

use apimachinery::{ApiError, names};
use http::{Method, Response};

use crate::{
    http::{Body, info::ResourcePath},
    registry::Kind,
};
pub(crate) use call::Call;
pub(crate) use delete_options::sent_options;
pub use object::EndpointScope;
pub(crate) use object::{called, selectable_fields, settle_mutated};
pub(crate) use ownership::own_status;

/// Whether a kind has such a path at all, whatever is asked of it.
pub(crate) fn has_path(kind: &Kind, path: &ResourcePath) -> bool {
    match path.subresource.as_deref() {
        Some(part) => kind.subresource(part).is_some(),
        // Questions are asked and never kept: there is no path of one.
        None => path.name.is_none() || kind.verbs != ["create"],
    }
}

/// Performs a request on a resource, on a path that the kind has.
pub(crate) async fn dispatch(
    mut call: Call,
    method: &Method,
    verb: &str,
) -> Result<Response<Body>, ApiError> {
    let subresource = call.path.subresource.clone();
    if subresource.is_none() && !call.kind.verbs.contains(&verb) {
        return Err(ApiError::no_such_method());
    }
    if (verb, &subresource) == ("watch", &None) {
        return watch::watch(call).await;
    }
    if (verb, &subresource) != ("create", &None) {
        check_name(call.name())?;
    }
    let outcome = match (verb, subresource.as_deref()) {
        ("get", Some("scale")) => scale::get(&call).await,
        ("get", Some("log")) if call.kind.is("", "pods") => kubelet::log(&call).await,
        ("get" | "create", Some("attach" | "exec" | "portforward")) if call.kind.is("", "pods") => {
            Box::pin(connect::connect(&call, verb)).await
        }
        (_, Some("proxy")) if call.kind.group.is_empty() && call.kind.subresource("proxy").is_some() => {
            Box::pin(connect::connect(&call, verb)).await
        }
        ("get", _) => read::get(&call).await,
        ("list", None) => list::list(&call).await,
        ("create", None) if review::is_review(call.kind.group) => Box::pin(review::create(&mut call)).await,
        ("create", Some("token")) if call.kind.is("", "serviceaccounts") => {
            Box::pin(token::create(&mut call)).await
        }
        ("create", None) if call.kind.is("", "bindings") => Box::pin(binding::bind(&mut call)).await,
        ("create", Some("binding")) if call.kind.is("", "pods") => Box::pin(binding::bind(&mut call)).await,
        ("create", Some("eviction")) if call.kind.is("", "pods") => Box::pin(evict::evict(&mut call)).await,
        ("create", None) if call.path.name.is_none() => create::create(&mut call).await,
        ("update", Some("scale")) => scale::update(&mut call).await,
        ("update", _) if call.path.name.is_some() => update::update(&mut call).await,
        ("patch", Some("scale")) => scale::patch(&mut call).await,
        ("patch", _) if call.path.name.is_some() => patch::patch(&mut call).await,
        ("delete", None) => delete::delete(&mut call).await,
        ("deletecollection", None) => Box::pin(delete::delete_collection(&mut call)).await,
        _ => {
            tracing::debug!(%method, verb, "no such verb");
            Err(ApiError::no_such_method())
        }
    };
    if outcome.is_err() {
        // Who is refused is told of them all the same.
        let warnings = std::mem::take(&mut call.warnings);
        call.shared_warnings.lock().extend(warnings);
    }
    outcome
}

/// A name that can be no part of a path is none of any object: `registry.NamespaceKeyFunc`.
fn check_name(name: &str) -> Result<(), ApiError> {
    let faults = names::path_segment(name);
    if faults.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("Name parameter invalid: {name:?}: {}", faults.join(";"))))
}
