//! Encryption at rest, as kube-apiserver has it: what is on disk is sealed, what is in memory is not.
//!
//! Which resources are sealed with which keys is said by an `EncryptionConfiguration` ([`config`]). A sealed body is
//! `k8s:enc:aesgcm:v1:KEY:`, a nonce of 12 bytes, and the ciphertext with its tag (AES-GCM, NIST SP 800-38D); the object's key is
//! authenticated with it, so that one object's body cannot stand in for another's. Nonces are random: a key is good for 2^32 writes.
//!
//! Keys may also be in a key management service ([`kms`]).
//!
//! What is sealed with another key than the first, or not at all, is written anew when the store is opened; nobody has to touch
//! every object after a rotation.

mod config;
mod kms;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use federation_core::api::GROUP;

use super::{Key, ResourceKey, record};

pub use config::ConfigError;
use kms::Kms;

/// What every sealed body begins with; no JSON object does.
const SEALED: &[u8] = b"k8s:enc:";
const AES_GCM: &[u8] = b"k8s:enc:aesgcm:v1:";

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    /// The key is not there.
    #[error(
        "it is sealed with the key {0:?} of provider aesgcm, which --encryption-provider-config does not give for {1}"
    )]
    NoKey(String, ResourceKey),
    /// The key management service is not there.
    #[error(
        "it is sealed by the key management service {0:?}, which --encryption-provider-config does not name for {1}"
    )]
    NoService(String, ResourceKey),
    /// Another provider's.
    #[error("it is encrypted by a provider that this server does not have")]
    Provider,
    /// The key management service cannot decrypt it.
    #[error("the key management service {0:?} cannot decrypt it: {1}")]
    Service(String, String),
    /// The tag does not fit.
    #[error(
        "its seal is broken: it was changed, moved from another object, or the key {0:?} is another one than then"
    )]
    Broken(String),
}

/// Who seals what. Cheap to clone; the default seals nothing.
#[derive(Clone, Default)]
pub struct Encryption(Arc<Vec<Rule>>);

/// The first rule that names a resource decides.
struct Rule {
    resources: Vec<Pattern>,
    /// The first one seals, all of them open.
    providers: Vec<Provider>,
}

enum Provider {
    Identity,
    AesGcm(Vec<NamedKey>),
    Kms(Kms),
}

/// What seals a resource's objects now.
enum Sealing<'a> {
    AesGcm(&'a NamedKey),
    Kms(&'a Kms),
}

struct NamedKey {
    name: String,
    key: RandomizedNonceKey,
}

/// `secrets`, `deployments.apps`, `*.apps`, `*.` (all of core), `*.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    resource: Option<String>,
    group: Option<String>,
}

impl Pattern {
    fn matches(&self, key: &ResourceKey) -> bool {
        self.resource.as_ref().is_none_or(|resource| **resource == *key.resource)
            && self.group.as_ref().is_none_or(|group| **group == *key.group)
    }
}

impl Encryption {
    fn providers(&self, resource: &ResourceKey) -> &[Provider] {
        let named = |key: &ResourceKey| {
            self.0.iter().find(|rule| rule.resources.iter().any(|pattern| pattern.matches(key)))
        };
        // The trash holds deleted objects whole, Secrets among them.
        let trash = || (&*resource.group, &*resource.resource) == (GROUP, "trash");
        let rule =
            named(resource).or_else(|| if trash() { named(&ResourceKey::new("", "secrets")) } else { None });
        rule.map_or(&[], |rule| &rule.providers)
    }

    /// What seals a resource's objects now.
    fn sealing(&self, resource: &ResourceKey) -> Option<Sealing<'_>> {
        match self.providers(resource).first()? {
            Provider::AesGcm(keys) => keys.first().map(Sealing::AesGcm),
            Provider::Kms(kms) => Some(Sealing::Kms(kms)),
            Provider::Identity => None,
        }
    }

    /// Whether a resource's objects are sealed now.
    pub(super) fn seals(&self, resource: &ResourceKey) -> bool {
        self.sealing(resource).is_some()
    }

    /// A text as it goes to the disk.
    pub(super) fn seal<'a>(&self, key: &Key, text: &'a [u8]) -> Cow<'a, [u8]> {
        let sealing = match self.sealing(&key.resource) {
            None => return Cow::Borrowed(text),
            Some(Sealing::Kms(kms)) => return Cow::Owned(kms.seal(key, text)),
            Some(Sealing::AesGcm(named)) => named,
        };
        let mut text = text.to_vec();
        let nonce = sealing
            .key
            .seal_in_place_append_tag(Aad::from(record::key_prefix(key)), &mut text)
            .expect("an object is shorter than the 64 GiB that AES-GCM takes");
        let mut sealed = Vec::with_capacity(AES_GCM.len() + sealing.name.len() + 1 + NONCE_LEN + text.len());
        sealed.extend_from_slice(AES_GCM);
        sealed.extend_from_slice(sealing.name.as_bytes());
        sealed.push(b':');
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Cow::Owned(sealed)
    }

    /// A sealed text as it was before.
    pub(super) fn open(&self, key: &Key, stored: &[u8]) -> Result<Vec<u8>, Unreadable> {
        if let Some((name, body)) = split(kms::PREFIX, stored) {
            let kms = self.kms(&key.resource, name);
            let missing = || Unreadable::NoService(name.to_owned(), key.resource.clone());
            return kms.ok_or_else(missing)?.open(key, body);
        }
        let (name, rest) = split(AES_GCM, stored).ok_or(Unreadable::Provider)?;
        let keys = self.providers(&key.resource).iter().filter_map(|provider| match provider {
            Provider::AesGcm(keys) => Some(keys),
            Provider::Identity | Provider::Kms(_) => None,
        });
        let Some(named) = keys.flatten().find(|key| key.name == name) else {
            return Err(Unreadable::NoKey(name.to_owned(), key.resource.clone()));
        };
        let broken = || Unreadable::Broken(name.to_owned());
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let mut text = text.to_vec();
        let aad = Aad::from(record::key_prefix(key));
        let length = named.key.open_in_place(Nonce::from(nonce), aad, &mut text).map_err(|_| broken())?.len();
        text.truncate(length);
        Ok(text)
    }

    /// Whether a stored body is to be written anew.
    pub(super) fn is_stale(&self, resource: &ResourceKey, stored: &[u8]) -> bool {
        match self.sealing(resource) {
            None => stored.starts_with(SEALED),
            Some(Sealing::AesGcm(named)) => split(AES_GCM, stored).is_none_or(|(name, _)| name != named.name),
            Some(Sealing::Kms(kms)) => {
                split(kms::PREFIX, stored).is_none_or(|(name, body)| name != kms.name || kms.is_stale(body))
            }
        }
    }

    fn kms(&self, resource: &ResourceKey, name: &str) -> Option<&Kms> {
        self.providers(resource).iter().find_map(|provider| match provider {
            Provider::Kms(kms) if kms.name == name => Some(kms),
            _ => None,
        })
    }
}

impl fmt::Debug for Encryption {
    /// Keys are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encryption").field(&self.0.len()).finish()
    }
}

/// The name of a key or service behind a prefix, and what comes after it.
fn split<'a>(prefix: &[u8], stored: &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    let rest = stored.strip_prefix(prefix)?;
    let colon = rest.iter().position(|byte| *byte == b':')?;
    Some((std::str::from_utf8(&rest[..colon]).ok()?, &rest[colon + 1..]))
}
