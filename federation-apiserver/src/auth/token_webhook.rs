//! Tokens that another server knows: `--authentication-token-webhook-config-file` (`token/webhook`).

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{AUTHENTICATED, User, service_account_tokens::Identity};
use crate::{
    outbound::{self, KubeconfigError, Server},
    store::Storage,
};

/// Answers that are remembered: 4,096 of them take some 4 MiB; when it is full, it starts anew.
const REMEMBERED_MAX: usize = 4096;

/// Flags for it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Kubeconfig of the token webhook, which is sent a TokenReview for each token that this server does not know.
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// How long its answers are cached.
    #[arg(long, value_name = "DURATION", value_parser = apimachinery::go_duration::flag, default_value = "2m")]
    pub authentication_token_webhook_cache_ttl: Duration,
    /// Version of the TokenReview.
    #[arg(long, value_name = "VERSION", default_value = "v1beta1", value_parser = ["v1", "v1beta1"])]
    pub authentication_token_webhook_version: String,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            authentication_token_webhook_config_file: None,
            authentication_token_webhook_cache_ttl: Duration::from_secs(120),
            authentication_token_webhook_version: "v1beta1".to_owned(),
        }
    }
}

/// Answers by digests of tokens: who it is, if anybody, and when that was said.
type Remembered = HashMap<[u8; 32], (Instant, Option<Identity>)>;

/// A server that knows tokens.
pub struct TokenWebhook {
    server: Server,
    version: String,
    ttl: Duration,
    storage: Storage,
    remembered: Mutex<Remembered>,
}

impl TokenWebhook {
    /// The server that flags name; none if they name none.
    ///
    /// # Errors
    /// When its kubeconfig cannot be used.
    pub fn from_flags(flags: &Flags, storage: &Storage) -> Result<Option<Self>, KubeconfigError> {
        let Some(path) = &flags.authentication_token_webhook_config_file else { return Ok(None) };
        Ok(Some(Self {
            server: outbound::from_kubeconfig(path)?,
            version: flags.authentication_token_webhook_version.clone(),
            ttl: flags.authentication_token_webhook_cache_ttl,
            storage: storage.clone(),
            remembered: Mutex::default(),
        }))
    }

    /// Who a token is; none if the server does not know it either. `own` are this server's audiences, `audiences` those asked for.
    pub async fn identify(
        &self,
        token: &str,
        audiences: &[String],
        own: &[String],
    ) -> Option<Result<Identity, String>> {
        let wanted = if audiences.is_empty() { own } else { audiences };
        let mut digest = Sha256::new_with_prefix(token.as_bytes());
        for audience in wanted {
            digest.update([0_u8]);
            digest.update(audience.as_bytes());
        }
        let key: [u8; 32] = digest.finalize().into();
        let now = Instant::now();
        let known = self.remembered.lock().get(&key).filter(|(until, _)| now < *until).cloned();
        if let Some((_, known)) = known {
            return known.map(Ok);
        }
        match self.ask(token, wanted, own).await {
            Ok(found) => {
                let mut remembered = self.remembered.lock();
                if remembered.len() >= REMEMBERED_MAX {
                    remembered.clear();
                }
                remembered.insert(key, (now + self.ttl, found.clone()));
                found.map(Ok)
            }
            Err(why) => Some(Err(why)),
        }
    }

    async fn ask(&self, token: &str, wanted: &[String], own: &[String]) -> Result<Option<Identity>, String> {
        let mut review = json!({
            "kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": {"creationTimestamp": null}, "spec": {"token": token}, "status": {"user": {}},
        });
        if !wanted.is_empty() {
            review["spec"]["audiences"] = wanted.into();
        }
        let answer = outbound::review(&self.server, &self.storage, &review, outbound::REVIEW_TIMEOUT).await?;
        read(&answer["status"], wanted, own)
    }
}

/// What an answer says. Pure.
fn read(status: &Value, wanted: &[String], own: &[String]) -> Result<Option<Identity>, String> {
    if status["authenticated"] != true {
        return match status["error"].as_str().filter(|error| !error.is_empty()) {
            Some(error) => Err(error.to_owned()),
            None => Ok(None),
        };
    }
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    // A server that knows of no audiences answers for this one.
    let said = texts(&status["audiences"]);
    let said = if said.is_empty() { own.to_vec() } else { said };
    let audiences: Vec<String> = wanted.iter().filter(|audience| said.contains(audience)).cloned().collect();
    if !wanted.is_empty() && audiences.is_empty() {
        return Ok(None);
    }
    let user = &status["user"];
    let mut groups = texts(&user["groups"]);
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let extra = user["extra"].as_object().into_iter().flatten();
    let user = User {
        name: user["username"].as_str().unwrap_or_default().to_owned(),
        uid: user["uid"].as_str().unwrap_or_default().to_owned(),
        groups,
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
    };
    Ok(Some(Identity { user: Arc::new(user), audiences }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_the_audiences_that_it_names() {
        let own = ["here".to_owned()];
        let status = |audiences: Value| json!({"authenticated": true, "user": {"username": "ann", "groups": ["devs"]}, "audiences": audiences});
        let found = read(&status(Value::Null), &own, &own).expect("it is good").expect("it is known");
        assert_eq!((found.user.name.as_str(), found.audiences), ("ann", own.to_vec()));
        assert_eq!(found.user.groups, ["devs", AUTHENTICATED]);
        assert!(read(&status(json!(["there"])), &own, &own).expect("it is good").is_none());
        assert!(read(&json!({"authenticated": false}), &own, &own).expect("it is good").is_none());
        assert_eq!(read(&json!({"error": "no"}), &own, &own).err(), Some("no".to_owned()));
    }
}
