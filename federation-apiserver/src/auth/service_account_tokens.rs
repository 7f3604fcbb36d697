//! Service account tokens: made for an account and perhaps bound to an object, and believed as long as both are there.

use std::{collections::HashMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    AUTHENTICATED, CREDENTIAL_ID, User,
    impersonation::{account_groups, service_account},
    jwt::Key as SigningKey,
};
use crate::store::{Key, ResourceKey, Storage, Stored};

/// kube-apiserver's usual `--service-account-issuer`.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Issuer of tokens in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Clocks may differ by this much.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Verified tokens that are remembered: a signature takes longer to check than all the rest of a request. 4,096 of them
/// take some 4 MiB; when it is full, it starts anew.
const REMEMBERED_MAX: usize = 4096;

/// Type of the Secrets that the token controller fills.
pub const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";
/// The account that such a Secret is for.
pub const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
/// Its uid.
pub const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// What a token is bound to, besides its account.
#[derive(Clone, Debug)]
pub struct Bound {
    /// `pod`, `secret` or `node`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Namespace of the account.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// For whom the token is.
    pub audiences: &'a [String],
    /// Until when.
    pub expires: Timestamp,
    /// What it is bound to, besides.
    pub bound: &'a [Bound],
}

/// Who a token is, and for which of the audiences asked for.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The account as a user.
    pub user: Arc<User>,
    /// Audiences of both token and question.
    pub audiences: Vec<String>,
}

/// Makes and checks tokens of service accounts.
pub struct ServiceAccountTokens {
    key: SigningKey,
    issuer: String,
    audiences: Vec<String>,
    storage: Storage,
    verified: Mutex<HashMap<[u8; 32], Arc<Value>>>,
}

impl ServiceAccountTokens {
    /// Accounts of a store. `audiences` are those of this server; the issuer if none is given.
    pub fn new(key: SigningKey, issuer: String, audiences: Vec<String>, storage: Storage) -> Self {
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        Self { key, issuer, audiences, storage, verified: Mutex::default() }
    }

    /// The audiences of this server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Makes a token; none if the random source fails.
    pub fn issue(&self, request: &Request<'_>, now: Timestamp) -> Option<String> {
        let mut claims = json!({
            "aud": request.audiences,
            "exp": request.expires.as_second(),
            "iat": now.as_second(),
            "nbf": now.as_second(),
            "iss": self.issuer,
            "jti": uuid::Uuid::new_v4().to_string(),
            "sub": format!("system:serviceaccount:{}:{}", request.namespace, request.name),
            "kubernetes.io": {
                "namespace": request.namespace,
                "serviceaccount": {"name": request.name, "uid": request.uid},
            },
        });
        for bound in request.bound {
            claims["kubernetes.io"][bound.kind] = json!({"name": bound.name, "uid": bound.uid});
        }
        self.key.sign(&claims)
    }

    /// Makes the token of a Secret: without an end, as long as the Secret holds it.
    pub fn issue_for_secret(
        &self,
        namespace: &str,
        secret: &str,
        account: &str,
        uid: &str,
    ) -> Option<String> {
        self.key.sign(&json!({
            "iss": LEGACY_ISSUER,
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": account,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        }))
    }

    /// Who a token is; `None` if it is not one of this server's making. `audiences` are the asker's, this server's if
    /// there are none. The error says why a token of ours is no longer good.
    pub fn identify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<Result<Identity, String>> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = self.verified.lock().get(&digest).cloned();
        let claims = match known {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.key.verify(token).ok()?);
                let mut verified = self.verified.lock();
                if verified.len() >= REMEMBERED_MAX {
                    verified.clear();
                }
                verified.insert(digest, Arc::clone(&claims));
                claims
            }
        };
        Some(self.check(token, &claims, audiences, now))
    }

    fn check(
        &self,
        token: &str,
        claims: &Value,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Identity, String> {
        let wanted = if audiences.is_empty() { &self.audiences[..] } else { audiences };
        let legacy = claims["iss"] == LEGACY_ISSUER;
        if !legacy && claims["iss"] != self.issuer.as_str() {
            return Err("token issuer does not match".to_owned());
        }
        let time = |name: &str| claims[name].as_i64().and_then(|second| Timestamp::from_second(second).ok());
        if time("exp").is_some_and(|end| now >= end + LEEWAY) {
            return Err("service account token has expired".to_owned());
        }
        if time("nbf").is_some_and(|start| now + LEEWAY < start) {
            return Err("service account token is not valid yet".to_owned());
        }
        // Tokens of Secrets are for the server that made them.
        let audiences: Vec<String> = if legacy {
            wanted.iter().filter(|audience| self.audiences.contains(audience)).cloned().collect()
        } else {
            let own: Vec<&str> =
                claims["aud"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            wanted.iter().filter(|audience| own.contains(&audience.as_str())).cloned().collect()
        };
        if audiences.is_empty() {
            return Err(format!(
                "token audiences {} is invalid for the target audiences {wanted:?}",
                claims["aud"]
            ));
        }
        let (namespace, name) = claims["sub"]
            .as_str()
            .and_then(service_account)
            .ok_or_else(|| "token has no service account as its subject".to_owned())?;
        let private = &claims["kubernetes.io"];
        let uid = if legacy {
            &claims["kubernetes.io/serviceaccount/service-account.uid"]
        } else {
            &private["serviceaccount"]["uid"]
        };
        let uid = uid.as_str().unwrap_or_default();
        self.present("serviceaccounts", namespace, name, uid, now).ok_or_else(|| {
            "Service account token has been invalidated: the account is gone or was made anew".to_owned()
        })?;
        let mut user = User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.to_owned(),
            groups: account_groups(namespace).to_vec(),
            ..User::default()
        };
        user.groups.push(AUTHENTICATED.to_owned());
        if legacy {
            self.check_secret(token, claims, namespace)?;
        } else {
            self.check_bound(private, namespace, now, &mut user)?;
            if let Some(id) = claims["jti"].as_str() {
                user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
            }
        }
        Ok(Identity { user: Arc::new(user), audiences })
    }

    /// The object that must still be the same one. One that is being deleted is good for a while yet, as its owner may have
    /// to clean up.
    fn present(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        uid: &str,
        now: Timestamp,
    ) -> Option<Arc<Stored>> {
        let key = Key::new(ResourceKey::new("", resource), namespace, name);
        let found = self.storage.get(&key).filter(|found| found.meta.uid == uid)?;
        if found.meta.deleting {
            let value = found.value().ok()?;
            let since: Timestamp = value["metadata"]["deletionTimestamp"].as_str()?.parse().ok()?;
            if now > since + LEEWAY {
                return None;
            }
        }
        Some(found)
    }

    fn check_bound(
        &self,
        private: &Value,
        namespace: &str,
        now: Timestamp,
        user: &mut User,
    ) -> Result<(), String> {
        for (kind, resource) in [("pod", "pods"), ("secret", "secrets"), ("node", "nodes")] {
            let reference = &private[kind];
            if !reference.is_object() {
                continue;
            }
            let text = |name: &str| reference[name].as_str().unwrap_or_default();
            // A node beside a pod tells where the pod runs; the token lives and dies with the pod.
            if kind != "node" || !private["pod"].is_object() {
                let namespace = if kind == "node" { "" } else { namespace };
                self.present(resource, namespace, text("name"), text("uid"), now).ok_or_else(|| {
                    format!("Service account token has been invalidated: its {kind} is gone or was made anew")
                })?;
            }
            if kind != "secret" {
                for part in ["name", "uid"] {
                    let key = format!("authentication.kubernetes.io/{kind}-{part}");
                    user.extra.insert(key, vec![text(part).to_owned()]);
                }
            }
        }
        Ok(())
    }

    fn check_secret(&self, token: &str, claims: &Value, namespace: &str) -> Result<(), String> {
        let name = claims["kubernetes.io/serviceaccount/secret.name"].as_str().unwrap_or_default();
        let key = Key::new(ResourceKey::new("", "secrets"), namespace, name);
        let held = self.storage.get(&key).filter(|secret| !secret.meta.deleting).is_some_and(|secret| {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(token);
            secret.value().is_ok_and(|secret| secret["data"]["token"] == encoded.as_str())
        });
        if held { Ok(()) } else { Err("Token has been invalidated: its Secret is gone".to_owned()) }
    }

    /// The public key, for those who check tokens themselves.
    pub fn public_keys(&self) -> Value {
        self.key.public_set()
    }

    /// OpenID Connect discovery; `server` is this server's `https://HOST:PORT`.
    pub fn discovery(&self, server: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{server}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}
