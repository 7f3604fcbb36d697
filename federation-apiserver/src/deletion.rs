//! What a delete means for an object: go now, or stay marked until its finalizers are done.
//!
//! Pure, and the only place that knows: DELETE over HTTP and the housekeeping controllers both ask here. Follows the generic
//! registry store of kube-apiserver (`deletionFinalizersForGarbageCollection`, `BeforeDelete`) and, for Pods, their
//! `CheckGracefulDelete`: a Pod that was given to a node stays for its grace period, or until the node says that it ended.

use federation_core::api::marks;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::validation::pod;

/// Finalizer that holds an owner until its blocking dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer that holds an owner until its dependents are released.
pub(crate) const ORPHAN: &str = "orphan";

/// What happens to an object's dependents: `propagationPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected after it went.
    Background,
    /// They go first.
    Foreground,
    /// They stay, without their owner reference.
    Orphan,
}

impl Propagation {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }

    /// Reads its name in the API.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Background, Self::Foreground, Self::Orphan].into_iter().find(|policy| policy.as_str() == name)
    }
}

/// How to delete: the parts of `meta.k8s.io` DeleteOptions that decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    /// `propagationPolicy`.
    pub propagation: Option<Propagation>,
    /// `orphanDependents`, deprecated; excludes `propagation`.
    pub orphan_dependents: Option<bool>,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `gracePeriodSeconds`; what is below 0 counts as 1.
    pub grace_seconds: Option<i64>,
}

/// A field of DeleteOptions that cannot stand (HTTP 422, cause FieldValueInvalid).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub(crate) struct InvalidOptions {
    /// The field's path.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl DeleteOptions {
    /// Reads and validates a DeleteOptions object; `null` means no options.
    pub(crate) fn from_value(options: &Value) -> Result<Self, InvalidOptions> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let propagation = match options["propagationPolicy"].as_str() {
            None => None,
            Some(name) => Some(Propagation::parse(name).ok_or_else(|| InvalidOptions {
                field: "propagationPolicy",
                message: format!(
                    "Unsupported value: {name:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                ),
            })?),
        };
        let options = Self {
            propagation,
            orphan_dependents: options["orphanDependents"].as_bool(),
            uid: text(&options["preconditions"]["uid"]),
            resource_version: text(&options["preconditions"]["resourceVersion"]),
            grace_seconds: options["gracePeriodSeconds"].as_i64(),
        };
        options.validate()?;
        Ok(options)
    }

    /// Refuses options that contradict each other.
    pub(crate) fn validate(&self) -> Result<(), InvalidOptions> {
        if let (Some(policy), Some(_)) = (self.propagation, self.orphan_dependents) {
            return Err(InvalidOptions {
                field: "propagationPolicy",
                message: format!(
                    "Invalid value: {:?}: orphanDependents and deletionPropagation cannot be both set",
                    policy.as_str()
                ),
            });
        }
        Ok(())
    }

    /// What was asked for the dependents, in either way; `None` if nothing was.
    pub(crate) fn asked(&self) -> Option<Propagation> {
        self.propagation.or_else(|| {
            self.orphan_dependents
                .map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background })
        })
    }
}

/// What a delete does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeleteDecision {
    /// Nothing holds the object: remove it.
    RemoveNow,
    /// Store this state, so that watchers see that it goes without grace, and then remove it.
    MarkAndRemove(Value),
    /// Store this state: marked, and held by its finalizers or by its grace period.
    MarkDeleting(Value),
    /// It is marked already and this delete changes nothing.
    AlreadyDeleting,
    /// A precondition does not hold (HTTP 409).
    PreconditionFailed {
        /// `UID` or `ResourceVersion`, as kube-apiserver's message has it.
        field: &'static str,
        /// What the options name.
        expected: String,
        /// What the object has.
        actual: String,
    },
}

/// Decides a delete of `current` at `now`. `default_propagation` is the kind's policy when neither the options nor the
/// object's finalizers say one: Background for everything but Jobs and ReplicationControllers.
pub(crate) fn decide_delete(
    current: &Value,
    options: &DeleteOptions,
    now: Timestamp,
    default_propagation: Propagation,
) -> DeleteDecision {
    let metadata = &current["metadata"];
    let preconditions = [
        ("UID", &options.uid, &metadata["uid"]),
        ("ResourceVersion", &options.resource_version, &metadata["resourceVersion"]),
    ];
    for (field, expected, actual) in preconditions {
        let actual = actual.as_str().unwrap_or_default();
        if let Some(expected) = expected
            && expected != actual
        {
            return DeleteDecision::PreconditionFailed {
                field,
                expected: expected.clone(),
                actual: actual.to_owned(),
            };
        }
    }
    let mut next = current.clone();
    let deleting = metadata["deletionTimestamp"].is_string();
    let grace = if is_pod(current) { take_grace(&mut next, options, now) } else { Grace::Unknown };
    // Whoever waits for its end already is not told anew what to do with its dependents.
    if grace == Grace::Pending {
        return DeleteDecision::AlreadyDeleting;
    }
    let finalizers = finalizers_after(&finalizers(current), options, default_propagation);
    set_finalizers(&mut next, &finalizers);
    let held = !finalizers.is_empty() || is_held_by_spec(current);
    match grace {
        Grace::Unknown | Grace::Pending if !held => return DeleteDecision::RemoveNow,
        Grace::Given(0) if !held => return DeleteDecision::MarkAndRemove(next),
        Grace::Given(_) => {
            record_propagation(&mut next, options);
            return DeleteDecision::MarkDeleting(next);
        }
        Grace::Unknown | Grace::Pending => {}
    }
    record_propagation(&mut next, options);
    if !deleting {
        mark(&mut next, now);
    }
    if next == *current { DeleteDecision::AlreadyDeleting } else { DeleteDecision::MarkDeleting(next) }
}

/// Whether an update left a marked object with nothing that holds it, so that it goes instead of being stored.
pub(crate) fn is_released(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
        && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
        && finalizers(object).is_empty()
        && !is_held_by_spec(object)
}

/// The finalizers of an object.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Sets the finalizers of an object; an empty list leaves none behind.
pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let Some(metadata) = metadata_mut(object) else { return };
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
}

fn finalizers_after(existing: &[String], options: &DeleteOptions, default: Propagation) -> Vec<String> {
    let has = |name: &str| existing.iter().any(|finalizer| finalizer == name);
    let policy = options.asked().unwrap_or_else(|| {
        if has(ORPHAN) {
            Propagation::Orphan
        } else if has(FOREGROUND) {
            Propagation::Foreground
        } else {
            default
        }
    });
    let wanted = match policy {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let mut finalizers: Vec<String> = existing
        .iter()
        .filter(|name| (*name != ORPHAN && *name != FOREGROUND) || Some(name.as_str()) == wanted)
        .cloned()
        .collect();
    if let Some(wanted) = wanted
        && !has(wanted)
    {
        finalizers.push(wanted.to_owned());
    }
    finalizers
}

/// Namespaces have a second list of finalizers, in `spec`: `kubernetes` holds them until they are empty.
fn is_held_by_spec(object: &Value) -> bool {
    is_namespace(object)
        && object["spec"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

fn is_namespace(object: &Value) -> bool {
    object["kind"] == "Namespace" && object["apiVersion"] == "v1"
}

fn is_pod(object: &Value) -> bool {
    object["kind"] == "Pod" && object["apiVersion"] == "v1"
}

/// What a delete makes of the time that the object has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grace {
    /// It has none, or none is left.
    Unknown,
    /// It has been given time before, and this delete does not shorten it.
    Pending,
    /// It has so many seconds from when its deletion was first asked for.
    Given(i64),
}

/// Gives a pod the time that a delete leaves it, or shortens what it was given. One that no node has, or that ended, needs none.
fn take_grace(pod: &mut Value, options: &DeleteOptions, now: Timestamp) -> Grace {
    let asked = options.grace_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let metadata = &pod["metadata"];
    if let Some(until) = metadata["deletionTimestamp"].as_str() {
        let given = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        let given = if given < 0 { 1 } else { given };
        if given == 0 {
            return Grace::Unknown;
        }
        let Some(shorter) = asked.filter(|asked| *asked < given) else { return Grace::Pending };
        let until = until.parse().unwrap_or(now);
        let since = until.saturating_sub(SignedDuration::from_secs(given)).unwrap_or(until);
        give_grace(pod, since, shorter);
        return Grace::Given(shorter);
    }
    let running =
        pod["spec"]["nodeName"].as_str().is_some_and(|name| !name.is_empty()) && !pod::has_ended(pod);
    let wanted = asked.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or_default();
    let seconds = match wanted {
        _ if !running => 0,
        wanted if wanted < 0 => 1,
        wanted => wanted,
    };
    give_grace(pod, now, seconds);
    if let Some(metadata) = metadata_mut(pod) {
        raise_generation(metadata);
    }
    Grace::Given(seconds)
}

fn give_grace(pod: &mut Value, since: Timestamp, grace_seconds: i64) {
    let until = since.saturating_add(SignedDuration::from_secs(grace_seconds)).unwrap_or(since);
    if let Some(metadata) = metadata_mut(pod) {
        metadata.insert("deletionTimestamp".into(), json!(seconds(until)));
        metadata.insert("deletionGracePeriodSeconds".into(), json!(grace_seconds));
    }
}

fn raise_generation(metadata: &mut Map<String, Value>) {
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64)
        && generation > 0
    {
        metadata.insert("generation".into(), json!(generation + 1));
    }
}

fn mark(object: &mut Value, now: Timestamp) {
    // Namespaces and definitions have a way of their own to go, which knows no grace.
    let definition =
        object["kind"] == "CustomResourceDefinition" && object["apiVersion"] == "apiextensions.k8s.io/v1";
    let graceful = !is_namespace(object) && !definition;
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert("deletionTimestamp".into(), json!(seconds(now)));
        if graceful {
            metadata.insert("deletionGracePeriodSeconds".into(), json!(0));
            raise_generation(metadata);
        }
    }
    if is_namespace(object) {
        object["status"]["phase"] = json!("Terminating");
    }
}

/// The controller that removes the copies in the members must learn what the delete asked for (docs/ARCHITECTURE.md).
fn record_propagation(object: &mut Value, options: &DeleteOptions) {
    let Some(asked) = options.asked() else { return };
    // A namespace passes it on to its contents, which may have copies even if it has none itself.
    if !is_namespace(object) && !finalizers(object).iter().any(|finalizer| finalizer == marks::FINALIZER) {
        return;
    }
    let Some(metadata) = metadata_mut(object) else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(marks::DELETION_PROPAGATION.into(), json!(asked.as_str()));
    }
}

/// A time as the API writes it: UTC, to the second.
pub(crate) fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata")?.as_object_mut()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T17:00:00Z".parse().unwrap()
    }

    fn mk_object(finalizers: &[&str]) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {
            "name": "web", "uid": "u1", "resourceVersion": "7", "generation": 3, "finalizers": finalizers,
        }})
    }

    fn ask(propagation: Propagation) -> DeleteOptions {
        DeleteOptions { propagation: Some(propagation), ..Default::default() }
    }

    fn delete(object: &Value, options: &DeleteOptions) -> DeleteDecision {
        decide_delete(object, options, now(), Propagation::Background)
    }

    #[track_caller]
    fn marked(object: &Value, options: &DeleteOptions) -> Value {
        match delete(object, options) {
            DeleteDecision::MarkDeleting(next) => next,
            other => panic!("expected a mark, got {other:?}"),
        }
    }

    #[test]
    fn an_object_that_nothing_holds_goes_at_once() {
        assert_eq!(delete(&mk_object(&[]), &DeleteOptions::default()), DeleteDecision::RemoveNow);
    }

    #[test]
    fn a_finalizer_holds_the_object_marked() {
        let metadata = &marked(&mk_object(&["e.com/a"]), &DeleteOptions::default())["metadata"];
        assert_eq!(metadata["deletionTimestamp"], "2026-11-24T17:00:00Z");
        assert_eq!(metadata["deletionGracePeriodSeconds"], 0);
        assert_eq!(metadata["generation"], 4);
        assert_eq!(metadata["finalizers"], json!(["e.com/a"]));
    }

    #[test]
    fn a_second_delete_changes_nothing() {
        let object = marked(&mk_object(&["e.com/a"]), &DeleteOptions::default());
        assert_eq!(delete(&object, &DeleteOptions::default()), DeleteDecision::AlreadyDeleting);
    }

    #[test]
    fn a_second_delete_may_change_the_policy_but_not_the_time() {
        let object = marked(&mk_object(&["e.com/a"]), &ask(Propagation::Foreground));
        let later = now() + SignedDuration::from_secs(9);
        let DeleteDecision::MarkDeleting(next) =
            decide_delete(&object, &ask(Propagation::Orphan), later, Propagation::Background)
        else {
            panic!("expected a mark");
        };
        assert_eq!(next["metadata"]["finalizers"], json!(["e.com/a", "orphan"]));
        assert_eq!(next["metadata"]["deletionTimestamp"], "2026-11-24T17:00:00Z");
        assert_eq!(next["metadata"]["generation"], 4);
    }

    #[test]
    fn policies_add_their_finalizers() {
        assert_eq!(finalizers(&marked(&mk_object(&[]), &ask(Propagation::Orphan))), ["orphan"]);
        assert_eq!(
            finalizers(&marked(&mk_object(&[]), &ask(Propagation::Foreground))),
            ["foregroundDeletion"]
        );
        let old = DeleteOptions { orphan_dependents: Some(true), ..Default::default() };
        assert_eq!(finalizers(&marked(&mk_object(&[]), &old)), ["orphan"]);
    }

    #[test]
    fn background_drops_the_other_policies_finalizers() {
        assert_eq!(delete(&mk_object(&["orphan"]), &ask(Propagation::Background)), DeleteDecision::RemoveNow);
        assert_eq!(finalizers(&marked(&mk_object(&["orphan"]), &DeleteOptions::default())), ["orphan"]);
    }

    #[test]
    fn both_ways_to_say_the_policy_exclude_each_other() {
        let error =
            DeleteOptions::from_value(&json!({"propagationPolicy": "Orphan", "orphanDependents": true}));
        assert_eq!(error.unwrap_err().field, "propagationPolicy");
        assert!(DeleteOptions::from_value(&json!({"propagationPolicy": "Sideways"})).is_err());
        assert_eq!(DeleteOptions::from_value(&Value::Null), Ok(DeleteOptions::default()));
    }

    #[test]
    fn preconditions_are_checked() {
        let options = DeleteOptions { uid: Some("u2".into()), ..Default::default() };
        let expect =
            DeleteDecision::PreconditionFailed { field: "UID", expected: "u2".into(), actual: "u1".into() };
        assert_eq!(delete(&mk_object(&[]), &options), expect);
        let options = DeleteOptions {
            resource_version: Some("7".into()),
            uid: Some("u1".into()),
            ..Default::default()
        };
        assert_eq!(delete(&mk_object(&[]), &options), DeleteDecision::RemoveNow);
    }

    #[test]
    fn a_template_remembers_what_the_delete_asked() {
        for policy in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
            let object = marked(&mk_object(&[marks::FINALIZER]), &ask(policy));
            assert_eq!(object["metadata"]["annotations"][marks::DELETION_PROPAGATION], policy.as_str());
        }
        let object = marked(&mk_object(&[marks::FINALIZER]), &DeleteOptions::default());
        assert_eq!(object["metadata"]["annotations"], Value::Null);
        let object = marked(&mk_object(&["e.com/a"]), &ask(Propagation::Background));
        assert_eq!(object["metadata"]["annotations"], Value::Null);
    }

    fn mk_pod(node: &str, phase: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u1", "generation": 1},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}})
    }

    fn within(seconds: i64) -> DeleteOptions {
        DeleteOptions { grace_seconds: Some(seconds), ..Default::default() }
    }

    #[track_caller]
    fn graced(object: &Value, until: &str, seconds: i64) {
        let metadata = &object["metadata"];
        let found = (&metadata["deletionTimestamp"], &metadata["deletionGracePeriodSeconds"]);
        assert_eq!(found, (&json!(until), &json!(seconds)));
    }

    #[test]
    fn a_pod_on_a_node_has_its_grace_period_and_only_then_goes() {
        let pod = marked(&mk_pod("n", "Running"), &DeleteOptions::default());
        graced(&pod, "2026-11-24T17:00:30Z", 30);
        assert_eq!(pod["metadata"]["generation"], 2);
        assert!(!is_released(&pod));
        graced(&marked(&mk_pod("n", "Pending"), &within(7)), "2026-11-24T17:00:07Z", 7);
        graced(&marked(&mk_pod("n", "Running"), &within(-5)), "2026-11-24T17:00:01Z", 1);
        let far = marked(&mk_pod("n", "Running"), &within(i64::MAX));
        assert_eq!(far["metadata"]["deletionGracePeriodSeconds"], i64::MAX);
    }

    #[test]
    fn a_pod_that_no_node_has_or_that_ended_goes_at_once_and_is_seen_going() {
        for pod in [mk_pod("", "Pending"), mk_pod("n", "Succeeded"), mk_pod("n", "Failed")] {
            let DeleteDecision::MarkAndRemove(last) = delete(&pod, &within(60)) else { panic!("it stays") };
            graced(&last, "2026-11-24T17:00:00Z", 0);
        }
        assert!(matches!(delete(&mk_pod("n", "Running"), &within(0)), DeleteDecision::MarkAndRemove(_)));
    }

    #[test]
    fn a_second_delete_may_only_shorten_the_grace_period() {
        let pod = marked(&mk_pod("n", "Running"), &DeleteOptions::default());
        for later in [DeleteOptions::default(), within(30), within(31), ask(Propagation::Foreground)] {
            assert_eq!(delete(&pod, &later), DeleteDecision::AlreadyDeleting);
        }
        let shorter = marked(&pod, &within(5));
        graced(&shorter, "2026-11-24T17:00:05Z", 5);
        assert_eq!(shorter["metadata"]["generation"], 2);
        assert!(matches!(delete(&shorter, &within(0)), DeleteDecision::MarkAndRemove(_)));
    }

    #[test]
    fn finalizers_hold_a_pod_beyond_its_grace_period() {
        let mut pod = mk_pod("n", "Running");
        pod["metadata"]["finalizers"] = json!(["e.com/a"]);
        let pod = marked(&pod, &DeleteOptions::default());
        let mut free = pod.clone();
        set_finalizers(&mut free, &[]);
        assert!(!is_released(&free), "its grace period is not over");
        let pod = marked(&pod, &within(0));
        graced(&pod, "2026-11-24T17:00:00Z", 0);
        assert_eq!(delete(&pod, &within(0)), DeleteDecision::AlreadyDeleting);
        let mut free = pod;
        set_finalizers(&mut free, &[]);
        assert!(is_released(&free));
        let pod = marked(&mk_pod("n", "Running"), &ask(Propagation::Foreground));
        graced(&pod, "2026-11-24T17:00:30Z", 30);
        assert_eq!(finalizers(&pod), ["foregroundDeletion"]);
    }

    #[test]
    fn a_namespace_is_held_by_its_spec() {
        let mut namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        namespace = marked(&namespace, &DeleteOptions::default());
        assert_eq!(namespace["status"]["phase"], "Terminating");
        assert!(!is_released(&namespace));
        namespace["spec"]["finalizers"] = json!([]);
        assert!(is_released(&namespace));
    }
}
