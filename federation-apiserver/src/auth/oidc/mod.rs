//! Users of an OpenID Connect provider: ID tokens as bearer tokens.
//!
//! Follows `apiserver/plugin/pkg/authenticator/token/oidc`. A token that another issuer made is none of ours; one of ours must be signed
//! with a key of the provider, be for one of our audiences, and not be over. Its claims then make the user, as flags or an
//! AuthenticationConfiguration (KEP-3331) say.
//!
//! - [`config`] reads the flags and [`file`] the configuration; [`claims`] makes a user of claims; [`keys`] checks signatures. All pure.
//! - [`provider`] fetches the provider's discovery document and its keys, and keeps them.

mod claims;
mod config;
mod file;
mod keys;
mod provider;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use config::Issuer;
pub use config::{Anonymous, Configuration, Error, Flags};
use keys::{KeySet, Unverified};
use provider::Provider;

use super::User;
use crate::store::Storage;

/// go-oidc believes a token that begins up to five minutes from now.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 5 * 60;

/// The issuers that this server believes.
#[derive(Default)]
pub struct Oidc {
    issuers: Vec<(Issuer, Provider)>,
}

impl Oidc {
    /// Issuers of a configuration. What they are called at is found by `storage` if it is a Service.
    ///
    /// # Errors
    /// When an authority cannot be used.
    pub fn new(configuration: Configuration, storage: &Storage) -> Result<Self, Error> {
        let issuers = configuration.issuers.into_iter().map(|issuer| {
            let provider = Provider::new(&issuer, storage.clone())?;
            Ok((issuer, provider))
        });
        Ok(Self { issuers: issuers.collect::<Result<_, Error>>()? })
    }

    /// Asks the providers for their keys before anybody comes, so that the first user need not wait.
    pub fn warm_up(self: &Arc<Self>) {
        for at in 0..self.issuers.len() {
            let all = Arc::clone(self);
            tokio::spawn(async move {
                if let Some((_, provider)) = all.issuers.get(at) {
                    let _tried = provider.keys_for(None).await;
                }
            });
        }
    }

    /// The user of a token; `None` if no issuer of these made it. The error says why one that they made is no good.
    pub async fn identify(&self, token: &str, now: Timestamp) -> Option<Result<Arc<User>, String>> {
        if self.issuers.is_empty() {
            return None;
        }
        let unverified = Unverified::parse(token)?;
        let named = unverified.claims["iss"].as_str()?;
        let (issuer, provider) = self.issuers.iter().find(|(issuer, _)| issuer.url == named)?;
        let verified = verify(issuer, provider, &unverified, now).await;
        Some(verified.and_then(|claims| claims::user(issuer, claims)).map(Arc::new))
    }
}

/// The claims of a token, if one of a provider's keys signed it. They may be of another issuer, or over.
pub fn signed_claims(token: &str, keys: &Value) -> Option<Value> {
    let token = Unverified::parse(token)?;
    token.is_signed_by(&KeySet::parse(keys)?).then_some(token.claims)
}

impl Configuration {
    /// The user that claims of a token make, if an issuer of these made it. That one signed them is to be known before.
    ///
    /// # Errors
    /// When they make none: why.
    pub fn user(&self, claims: &Value) -> Option<Result<User, String>> {
        let issuer = self.issuers.iter().find(|issuer| claims["iss"] == *issuer.url)?;
        Some(claims::user(issuer, claims))
    }
}

async fn verify<'t>(
    issuer: &Issuer,
    provider: &Provider,
    token: &'t Unverified,
    now: Timestamp,
) -> Result<&'t Value, String> {
    let refused = |why: String| format!("oidc: verify token: {why}");
    let keys = provider.keys_for(None).await?;
    let claims = &token.claims;
    let audiences: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !issuer.audiences.iter().any(|own| audiences.contains(&own.as_str())) {
        let wanted = issuer.audiences.first().map_or("", String::as_str);
        return Err(match issuer.audiences.as_slice() {
            [_] => refused(format!("oidc: expected audience {wanted:?} got {audiences:?}")),
            many => format!("oidc: expected audience in {many:?} got {audiences:?}"),
        });
    }
    let time = |name: &str| claims[name].as_f64().map(|second| second as i64);
    let end = time("exp").unwrap_or_default();
    if now.as_second() > end {
        let shown = Timestamp::from_second(end).unwrap_or_default();
        return Err(refused(format!("oidc: token is expired (Token Expiry: {shown})")));
    }
    if let Some(start) = time("nbf")
        && now.as_second() + NOT_BEFORE_LEEWAY_SECONDS < start
    {
        return Err(refused(format!("oidc: current time {now} before the nbf (not before) time: {start}")));
    }
    let algorithm = &token.algorithm;
    if !issuer.algorithms.contains(algorithm) {
        return Err(refused(format!(
            "oidc: id token signed with unsupported algorithm, expected {:?} got {algorithm:?}",
            issuer.algorithms
        )));
    }
    // A key that is not known may be a new one.
    let mut signed = token.is_signed_by(&keys);
    if !signed {
        let newer = provider.keys_for(Some(&keys)).await?;
        signed = token.is_signed_by(&newer);
    }
    if signed {
        Ok(claims)
    } else {
        Err(refused("failed to verify signature: failed to verify id token signature".to_owned()))
    }
}
