//! Authentication and authorization.
//!
//! `authn` tells the user of a request, by its certificate or its token, which may be that of an OpenID Connect provider ([`oidc`]) or one that
//! another server knows ([`token_webhook`]), `impersonation` lets one act as another, `authz` decides by the modes, of which
//! role-based access control looks at the roles and bindings of the store ([`rbac`]) and another asks another server
//! ([`authz_webhook`]); `escalation` keeps people from
//! granting what they do not hold.

pub mod authn;
pub mod authz;
pub mod authz_config;
pub mod authz_webhook;
pub mod bootstrap_policy;
pub mod escalation;
pub mod impersonation;
pub mod jwt;
pub mod oidc;
pub mod rbac;
pub mod service_account_tokens;
pub(crate) mod subprotocol;
pub mod token_webhook;
pub mod tokens;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

/// An authenticated user, or the anonymous one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Tells users of one name at different times apart; empty if nothing does.
    pub uid: String,
    /// Groups, `system:authenticated` or `system:unauthenticated` among them.
    pub groups: Vec<String>,
    /// What else the authenticator says.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Members may do everything.
pub const MASTERS: &str = "system:masters";
/// The federation's own controllers; a default binding makes them administrators.
pub const CONTROLLERS: &str = "federation:controllers";
/// Everybody with a credential.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody without one.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user without a credential.
pub const ANONYMOUS: &str = "system:anonymous";
/// Key of [`User::extra`] that names the credential.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Whether a file of settings is of this kind of `apiserver.config.k8s.io`, in a version that is read; else what is wanted.
fn config_kind(version: &str, kind: &str, wanted: &str) -> Result<(), String> {
    match version.strip_prefix("apiserver.config.k8s.io/") {
        Some("v1" | "v1beta1") if kind == wanted => Ok(()),
        _ => Err(format!("want apiserver.config.k8s.io/v1, Kind={wanted}")),
    }
}

impl User {
    /// A user with a credential.
    pub fn new(name: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.push(AUTHENTICATED.to_owned());
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// `system:anonymous`.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The administrator, for callers in this process.
    pub fn in_process() -> Self {
        Self::new("federation:in-process", [MASTERS.to_owned()])
    }

    /// A service account.
    pub fn account(namespace: &str, name: &str) -> Self {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        Self::new(format!("system:serviceaccount:{namespace}:{name}"), groups)
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// `authentication.k8s.io/v1` UserInfo.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The user that a SubjectAccessReview names.
    pub fn from_review(spec: &Value) -> Self {
        let texts = |value: &Value| -> Vec<String> {
            let texts = value.as_array().into_iter().flatten();
            texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let text = |name: &str| spec[name].as_str().unwrap_or_default().to_owned();
        Self {
            name: text("user"),
            uid: text("uid"),
            groups: texts(&spec["groups"]),
            extra: spec["extra"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, values)| (key.to_ascii_lowercase(), texts(values)))
                .collect(),
        }
    }
}

/// `authentication.k8s.io/v1` UserInfo, its members in the order of the alphabet.
impl Serialize for User {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut info = serializer.serialize_map(None)?;
        if !self.extra.is_empty() {
            info.serialize_entry("extra", &self.extra)?;
        }
        if !self.groups.is_empty() {
            info.serialize_entry("groups", &self.groups)?;
        }
        if !self.uid.is_empty() {
            info.serialize_entry("uid", &self.uid)?;
        }
        info.serialize_entry("username", &self.name)?;
        info.end()
    }
}
