//! A zone's keys: kept in a Secret, made here, and nowhere else in the federation's API.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToSec1Point;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use federation_core::api::marks::SYSTEM_NAMESPACE;
use federation_core::dnssec::{Keys, PublicKey};
use proto::v1;

/// Type of the Secrets; the namespace is never federated, and no member gets one.
const SECRET_TYPE: &str = "federation.rs/dnssec-keys";
const DATA: &str = "keys.json";

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The Secret could not be read.
    #[error("read Secret {SYSTEM_NAMESPACE}/{0}")]
    Read(String, #[source] kube::Error),
    /// The Secret could not be written.
    #[error("write Secret {SYSTEM_NAMESPACE}/{0}")]
    Write(String, #[source] kube::Error),
    /// The zone had keys, and their Secret is gone.
    #[error("the Secret {SYSTEM_NAMESPACE}/dnssec-{0} is gone: restore it")]
    Lost(String),
    /// It holds something else.
    #[error("Secret {SYSTEM_NAMESPACE}/{0}: data[{DATA}] cannot be read; restore it from a backup")]
    Content(String),
    /// No key could be made.
    #[error("make a key")]
    Make,
}

/// A key with its private half, as the Secret has it: hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    public: String,
    private: String,
}

impl Pair {
    /// Makes one.
    pub(super) fn make() -> Result<Self, Error> {
        // One in 2^32 scalars is none of the curve's.
        for _ in 0..8 {
            let octets: [u8; 32] = rand::rng().random();
            let Ok(secret) = SecretKey::from_slice(&octets) else { continue };
            let point = secret.public_key().to_sec1_point(false);
            let public = point.as_bytes().get(1..).map(hex::encode).ok_or(Error::Make)?;
            return Ok(Self { public, private: hex::encode(octets) });
        }
        Err(Error::Make)
    }

    /// Makes one whose tag none of `others` has: by it the parent's DS are told apart.
    pub(super) fn beside(others: &[Self]) -> Result<Self, Error> {
        for _ in 0..8 {
            let pair = Self::make()?;
            if others.iter().all(|other| other.public().tag() != pair.public().tag()) {
                return Ok(pair);
            }
        }
        Err(Error::Make)
    }

    /// The half that everybody may know.
    pub(super) fn public(&self) -> PublicKey {
        let mut octets = [0; 64];
        // Checked when the Secret was read.
        let _ = hex::decode_to_slice(&self.public, &mut octets);
        PublicKey(octets)
    }

    /// For the dns-lbs.
    pub(super) fn wire(&self, wanted_at_parent: bool) -> v1::DnsKey {
        v1::DnsKey {
            public_key: self.public().0.to_vec().into(),
            private_key: hex::decode(&self.private).unwrap_or_default().into(),
            wanted_at_parent,
        }
    }

    fn is_whole(&self) -> bool {
        hex::decode(&self.private).ok().and_then(|octets| SecretKey::from_slice(&octets).ok()).is_some_and(
            |secret| {
                let point = secret.public_key().to_sec1_point(false);
                point.as_bytes().get(1..).map(hex::encode).as_ref() == Some(&self.public)
            },
        )
    }
}

/// Keys as they are kept.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) keys: Keys<Pair>,
    version: Option<String>,
}

impl Kept {
    /// Keys that were never written.
    pub(super) fn new(keys: Keys<Pair>) -> Self {
        Self { keys, version: None }
    }

    /// Whether they were never written.
    pub(super) fn is_new(&self) -> bool {
        self.version.is_none()
    }
}

fn name(zone: &str) -> String {
    format!("dnssec-{zone}")
}

/// The keys of `zone`, which has no final dot; none if it never had any.
pub(super) async fn read(client: &Client, zone: &str) -> Result<Option<Kept>, Error> {
    let name = name(zone);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let found = secrets.get_opt(&name).await.map_err(|error| Error::Read(name.clone(), error))?;
    let Some(secret) = found else { return Ok(None) };
    let data = secret.data.unwrap_or_default().remove(DATA).unwrap_or_default().0;
    let keys: Keys<Pair> = serde_json::from_slice(&data).map_err(|_| Error::Content(name.clone()))?;
    if keys.keys.is_empty() || !keys.keys.iter().all(Pair::is_whole) {
        return Err(Error::Content(name));
    }
    Ok(Some(Kept { keys, version: secret.metadata.resource_version }))
}

/// Writes them before anybody sees them: only if nobody else has written since they were read.
pub(super) async fn write(client: &Client, zone: &str, kept: &mut Kept) -> Result<(), Error> {
    let name = name(zone);
    let failed = |error| Error::Write(name.clone(), error);
    let data = serde_json::to_vec(&kept.keys).map_err(|_| Error::Content(name.clone()))?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            resource_version: kept.version.clone(),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.into()),
        data: Some(BTreeMap::from([(DATA.to_owned(), ByteString(data))])),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let written = match kept.version {
        None => secrets.create(&PostParams::default(), &secret).await,
        Some(_) => secrets.replace(&name, &PostParams::default(), &secret).await,
    };
    kept.version = written.map_err(failed)?.metadata.resource_version;
    Ok(())
}
