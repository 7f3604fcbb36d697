//! The configured webhooks. They are read again when a configuration has changed.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use kube_cel::{Program, Type};
use serde_json::{Value, json};

use crate::{
    admission::policy,
    cache::{Checked, Collection},
    outbound::{self, Server},
    store::{ResourceKey, Snapshot},
};

const GROUP: &str = "admissionregistration.k8s.io";
static MUTATING: LazyLock<ResourceKey> =
    LazyLock::new(|| ResourceKey::new(GROUP, "mutatingwebhookconfigurations"));
static VALIDATING: LazyLock<ResourceKey> =
    LazyLock::new(|| ResourceKey::new(GROUP, "validatingwebhookconfigurations"));

/// The webhooks of a server.
#[derive(Default)]
pub(crate) struct Webhooks(ArcSwap<State>);

/// The webhooks as of one state of the store.
#[derive(Default)]
pub(super) struct State {
    mutating_stored: Collection,
    validating_stored: Collection,
    checked: Checked,
    pub(super) mutating: Vec<Hook>,
    pub(super) validating: Vec<Hook>,
}

/// One webhook.
pub(super) struct Hook {
    pub(super) name: String,
    pub(super) configuration: String,
    /// Rules and selectors, in the form of a policy's `matchConstraints`.
    pub(super) constraints: Value,
    /// Expressions that must all be true, with their sources.
    pub(super) conditions: Vec<(String, Result<Program, String>)>,
    pub(super) ignore_failures: bool,
    pub(super) reinvoke: bool,
    pub(super) timeout: Duration,
    /// It has no side effects on a dry run, so that it may be called for one.
    pub(super) spares_dry_runs: bool,
    /// `admission.k8s.io/v1` or `v1beta1`; none if it speaks neither.
    pub(super) review_version: Option<&'static str>,
    pub(super) server: Result<Server, String>,
}

impl Webhooks {
    /// The webhooks as of a snapshot. Connections to those that have not changed are kept with their configurations' collections.
    pub(super) fn state(&self, snapshot: &Snapshot) -> Arc<State> {
        let state = self.0.load_full();
        let stored = || (snapshot.collection(&MUTATING), snapshot.collection(&VALIDATING));
        let same = || {
            let (mutating, validating) = stored();
            mutating.same(&state.mutating_stored) && validating.same(&state.validating_stored)
        };
        if state.checked.holds(snapshot, same) {
            return state;
        }
        let (mutating, validating) = stored();
        let next = Arc::new(State {
            mutating: read(&mutating),
            validating: read(&validating),
            mutating_stored: mutating,
            validating_stored: validating,
            checked: Checked::at(snapshot),
        });
        self.0.store(Arc::clone(&next));
        next
    }

    /// Whether there are no webhooks, the most frequent case.
    pub(crate) fn is_idle(&self, snapshot: &Snapshot) -> bool {
        let state = self.state(snapshot);
        state.mutating.is_empty() && state.validating.is_empty()
    }
}

fn read(configurations: &Collection) -> Vec<Hook> {
    let objects = configurations.iter().filter_map(|stored| Some((&stored.key.name, stored.value().ok()?)));
    objects
        .flat_map(|(name, object)| {
            let webhooks = object["webhooks"].as_array().cloned().unwrap_or_default();
            webhooks.into_iter().map(|webhook| Hook::read(name, &webhook)).collect::<Vec<_>>()
        })
        .collect()
}

impl Hook {
    fn read(configuration: &str, webhook: &Value) -> Self {
        let items = |name: &str| webhook[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let known = policy::base_types(false);
        let conditions = items("matchConditions").iter().map(|condition| {
            let source = condition["expression"].as_str().unwrap_or_default();
            let program = Program::compile_as(source, &known, &Type::Bool);
            (source.to_owned(), program.map_err(|error| error.to_string()))
        });
        let mut spoken = items("admissionReviewVersions").iter().filter_map(Value::as_str);
        let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30);
        Self {
            name: webhook["name"].as_str().unwrap_or_default().to_owned(),
            configuration: configuration.to_owned(),
            constraints: json!({
                "resourceRules": webhook["rules"],
                "namespaceSelector": webhook["namespaceSelector"],
                "objectSelector": webhook["objectSelector"],
                "matchPolicy": webhook["matchPolicy"],
            }),
            conditions: conditions.collect(),
            ignore_failures: webhook["failurePolicy"] == "Ignore",
            reinvoke: webhook["reinvocationPolicy"] == "IfNeeded",
            timeout: Duration::from_secs(seconds),
            spares_dry_runs: matches!(webhook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
            review_version: spoken
                .find_map(|version| ["v1", "v1beta1"].into_iter().find(|known| *known == version)),
            server: outbound::configured(&webhook["clientConfig"]),
        }
    }
}
