//! One-time join tokens: `<id>.<secret>`, kept as Secrets of type `federation.rs/join-token` that hold only the SHA-256 of the
//! secret half. See docs/ARCHITECTURE.md, "Joining".

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use rand::RngExt;
use sha2::{Digest, Sha256};

use federation_core::api::marks::{JOIN_TOKEN_TYPE, SYSTEM_NAMESPACE};

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const PREFIX: &str = "join-token-";
const DATA_HASH: &str = "secret-sha256";
const DATA_EXPIRATION: &str = "expiration";
const DATA_CLUSTER: &str = "cluster";
const DATA_DESCRIPTION: &str = "description";
/// kubeadm's own default.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Why a token could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a token.
    #[error(
        "token: must be <id>.<secret>, 6 and 16 characters of a-z and 0-9; print a new one with `fedctl token create`"
    )]
    Malformed,
    /// No such token, the secret is wrong, it is expired or used.
    #[error("token: unknown, expired or already used; print a new one with `fedctl token create`")]
    Refused,
    /// The token is for another cluster.
    #[error("token: is for cluster {0:?} only; print one for this cluster with `fedctl token create`")]
    OtherCluster(String),
    /// The API refused.
    #[error("{0} the join token")]
    Api(&'static str, #[source] kube::Error),
}

/// What a new token may be used for.
#[derive(Clone, Debug)]
pub struct Request {
    /// From now.
    pub life: Duration,
    /// The only cluster that may use it; any if `None`.
    pub cluster: Option<String>,
    /// For people.
    pub description: String,
}

impl Default for Request {
    fn default() -> Self {
        Self { life: DEFAULT_LIFE, cluster: None, description: String::new() }
    }
}

/// A token as it is listed: never with its secret half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The public half.
    pub id: String,
    /// When it ends.
    pub expires: Timestamp,
    /// The only cluster that may use it.
    pub cluster: Option<String>,
    /// For people.
    pub description: String,
}

/// Makes a token and returns it: the only time that the secret half is seen.
///
/// # Errors
/// When the API refuses.
pub async fn create_token(client: &Client, request: &Request) -> Result<String, Error> {
    let (id, secret) = (random(ID_LENGTH), random(SECRET_LENGTH));
    let expires = Timestamp::now() + request.life;
    let mut data = BTreeMap::from([
        (DATA_HASH.to_owned(), bytes(&hash(&secret))),
        (DATA_EXPIRATION.to_owned(), bytes(&expires.to_string())),
    ]);
    if let Some(cluster) = &request.cluster {
        data.insert(DATA_CLUSTER.into(), bytes(cluster));
    }
    if !request.description.is_empty() {
        data.insert(DATA_DESCRIPTION.into(), bytes(&request.description));
    }
    let object = Secret {
        metadata: ObjectMeta { name: Some(format!("{PREFIX}{id}")), ..ObjectMeta::default() },
        type_: Some(JOIN_TOKEN_TYPE.into()),
        data: Some(data),
        ..Secret::default()
    };
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(SYSTEM_NAMESPACE.into()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    match Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(Error::Api("create the namespace of", error)),
    }
    secrets(client)
        .create(&PostParams::default(), &object)
        .await
        .map_err(|error| Error::Api("create", error))?;
    Ok(format!("{id}.{secret}"))
}

/// Every token that is kept, expired ones too.
///
/// # Errors
/// When the API refuses.
pub async fn list(client: &Client) -> Result<Vec<Listed>, Error> {
    let found =
        secrets(client).list(&ListParams::default()).await.map_err(|error| Error::Api("list", error))?;
    Ok(found
        .items
        .into_iter()
        .filter(|secret| secret.type_.as_deref() == Some(JOIN_TOKEN_TYPE))
        .filter_map(|secret| {
            Some(Listed {
                id: secret.metadata.name.as_deref()?.strip_prefix(PREFIX)?.to_owned(),
                expires: text(&secret, DATA_EXPIRATION)?.parse().ok()?,
                cluster: text(&secret, DATA_CLUSTER),
                description: text(&secret, DATA_DESCRIPTION).unwrap_or_default(),
            })
        })
        .collect())
}

/// Deletes a token by its public half (or by the whole token).
///
/// # Errors
/// When there is none, or the API refuses.
pub async fn delete(client: &Client, id: &str) -> Result<(), Error> {
    let id = id.split('.').next().unwrap_or(id);
    match secrets(client).delete(&format!("{PREFIX}{id}"), &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(Error::Refused),
        Err(error) => Err(Error::Api("delete", error)),
    }
}

/// A token that was checked and not yet used.
pub(crate) struct Checked(Secret);

/// Checks a token for a cluster.
pub(crate) async fn check(
    client: &Client,
    token: &str,
    cluster: &str,
    now: Timestamp,
) -> Result<Checked, Error> {
    let (id, secret) = parse(token)?;
    let found = secrets(client)
        .get_opt(&format!("{PREFIX}{id}"))
        .await
        .map_err(|error| Error::Api("read", error))?
        .filter(|found| found.type_.as_deref() == Some(JOIN_TOKEN_TYPE))
        .ok_or(Error::Refused)?;
    let expected = text(&found, DATA_HASH).unwrap_or_default();
    let expires: Timestamp =
        text(&found, DATA_EXPIRATION).and_then(|expires| expires.parse().ok()).ok_or(Error::Refused)?;
    // Hashes of secrets are compared, so that the time of the comparison tells nothing of the secret.
    if hash(secret) != expected || expires <= now {
        return Err(Error::Refused);
    }
    match text(&found, DATA_CLUSTER) {
        Some(only) if only != cluster => Err(Error::OtherCluster(only)),
        _ => Ok(Checked(found)),
    }
}

impl Checked {
    /// Uses the token up: of two callers, one wins.
    pub(crate) async fn consume(&self, client: &Client) -> Result<(), Error> {
        let metadata = &self.0.metadata;
        let only_this = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: metadata.resource_version.clone(),
                uid: metadata.uid.clone(),
            }),
            ..DeleteParams::default()
        };
        match secrets(client).delete(metadata.name.as_deref().unwrap_or_default(), &only_this).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Err(Error::Refused),
            Err(error) => Err(Error::Api("consume", error)),
        }
    }

    /// Puts a used token back, after the join that used it failed for a reason that is not the token's.
    pub(crate) async fn put_back(self, client: &Client) {
        let mut secret = self.0;
        secret.metadata = ObjectMeta { name: secret.metadata.name, ..ObjectMeta::default() };
        if let Err(error) = secrets(client).create(&PostParams::default(), &secret).await {
            tracing::warn!(%error, "a join failed and its token could not be put back");
        }
    }
}

fn parse(token: &str) -> Result<(&str, &str), Error> {
    let good = |text: &str, length| text.len() == length && text.bytes().all(|byte| ALPHABET.contains(&byte));
    token
        .split_once('.')
        .filter(|(id, secret)| good(id, ID_LENGTH) && good(secret, SECRET_LENGTH))
        .ok_or(Error::Malformed)
}

fn secrets(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

fn text(secret: &Secret, field: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(field)?.0.clone()).ok()
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

fn random(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_six_dot_sixteen_is_a_token() {
        assert!(parse("abc123.0123456789abcdef").is_ok());
        for wrong in [
            "",
            ".",
            "abc123",
            "abc123.",
            "ABC123.0123456789abcdef",
            "abc12.0123456789abcdef0",
            "abc123.0123456789abcde/",
        ] {
            assert!(matches!(parse(wrong), Err(Error::Malformed)), "{wrong}");
        }
    }

    #[test]
    fn a_random_token_parses() {
        let token = format!("{}.{}", random(ID_LENGTH), random(SECRET_LENGTH));
        assert!(parse(&token).is_ok(), "{token}");
    }
}
