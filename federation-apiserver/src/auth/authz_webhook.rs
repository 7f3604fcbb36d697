//! Another server that decides who may do what: `--authorization-webhook-config-file` (`authorizer/webhook`).

use std::{collections::HashMap, path::PathBuf, time::Duration};

use apimachinery::rbac::Attributes;
use kube_cel::{Budget, Program, Value as Cel};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{User, authz::Decision};
use crate::{
    outbound::{self, KubeconfigError, Server},
    store::Storage,
};

/// Answers that are remembered; when it is full, it starts anew.
const REMEMBERED_MAX: usize = 8192;
/// Longer questions are not remembered (`webhook.maxControllerSize`): whoever makes them long could fill the memory.
const QUESTION_MAX_BYTES: usize = 10_000;
/// `RuntimeCELCostBudget` of match conditions.
const STEPS_MAX: u64 = 2_500_000;

/// Flags for it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Kubeconfig of the webhook for the mode Webhook, which is sent SubjectAccessReviews.
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// How long an allowing answer is cached.
    #[arg(long, value_name = "DURATION", value_parser = apimachinery::go_duration::flag, default_value = "5m")]
    pub authorization_webhook_cache_authorized_ttl: Duration,
    /// How long any other answer is cached.
    #[arg(long, value_name = "DURATION", value_parser = apimachinery::go_duration::flag, default_value = "30s")]
    pub authorization_webhook_cache_unauthorized_ttl: Duration,
    /// Version of the SubjectAccessReview.
    #[arg(long, value_name = "VERSION", default_value = "v1beta1", value_parser = ["v1", "v1beta1"])]
    pub authorization_webhook_version: String,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            authorization_webhook_config_file: None,
            authorization_webhook_cache_authorized_ttl: Duration::from_secs(300),
            authorization_webhook_cache_unauthorized_ttl: Duration::from_secs(30),
            authorization_webhook_version: "v1beta1".to_owned(),
        }
    }
}

/// A server that decides.
pub struct AuthorizationWebhook {
    server: Server,
    version: String,
    allowed_ttl: Duration,
    other_ttl: Duration,
    /// How long one question may take.
    timeout: Duration,
    /// Whether it is a no if it cannot be asked.
    fails_closed: bool,
    /// It is asked only where all of these hold; with their sources.
    conditions: Vec<(String, Program)>,
    storage: Storage,
    remembered: Mutex<HashMap<String, (Instant, Decision)>>,
}

/// What is particular to one of several such servers.
pub(super) struct WebhookSettings {
    pub(super) version: String,
    pub(super) allowed_ttl: Duration,
    pub(super) other_ttl: Duration,
    pub(super) timeout: Duration,
    pub(super) fails_closed: bool,
    pub(super) conditions: Vec<(String, Program)>,
}

impl AuthorizationWebhook {
    /// The server that flags name; none if they name none.
    ///
    /// # Errors
    /// When its kubeconfig cannot be used.
    pub fn from_flags(flags: &Flags, storage: &Storage) -> Result<Option<Self>, KubeconfigError> {
        let Some(path) = &flags.authorization_webhook_config_file else { return Ok(None) };
        let particulars = WebhookSettings {
            version: flags.authorization_webhook_version.clone(),
            allowed_ttl: flags.authorization_webhook_cache_authorized_ttl,
            other_ttl: flags.authorization_webhook_cache_unauthorized_ttl,
            timeout: outbound::REVIEW_TIMEOUT,
            fails_closed: false,
            conditions: Vec::new(),
        };
        Self::new(path, particulars, storage).map(Some)
    }

    pub(super) fn new(
        path: &std::path::Path,
        of: WebhookSettings,
        storage: &Storage,
    ) -> Result<Self, KubeconfigError> {
        let WebhookSettings { version, allowed_ttl, other_ttl, timeout, fails_closed, conditions } = of;
        Ok(Self {
            server: outbound::from_kubeconfig(path)?,
            version,
            allowed_ttl,
            other_ttl,
            timeout,
            fails_closed,
            conditions,
            storage: storage.clone(),
            remembered: Mutex::default(),
        })
    }

    /// What the server says.
    pub async fn decide(&self, user: &User, asked: &Attributes<'_>) -> Decision {
        let spec = question(user, asked);
        match self.concerns(&spec) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(why) => return self.failed(&why),
        }
        let key = spec.to_string();
        let now = Instant::now();
        if let Some((_, known)) = self.remembered.lock().get(&key).filter(|(until, _)| now < *until) {
            return known.clone();
        }
        let review = json!({
            "kind": "SubjectAccessReview", "apiVersion": format!("authorization.k8s.io/{}", self.version),
            "metadata": {"creationTimestamp": null}, "spec": self.spelled(spec), "status": {"allowed": false},
        });
        let answer = match outbound::review(&self.server, &self.storage, &review, self.timeout).await {
            Ok(answer) => answer,
            Err(why) => return self.failed(&why),
        };
        let decision = match read(&answer["status"]) {
            Ok(decision) => decision,
            Err(why) => return self.failed(&why),
        };
        if key.len() <= QUESTION_MAX_BYTES {
            let ttl = if matches!(decision, Decision::Allow(_)) { self.allowed_ttl } else { self.other_ttl };
            let mut remembered = self.remembered.lock();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(key, (now + ttl, decision.clone()));
        }
        decision
    }

    fn failed(&self, why: &str) -> Decision {
        tracing::warn!(%why, "an authorization webhook cannot be asked");
        if self.fails_closed { Decision::Deny(String::new()) } else { Decision::Failed(why.to_owned()) }
    }

    /// Whether all match conditions hold. One that is false outranks one that fails.
    fn concerns(&self, spec: &Value) -> Result<bool, String> {
        let request = [("request", Cel::from_json(spec))];
        let mut failed = None;
        for (source, program) in &self.conditions {
            match program.evaluate(&request, &mut Budget::new(STEPS_MAX)) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(error) => failed = Some(format!("expression '{source}' resulted in error: {error}")),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    /// The groups of the older version have another name.
    fn spelled(&self, mut spec: Value) -> Value {
        if self.version == "v1beta1"
            && let Some(spec) = spec.as_object_mut()
            && let Some(groups) = spec.remove("groups")
        {
            spec.insert("group".into(), groups);
        }
        spec
    }
}

/// The `spec` of the review. Pure.
fn question(user: &User, asked: &Attributes<'_>) -> Value {
    let mut spec = json!({"user": user.name});
    if !user.groups.is_empty() {
        spec["groups"] = json!(user.groups);
    }
    if !user.uid.is_empty() {
        spec["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    let given = |fields: &[(&str, &str)]| {
        let fields = fields.iter().filter(|(_, value)| !value.is_empty());
        Value::Object(fields.map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect())
    };
    match asked.path {
        Some(path) => spec["nonResourceAttributes"] = given(&[("path", path), ("verb", asked.verb)]),
        None => {
            spec["resourceAttributes"] = given(&[
                ("namespace", asked.namespace),
                ("verb", asked.verb),
                ("group", asked.group),
                ("version", asked.version),
                ("resource", asked.resource),
                ("subresource", asked.subresource),
                ("name", asked.name),
            ]);
        }
    }
    spec
}

fn read(status: &Value) -> Result<Decision, String> {
    let reason = status["reason"].as_str().unwrap_or_default();
    match (status["allowed"] == true, status["denied"] == true) {
        (true, true) => Err("webhook subject access review returned both allow and deny response".to_owned()),
        (true, false) => Ok(Decision::Allow(reason.into())),
        (false, true) => Ok(Decision::Deny(reason.to_owned())),
        (false, false) => Ok(Decision::NoOpinion(reason.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_who_wants_what_and_nothing_that_is_empty() {
        let user = User { name: "ann".into(), groups: vec!["devs".into()], ..User::default() };
        let asked = Attributes {
            namespace: "demo",
            group: "apps",
            version: "v1",
            resource: "deployments",
            ..Attributes::resource("list")
        };
        assert_eq!(
            question(&user, &asked),
            json!({"user": "ann", "groups": ["devs"], "resourceAttributes":
                {"namespace": "demo", "verb": "list", "group": "apps", "version": "v1", "resource": "deployments"}})
        );
        assert_eq!(
            question(&user, &Attributes::path("get", "/metrics"))["nonResourceAttributes"],
            json!({"path": "/metrics", "verb": "get"})
        );
    }

    #[test]
    fn an_answer_allows_denies_or_has_no_opinion() {
        assert_eq!(read(&json!({"allowed": true, "reason": "r"})), Ok(Decision::Allow("r".into())));
        assert_eq!(read(&json!({"denied": true})), Ok(Decision::Deny(String::new())));
        assert_eq!(read(&json!({"allowed": false})), Ok(Decision::NoOpinion(String::new())));
        assert!(read(&json!({"allowed": true, "denied": true})).is_err());
    }
}
