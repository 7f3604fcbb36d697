//! The record of a request in the audit log.

use std::{net::IpAddr, sync::Arc};

use apimachinery::rbac::Attributes;
use http::{Response, header, request};

use super::{
    Shared,
    request::{AUDIT_ID, Asked, Connection},
};
use crate::{
    audit::{self, AuditContext, Level, Reference, RequestAttributes, Stage},
    auth::User,
    http::{Body, info::Target},
};

/// Completes the record of a request with its answer.
pub(super) async fn recorded(
    record: &Arc<AuditContext>,
    mut response: Response<Body>,
    verb: &str,
    refused: bool,
    panicked: bool,
) -> Response<Body> {
    let code = response.status().as_u16();
    if panicked {
        record.write(Stage::Panic).await;
        return response;
    }
    if code == 401 {
        // kube-apiserver's only event of it is of this stage.
        record.write(Stage::ResponseStarted).await;
        return response;
    }
    if !refused {
        record.ended(code, None);
    }
    if verb == "watch" && !refused {
        record.write(Stage::ResponseStarted).await;
        return audit::until_end(response, Arc::clone(record));
    }
    if record.level() == Level::RequestResponse {
        let (same, value) = audit::whole(response).await;
        response = same;
        if value.is_object() {
            record.answered(value);
        }
    }
    record.write(Stage::ResponseComplete).await;
    response
}

/// The id that the client gave to the request, or a new one.
pub(super) fn audit_id(head: &request::Parts) -> String {
    /// `maxAuditIDLength`.
    const LENGTH_MAX: usize = 64;
    let given = head.headers.get(AUDIT_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    if given.is_empty() { crate::uid::random() } else { given.chars().take(LENGTH_MAX).collect() }
}

/// Where the request comes from: what proxies say, then the peer.
fn sources(head: &request::Parts, peer: Option<IpAddr>) -> Vec<IpAddr> {
    let mut sources: Vec<IpAddr> = ["x-forwarded-for", "x-real-ip"]
        .iter()
        .filter_map(|name| head.headers.get(*name)?.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|text| text.trim().parse().ok())
        .collect();
    sources.extend(peer);
    sources.dedup();
    sources
}

/// kube-apiserver's `getAuthMethods`.
pub(super) fn attempted(head: &request::Parts, connection: &Connection) -> String {
    let mut methods = Vec::new();
    if let Some(value) = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let scheme = value.split(' ').next().unwrap_or_default().to_ascii_lowercase();
        if matches!(scheme.as_str(), "basic" | "bearer") {
            methods.push(scheme);
        }
    }
    if connection.user.is_some() {
        methods.push("x509".to_owned());
    }
    if methods.is_empty() {
        "Authentication failed, no credentials provided".to_owned()
    } else {
        format!("Authentication failed, attempted: {}", methods.join(", "))
    }
}

/// `objectRef` of an audit event.
fn reference(target: &Target) -> Option<Reference> {
    let Target::Resource(path) = target else { return None };
    Some(Reference {
        api_group: path.group.clone(),
        api_version: path.version.clone(),
        name: path.name.clone().unwrap_or_default(),
        namespace: path.namespace.clone().unwrap_or_default(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone().unwrap_or_default(),
        ..Reference::default()
    })
}

/// Begins the record of a request.
pub(super) fn record(
    shared: &Shared,
    connection: &Connection,
    asked: &Asked,
    user: &User,
    attributes: &Attributes<'_>,
) -> Option<Arc<AuditContext>> {
    let audit = shared.audit.as_ref()?;
    let record = audit.begin(user, attributes, || RequestAttributes {
        id: &asked.id,
        received: asked.received,
        uri: asked.head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        verb: asked.verb,
        user,
        sources: sources(&asked.head, connection.peer),
        agent: asked
            .head
            .headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or_default(),
        reference: reference(&asked.target),
    })?;
    Some(Arc::clone(asked.progress.record.get_or_init(|| record)))
}
