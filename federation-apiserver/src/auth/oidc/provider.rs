//! A provider: where its keys are, and which they are now.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::{
    config::{Error, Issuer},
    keys::KeySet,
};
use crate::{
    outbound::{Credentials, Place, Server, Trust},
    store::Storage,
};

/// A provider that takes longer is not there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests to a provider for its keys in [`WINDOW`], whatever tokens come: tokens of nobody's making must not make this server flood it.
const FETCHES_MAX: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// A provider of identities.
pub(super) struct Provider {
    url: String,
    discovery: String,
    ca_pem: Option<String>,
    storage: Storage,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where its keys are, once it has said so.
    keys_url: Option<String>,
    keys: Option<Arc<KeySet>>,
    fetched: VecDeque<Instant>,
}

impl Provider {
    pub(super) fn new(issuer: &Issuer, storage: Storage) -> Result<Self, Error> {
        let provider = Self {
            url: issuer.url.clone(),
            discovery: issuer.discovery_url(),
            ca_pem: issuer.ca_pem.clone(),
            storage,
            state: Mutex::default(),
        };
        provider.server(&provider.discovery).map_err(Error::Server)?;
        Ok(provider)
    }

    fn server(&self, url: &str) -> Result<Server, String> {
        let trust = Trust::Authority(self.ca_pem.as_deref());
        Server::new(Place::from_url(url)?, trust, &Credentials::default())
    }

    /// Its keys; newer ones than `than`, if it has any. The error is for the user.
    pub(super) async fn keys_for(&self, than: Option<&Arc<KeySet>>) -> Result<Arc<KeySet>, String> {
        // One asks, the others wait for what he gets.
        let mut state = self.state.lock().await;
        if let Some(keys) = &state.keys
            && than.is_none_or(|known| !Arc::ptr_eq(known, keys))
        {
            return Ok(Arc::clone(keys));
        }
        let now = Instant::now();
        while state.fetched.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            state.fetched.pop_front();
        }
        if state.fetched.len() >= FETCHES_MAX {
            tracing::warn!(issuer = %self.url, "an issuer is not asked for its keys again so soon");
            return state.keys.clone().ok_or_else(not_initialized);
        }
        state.fetched.push_back(now);
        match self.fetch(&mut state.keys_url).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                state.keys = Some(Arc::clone(&keys));
                Ok(keys)
            }
            Err(why) => {
                tracing::warn!(issuer = %self.url, %why, "an issuer's keys cannot be fetched");
                state.keys.clone().ok_or_else(not_initialized)
            }
        }
    }

    async fn fetch(&self, keys_url: &mut Option<String>) -> Result<KeySet, String> {
        let url = match keys_url {
            Some(url) => url,
            None => {
                let document = self.get(&self.discovery).await?;
                let named = document["issuer"].as_str().unwrap_or_default();
                if named != self.url {
                    return Err(format!(
                        "oidc: issuer URL provided to client ({:?}) did not match the issuer URL returned by provider ({named:?})",
                        self.url
                    ));
                }
                let url = document["jwks_uri"].as_str().ok_or("the discovery document names no jwks_uri")?;
                keys_url.insert(url.to_owned())
            }
        };
        let document = self.get(url).await?;
        KeySet::parse(&document).ok_or_else(|| "its keys are no JSON web key set".to_owned())
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        let server = self.server(url)?;
        let answer = server.get(&self.storage.snapshot(), &server.target(), TIMEOUT).await?;
        if !answer.status.is_success() {
            return Err(crate::outbound::failure(answer.status, &answer.body));
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("{url}: {error}"))
    }
}

fn not_initialized() -> String {
    "oidc: authenticator not initialized".to_owned()
}
