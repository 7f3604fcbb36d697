//! Evicting a pod, if its budget allows that: `registry/core/pod/storage.EvictionREST`.

use std::{sync::Arc, time::Duration};

use apimachinery::{
    ApiError,
    labels::{Selector, labels_of},
    status::{GroupResource, Reason},
};
use http::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Call, binding,
    commit::{self, Outcome},
    delete, object,
};
use crate::{
    admission::subresource::{self, SubresourceRequest},
    deletion::{DeleteOptions, seconds},
    http::{Body, query::WriteOptions},
    registry::{Kind, Registry},
    store::{Stored, Write, WriteError},
    validation::{condition, deleting, holds, items, pod::has_ended, text},
};

/// Attempts to write what others write as well. Nobody holds a pod for long, but a budget.
const ROUNDS: usize = 20;
/// Milliseconds between two of them, and how many more chance may add, so that not all who lost come again at the same time.
const PAUSE: u64 = 500;
const PAUSE_MORE: u64 = PAUSE / 10;
/// Evictions that a budget's controller has not confirmed: `MaxDisruptedPodSize`.
const MOST_DISRUPTED: usize = 2000;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// POST of an Eviction to `pods/NAME/eviction`.
pub(super) async fn evict(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let older = call.decode_body("Eviction")?["apiVersion"] == "policy/v1beta1";
    let version = if older { "policy/v1beta1" } else { "policy/v1" };
    let eviction = call.decode_as(version, "Eviction", options.field_validation)?;
    // What the body says of it counts for the deletion only.
    let is_dry = call.query.all("dryRun").any(|value| value == "All");
    let asked = SubresourceRequest { call, form: Some(&subresource::EVICTION), old: None, dry_run: is_dry };
    let eviction = asked.mutate(eviction).await?;
    if text(&eviction["metadata"], "name") != call.name() {
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
    call.is_admitted = true;
    call.path.subresource = None;
    let any_version = options.resource_version.is_none();
    let mut refused = None;
    for _ in 0..ROUNDS {
        let current = call.current()?;
        let pod = call.value(&current).await?;
        let (ended, gone) = (has_ended(&pod), deleting(&pod));
        if !ended && !gone && text(&pod["status"], "phase") != "Pending" {
            return evict_running(call, &current, &pod, options, dry_run).await;
        }
        // One that comes up meanwhile is under its budget.
        let seen = !ended && !gone && any_version;
        let options = if seen { of_version(&options, &current) } else { options.clone() };
        match remove(call, options, dry_run).await {
            Err(error) if error.code == 409 && any_version => refused = Some(error),
            outcome => return outcome.map(|()| binding::done(call)),
        }
    }
    Err(refused.unwrap_or_else(|| ApiError::stale(&call.resource(), call.name())))
}

/// Writes of what all evictions under a budget write, tried again after conflicts: `retry.OnError` with `EvictionsRetry`.
struct Attempts(usize);

impl Attempts {
    const fn new() -> Self {
        Self(ROUNDS)
    }

    /// How long to wait for the next one, if there is one.
    fn pause(&mut self) -> Option<Duration> {
        self.0 = self.0.saturating_sub(1);
        let more = || rand::random_range(0..=PAUSE_MORE);
        (self.0 > 0).then(|| Duration::from_millis(PAUSE + more()))
    }

    /// Waits for the next one, or is refused as the last one was.
    async fn lost(&mut self, conflict: ApiError) -> Result<(), ApiError> {
        let pause = self.pause().ok_or(conflict)?;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn of_version(options: &DeleteOptions, seen: &Stored) -> DeleteOptions {
    DeleteOptions { resource_version: Some(seen.revision.to_string()), ..options.clone() }
}

async fn evict_running(
    call: &mut Call,
    current: &Stored,
    pod: &Value,
    options: DeleteOptions,
    dry_run: bool,
) -> Result<Response<Body>, ApiError> {
    let unready = spend(call, pod, dry_run).await?;
    let any_version = options.resource_version.is_none();
    let options = if unready.is_some() { of_version(&options, current) } else { options };
    match (remove(call, options, dry_run).await, unready) {
        (Err(error), Some(budget)) if error.code == 409 && any_version => Err(in_process(&budget)),
        (outcome, _) => outcome.map(|()| binding::done(call)),
    }
}

/// Tells of a pod why it goes, and deletes it.
async fn remove(call: &mut Call, mut options: DeleteOptions, dry_run: bool) -> Result<(), ApiError> {
    if !dry_run {
        let told = tell(call, &options).await?;
        // It was this server that has changed it.
        if options.resource_version.is_some() {
            options.resource_version = Some(told.revision.to_string());
        }
    }
    let name = call.name().to_owned();
    delete::delete_one(call, &name, &options, dry_run).await?;
    Ok(())
}

/// Writes the condition of a pod that is evicted.
async fn tell(call: &Call, options: &DeleteOptions) -> Result<Arc<Stored>, ApiError> {
    for _ in 0..ROUNDS {
        let current = call.current()?;
        check_preconditions(&current, options)?;
        let old = call.old_value(&current).await?;
        let mut next = old.clone();
        disrupt(&mut next, &seconds(call.now));
        match commit::replace(call, &current, &old, next, false).await? {
            Outcome::Stale => {}
            Outcome::Done(stored) | Outcome::Removed(stored) => return Ok(stored),
        }
    }
    Err(ApiError::stale(&call.resource(), call.name()))
}

fn check_preconditions(current: &Stored, options: &DeleteOptions) -> Result<(), ApiError> {
    let version = current.revision.to_string();
    let told = [
        ("UID", &options.uid, current.meta.uid.as_str(), "deleted and then recreated"),
        ("ResourceVersion", &options.resource_version, &version, "modified"),
    ];
    for (field, wanted, found, how) in told {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| !wanted.is_empty() && *wanted != found) {
            let why = format!(
                "the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). The object might have been {how}"
            );
            return Err(ApiError::conflict(&GroupResource::new("", "Pod"), &current.key.name, &why));
        }
    }
    Ok(())
}

/// `podutil.UpdatePodCondition`: the time of a condition moves with its status only.
fn disrupt(pod: &mut Value, now: &str) {
    const KIND: &str = "DisruptionTarget";
    let found = condition(pod, KIND);
    let held = found.filter(|found| found["status"] == "True");
    let since = held.map_or_else(|| now.into(), |held| held["lastTransitionTime"].clone());
    let mut target = json!({
        "type": KIND, "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        "lastProbeTime": null, "lastTransitionTime": since,
    });
    // Where the kubelet tells generations, others do as well.
    let tells = |object: &Value| object["observedGeneration"].as_i64().unwrap_or_default() != 0;
    if tells(&pod["status"]) || found.is_some_and(tells) {
        target["observedGeneration"] = pod["metadata"]["generation"].clone();
    }
    let mut conditions: Vec<Value> = items(&pod["status"], "conditions").cloned().collect();
    match conditions.iter_mut().find(|condition| condition["type"] == KIND) {
        Some(found) => *found = target,
        None => conditions.push(target),
    }
    pod["status"]["conditions"] = conditions.into();
}

/// A budget of which it is not known yet what it allows.
fn in_process(budget: &str) -> ApiError {
    let why = format!("The disruption budget {budget} is still being processed by the server.");
    ApiError::too_many_requests(REFUSED, 10).with_cause("DisruptionBudget", why, "")
}

/// Whether a pod that is not ready may go without its budget's leave: it is none of those that the budget counts.
fn goes_unready(pod: &Value, budget: &Value) -> bool {
    let number = |name: &str| budget["status"][name].as_i64().unwrap_or_default();
    let enough = number("desiredHealthy") > 0 && number("currentHealthy") >= number("desiredHealthy");
    !holds(pod, "Ready") && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || enough)
}

/// Takes one disruption from the budget of a pod, if it has one; the budget's name if the pod goes without.
async fn spend(call: &Call, pod: &Value, dry_run: bool) -> Result<Option<String>, ApiError> {
    let kind =
        Registry::get().find("policy", "v1", "poddisruptionbudgets").ok_or_else(ApiError::no_such_path)?;
    let storage = &call.shared.storage;
    let Some((mut stored, mut old)) = budget_of(call, kind, pod)? else { return Ok(None) };
    let key = stored.key.clone();
    if goes_unready(pod, &old) {
        return Ok(Some(key.name));
    }
    let mut attempts = Attempts::new();
    loop {
        check_budget(&old, &key.name)?;
        if dry_run {
            return Ok(None);
        }
        let write = Write::Update {
            key: key.clone(),
            expect: Some(stored.revision),
            object: object::encode(kind, spent(old, call.name(), &seconds(Timestamp::now()))),
        };
        match storage.write(write).await {
            Ok(_) => return Ok(None),
            Err(WriteError::Conflict { .. } | WriteError::NotFound) => {}
            Err(error) => return Err(commit::unavailable(&error)),
        }
        attempts.lost(ApiError::stale(&kind.resource(), &key.name)).await?;
        stored = storage.get(&key).ok_or_else(|| ApiError::not_found(&kind.resource(), &key.name))?;
        old = stored.value().map_err(ApiError::internal)?;
    }
}

/// The budget of a pod.
fn budget_of(call: &Call, kind: &Kind, pod: &Value) -> Result<Option<(Arc<Stored>, Value)>, ApiError> {
    let labels = labels_of(pod);
    let snapshot = call.shared.storage.snapshot();
    let mut found = None;
    for stored in snapshot.range(&kind.storage(), Some(call.namespace()), None) {
        let budget = stored.value().map_err(ApiError::internal)?;
        let selector = budget["spec"].get("selector").filter(|selector| !selector.is_null());
        if selector.is_none()
            || !Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches(&labels))
        {
            continue;
        }
        if found.is_some() {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::new(500, Reason::Unknown, why));
        }
        found = Some((stored, budget));
    }
    Ok(found)
}

fn check_budget(budget: &Value, name: &str) -> Result<(), ApiError> {
    let number = |name: &str| budget["status"][name].as_i64().unwrap_or_default();
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or_default() {
        return Err(in_process(name));
    }
    let forbid =
        |why: &str| ApiError::forbidden(&GroupResource::new("policy", "poddisruptionbudget"), name, why);
    if number("disruptionsAllowed") < 0 {
        return Err(forbid("pdb disruptions allowed is negative"));
    }
    if budget["status"]["disruptedPods"].as_object().map_or(0, Map::len) > MOST_DISRUPTED {
        return Err(forbid("DisruptedPods map too big - too many evictions not confirmed by PDB controller"));
    }
    if number("disruptionsAllowed") == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("desiredHealthy"),
            number("currentHealthy")
        );
        return Err(ApiError::too_many_requests(REFUSED, 0).with_cause("DisruptionBudget", why, ""));
    }
    Ok(())
}

/// A budget with one disruption less. One that has none left says so at once.
fn spent(mut budget: Value, pod: &str, now: &str) -> Value {
    let left = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or_default() - 1;
    if left == 0 {
        let known = condition(&budget, "DisruptionAllowed");
        let held = known.filter(|known| known["status"] == "False");
        let since = held.map_or_else(|| now.into(), |held| held["lastTransitionTime"].clone());
        let message = known.map_or_else(|| "".into(), |known| known["message"].clone());
        let none = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": message,
            "observedGeneration": budget["status"]["observedGeneration"], "lastTransitionTime": since,
        });
        let mut conditions: Vec<Value> = items(&budget["status"], "conditions").cloned().collect();
        match conditions.iter_mut().find(|known| known["type"] == none["type"]) {
            Some(known) => *known = none,
            None => conditions.push(none),
        }
        budget["status"]["conditions"] = conditions.into();
    }
    budget["status"]["disruptionsAllowed"] = left.into();
    budget["status"]["disruptedPods"][pod] = now.into();
    budget
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    #[tokio::test]
    async fn who_loses_to_others_waits_and_is_refused_in_the_end_as_at_last() {
        let mut attempts = Attempts::new();
        for _ in 1..ROUNDS {
            let pause = attempts.pause().map(|pause| pause.as_millis());
            assert!(pause.is_some_and(|pause| (500..=550).contains(&pause)), "{pause:?}");
        }
        let budgets = GroupResource::new("policy", "poddisruptionbudgets");
        let error = attempts.lost(ApiError::stale(&budgets, "b")).await.expect_err("all are used up");
        let message = r#"Operation cannot be fulfilled on poddisruptionbudgets.policy "b": the object has been modified; please apply your changes to the latest version and try again"#;
        assert_eq!((error.code, error.message.as_str()), (409, message));
    }

    #[test]
    fn a_pod_is_told_once_that_it_is_evicted() {
        let mut pod = json!({"metadata": {"generation": 2}, "status": {"conditions": [{"type": "Ready"}]}});
        disrupt(&mut pod, NOW);
        let told = condition(&pod, "DisruptionTarget").cloned().unwrap_or_default();
        assert_eq!(
            told,
            json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": NOW,
            })
        );
        let before = pod.clone();
        disrupt(&mut pod, "2027-01-01T00:00:00Z");
        assert_eq!(pod, before);
        pod["status"]["observedGeneration"] = json!(1);
        disrupt(&mut pod, NOW);
        assert_eq!(
            condition(&pod, "DisruptionTarget").map(|told| told["observedGeneration"].clone()),
            Some(json!(2))
        );
    }

    #[test]
    fn a_pod_that_is_not_ready_goes_where_enough_others_are() {
        let pod = |ready: &str| json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let budget = |policy: &str, healthy: u32, wanted: u32| json!({"spec": {"unhealthyPodEvictionPolicy": policy}, "status": {"currentHealthy": healthy, "desiredHealthy": wanted}});
        assert!(goes_unready(&pod("False"), &budget("IfHealthyBudget", 2, 2)));
        assert!(!goes_unready(&pod("False"), &budget("IfHealthyBudget", 1, 2)));
        assert!(!goes_unready(&pod("False"), &budget("IfHealthyBudget", 0, 0)));
        assert!(goes_unready(&pod("False"), &budget("AlwaysAllow", 0, 2)));
        assert!(!goes_unready(&pod("True"), &budget("AlwaysAllow", 2, 2)));
    }

    #[test]
    fn a_budget_says_that_nothing_is_left() {
        let budget = |left: i64| json!({"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "disruptionsAllowed": left}});
        let refused = |budget: &Value| check_budget(budget, "b").map_err(|error| (error.code, error.message));
        assert_eq!(refused(&budget(1)), Ok(()));
        let negative = r#"poddisruptionbudget.policy "b" is forbidden: pdb disruptions allowed is negative"#;
        assert_eq!(refused(&budget(-1)), Err((403, negative.to_owned())));
        assert_eq!(refused(&budget(0)), Err((429, REFUSED.to_owned())));
        let next = spent(budget(1), "p", NOW);
        assert_eq!(next["status"]["disruptedPods"], json!({"p": NOW}));
        assert_eq!(next["status"]["conditions"][0]["reason"], "InsufficientPods");
        assert_eq!(spent(budget(2), "p", NOW)["status"]["conditions"], Value::Null);
    }
}
