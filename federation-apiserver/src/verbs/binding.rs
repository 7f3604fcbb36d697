//! Binding a pod to a node.

use apimachinery::{
    ApiError, FieldError, FieldPath, field,
    status::{self, GroupResource, Reason},
};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Call,
    commit::{self, Outcome},
    preconditions,
};
use crate::{
    admission::{
        self,
        subresource::{self, SubresourceRequest},
    },
    deletion::seconds,
    http::{Body, query::WriteOptions},
    registry::{Kind, KindRef, Registry},
    store::Stored,
    validation::{items, text},
};

const ROUNDS: usize = 64;

fn core(plural: &str) -> Result<&'static Kind, ApiError> {
    Registry::get().find("", "v1", plural).ok_or_else(ApiError::no_such_path)
}

pub(super) fn done(call: &Call) -> Response<Body> {
    let mut made = status::success(None);
    made["code"] = StatusCode::CREATED.as_u16().into();
    call.answer_value(StatusCode::CREATED, &made)
}

/// POST of a Binding, to `bindings` or to `pods/NAME/binding`.
pub(super) async fn bind(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let mut binding = call.decode_as("v1", "Binding", options.field_validation)?;
    if call.path.name.is_some() && text(&binding["target"], "kind") == "Node" {
        let node = text(&binding["target"], "name").to_owned();
        admission::label_with_place(&call.shared.storage, &node, &mut binding);
    }
    let asked =
        SubresourceRequest { call, form: Some(&subresource::BINDING), old: None, dry_run: options.dry_run };
    let binding = asked.mutate(binding).await?;
    let name = text(&binding["metadata"], "name").to_owned();
    if call.path.name.as_ref().is_some_and(|asked| name != *asked) {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let (target, kind) = (text(&binding["target"], "name"), text(&binding["target"], "kind"));
    if target.is_empty() || !matches!(kind, "" | "Node") {
        let path = FieldPath::new("target");
        let mut errors = Vec::new();
        if !matches!(kind, "" | "Node") {
            let error = FieldError::not_listed(&path.child("kind"), kind, &["Node", "<empty>"]);
            errors.push(error);
        }
        if target.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        // kube-apiserver answers so: `BindingREST.Create` gives back the bare list.
        return Err(ApiError::new(500, Reason::Unknown, field::aggregate(&errors)));
    }
    let target = target.to_owned();
    asked.validate(&binding).await?;
    call.is_admitted = true;
    call.kind = KindRef::Fixed(core("pods")?);
    call.path.name = Some(name);
    call.path.subresource = None;
    let resource = GroupResource::new("", "pods/binding");
    for _ in 0..ROUNDS {
        let current = call.current()?;
        check_meant(call, &binding["metadata"], &current, options.dry_run)?;
        let old = call.old_value(&current).await?;
        let assigned = text(&old["spec"], "nodeName");
        if crate::validation::deleting(&old) {
            let why = format!("pod {} is being deleted, cannot be assigned to a host", call.name());
            return Err(ApiError::conflict(&resource, call.name(), &why));
        }
        if !assigned.is_empty() {
            let why = format!("pod {} is already assigned to node {assigned:?}", call.name());
            return Err(ApiError::conflict(&resource, call.name(), &why));
        }
        if items(&old["spec"], "schedulingGates").next().is_some() {
            let why = format!("pod {} has non-empty .spec.schedulingGates", call.name());
            return Err(ApiError::conflict(&resource, call.name(), &why));
        }
        let mut next = old.clone();
        next["spec"]["nodeName"] = target.as_str().into();
        for map in ["annotations", "labels"] {
            for (key, value) in binding["metadata"][map].as_object().into_iter().flatten() {
                next["metadata"][map][key] = value.clone();
            }
        }
        let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": seconds(call.now)});
        let mut conditions: Vec<Value> = items(&next["status"], "conditions").cloned().collect();
        conditions.retain(|condition| condition["type"] != "PodScheduled");
        conditions.push(scheduled);
        next["status"]["conditions"] = conditions.into();
        // Where it might have gone is past.
        if let Some(status) = next["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        let next = call.own(Some(&old), next, options.field_manager.as_deref()).await;
        match commit::replace(call, &current, &old, next, options.dry_run).await? {
            Outcome::Stale => {}
            Outcome::Done(_) | Outcome::Removed(_) => return Ok(done(call)),
        }
    }
    Err(ApiError::stale(&call.resource(), call.name()))
}

/// Refuses to bind another pod of the name than the one that is meant.
fn check_meant(call: &Call, meant: &Value, current: &Stored, dry_run: bool) -> Result<(), ApiError> {
    let version = current.revision.to_string();
    let told = [
        ("UID", text(meant, "uid"), &current.meta.uid),
        ("ResourceVersion", text(meant, "resourceVersion"), &version),
    ];
    match told.into_iter().find(|(_, wanted, found)| !wanted.is_empty() && *wanted != found.as_str()) {
        Some((field, wanted, found)) => Err(preconditions::failed(call, field, wanted, found, dry_run)),
        None => Ok(()),
    }
}
