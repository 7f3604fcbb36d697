//! `--authorization-config`: an `apiserver.config.k8s.io` AuthorizationConfiguration (KEP-3221), which can name several webhooks, as
//! `pkg/apis/apiserver/validation` wants it. A field that nobody knows is refused: what is misspelled would else be a condition that does not hold.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use apimachinery::{FieldError, FieldPath, field::aggregate, names};
use kube_cel::{Program, Type};
use serde::Deserialize;

use super::{
    authz::Mode,
    authz_webhook::{AuthorizationWebhook, WebhookSettings},
    config_kind,
};
use crate::store::Storage;

/// Longest time for one question.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// Conditions of one webhook.
const CONDITIONS_MAX: usize = 64;
const MODES: [&str; 4] = ["AlwaysAllow", "AlwaysDeny", "RBAC", "Webhook"];

/// Why the file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no AuthorizationConfiguration.
    #[error("{field}: {why}")]
    Field {
        /// Where.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// Fields are wrong.
    #[error("{0}")]
    Invalid(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<AuthorizerPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorizerPart {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<Webhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Webhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    timeout: Option<String>,
    #[serde(default)]
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    #[serde(default)]
    failure_policy: String,
    #[serde(default)]
    connection_info: Connection,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    #[serde(default, rename = "type")]
    kind: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    #[serde(default)]
    expression: String,
}

type ErrorList = Vec<FieldError>;

/// The modes in order, and the webhooks of those of them that are webhooks.
///
/// # Errors
/// When the file cannot be read, or fields are wrong; all that are wrong are told.
pub fn load(path: &Path, storage: &Storage) -> Result<(Vec<Mode>, Vec<AuthorizationWebhook>), Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let wrong = |field: &str, why: &str| Error::Field { field: field.to_owned(), why: why.to_owned() };
    let file: File = serde_saphyr::from_str(&text)
        .map_err(|error| wrong("AuthorizationConfiguration", &error.to_string()))?;
    config_kind(&file.api_version, &file.kind, "AuthorizationConfiguration")
        .map_err(|why| wrong("apiVersion", &why))?;
    let (root, mut errors) = (FieldPath::new("authorizers"), ErrorList::new());
    check_names(&file.authorizers, &root, &mut errors);
    let (mut modes, mut webhooks) = (Vec::new(), Vec::new());
    for (at, authorizer) in file.authorizers.iter().enumerate() {
        let path = root.index(at);
        modes.push(match authorizer.kind.as_str() {
            "AlwaysAllow" => Mode::AlwaysAllow,
            "AlwaysDeny" => Mode::AlwaysDeny,
            "RBAC" => Mode::Rbac,
            _ => Mode::Webhook,
        });
        match (&authorizer.webhook, authorizer.kind.as_str()) {
            (Some(part), "Webhook") => {
                webhooks.extend(webhook(part, &path.child("webhook"), storage, &mut errors));
            }
            (None, "Webhook") => {
                errors.push(FieldError::required(&path.child("webhook"), "required when type=Webhook"));
            }
            (Some(_), _) => {
                let message = "may only be specified when type=Webhook";
                errors.push(FieldError::invalid(&path.child("webhook"), "non-null", message));
            }
            (None, _) => {}
        }
    }
    if errors.is_empty() { Ok((modes, webhooks)) } else { Err(Error::Invalid(aggregate(&errors))) }
}

fn check_names(authorizers: &[AuthorizerPart], root: &FieldPath, errors: &mut ErrorList) {
    if authorizers.is_empty() {
        errors.push(FieldError::required(root, "at least one authorization mode must be defined"));
    }
    for (at, AuthorizerPart { kind, name, .. }) in authorizers.iter().enumerate() {
        let (path, before) = (root.index(at), &authorizers[..at]);
        let kind_path = path.child("type");
        if kind.is_empty() {
            errors.push(FieldError::required(&kind_path, ""));
        } else if !MODES.contains(&kind.as_str()) {
            errors.push(FieldError::not_supported(&kind_path, kind.as_str(), &MODES));
        } else if kind != "Webhook" && before.iter().any(|other| other.kind == *kind) {
            errors.push(FieldError::duplicate(&kind_path, kind.as_str()));
        }
        let path = path.child("name");
        let wrong = names::dns1123_subdomain(name);
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if before.iter().any(|other| other.name == *name) {
            errors.push(FieldError::duplicate(&path, name.as_str()));
        } else if !wrong.is_empty() {
            let message = format!("authorizer name is invalid: {}", wrong.join(", "));
            errors.push(FieldError::invalid(&path, name.as_str(), &message));
        }
    }
}

/// The webhook, if nothing is wrong with it.
fn webhook(
    part: &Webhook,
    path: &FieldPath,
    storage: &Storage,
    errors: &mut ErrorList,
) -> Option<AuthorizationWebhook> {
    let before = errors.len();
    let review = path.child("subjectAccessReviewVersion");
    choice(&part.subject_access_review_version, &["v1", "v1beta1"], &review, errors);
    let review = path.child("matchConditionSubjectAccessReviewVersion");
    match part.match_condition_subject_access_review_version.as_str() {
        "" if part.match_conditions.is_empty() => {}
        "" => errors.push(FieldError::required(&review, "required if match conditions are specified")),
        "v1" => {}
        other => errors.push(FieldError::not_supported(&review, other, &["v1"])),
    }
    choice(&part.failure_policy, &["NoOpinion", "Deny"], &path.child("failurePolicy"), errors);
    let particulars = WebhookSettings {
        version: part.subject_access_review_version.clone(),
        allowed_ttl: time(
            part.authorized_ttl.as_deref().or(Some("5m")),
            &path.child("authorizedTTL"),
            errors,
        ),
        other_ttl: time(
            part.unauthorized_ttl.as_deref().or(Some("30s")),
            &path.child("unauthorizedTTL"),
            errors,
        ),
        timeout: time(part.timeout.as_deref(), &path.child("timeout"), errors),
        fails_closed: part.failure_policy == "Deny",
        conditions: conditions(&part.match_conditions, &path.child("matchConditions"), errors),
    };
    if particulars.timeout > TIMEOUT_MAX {
        let text = part.timeout.as_deref().unwrap_or_default();
        errors.push(FieldError::invalid(&path.child("timeout"), text, "must be > 0s and <= 30s"));
    }
    let (path, file) = (path.child("connectionInfo"), part.connection_info.kube_config_file.as_deref());
    choice(&part.connection_info.kind, &["KubeConfigFile"], &path.child("type"), errors);
    let path = path.child("kubeConfigFile");
    let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else {
        errors.push(FieldError::required(&path, ""));
        return None;
    };
    let shown = file.display().to_string();
    if !file.is_absolute() {
        errors.push(FieldError::invalid(&path, shown.as_str(), "must be an absolute path"));
    }
    if errors.len() > before {
        return None;
    }
    let made = AuthorizationWebhook::new(file, particulars, storage);
    made.map_err(|error| {
        errors.push(FieldError::invalid(&path, shown.as_str(), &format!("error loading file: {error}")));
    })
    .ok()
}

fn choice(value: &str, known: &[&str], path: &FieldPath, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !known.contains(&value) {
        errors.push(FieldError::not_supported(path, value, known));
    }
}

fn time(text: Option<&str>, path: &FieldPath, errors: &mut ErrorList) -> Duration {
    let Some(text) = text else {
        errors.push(FieldError::required(path, ""));
        return Duration::ZERO;
    };
    match apimachinery::go_duration::flag(text) {
        Ok(time) if !time.is_zero() => return time,
        Ok(_) => errors.push(FieldError::required(path, "")),
        Err(why) => errors.push(FieldError::invalid(path, text, &why)),
    }
    Duration::ZERO
}

fn conditions(conditions: &[Condition], path: &FieldPath, errors: &mut ErrorList) -> Vec<(String, Program)> {
    if conditions.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, conditions.len(), CONDITIONS_MAX));
    }
    let mut read: Vec<(String, Program)> = Vec::new();
    for (at, Condition { expression }) in conditions.iter().enumerate() {
        let path = path.index(at).child("expression");
        if expression.trim().is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if read.iter().any(|(known, _)| known == expression) {
            errors.push(FieldError::duplicate(&path, expression.as_str()));
        }
        match Program::compile_as(expression, &[("request", Type::Dyn)], &Type::Bool) {
            Ok(program) => read.push((expression.clone(), program)),
            Err(error) => errors.push(FieldError::invalid(&path, expression.as_str(), &error.to_string())),
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({"type": "Webhook", "name": "them", "webhook": {
            "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/not/there"},
        }})
    }

    /// What is told of a file with these authorizers.
    async fn told(authorizers: Value) -> String {
        let folder = tempfile::tempdir().expect("there is room");
        let storage = Storage::open(crate::store::Options::new(folder.path().join("store"))).await;
        let path = folder.path().join("authorization.yaml");
        let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": authorizers});
        std::fs::write(&path, file.to_string()).expect("there is room");
        load(&path, &storage.expect("it is new")).err().map_or_else(String::new, |error| error.to_string())
    }

    async fn told_with(change: impl Fn(&mut Value)) -> String {
        let mut authorizer = good();
        change(&mut authorizer["webhook"]);
        told(json!([authorizer])).await
    }

    #[tokio::test]
    async fn what_is_misspelled_is_no_condition_that_does_not_hold() {
        let found = told_with(|webhook| webhook["matchCondition"] = json!([{"expression": "false"}])).await;
        assert!(found.contains("matchCondition"), "{found}");
        let found = told_with(|webhook| webhook["matchConditions"] = json!([{"expression": "'x'"}])).await;
        assert!(found.contains("authorizers[0].webhook.matchConditions[0].expression"), "{found}");
        assert!(found.contains("required if match conditions are specified"), "{found}");
    }

    #[tokio::test]
    async fn fields_are_checked_as_kube_apiserver_checks_them() {
        assert_eq!(
            told(json!([])).await,
            "authorizers: Required value: at least one authorization mode must be defined"
        );
        assert_eq!(
            told(json!([{"type": "RBAC", "name": "a"}, {"type": "RBAC", "name": "a"}])).await,
            "[authorizers[1].type: Duplicate value: \"RBAC\", authorizers[1].name: Duplicate value: \"a\"]"
        );
        assert_eq!(
            told(json!([{"type": "ABAC", "name": "a"}])).await,
            "authorizers[0].type: Unsupported value: \"ABAC\": supported values: \"AlwaysAllow\", \"AlwaysDeny\", \"RBAC\", \"Webhook\""
        );
        assert_eq!(
            told_with(|webhook| webhook["timeout"] = "31s".into()).await,
            "authorizers[0].webhook.timeout: Invalid value: \"31s\": must be > 0s and <= 30s"
        );
        let found = told_with(|webhook| webhook["connectionInfo"]["kubeConfigFile"] = "here".into()).await;
        assert!(found.ends_with("must be an absolute path"), "{found}");
        assert!(told(json!([good()])).await.contains("error loading file"));
        assert_eq!(told(json!([{"type": "AlwaysDeny", "name": "a"}])).await, "");
    }
}
