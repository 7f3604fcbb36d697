//! Secrets of server cookies (RFC 9018), the same at every dns-lb, so that a client that showed one of them who it is has shown them all.
//!
//! They follow from one secret, which is kept, and from the calendar: each is the first for [`PERIOD`] seconds, and is accepted for [`OVERLAP`]
//! before and after, so that servers which hear of it at different times accept each other's. Where the secret cannot be had there are
//! none, and each dns-lb has its own: no zone waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use rand::RngExt;
use sha2::{Digest as _, Sha256};

use federation_core::api::marks::SYSTEM_NAMESPACE;
use federation_runtime::clock::Instant;

/// Of the Secret; the namespace is never federated.
const NAME: &str = "dns-cookies";
const SECRET_TYPE: &str = "federation.rs/dns-cookies";
const DATA: &str = "secret";
/// Seconds: a week. RFC 7873 section 7.1 wants a new one within 36 days.
const PERIOD: u64 = 604_800;
/// Seconds: cookies are good for an hour (RFC 9018 section 4.3).
const OVERLAP: u64 = 3_600;
/// How long the zones wait for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Why it could not be had.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("read Secret {SYSTEM_NAMESPACE}/{NAME}")]
    Read(#[source] kube::Error),
    #[error("write Secret {SYSTEM_NAMESPACE}/{NAME}")]
    Write(#[source] kube::Error),
    #[error("Secret {SYSTEM_NAMESPACE}/{NAME}: data[{DATA}] is not 32 octets; delete it for a new one")]
    Content,
    #[error("Secret {SYSTEM_NAMESPACE}/{NAME}: no answer")]
    Late,
}

/// What is known of it.
#[derive(Default)]
pub(super) struct Cookies {
    master: Option<Master>,
    failed: Option<Instant>,
}

/// What all secrets follow from.
#[derive(Clone)]
struct Master([u8; 32]);

impl Cookies {
    /// Those that count at `now`, seconds since 1970: the first makes cookies, all are accepted. None where they cannot be kept.
    pub(super) async fn secrets(&mut self, client: &Client, now: u64) -> Vec<[u8; 16]> {
        let due = self.failed.is_none_or(|failed| failed.elapsed() >= AGAIN);
        if self.master.is_none() && due {
            let had = tokio::time::timeout(PATIENCE, master(client)).await.unwrap_or(Err(Error::Late));
            match had {
                Ok(master) => self.master = Some(master),
                Err(error) => {
                    self.failed = Some(Instant::now());
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "each DNS server makes cookies that only itself accepts"
                    );
                }
            }
        }
        self.master.as_ref().map(|master| master.secrets(now)).unwrap_or_default()
    }
}

/// Reads it, or makes it if there is none.
async fn master(client: &Client) -> Result<Master, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    if let Some(secret) = secrets.get_opt(NAME).await.map_err(Error::Read)? {
        return read(secret);
    }
    let octets: [u8; 32] = rand::rng().random();
    let secret = Secret {
        metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
        type_: Some(SECRET_TYPE.into()),
        data: Some(BTreeMap::from([(DATA.to_owned(), ByteString(octets.to_vec()))])),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(Master(octets)),
        // Another controller was faster: its word counts.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            read(secrets.get(NAME).await.map_err(Error::Read)?)
        }
        Err(error) => Err(Error::Write(error)),
    }
}

fn read(secret: Secret) -> Result<Master, Error> {
    let data = secret.data.unwrap_or_default().remove(DATA).unwrap_or_default().0;
    Ok(Master(data.try_into().map_err(|_| Error::Content)?))
}

impl Master {
    fn secrets(&self, now: u64) -> Vec<[u8; 16]> {
        let (period, into) = (now / PERIOD, now % PERIOD);
        let mut secrets = vec![self.of(period)];
        if into < OVERLAP {
            secrets.push(self.of(period.saturating_sub(1)));
        }
        if into >= PERIOD - OVERLAP {
            secrets.push(self.of(period + 1));
        }
        secrets
    }

    fn of(&self, period: u64) -> [u8; 16] {
        let digest = Sha256::new().chain_update(self.0).chain_update(period.to_be_bytes()).finalize();
        let mut secret = [0; 16];
        secret.copy_from_slice(&digest[..16]);
        secret
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::{Method, Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_795_500_000;

    /// An API server that keeps one Secret, or answers with this status.
    fn client(refuses: Option<u16>) -> Client {
        let kept: Arc<Mutex<Option<Value>>> = Arc::default();
        let answer = move |request: Request<Body>| {
            let kept = kept.clone();
            async move {
                let get = request.method() == Method::GET;
                let sent = request.into_body().collect_bytes().await.unwrap();
                let mut kept = kept.lock();
                let failure = |code: u16| {
                    let reason = if code == 404 { "NotFound" } else { "Other" };
                    let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason});
                    (code, status)
                };
                let (code, body) = match (refuses, get, &*kept) {
                    (Some(code), ..) => failure(code),
                    (None, true, None) => failure(404),
                    (None, true, Some(secret)) => (200, secret.clone()),
                    (None, false, Some(_)) => failure(409),
                    (None, false, None) => {
                        let secret: Value = serde_json::from_slice(&sent).unwrap();
                        *kept = Some(secret.clone());
                        (201, secret)
                    }
                };
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[test]
    fn a_secret_is_known_before_it_makes_cookies_and_for_as_long_afterwards() {
        let master = Master([7; 32]);
        let begin = 1000 * PERIOD;
        let first = |now| master.secrets(now)[0];
        let (old, new) = (first(begin - 1), first(begin));
        assert_ne!(old, new);
        assert_eq!(master.secrets(begin - OVERLAP - 1), [old]);
        assert_eq!(master.secrets(begin - OVERLAP), [old, new]);
        assert_eq!(master.secrets(begin), [new, old]);
        assert_eq!(master.secrets(begin + OVERLAP - 1), [new, old]);
        assert_eq!(master.secrets(begin + OVERLAP), [new]);
    }

    #[tokio::test]
    async fn a_controller_that_starts_again_has_the_same() {
        let client = client(None);
        assert_eq!(master(&client).await.err().map(|error| error.to_string()), None);
        let made = Cookies::default().secrets(&client, NOW).await;
        assert_eq!(made.len(), 1);
        assert_eq!(Cookies::default().secrets(&client, NOW).await, made);
    }

    #[tokio::test]
    async fn where_the_secret_cannot_be_kept_nobody_waits_for_it() {
        for code in [403, 404, 500] {
            let mut cookies = Cookies::default();
            assert_eq!(cookies.secrets(&client(Some(code)), NOW).await, Vec::<[u8; 16]>::new(), "{code}");
            // Not asked for at once again, though it would be there.
            assert!(cookies.secrets(&client(None), NOW).await.is_empty());
            cookies.failed = None;
            assert_eq!(cookies.secrets(&client(None), NOW).await.len(), 1);
        }
    }
}
