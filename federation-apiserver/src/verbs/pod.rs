//! Actions on pods: binding one to a node, and evicting one if its budget allows that.

use apimachinery::{
    ApiError, FieldError, FieldPath, field,
    labels::{Selector, labels_of},
    status::{self, GroupResource, Reason},
};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    Call,
    commit::{self, Outcome},
    delete, object, preconditions,
};
use crate::{
    admission::{
        self,
        action::{self, Action},
    },
    deletion::{DeleteOptions, seconds},
    http::{Body, query::WriteOptions},
    registry::{Kind, KindRef, Registry},
    store::{Stored, Write},
    validation::{items, pod::has_ended, text},
};

const ROUNDS: usize = 64;

fn core(plural: &str) -> Result<&'static Kind, ApiError> {
    Registry::get().find("", "v1", plural).ok_or_else(ApiError::no_such_path)
}

fn done(call: &Call) -> Response<Body> {
    let mut made = status::success(None);
    made["code"] = StatusCode::CREATED.as_u16().into();
    call.answer_value(StatusCode::CREATED, &made)
}

/// POST of a Binding, to `bindings` or to `pods/NAME/binding`.
pub(super) async fn bind(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let mut binding = call.decode_as("v1", "Binding")?;
    if call.path.name.is_some() && text(&binding["target"], "kind") == "Node" {
        let node = text(&binding["target"], "name").to_owned();
        admission::label_with_place(&call.shared.storage, &node, &mut binding);
    }
    let asked = Action { call, form: Some(&action::BINDING), old: None, dry_run: options.dry_run };
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
    call.shown = true;
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

/// POST of an Eviction to `pods/NAME/eviction`.
pub(super) async fn evict(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let mut eviction = call.decode_body("Eviction")?;
    let version = eviction["apiVersion"].as_str().filter(|version| *version == "policy/v1beta1");
    let version = version.unwrap_or("policy/v1").to_owned();
    call.check_kind(&mut eviction, &version, "Eviction")?;
    // What the body says of it counts for the deletion only.
    let is_dry = call.query.all("dryRun").any(|value| value == "All");
    let asked = Action { call, form: Some(&action::EVICTION), old: None, dry_run: is_dry };
    let eviction = asked.mutate(eviction).await?;
    let name = text(&eviction["metadata"], "name");
    if !name.is_empty() && name != call.name() {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut errors = Vec::new();
    let dry_run = crate::http::query::dry_run(
        call.query.all("dryRun").chain(items(&eviction["deleteOptions"], "dryRun").filter_map(Value::as_str)),
        &mut errors,
    );
    if !errors.is_empty() {
        return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
    }
    let options = DeleteOptions::from_value(&eviction["deleteOptions"])
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    asked.validate(&eviction).await?;
    call.shown = true;
    call.path.subresource = None;
    let pod = call.value(&call.current()?).await?;
    let ends =
        text(&pod["status"], "phase") == "Pending" || has_ended(&pod) || crate::validation::deleting(&pod);
    if !ends {
        spend(call, &pod, dry_run).await?;
    }
    let name = call.name().to_owned();
    delete::delete_one(call, &name, &options, dry_run).await?;
    Ok(done(call))
}

/// Takes one disruption from the budget of a pod, if it has one.
async fn spend(call: &Call, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
    const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
    let kind =
        Registry::get().find("policy", "v1", "poddisruptionbudgets").ok_or_else(ApiError::no_such_path)?;
    for _ in 0..ROUNDS {
        let labels = labels_of(pod);
        let snapshot = call.shared.storage.snapshot();
        let mut found = Vec::new();
        for stored in snapshot.range(&kind.storage(), Some(call.namespace()), None) {
            let budget = stored.value().map_err(ApiError::internal)?;
            let selector = budget["spec"].get("selector").filter(|selector| !selector.is_null());
            if selector.is_some()
                && Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches(&labels))
            {
                found.push((stored, budget));
            }
        }
        let (stored, old) = match found.len() {
            0 => return Ok(()),
            1 => found.remove(0),
            _ => {
                return Err(ApiError::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let number = |name: &str| old["status"][name].as_i64().unwrap_or_default();
        let name = &stored.key.name;
        if number("observedGeneration") < old["metadata"]["generation"].as_i64().unwrap_or_default() {
            let why = format!("The disruption budget {name} is still being processed by the server.");
            return Err(ApiError::too_many_requests(REFUSED, 10).with_cause("DisruptionBudget", why, ""));
        }
        if number("disruptionsAllowed") <= 0 {
            let why = format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                number("desiredHealthy"),
                number("currentHealthy")
            );
            return Err(ApiError::too_many_requests(REFUSED, 0).with_cause("DisruptionBudget", why, ""));
        }
        if dry_run {
            return Ok(());
        }
        let mut next = old.clone();
        next["status"]["disruptionsAllowed"] = (number("disruptionsAllowed") - 1).into();
        next["status"]["disruptedPods"][call.name()] = seconds(call.now).into();
        let write = Write::Update {
            key: stored.key.clone(),
            expect: Some(stored.revision),
            object: object::encode(kind, next),
        };
        match call.shared.storage.write(write).await {
            Ok(_) => return Ok(()),
            Err(crate::store::WriteError::Conflict { .. } | crate::store::WriteError::NotFound) => {}
            Err(error) => return Err(commit::unavailable(&error)),
        }
    }
    Err(ApiError::stale(&kind.resource(), call.name()))
}
