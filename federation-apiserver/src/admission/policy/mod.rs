//! Admission policies: rules in the Common Expression Language over what is written (KEP-3488), and changes of it (KEP-3962).
//!
//! Policies are compiled when they, or their bindings, have changed since the last write; a write asks only whether they have,
//! which compares pointers. Each evaluation of a policy spends one budget, so that no policy makes the server slow.
//!
//! - [`definition`] is what both kinds have in common: match rules, parameters, variables, conditions.
//! - [`validating`] admits or refuses, [`mutating`] makes patches.
//! - [`authorizer`] answers what expressions ask the authorizer.
//! - [`check`] finds the errors of a policy, and [`type_checking`] the warnings in its status.

pub(super) mod authorizer;
mod check;
mod definition;
pub(super) mod mutating;
mod type_checking;
pub(super) mod validating;

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use kube_cel::Value as Cel;
use serde_json::{Value, json};

pub(crate) use check::{check_conditions, check_policy};
pub(super) use definition::{Misconfigured, base_types};
use mutating::MutatingPolicy;
pub(crate) use type_checking::warnings as type_warnings;
use validating::ValidatingPolicy;

use super::matching::{self, Subject};
use crate::{
    cache::{Checked, Collection},
    registry::KindRef,
    store::{ResourceKey, Snapshot, Stored},
};

/// `RuntimeCELCostBudget`, in our steps: about a second for a policy that needs all of it.
const STEPS_MAX: u64 = 5_000_000;

const GROUP: &str = "admissionregistration.k8s.io";
static KEYS: LazyLock<[ResourceKey; 4]> = LazyLock::new(|| {
    [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ]
    .map(|plural| ResourceKey::new(GROUP, plural))
});

/// The policies of a server, compiled.
#[derive(Default)]
pub(crate) struct Policies(ArcSwap<State>);

/// One state of the policies.
#[derive(Default)]
pub(super) struct State {
    made_from: [Collection; 4],
    checked: Checked,
    pub(super) validating: Vec<Bound<ValidatingPolicy>>,
    pub(super) mutating: Vec<Bound<MutatingPolicy>>,
}

/// A policy and one of its bindings.
pub(super) struct Bound<P> {
    pub(super) policy: Arc<P>,
    pub(super) binding: Binding,
}

/// A binding of a policy: where it applies.
#[derive(Clone)]
pub(super) struct Binding {
    pub(super) name: String,
    policy: String,
    pub(super) spec: Value,
}

/// What a request looks like to policies.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) subject: Subject<'a>,
    /// `AdmissionRequest`, without its objects.
    pub(crate) request: Value,
    /// The Namespace object, if there is one.
    pub(crate) namespace: Option<Value>,
    /// The variable `authorizer`.
    pub(crate) authorizer: Cel,
}

/// Finds the objects that a policy takes its parameters from.
pub(crate) trait Parameters {
    /// The resource of a kind, and whether it is namespaced.
    fn resource_of(&self, api_version: &str, kind: &str) -> Option<(ResourceKey, bool)>;
}

impl Policies {
    /// The policies as of a snapshot.
    pub(super) fn state(&self, snapshot: &Snapshot) -> Arc<State> {
        let state = self.0.load_full();
        let same =
            || KEYS.iter().zip(&state.made_from).all(|(key, known)| snapshot.collection(key).same(known));
        if state.checked.holds(snapshot, same) {
            return state;
        }
        let made_from = KEYS.each_ref().map(|key| snapshot.collection(key));
        let [validating, validating_bindings, mutating, mutating_bindings] = &made_from;
        let next = Arc::new(State {
            validating: bind(validating, validating_bindings, ValidatingPolicy::read),
            mutating: bind(mutating, mutating_bindings, MutatingPolicy::read),
            made_from,
            checked: Checked::at(snapshot),
        });
        self.0.store(Arc::clone(&next));
        next
    }
}

fn bind<P>(policies: &Collection, bindings: &Collection, read: impl Fn(&str, &Value) -> P) -> Vec<Bound<P>> {
    let bindings: Vec<_> = bindings.iter().filter_map(|stored| Binding::read(stored)).collect();
    let mut bound = Vec::new();
    for stored in policies.iter() {
        let Ok(object) = stored.value() else { continue };
        let name = &stored.key.name;
        let policy = Arc::new(read(name, &object["spec"]));
        let own = bindings.iter().filter(|binding| binding.policy == *name);
        bound.extend(own.map(|binding| Bound { policy: Arc::clone(&policy), binding: binding.clone() }));
    }
    bound
}

impl Binding {
    fn read(stored: &Stored) -> Option<Self> {
        let object = stored.value().ok()?;
        let policy = object["spec"]["policyName"].as_str()?.to_owned();
        Some(Self { name: stored.key.name.clone(), policy, spec: object["spec"].clone() })
    }

    /// Whether the binding is for a request in one of the versions of its kind.
    pub(super) fn is_for(&self, subject: &Subject<'_>, others: &[KindRef]) -> bool {
        matching::chosen(&self.spec["matchResources"], subject, others).is_some()
    }
}

/// `admission.k8s.io` AdmissionRequest, as far as expressions may ask for it.
pub(crate) fn request_value(
    subject: &Subject<'_>,
    kind: &str,
    namespace: &str,
    user: &crate::auth::User,
    dry_run: bool,
) -> Value {
    let kind = json!({"group": subject.group, "version": subject.version, "kind": kind});
    let resource = json!({"group": subject.group, "version": subject.version, "resource": subject.resource});
    // A Namespace is in itself, as paths have it.
    let is_namespace = subject.group.is_empty() && subject.resource == "namespaces";
    let namespace = if is_namespace { subject.name } else { namespace };
    json!({
        "kind": kind,
        "resource": resource,
        "subResource": subject.subresource,
        "requestKind": kind,
        "requestResource": resource,
        "requestSubResource": subject.subresource,
        "name": subject.name,
        "namespace": namespace,
        "operation": subject.operation.as_str(),
        "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
        "dryRun": dry_run,
    })
}
