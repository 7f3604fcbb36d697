//! `--authorization-config`: an `apiserver.config.k8s.io` AuthorizationConfiguration (KEP-3221), which can name several webhooks.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{
    access_webhook::{self, AccessWebhook, Particulars},
    authz::Mode,
};
use crate::store::Storage;

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
    /// A field is wrong.
    #[error("{field}: {why}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The modes in order, and the webhooks of those of them that are webhooks.
///
/// # Errors
/// When the file cannot be read, or a field is wrong.
pub fn load(path: &Path, storage: &Storage) -> Result<(Vec<Mode>, Vec<AccessWebhook>), Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let wrong = |field: &str, why: &str| Error::Field { field: field.to_owned(), why: why.to_owned() };
    let document: Value = serde_saphyr::from_str(&text)
        .map_err(|error| wrong("AuthorizationConfiguration", &error.to_string()))?;
    let version = document["apiVersion"].as_str().unwrap_or_default();
    let known = ["v1", "v1beta1"].iter().any(|known| version == format!("apiserver.config.k8s.io/{known}"));
    if !known || document["kind"] != "AuthorizationConfiguration" {
        return Err(wrong("apiVersion", "want apiserver.config.k8s.io/v1, Kind=AuthorizationConfiguration"));
    }
    let (mut modes, mut webhooks) = (Vec::new(), Vec::new());
    for (at, authorizer) in document["authorizers"].as_array().into_iter().flatten().enumerate() {
        let field = format!("authorizers[{at}]");
        modes.push(match authorizer["type"].as_str().unwrap_or_default() {
            "AlwaysAllow" => Mode::AlwaysAllow,
            "AlwaysDeny" => Mode::AlwaysDeny,
            "RBAC" => Mode::Rbac,
            "Webhook" => {
                webhooks.push(webhook(&authorizer["webhook"], &format!("{field}.webhook"), storage)?);
                Mode::Webhook
            }
            _ => {
                let why = "want one of AlwaysAllow, AlwaysDeny, RBAC and Webhook";
                return Err(wrong(&format!("{field}.type"), why));
            }
        });
    }
    if modes.is_empty() {
        return Err(wrong("authorizers", "at least one authorization mode must be defined"));
    }
    Ok((modes, webhooks))
}

fn webhook(webhook: &Value, field: &str, storage: &Storage) -> Result<AccessWebhook, Error> {
    let wrong = |name: &str, why: String| Error::Field { field: format!("{field}.{name}"), why };
    let time = |name: &str, default: u64| match webhook[name].as_str() {
        None => Ok(Duration::from_secs(default)),
        Some(text) => super::duration(text).map_err(|why| wrong(name, why)),
    };
    let version = webhook["subjectAccessReviewVersion"].as_str().unwrap_or_default();
    if !["v1", "v1beta1"].contains(&version) {
        return Err(wrong("subjectAccessReviewVersion", "want v1 or v1beta1".to_owned()));
    }
    let fails_closed = match webhook["failurePolicy"].as_str() {
        Some("NoOpinion") => false,
        Some("Deny") => true,
        _ => return Err(wrong("failurePolicy", "want NoOpinion or Deny".to_owned())),
    };
    let connection = &webhook["connectionInfo"];
    let file = connection["kubeConfigFile"].as_str().filter(|_| connection["type"] == "KubeConfigFile");
    let file = file
        .ok_or_else(|| wrong("connectionInfo", "want type KubeConfigFile, and kubeConfigFile".to_owned()))?;
    let particulars = Particulars {
        version: version.to_owned(),
        allowed_ttl: time("authorizedTTL", 300)?,
        other_ttl: time("unauthorizedTTL", 30)?,
        fails_closed,
        conditions: access_webhook::conditions(webhook).map_err(|why| wrong("matchConditions", why))?,
    };
    AccessWebhook::new(Path::new(file), particulars, storage)
        .map_err(|error| wrong("connectionInfo.kubeConfigFile", error.to_string()))
}
