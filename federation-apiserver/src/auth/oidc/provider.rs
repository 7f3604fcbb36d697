//! A provider: where its keys are, and which they are now.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::{
    config::{Error, Issuer},
    keys::KeySet,
};
use crate::{
    outbound::{Credentials, Destination, Server, Trust},
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
    /// Whoever knows a key here never waits for the provider.
    keys: ArcSwapOption<KeySet>,
    asking: Mutex<Asking>,
}

/// What the one who asks must know.
#[derive(Default)]
struct Asking {
    /// Where its keys are, once it has said so.
    keys_url: Option<String>,
    fetched: VecDeque<Instant>,
    /// When the last one had his answer, or none.
    ended: Option<Instant>,
}

impl Provider {
    pub(super) fn new(issuer: &Issuer, storage: Storage) -> Result<Self, Error> {
        let provider = Self {
            url: issuer.url.clone(),
            discovery: issuer.discovery_url(),
            ca_pem: issuer.ca_pem.clone(),
            storage,
            keys: ArcSwapOption::empty(),
            asking: Mutex::default(),
        };
        provider.server(&provider.discovery).map_err(Error::Server)?;
        Ok(provider)
    }

    fn server(&self, url: &str) -> Result<Server, String> {
        let trust = Trust::Authority(self.ca_pem.as_deref());
        Server::new(Destination::from_url(url)?, trust, &Credentials::default())
    }

    /// Its keys; newer ones than `than`, if it has any. The error is for the user.
    pub(super) async fn keys_for(&self, than: Option<&Arc<KeySet>>) -> Result<Arc<KeySet>, String> {
        let known = || {
            let keys = self.keys.load_full();
            keys.filter(|keys| than.is_none_or(|known| !Arc::ptr_eq(known, keys)))
        };
        if let Some(keys) = known() {
            return Ok(keys);
        }
        let came = Instant::now();
        // One asks, the others wait for what he gets, be it nothing.
        let mut asking = self.asking.lock().await;
        if let Some(keys) = known() {
            return Ok(keys);
        }
        let last = || self.keys.load_full().ok_or_else(not_initialized);
        if asking.ended.is_some_and(|ended| ended >= came) {
            return last();
        }
        let now = Instant::now();
        while asking.fetched.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            asking.fetched.pop_front();
        }
        if asking.fetched.len() >= FETCHES_MAX {
            tracing::warn!(issuer = %self.url, "an issuer is not asked for its keys again so soon");
            return last();
        }
        asking.fetched.push_back(now);
        let fetched = self.fetch(&mut asking.keys_url).await;
        asking.ended = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                self.keys.store(Some(Arc::clone(&keys)));
                Ok(keys)
            }
            Err(why) => {
                tracing::warn!(issuer = %self.url, %why, "an issuer's keys cannot be fetched");
                last()
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
