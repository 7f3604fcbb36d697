//! `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`, the file of kube-apiserver's `--encryption-provider-config`.
//!
//! Of its providers, `aesgcm`, `kms` of version 2 and `identity` are taken: AES-CBC has no authentication.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, RandomizedNonceKey};
use base64::Engine as _;
use serde::Deserialize;

use super::{Encryption, NamedKey, Pattern, Provider, Rule, kms::Kms};

/// How long a key management service may take, unless the file says otherwise.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why the file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the encryption configuration {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no EncryptionConfiguration.
    #[error("the encryption configuration cannot be parsed: {0}")]
    Parse(String),
    /// A field is wrong.
    #[error("the encryption configuration's {field}: {message}")]
    Invalid {
        /// For example `resources[0].providers[1]`.
        field: String,
        /// What to do.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<Providers>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Providers {
    aesgcm: Option<Keys>,
    identity: Option<Empty>,
    aescbc: Option<serde_json::Value>,
    secretbox: Option<serde_json::Value>,
    kms: Option<Service>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Service {
    api_version: Option<String>,
    name: String,
    endpoint: String,
    timeout: Option<String>,
    #[serde(rename = "cachesize")]
    _cache_size: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<KeyText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    name: String,
    secret: String,
}

fn invalid(field: impl Into<String>, message: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field: field.into(), message: message.into() }
}

impl Encryption {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or says what this server cannot do; the field is named.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.display().to_string(), source };
        Self::parse(&std::fs::read_to_string(path).map_err(read)?)
    }

    /// Reads the file's text, YAML or JSON.
    ///
    /// # Errors
    /// As [`Encryption::load`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        // An error that shows the lines around it would show keys to whoever reads the log.
        let quiet = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, quiet)
            .map_err(|error| ConfigError::Parse(error.to_string()))?;
        if file.kind != "EncryptionConfiguration" {
            return Err(invalid("kind", "must be EncryptionConfiguration"));
        }
        if file.api_version != "apiserver.config.k8s.io/v1" {
            return Err(invalid("apiVersion", "must be apiserver.config.k8s.io/v1"));
        }
        let rules = file.resources.into_iter().enumerate();
        let rules = rules.map(|(index, entry)| rule(&format!("resources[{index}]"), entry));
        Ok(Self(Arc::new(rules.collect::<Result<_, _>>()?)))
    }
}

fn rule(field: &str, entry: Resources) -> Result<Rule, ConfigError> {
    if entry.resources.is_empty() {
        return Err(invalid(format!("{field}.resources"), "must name a resource, for example secrets"));
    }
    if entry.providers.is_empty() {
        return Err(invalid(format!("{field}.providers"), "must name a provider: aesgcm or identity"));
    }
    let patterns = entry.resources.iter().enumerate();
    let patterns =
        patterns.map(|(index, text)| pattern(text).ok_or_else(|| {
            let message = format!(
                "{text:?} is no resource: write secrets, deployments.apps, *.apps, *. for all of the core group, or *.*"
            );
            invalid(format!("{field}.resources[{index}]"), message)
        }));
    let patterns = patterns.collect::<Result<_, _>>()?;
    let mut names = BTreeSet::new();
    let providers = entry.providers.into_iter().enumerate();
    let providers =
        providers.map(|(index, entry)| provider(&format!("{field}.providers[{index}]"), entry, &mut names));
    Ok(Rule { resources: patterns, providers: providers.collect::<Result<_, _>>()? })
}

fn pattern(text: &str) -> Option<Pattern> {
    let (resource, group) = text.split_once('.').unwrap_or((text, ""));
    let valid = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.')
    };
    match (resource, group) {
        ("*", "*") => Some(Pattern { resource: None, group: None }),
        // A star alone would be all of the core group, which is written with a dot.
        ("*", "") if !text.ends_with('.') => None,
        ("*", group) if valid(group) => Some(Pattern { resource: None, group: Some(group.into()) }),
        (resource, group) if !resource.is_empty() && valid(resource) && valid(group) => {
            Some(Pattern { resource: Some(resource.into()), group: Some(group.into()) })
        }
        _ => None,
    }
}

fn provider(field: &str, entry: Providers, names: &mut BTreeSet<String>) -> Result<Provider, ConfigError> {
    for (name, given) in [("aescbc", &entry.aescbc), ("secretbox", &entry.secretbox)] {
        if given.is_some() {
            return Err(invalid(
                format!("{field}.{name}"),
                "is not supported by this server: use aesgcm or kms",
            ));
        }
    }
    match (entry.aesgcm, entry.kms, entry.identity) {
        (None, Some(service), None) => kms(&format!("{field}.kms"), service, names),
        (Some(keys), None, None) => {
            let field = format!("{field}.aesgcm.keys");
            if keys.keys.is_empty() {
                return Err(invalid(field, "must have a key"));
            }
            let keys = keys.keys.into_iter().enumerate();
            let keys = keys.map(|(index, text)| key(&format!("{field}[{index}]"), &text, names));
            Ok(Provider::AesGcm(keys.collect::<Result<_, _>>()?))
        }
        (None, None, Some(Empty {})) => Ok(Provider::Identity),
        _ => Err(invalid(field, "must be one provider: aesgcm, kms or identity")),
    }
}

/// Connects to the service, which must be there at the start.
fn kms(field: &str, service: Service, names: &mut BTreeSet<String>) -> Result<Provider, ConfigError> {
    if service.api_version.as_deref() != Some("v2") {
        return Err(invalid(format!("{field}.apiVersion"), "must be v2"));
    }
    if service.name.is_empty() || service.name.contains(':') {
        return Err(invalid(format!("{field}.name"), "must not be empty, nor have a colon in it"));
    }
    // Names of services and of keys are told apart by what stands before them.
    if !names.insert(format!("kms:{}", service.name)) {
        return Err(invalid(format!("{field}.name"), "is there twice"));
    }
    let Some(socket) = service.endpoint.strip_prefix("unix://") else {
        return Err(invalid(format!("{field}.endpoint"), "must begin with unix://"));
    };
    let timeout = match service.timeout.as_deref() {
        None => TIMEOUT,
        Some(text) => {
            let wrong = |why| invalid(format!("{field}.timeout"), why);
            apimachinery::go_duration::flag(text).map_err(wrong)?
        }
    };
    Kms::start(service.name, socket.into(), timeout)
        .map(Provider::Kms)
        .map_err(|why| invalid(field, format!("the service cannot be used: {why}")))
}

fn key(field: &str, text: &KeyText, names: &mut BTreeSet<String>) -> Result<NamedKey, ConfigError> {
    if text.name.is_empty() || text.name.contains(':') {
        return Err(invalid(format!("{field}.name"), "must not be empty, nor have a colon in it"));
    }
    if !names.insert(text.name.clone()) {
        return Err(invalid(format!("{field}.name"), "is there twice"));
    }
    let wrong = || invalid(format!("{field}.secret"), "must be 16, 24 or 32 random bytes in base64");
    let bytes = base64::engine::general_purpose::STANDARD.decode(&text.secret).map_err(|_| wrong())?;
    let algorithm = match bytes.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return Err(wrong()),
    };
    let key = RandomizedNonceKey::new(algorithm, &bytes).map_err(|_| wrong())?;
    Ok(NamedKey { name: text.name.clone(), key })
}
